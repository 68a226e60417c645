-- Events that Postgres refuses for what is in them, each with its whole content
-- in a form that always stores. Their places in fleet_events say so. Rows stay
-- until somebody deletes them.
CREATE TABLE archive_quarantine (
    cluster      text        NOT NULL,
    epoch        text        NOT NULL,
    seq          bigint      NOT NULL,
    log_index    bigint      NOT NULL,
    at           timestamptz NOT NULL,
    tenant       text        NOT NULL,
    kind         text        NOT NULL,
    -- What Postgres said.
    sqlstate     text        NOT NULL,
    reason       text        NOT NULL,
    -- The event as a protobuf message (Event in fsm/fsmpb/event.proto).
    content      bytea       NOT NULL,
    node         text        NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, epoch, seq)
);
