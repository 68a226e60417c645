-- The archive's roles, for psql. Three users share the work:
--
--   owner   owns database and tables, and runs "envoy-control-plane migrate" before
--           nodes of a new release start; no node knows its password
--   writer  DATABASE_URL of the nodes: adds rows, moves the cursor, keeps what is
--           derived from them; it cannot change or delete history, nor the schema
--   reader  DATABASE_READ_URL of the nodes: reads
--
-- Run it as the owner (who may create roles) or as a superuser, after "migrate", and
-- again after each upgrade; running it twice changes nothing:
--
--   export ECP_WRITER_PASSWORD=... ECP_READER_PASSWORD=...
--   psql "$OWNER_URL" -f deploy/postgres/roles.sql
--
-- Other names: -v writer=..., -v reader=..., -v schema=... (ecp_writer, ecp_reader,
-- public). A password that is not set is left as it is; a SCRAM verifier may take
-- its place, then the server never sees it in clear.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?writer}
\else
  \set writer ecp_writer
\endif
\if :{?reader}
\else
  \set reader ecp_reader
\endif
\if :{?schema}
\else
  \set schema public
\endif
\set writer_password `printf %s "$ECP_WRITER_PASSWORD"`
\set reader_password `printf %s "$ECP_READER_PASSWORD"`
SELECT :'writer_password' <> '' AS has_writer_password, :'reader_password' <> '' AS has_reader_password \gset

SET client_min_messages = warning;
SET search_path = :"schema";
BEGIN;
-- No partition is made or dropped meanwhile.
SELECT pg_advisory_xact_lock(hashtext('envoy-control-plane/partitions')) \g /dev/null
SELECT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE oid = 'fleet_events'::regclass \gset

SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY[:'writer', :'reader']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
\if :has_writer_password
  ALTER ROLE :"writer" PASSWORD :'writer_password';
\endif
\if :has_reader_password
  ALTER ROLE :"reader" PASSWORD :'reader_password';
\endif

-- Both may come in and look; nobody but the owner makes anything here.
SELECT format('GRANT CONNECT ON DATABASE %I TO %I, %I', current_database(), :'writer', :'reader') \gexec
REVOKE CREATE ON SCHEMA :"schema" FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA :"schema" FROM :"writer", :"reader";
GRANT USAGE ON SCHEMA :"schema" TO :"writer", :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"writer", :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" GRANT SELECT ON TABLES TO :"writer", :"reader";

-- The writer adds to every table, those of months and releases to come included,
-- but not to what is the owner's.
GRANT INSERT ON ALL TABLES IN SCHEMA :"schema" TO :"writer";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" GRANT INSERT ON TABLES TO :"writer";
REVOKE INSERT ON schema_migrations, archive_policy FROM :"writer";

-- It moves the cursors, and keeps what is derived from events: proxies as they are
-- now, the sums of days, the newest record of a convergence.
GRANT UPDATE (seq, term, node, updated_at) ON archive_cursor TO :"writer";
GRANT UPDATE (seq, at) ON archive_digests TO :"writer";
GRANT UPDATE, DELETE ON envoy_proxies, proxy_status TO :"writer";
GRANT UPDATE (connected_us, disconnected_us) ON fleet_days TO :"writer";
GRANT UPDATE (expected, synced, rejected, departed, within_ms, streams, slowest, waiting) ON revision_convergence TO :"writer";

-- Months are made and dropped by functions that run as the owner, who says in
-- archive_policy what must stay.
GRANT EXECUTE ON FUNCTION archive_make_partition, archive_drop_partition, archive_trim_default TO :"writer";
GRANT EXECUTE ON FUNCTION proxy_metrics_make_day, proxy_metrics_drop_days TO :"writer";
COMMIT;
