-- What reports are answered from. Nodes of the release before go on writing
-- events while these tables are already here: what is derived from events has a
-- cursor of its own and is caught up by the next leader that knows how.

-- The rest of a resource, so that any past revision can be shown whole. NULL in
-- rows of older nodes.
ALTER TABLE fleet_revision_resources ADD COLUMN aliases text[], ADD COLUMN ttl_ms bigint;

-- Who changed what: all events but those of crowds of proxies. While these are
-- built nobody writes; events wait in the outbox.
CREATE INDEX idx_fleet_events_changes ON fleet_events (cluster, epoch, tenant, at, seq)
    WHERE kind NOT IN ('proxy_connected', 'proxy_disconnected', 'proxy_rejected', 'proxy_recovered',
        'proxy_deleted', 'proxy_collapsed', 'convergence_recorded');
CREATE INDEX idx_fleet_events_fleet_changes ON fleet_events (cluster, epoch, tenant, fleet, at, seq)
    WHERE kind NOT IN ('proxy_connected', 'proxy_disconnected', 'proxy_rejected', 'proxy_recovered',
        'proxy_deleted', 'proxy_collapsed', 'convergence_recorded');

CREATE INDEX idx_fleet_revisions_at ON fleet_revisions (cluster, epoch, tenant, at, seq);
CREATE INDEX idx_fleet_revisions_fleet_at ON fleet_revisions (cluster, epoch, tenant, fleet, at, seq);

-- How far the events of a history have been digested into the tables below; it
-- moves in the transaction that does.
CREATE TABLE archive_digests (
    cluster  text        NOT NULL,
    epoch    text        NOT NULL,
    -- Last event digested, and its log time.
    seq      bigint      NOT NULL,
    at       timestamptz NOT NULL,
    -- Log time from which on the history is digested.
    first_at timestamptz NOT NULL,
    PRIMARY KEY (cluster, epoch)
);

-- Each proxy as of the digest's last event, and how long it has been so without
-- being counted in fleet_days. Unlike envoy_proxies never ahead of the events.
CREATE TABLE proxy_status (
    cluster   text        NOT NULL,
    epoch     text        NOT NULL,
    tenant    text        NOT NULL,
    proxy     text        NOT NULL,
    fleet     text        NOT NULL,
    build     text        NOT NULL,
    connected boolean     NOT NULL,
    -- Never on a day before the digest's.
    since     timestamptz NOT NULL,
    PRIMARY KEY (cluster, epoch, tenant, proxy)
);

-- Exact sums of the time that proxies have spent, by day of log time in UTC; of
-- the present stretch of each proxy, proxy_status has the rest.
CREATE TABLE fleet_days (
    cluster         text   NOT NULL,
    epoch           text   NOT NULL,
    tenant          text   NOT NULL,
    day             date   NOT NULL,
    fleet           text   NOT NULL,
    build           text   NOT NULL,
    -- Microseconds, summed over proxies.
    connected_us    bigint NOT NULL,
    disconnected_us bigint NOT NULL,
    PRIMARY KEY (cluster, epoch, tenant, day, fleet, build)
);

CREATE TABLE proxy_rejections (
    cluster  text        NOT NULL,
    epoch    text        NOT NULL,
    seq      bigint      NOT NULL,
    at       timestamptz NOT NULL,
    tenant   text        NOT NULL,
    fleet    text        NOT NULL,
    proxy    text        NOT NULL,
    revision bigint      NOT NULL,
    -- Short type.
    type     text        NOT NULL,
    -- Names the detail in groups: the first 8 bytes of its SHA-256.
    detail_id bigint     NOT NULL,
    detail   text        NOT NULL
) PARTITION BY RANGE (at);

CREATE TABLE proxy_rejections_default PARTITION OF proxy_rejections DEFAULT;

CREATE INDEX idx_proxy_rejections_at ON proxy_rejections (cluster, epoch, tenant, at);

-- How far a node's proxies have come with a revision: the newest record of it.
CREATE TABLE revision_convergence (
    cluster  text        NOT NULL,
    epoch    text        NOT NULL,
    tenant   text        NOT NULL,
    fleet    text        NOT NULL,
    -- Log time of the revision.
    at       timestamptz NOT NULL,
    revision bigint      NOT NULL,
    node     text        NOT NULL,
    expected integer     NOT NULL,
    synced   integer     NOT NULL,
    rejected integer     NOT NULL,
    departed integer     NOT NULL,
    -- Streams synced within so many milliseconds, bucket by bucket.
    within_ms integer[]  NOT NULL,
    streams  integer[]   NOT NULL,
    -- [{"proxy", "after_ms"}], slowest first; ids of some that are pending.
    slowest  jsonb       NOT NULL,
    waiting  text[]      NOT NULL,
    PRIMARY KEY (cluster, epoch, tenant, fleet, at, revision, node)
) PARTITION BY RANGE (at);

CREATE TABLE revision_convergence_default PARTITION OF revision_convergence DEFAULT;
