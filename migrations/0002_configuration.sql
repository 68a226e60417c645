-- What events changed, to be asked about: revisions with the content of what
-- they added or updated, and endpoints.

CREATE TABLE fleet_revisions (
    cluster     text        NOT NULL,
    epoch       text        NOT NULL,
    seq         bigint      NOT NULL,
    log_index   bigint      NOT NULL,
    at          timestamptz NOT NULL,
    tenant      text        NOT NULL,
    fleet       text        NOT NULL,
    -- Numbers begin again when a fleet is deleted and made anew, so that only
    -- the sequence is a key.
    revision    bigint      NOT NULL,
    by          text        NOT NULL,
    message     text        NOT NULL,
    rollback_of bigint      NOT NULL,
    changes     integer     NOT NULL,
    PRIMARY KEY (cluster, epoch, seq)
);

CREATE INDEX idx_fleet_revisions_fleet ON fleet_revisions (cluster, epoch, tenant, fleet, revision);

CREATE TABLE fleet_revision_resources (
    cluster text   NOT NULL,
    epoch   text   NOT NULL,
    seq     bigint NOT NULL,
    op      text   NOT NULL CHECK (op IN ('added', 'updated', 'removed')),
    -- Full type URL.
    type    text   NOT NULL,
    name    text   NOT NULL,
    version text   NOT NULL,
    -- The resource as JSON, NULL when it is removed or jsonb cannot hold it,
    -- and the exact bytes that Envoys are sent.
    content jsonb,
    body    bytea,
    PRIMARY KEY (cluster, epoch, seq, type, name)
);

CREATE TABLE endpoint_changes (
    cluster text        NOT NULL,
    epoch   text        NOT NULL,
    seq     bigint      NOT NULL,
    at      timestamptz NOT NULL,
    tenant  text        NOT NULL,
    service text        NOT NULL,
    -- Empty when the service was deleted.
    version text        NOT NULL,
    content jsonb,
    body    bytea
) PARTITION BY RANGE (at);

CREATE TABLE endpoint_changes_default PARTITION OF endpoint_changes DEFAULT;

CREATE INDEX idx_endpoint_changes_service ON endpoint_changes (cluster, epoch, tenant, service, seq);
