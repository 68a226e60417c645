#!/bin/sh
# Prepares a primary for replicas: the role that they stream as, and a slot for
# each of them. Safe to run again.
#
#   make-primary.sh [SLOT...]         default: replica_1
#
# Reaches the server as psql does (PGHOST, PGPORT, PGUSER, PGPASSWORD ...), as a
# superuser. REPLICATION_PASSWORD is the role's password. In the postgres image
# it is run from /docker-entrypoint-initdb.d.
set -eu

case ${1-} in
-h | --help)
  sed -n '2,9s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac

: "${REPLICATION_PASSWORD:?is needed: the password of the role replicator}"
[ $# -gt 0 ] || set -- replica_1
# The image's variable; psql would connect to a database of the user's name.
export PGUSER="${PGUSER:-${POSTGRES_USER:-postgres}}"
export PGDATABASE=postgres

psql -v ON_ERROR_STOP=1 -v password="$REPLICATION_PASSWORD" -q <<'SQL'
SELECT 'CREATE ROLE replicator WITH REPLICATION LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replicator')
\gexec
ALTER ROLE replicator WITH REPLICATION LOGIN PASSWORD :'password';
SQL
for slot; do
  psql -v ON_ERROR_STOP=1 -v slot="$slot" -qAt <<'SQL'
SELECT pg_create_physical_replication_slot(:'slot', true)
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :'slot');
SQL
done
