-- What proxies measure of themselves, rolled up by the nodes that receive it: a
-- row for each interval of a series. It takes the place of a table that was never
-- written. Lossy by design, and no part of the cursor's promise.
DROP TABLE proxy_metrics;

-- It has no epoch: what was measured stays true when a backup is restored.
CREATE TABLE proxy_metrics (
    cluster text             NOT NULL,
    -- Where the interval begins, by the clock of the node.
    at      timestamptz      NOT NULL,
    tenant  text             NOT NULL,
    fleet   text             NOT NULL,
    proxy   text             NOT NULL,
    node    text             NOT NULL,
    name    text             NOT NULL,
    labels  jsonb            NOT NULL DEFAULT '{}',
    kind    text             NOT NULL CHECK (kind IN ('counter', 'gauge', 'histogram')),
    -- Samples that came; of a histogram the observations in them.
    count   bigint           NOT NULL,
    -- Of a counter how much it went up, of a gauge the sum of the samples, of a
    -- histogram that of the observations.
    sum     double precision NOT NULL,
    -- Of a gauge; last of a counter, too: its total.
    min     double precision,
    max     double precision,
    last    double precision,
    -- Of a histogram: upper bounds of buckets and the observations in each. Empty
    -- ones are left out, but the one below another; what count has beyond them
    -- is above the last.
    le      double precision[],
    counts  bigint[]
) PARTITION BY RANGE (at);

CREATE TABLE proxy_metrics_default PARTITION OF proxy_metrics DEFAULT;

-- Of the new table, so that there is nobody to hold up.
CREATE INDEX idx_proxy_metrics_name
    ON proxy_metrics (cluster, tenant, fleet, name, at, proxy);

-- Partitions are of days, for the retention is days rather than months. They are
-- made and dropped by functions that run as the owner of the table.
DO $create$
DECLARE
    path text := format('%I, pg_temp', current_schema());
BEGIN

EXECUTE format($define$
-- proxy_metrics_make_day makes the partition of a day in UTC and moves what the
-- default partition has of it. It returns whether it made it: false when there is
-- one, or one of the whole month, which nodes of the release before make.
CREATE FUNCTION proxy_metrics_make_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
DECLARE
    name text := to_char(day, '"proxy_metrics_"YYYY_MM_DD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('envoy-control-plane/partitions'));
    IF to_regclass(name) IS NOT NULL OR to_regclass(to_char(day, '"proxy_metrics_"YYYY_MM')) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %%I (LIKE proxy_metrics INCLUDING ALL)', name);
    LOCK TABLE proxy_metrics_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('WITH moved AS (DELETE FROM proxy_metrics_default WHERE at >= %%1$L AND at < %%2$L RETURNING *) INSERT INTO %%3$I SELECT * FROM moved',
        day, day + 1, name);
    EXECUTE format('ALTER TABLE proxy_metrics ATTACH PARTITION %%I FOR VALUES FROM (%%L) TO (%%L)', name, day, day + 1);
    RETURN true;
END $body$
$define$, path);

EXECUTE format($define$
-- proxy_metrics_drop_days drops the partitions, and the default one's rows, from
-- before a day in UTC, and returns the names of those that it dropped. Never what
-- is younger than a day, whatever clock a node has.
CREATE FUNCTION proxy_metrics_drop_days(before date) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$s SET TimeZone = 'UTC' AS $body$
DECLARE
    name text;
    ended date;
BEGIN
    before := least(before, current_date - 1);
    PERFORM pg_advisory_xact_lock(hashtext('envoy-control-plane/partitions'));
    FOR name IN SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'proxy_metrics'::regclass ORDER BY 1 LOOP
        ended := CASE
            WHEN name ~ '^proxy_metrics_\d{4}_\d\d_\d\d$' THEN to_date(right(name, 10), 'YYYY_MM_DD') + 1
            WHEN name ~ '^proxy_metrics_\d{4}_\d\d$' THEN to_date(right(name, 7), 'YYYY_MM') + interval '1 month'
        END;
        IF ended <= before THEN
            EXECUTE format('DROP TABLE %%I', name);
            RETURN NEXT name;
        END IF;
    END LOOP;
    DELETE FROM proxy_metrics_default WHERE at < before;
END $body$
$define$, path);

END $create$;

REVOKE ALL ON FUNCTION proxy_metrics_make_day, proxy_metrics_drop_days FROM PUBLIC;
