CREATE TABLE indexes (
    -- the incarnation: dropped and made again, an index has another one
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    spec {bytes} NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    UNIQUE (account, collection, name),
    FOREIGN KEY (account, collection) REFERENCES collections (account, name) ON DELETE CASCADE
);
