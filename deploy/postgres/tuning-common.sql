-- What tuning-4gb.sql and tuning-16gb.sql have in common: the settings of
-- postgresql-common.conf, but for WAL archiving and access, which stay as they are.

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
