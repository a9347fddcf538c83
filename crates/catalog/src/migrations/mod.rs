//! The schema's versions. Each is applied once, in order, all in the one transaction that opens the catalog; its text
//! is never edited after a release.

use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use crate::Error;
use crate::dialect::{BYTES, BYTES_MARK, Columns, Connection};

/// Version `n` is entry `n - 1`.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_catalog.sql"),
    include_str!("0002_indexes.sql"),
    include_str!("0003_dropped_tables.sql"),
    include_str!("0004_undos.sql"),
];

const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions (
    version BIGINT NOT NULL PRIMARY KEY,
    digest {bytes} NOT NULL,
    applied_ms BIGINT NOT NULL
)";

/// Refuses a database of a newer build, then applies what is missing.
pub(crate) async fn apply(connection: &mut Connection, now_ms: i64) -> Result<(), Error> {
    run(connection, CREATE_VERSIONS).await?;
    let applied =
        sqlx::query("SELECT version, digest FROM schema_versions ORDER BY version").fetch_all(&mut *connection).await?;
    let known = MIGRATIONS.len();
    for (row, i) in applied.iter().zip(0..) {
        let (found, digest) = (row.time("version")?, row.digest("digest")?);
        match MIGRATIONS.get(i) {
            None => return Err(Error::SchemaNewer { found, known: i64::try_from(known).unwrap_or(i64::MAX) }),
            Some(text) if found != version(i) || digest != digest_of(text) => {
                return Err(Error::SchemaChanged { version: version(i) });
            }
            Some(_) => {}
        }
    }
    for (i, text) in MIGRATIONS.iter().enumerate().skip(applied.len()) {
        run(connection, text).await?;
        sqlx::query("INSERT INTO schema_versions (version, digest, applied_ms) VALUES ($1, $2, $3)")
            .bind(version(i))
            .bind(&digest_of(text)[..])
            .bind(now_ms)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn version(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1)
}

fn digest_of(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Several statements at once; nothing from outside is in them.
async fn run(connection: &mut Connection, sql: &str) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.replace(BYTES_MARK, BYTES))).execute(connection).await?;
    Ok(())
}
