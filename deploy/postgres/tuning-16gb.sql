-- The settings of postgresql-16gb.conf for a server that is there already; a test
-- holds the two together. Some need a restart: they are listed at the end.
--
--   psql -d postgres -f tuning-16gb.sql

\ir tuning-common.sql

ALTER SYSTEM SET max_connections = '200';
ALTER SYSTEM SET shared_buffers = '4GB';
ALTER SYSTEM SET effective_cache_size = '12GB';
ALTER SYSTEM SET work_mem = '16MB';
ALTER SYSTEM SET maintenance_work_mem = '1GB';
ALTER SYSTEM SET min_wal_size = '1GB';
ALTER SYSTEM SET max_wal_size = '8GB';
ALTER SYSTEM SET max_worker_processes = '8';
ALTER SYSTEM SET max_parallel_workers = '4';
ALTER SYSTEM SET max_parallel_workers_per_gather = '2';

SELECT pg_reload_conf();
SELECT name AS needs_a_restart FROM pg_settings WHERE pending_restart;
