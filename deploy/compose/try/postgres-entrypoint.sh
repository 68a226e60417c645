#!/bin/sh
# What docker-entrypoint.sh of the image postgres does, as far as the compose
# files use it: first as root for the volume, then as postgres for the database.
# As there, the server that the scripts are run against listens on its socket
# alone, with the settings of the command.
set -eu

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres:postgres "$PGDATA"
  chmod 700 "$PGDATA"
  exec /usr/bin/setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  export PGPASSWORD="${POSTGRES_PASSWORD:?}" PGUSER="$POSTGRES_USER" PGDATABASE=postgres
  printf '%s\n' "$PGPASSWORD" > /tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password >/dev/null
  printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
  settings="$*"
  pg_ctl -w -o "${settings#postgres} -c listen_addresses=''" start
  psql -v ON_ERROR_STOP=1 -v name="$POSTGRES_DB" -q <<'SQL'
CREATE DATABASE :"name";
SQL
  for file in /docker-entrypoint-initdb.d/*; do
    if [ -x "$file" ]; then "$file"; fi
  done
  pg_ctl -w -m fast stop
  unset PGPASSWORD PGUSER PGDATABASE
  echo "the database is made"
fi
exec "$@"
