-- Ids, names and words are TEXT, free text from outside is bytes, times are unix milliseconds.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value {bytes} NOT NULL
);
INSERT INTO settings (name, value) VALUES ('settled', '');

CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    label {bytes} NOT NULL,
    -- nonce and ciphertext; the id is the associated data
    sealed_secret {bytes} NOT NULL,
    grants TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    created_n BIGINT NOT NULL,
    revoked_ms BIGINT
);
CREATE INDEX access_keys_by_account ON access_keys (account, created_n);

CREATE TABLE buckets (
    name TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX buckets_by_account ON buckets (account);

CREATE TABLE collections (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    table_id TEXT NOT NULL UNIQUE,
    project {bytes} NOT NULL,
    description {bytes} NOT NULL,
    vectorize {bytes},
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE aliases (
    account TEXT NOT NULL,
    alias TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (account, alias),
    FOREIGN KEY (account, name) REFERENCES collections (account, name) ON DELETE CASCADE
);
CREATE INDEX aliases_by_name ON aliases (account, name);

CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    -- number of the audit record of its creation: the order of creation, which no clock can turn round
    created_n BIGINT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    creator TEXT NOT NULL,
    kind TEXT NOT NULL,
    collection TEXT NOT NULL,
    table_id TEXT NOT NULL,
    params {bytes} NOT NULL,
    spec {bytes} NOT NULL,
    dedup {bytes},
    status TEXT NOT NULL,
    revision BIGINT NOT NULL,
    report {bytes} NOT NULL,
    error {bytes} NOT NULL,
    -- the pin counts while finished_ms is absent, and is kept afterwards as a fact about what the task saw
    pin_version BIGINT,
    pin_seq BIGINT,
    pin_at_ms BIGINT,
    cancel_requested BOOLEAN NOT NULL,
    confirm_by_ms BIGINT,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    -- set by the move to a final status, and by nothing else
    finished_ms BIGINT,
    UNIQUE (account, dedup)
);
CREATE INDEX tasks_by_account ON tasks (account, created_n);
CREATE INDEX tasks_open ON tasks (account, created_n) WHERE finished_ms IS NULL;

CREATE TABLE units (
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    spec {bytes} NOT NULL,
    state TEXT NOT NULL,
    -- grows with every lease granted, also across a replacement of the task's units
    fence BIGINT NOT NULL,
    -- the lease: both present or both absent
    holder TEXT,
    lease_until_ms BIGINT,
    -- the fence that began to publish; kept when the unit is done
    publish_fence BIGINT,
    strikes BIGINT NOT NULL,
    report {bytes} NOT NULL,
    PRIMARY KEY (task, ordinal)
);
CREATE INDEX units_leased ON units (task, ordinal) WHERE holder IS NOT NULL;

CREATE TABLE audit (
    n BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    who {bytes} NOT NULL,
    action {bytes} NOT NULL,
    object {bytes} NOT NULL,
    detail {bytes} NOT NULL,
    outcome {bytes} NOT NULL,
    hash {bytes} NOT NULL
);

-- The newest record: number and hash. One row; whoever appends holds it, so records are numbered without gaps.
CREATE TABLE audit_head (
    n BIGINT NOT NULL,
    hash {bytes} NOT NULL
);
INSERT INTO audit_head (n, hash) VALUES (0, '');
