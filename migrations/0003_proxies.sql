-- Proxies as they are now, and what they measure.

CREATE TABLE envoy_proxies (
    cluster    text        NOT NULL,
    epoch      text        NOT NULL,
    -- Sequence that the row reflects.
    seq        bigint      NOT NULL,
    tenant     text        NOT NULL,
    id         text        NOT NULL,
    fleet      text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('connected', 'disconnected')),
    streams    integer     NOT NULL,
    -- Types that it rejected and has not accepted since.
    rejections jsonb       NOT NULL,
    build      text        NOT NULL,
    region     text        NOT NULL,
    zone       text        NOT NULL,
    sub_zone   text        NOT NULL,
    labels     jsonb       NOT NULL,
    first_seen timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (cluster, epoch, tenant, id)
);

CREATE INDEX idx_proxies_tenant_status ON envoy_proxies (tenant, cluster, epoch)
    WHERE status = 'connected';
CREATE INDEX idx_proxies_fleet ON envoy_proxies (cluster, epoch, tenant, fleet);

-- Samples of Envoys' own metrics, written by the nodes that receive them;
-- lossy by design, and no part of the cursor's promise.
CREATE TABLE proxy_metrics (
    cluster text             NOT NULL,
    epoch   text             NOT NULL,
    at      timestamptz      NOT NULL,
    tenant  text             NOT NULL,
    fleet   text             NOT NULL,
    proxy   text             NOT NULL,
    node    text             NOT NULL,
    name    text             NOT NULL,
    labels  jsonb            NOT NULL DEFAULT '{}',
    value   double precision NOT NULL
) PARTITION BY RANGE (at);

CREATE TABLE proxy_metrics_default PARTITION OF proxy_metrics DEFAULT;

CREATE INDEX idx_proxy_metrics_name ON proxy_metrics (cluster, tenant, fleet, name, at);
