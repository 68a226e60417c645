#!/bin/sh
# Run by the image when the database is made: the archive's owner, and the role
# that replicas copy with.
set -eu

psql --set ON_ERROR_STOP=1 --username postgres --dbname "$POSTGRES_DB" <<'SQL'
\getenv archive ARCHIVE_PASSWORD
\getenv replication REPLICATION_PASSWORD
\getenv database POSTGRES_DB
CREATE ROLE envoy_control LOGIN PASSWORD :'archive';
ALTER DATABASE :"database" OWNER TO envoy_control;
ALTER SCHEMA public OWNER TO envoy_control;
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'replication';
SQL
echo 'host replication replicator all scram-sha-256' >> "$PGDATA/pg_hba.conf"
