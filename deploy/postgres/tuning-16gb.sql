-- The settings of postgresql-16gb.conf for a server that is there already; a test
-- holds the two together. What they need more than a reload for comes with a restart.
-- WAL archiving and access are left as they are.
--
--   psql -d postgres -f tuning-16gb.sql

ALTER SYSTEM SET password_encryption = 'scram-sha-256';
ALTER SYSTEM SET random_page_cost = '1.1';
ALTER SYSTEM SET effective_io_concurrency = '200';
ALTER SYSTEM SET default_statistics_target = '100';
ALTER SYSTEM SET jit = 'off';
ALTER SYSTEM SET wal_buffers = '16MB';
ALTER SYSTEM SET wal_compression = 'on';
ALTER SYSTEM SET checkpoint_completion_target = '0.9';
ALTER SYSTEM SET checkpoint_timeout = '15min';
ALTER SYSTEM SET autovacuum_vacuum_insert_scale_factor = '0.05';
ALTER SYSTEM SET autovacuum_analyze_scale_factor = '0.02';
ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min';
ALTER SYSTEM SET tcp_keepalives_idle = '60';
ALTER SYSTEM SET tcp_keepalives_interval = '10';
ALTER SYSTEM SET tcp_keepalives_count = '3';
ALTER SYSTEM SET wal_level = 'replica';
ALTER SYSTEM SET max_wal_senders = '10';
ALTER SYSTEM SET max_replication_slots = '10';
ALTER SYSTEM SET max_slot_wal_keep_size = '20GB';
ALTER SYSTEM SET hot_standby = 'on';
ALTER SYSTEM SET hot_standby_feedback = 'on';
ALTER SYSTEM SET archive_timeout = '60s';
ALTER SYSTEM SET log_min_duration_statement = '1s';
ALTER SYSTEM SET log_checkpoints = 'on';
ALTER SYSTEM SET log_lock_waits = 'on';
ALTER SYSTEM SET log_autovacuum_min_duration = '10s';
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
