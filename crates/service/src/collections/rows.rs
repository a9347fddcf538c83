//! Rows by key: upsert, update, delete, fetch.

use knarr_base::right::Right;
use knarr_base::schema::Schema;
use knarr_base::value::{Key, KeyType};
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::audit::Audit;
use knarr_engine::rows::{Call, Fetched, Rows};

use super::{CollectionRef, Opened, RowWrite};
use crate::{Principal, Service, heavy};

impl Service {
    /// Writes whole rows; a `ttl` of 0 keeps them for ever. Needs write.
    /// All rows or none; durable and visible on return. In a collection with `vectorize` the model has made their
    /// vectors by then.
    ///
    /// # Errors
    /// `Kind::Invalid` or `Kind::InvalidKey` naming row and field, `Kind::Busy`, `Kind::Unavailable`; with `vectorize`
    /// also `Kind::EmbeddingFailed`, `Kind::Refused`, and `Kind::Forbidden` for an image in a bucket that the key may
    /// not read.
    pub async fn upsert(&self, by: &Principal, c: &CollectionRef, write: RowWrite<'_>) -> Result<()> {
        let (opened, rows) = self.rows(by, c, &write, Call::Upsert).await?;
        opened.table.upsert(rows, write.ttl).await?;
        Ok(())
    }

    /// Changes the given fields of existing rows; `ttl` 0 keeps each row's expiry. Needs write. All rows or none.
    ///
    /// # Errors
    /// As [`Service::upsert`]; `Kind::RowMissing` for a key without a row.
    pub async fn update_rows(&self, by: &Principal, c: &CollectionRef, write: RowWrite<'_>) -> Result<()> {
        let (opened, rows) = self.rows(by, c, &write, Call::Update).await?;
        opened.table.update(rows, write.ttl).await?;
        Ok(())
    }

    /// What is to be written, and where.
    async fn rows(
        &self,
        by: &Principal,
        c: &CollectionRef,
        write: &RowWrite<'_>,
        call: Call,
    ) -> Result<(Opened, Rows)> {
        check_ttl(write.ttl)?;
        let opened = self.inner.collection(by, Right::Write, c).await?;
        let schema = opened.table.schema();
        let rows = heavy(write.rows.len(), || Rows::decode(&schema, write.rows, call, write.unknown))?;
        let rows = self.inner.make_vectors(by, &opened, &schema, rows).await?;
        Ok((opened, rows))
    }

    /// Deletes by key; keys without a row are no error. Needs delete. Durable on return.
    ///
    /// # Errors
    /// `Kind::Invalid` without or with too many keys, `Kind::InvalidKey` for a key of the wrong type.
    pub async fn delete_rows(&self, by: &Principal, c: &CollectionRef, keys: Vec<Key>) -> Result<()> {
        let opened = self.inner.collection(by, Right::Delete, c).await?;
        let keys = typed_keys(&opened.table.schema(), keys)?;
        opened.table.delete(keys).await?;
        Ok(())
    }

    /// Deletes every row at once (del_all). Needs delete. Audited.
    ///
    /// # Errors
    /// `Kind::Forbidden`, `Kind::Busy`, `Kind::Unavailable`.
    pub async fn delete_all(&self, by: &Principal, c: &CollectionRef) -> Result<()> {
        let opened = self.inner.collection(by, Right::Delete, c).await?;
        let entry = |outcome, detail: String| Audit {
            who: by.key.clone(),
            action: "del_all",
            object: opened.record.name.to_string(),
            detail,
            outcome,
        };
        self.inner.catalog.audit(entry("intent", "{}".to_owned())).await?;
        let seq = opened.table.truncate().await?;
        self.inner.catalog.audit(entry("done", format!("{{\"seq\":{seq}}}"))).await?;
        Ok(())
    }

    /// One entry per key, in the order asked. Needs read. Sees every acknowledged write.
    ///
    /// # Errors
    /// `Kind::Invalid` without or with too many keys, `Kind::InvalidKey`, `Kind::Corrupt`.
    pub async fn fetch(&self, by: &Principal, c: &CollectionRef, keys: Vec<Key>) -> Result<Fetched> {
        let opened = self.inner.collection(by, Right::Read, c).await?;
        let keys = typed_keys(&opened.table.schema(), keys)?;
        Ok(opened.table.fetch(keys)?)
    }
}

fn check_ttl(ttl: i64) -> Result<()> {
    if (0..=limit::TTL_SECONDS).contains(&ttl) {
        Ok(())
    } else {
        Err(Error::new(Kind::Invalid, "ttl must be a number of seconds, 0 or more"))
    }
}

/// Keys as the schema types them: a numeric text is accepted for an int64 key, as the vendor's pages show it.
pub(crate) fn typed_keys(schema: &Schema, keys: Vec<Key>) -> Result<Vec<Key>> {
    if keys.is_empty() || keys.len() > limit::ROWS_PER_CALL {
        return Err(Error::new(Kind::Invalid, format!("primary_keys must hold 1 to {} keys", limit::ROWS_PER_CALL)));
    }
    keys.into_iter().map(|key| typed_key(schema, key)).collect()
}

pub(crate) fn typed_key(schema: &Schema, key: Key) -> Result<Key> {
    let wrong =
        |what: &str| Err(Error::new(Kind::InvalidKey, format!("primary key {} must be {what}", schema.key_name())));
    match (schema.key_type(), key) {
        (KeyType::Int, Key::Str(text)) => match text.parse() {
            Ok(number) => Ok(Key::Int(number)),
            Err(_) => wrong("an int64"),
        },
        (KeyType::Str, Key::Int(_)) => wrong("a string"),
        (KeyType::Str, Key::Str(text)) if text.len() > limit::KEY_BYTES => wrong("at most 1024 bytes"),
        (KeyType::Int, key @ Key::Int(_)) | (KeyType::Str, key @ Key::Str(_)) => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_base::id::Name;
    use knarr_base::schema::{Field, FieldType};

    fn schema(kind: FieldType) -> Schema {
        let name = Name::parse("field_name", "id").expect("valid");
        Schema::new(vec![Field { name, kind, default: None, pipeline: None }], "id").expect("valid")
    }

    #[test]
    fn keys_take_the_type_of_the_schema() {
        let text = |s: &str| Key::Str(s.into());
        let (int, string) = (schema(FieldType::Int64), schema(FieldType::String));
        assert_eq!(typed_keys(&int, vec![Key::Int(1), text("-7")]).expect("typed"), vec![Key::Int(1), Key::Int(-7)]);
        assert_eq!(typed_keys(&int, vec![text("x")]).map_err(|e| e.kind()), Err(Kind::InvalidKey));
        assert_eq!(typed_keys(&string, vec![Key::Int(1)]).map_err(|e| e.kind()), Err(Kind::InvalidKey));
        assert_eq!(typed_keys(&string, vec![text(&"k".repeat(1025))]).map_err(|e| e.kind()), Err(Kind::InvalidKey));
        assert!(typed_keys(&string, vec![text(&"k".repeat(1024))]).is_ok());
        assert_eq!(typed_keys(&int, vec![]).map_err(|e| e.kind()), Err(Kind::Invalid));
        assert_eq!(typed_keys(&int, vec![Key::Int(1); 101]).map_err(|e| e.kind()), Err(Kind::Invalid));
        assert!(typed_keys(&int, vec![Key::Int(1); 100]).is_ok());
    }
}
