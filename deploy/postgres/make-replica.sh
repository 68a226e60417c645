#!/bin/sh
# Makes a data folder that follows a primary, unless it is there. What comes
# behind "--" is run afterwards, in this process' place: Postgres.
#
#   make-replica.sh DATA_FOLDER HOST PORT SLOT [-- COMMAND...]
#
# REPLICATION_PASSWORD is the password of the role replicator, which
# make-primary.sh has made with the slot. Run it as the user that runs Postgres.
set -eu

case ${1-} in
-h | --help | '')
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac

data=$1 host=$2 port=$3 slot=$4
shift 4
if [ ! -s "$data/PG_VERSION" ]; then
  : "${REPLICATION_PASSWORD:?is needed: the password of the role replicator}"
  # Made aside: a folder that has a PG_VERSION is whole.
  rm -rf "$data.new"
  PGPASSWORD=$REPLICATION_PASSWORD pg_basebackup --pgdata="$data.new" --host="$host" --port="$port" \
    --username=replicator --slot="$slot" --wal-method=stream --write-recovery-conf --checkpoint=fast --no-password
  chmod 700 "$data.new"
  if [ -d "$data" ]; then
    # A volume's root cannot be renamed onto; that of the image's is everybody's.
    chmod 700 "$data"
    find "$data.new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv {} "$data/" \;
    mv "$data.new/PG_VERSION" "$data/"
    rmdir "$data.new"
  else
    mv "$data.new" "$data"
  fi
fi
[ "${1-}" = -- ] || exit 0
shift
exec "$@"
