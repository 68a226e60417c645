-- The settings of postgresql-4gb.conf for a server that is there already; a test
-- holds the two together. Some need a restart: they are listed at the end.
--
--   psql -d postgres -f tuning-4gb.sql

\ir tuning-common.sql

ALTER SYSTEM SET max_connections = '100';
ALTER SYSTEM SET shared_buffers = '1GB';
ALTER SYSTEM SET effective_cache_size = '3GB';
ALTER SYSTEM SET work_mem = '8MB';
ALTER SYSTEM SET maintenance_work_mem = '256MB';
ALTER SYSTEM SET min_wal_size = '512MB';
ALTER SYSTEM SET max_wal_size = '2GB';
ALTER SYSTEM SET max_worker_processes = '4';
ALTER SYSTEM SET max_parallel_workers = '2';
ALTER SYSTEM SET max_parallel_workers_per_gather = '1';

SELECT pg_reload_conf();
SELECT name AS needs_a_restart FROM pg_settings WHERE pending_restart;
