-- What the archive has: one row for each history (cluster, epoch), and how far
-- each has been copied. The cursor moves in the transaction that copies.

CREATE TABLE archive_epochs (
    cluster        text        NOT NULL,
    epoch          text        NOT NULL,
    -- The history that this one went on from, and the last sequence it shares
    -- with it; empty for a first one.
    parent_cluster text        NOT NULL DEFAULT '',
    parent_epoch   text        NOT NULL DEFAULT '',
    parent_seq     bigint      NOT NULL DEFAULT 0,
    -- First sequence stored under this epoch; what is before it is the
    -- parent's.
    first_seq      bigint      NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, epoch)
);

CREATE TABLE archive_cursor (
    cluster    text        NOT NULL,
    epoch      text        NOT NULL,
    -- Last sequence stored.
    seq        bigint      NOT NULL,
    -- Raft term of the leader that may write; a lower one is refused.
    term       bigint      NOT NULL,
    node       text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, epoch),
    FOREIGN KEY (cluster, epoch) REFERENCES archive_epochs
);

-- Sequences that were gone from the outbox before they could be stored.
CREATE TABLE archive_gaps (
    cluster    text        NOT NULL,
    epoch      text        NOT NULL,
    from_seq   bigint      NOT NULL,
    to_seq     bigint      NOT NULL,
    node       text        NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, epoch, from_seq),
    CHECK (to_seq >= from_seq)
);

-- Every committed event. Partitioned by month of log time; the months are made
-- ahead by the writer, the default takes what fits in none. A unique key would
-- have to contain the time: that no event is here twice is the cursor's work.
CREATE TABLE fleet_events (
    cluster    text        NOT NULL,
    epoch      text        NOT NULL,
    seq        bigint      NOT NULL,
    tenant     text        NOT NULL,
    tenant_seq bigint      NOT NULL,
    log_index  bigint      NOT NULL,
    at         timestamptz NOT NULL,
    fleet      text        NOT NULL,
    kind       text        NOT NULL,
    by         text        NOT NULL,
    data       jsonb       NOT NULL
) PARTITION BY RANGE (at);

CREATE TABLE fleet_events_default PARTITION OF fleet_events DEFAULT;

CREATE INDEX idx_fleet_events_seq ON fleet_events (cluster, epoch, seq);
CREATE INDEX idx_fleet_events_tenant_seq ON fleet_events (cluster, epoch, tenant, seq);
