-- tables whose collection is gone and whose files may still be there: only what is named here may be removed
CREATE TABLE dropped_tables (
    table_id TEXT NOT NULL PRIMARY KEY,
    dropped_ms BIGINT NOT NULL
);
