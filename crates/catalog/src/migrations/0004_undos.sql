-- finished deletes whose rows somebody wants back, or got back
CREATE TABLE undos (
    task TEXT NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    asked_by TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    -- absent until the outcome is known
    done_ms BIGINT,
    report {bytes} NOT NULL
);
CREATE INDEX undos_open ON undos (asked_ms) WHERE done_ms IS NULL;
