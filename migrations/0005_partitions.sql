-- Partitions are made and dropped by functions that run as the owner of the
-- tables: whoever writes the archive needs neither to own them nor to be able to
-- delete from them. What the functions may do is bounded here: monthly partitions
-- of the archive's own tables, and nothing younger than the owner allows.

CREATE TABLE archive_policy (
    one           boolean  PRIMARY KEY DEFAULT true CHECK (one),
    -- No month is dropped before it has been over for this long, whatever a
    -- node's retention says.
    min_retention interval NOT NULL DEFAULT '0'
);

INSERT INTO archive_policy DEFAULT VALUES;

-- The functions see pg_catalog and this schema, and nothing that a caller could put
-- before it.
DO $create$
DECLARE
    path text := format('%I, pg_temp', current_schema());
BEGIN

EXECUTE format($define$
-- archive_make_partition makes the partition of the month that begins at "month" and
-- moves what the default partition has of that month into it. It returns whether
-- it made it: false when it is there already.
CREATE FUNCTION archive_make_partition(parent text, month timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
DECLARE
    name text := parent || to_char(month, '_YYYY_MM');
    next timestamptz := month + interval '1 month';
BEGIN
    PERFORM archive_check_month(parent, month);
    PERFORM pg_advisory_xact_lock(hashtext('envoy-control-plane/partitions'));
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %%I (LIKE %%I INCLUDING ALL)', name, parent);
    EXECUTE format('LOCK TABLE %%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('WITH moved AS (DELETE FROM %%I WHERE at >= %%L AND at < %%L RETURNING *) INSERT INTO %%I SELECT * FROM moved',
        parent || '_default', month, next, name);
    EXECUTE format('ALTER TABLE %%I ATTACH PARTITION %%I FOR VALUES FROM (%%L) TO (%%L)', parent, name, month, next);
    RETURN true;
END $body$
$define$, path);

EXECUTE format($define$
-- archive_drop_partition drops the partition of a month and returns whether there
-- was one.
CREATE FUNCTION archive_drop_partition(parent text, month timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
DECLARE
    name text := parent || to_char(month, '_YYYY_MM');
BEGIN
    PERFORM archive_check_month(parent, month);
    PERFORM archive_check_age(month + interval '1 month');
    PERFORM pg_advisory_xact_lock(hashtext('envoy-control-plane/partitions'));
    IF to_regclass(quote_ident(name)) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %%I', name);
    RETURN true;
END $body$
$define$, path);

EXECUTE format($define$
-- archive_trim_default deletes the default partition's rows from before a time and
-- returns how many there were.
CREATE FUNCTION archive_trim_default(parent text, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
DECLARE
    deleted bigint;
BEGIN
    PERFORM archive_check_month(parent, date_trunc('month', before));
    PERFORM archive_check_age(before);
    EXECUTE format('DELETE FROM %%I WHERE at < %%L', parent || '_default', before);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $body$
$define$, path);

EXECUTE format($define$
CREATE FUNCTION archive_check_month(parent text, month timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
            WHERE c.oid = to_regclass(quote_ident(parent)) AND to_regclass(quote_ident(parent || '_default')) IS NOT NULL) THEN
        RAISE EXCEPTION '%% is not a table of the archive with partitions', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF month <> date_trunc('month', month) THEN
        RAISE EXCEPTION '%% is not the beginning of a month in UTC', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $body$
$define$, path);

EXECUTE format($define$
CREATE FUNCTION archive_check_age(ended timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
DECLARE
    keep interval := (SELECT min_retention FROM archive_policy);
BEGIN
    IF ended > now() - keep THEN
        RAISE EXCEPTION 'what ended at %% is kept: archive_policy says for %%', ended, keep USING ERRCODE = 'insufficient_privilege';
    END IF;
END $body$
$define$, path);

END $create$;

-- Functions are everybody's unless that is taken back. Who may call them:
-- deploy/postgres/roles.sql.
REVOKE ALL ON FUNCTION archive_make_partition, archive_drop_partition, archive_trim_default FROM PUBLIC;
