use knarr_base::index::{ScalarIndex, VectorIndex};

use super::*;
use crate::collections::Collection;
use crate::tests::{Home, START_MS, account, key, name, new_collection};

pub(crate) fn spec() -> IndexSpec {
    IndexSpec {
        description: "free \0 text é 船".into(),
        cpu_quota: 2,
        shard_policy: ShardPolicy::Unset,
        shard_count: 1,
        partition_by: Some("city".into()),
        scalar_index: ScalarIndex::All,
        vector: Some(VectorIndex::new("DiskANN", None, None).unwrap()),
    }
}

pub(crate) fn new_index(collection: &Collection, text: &str) -> NewIndex {
    NewIndex {
        account: collection.account.clone(),
        collection: collection.name.clone(),
        table: collection.table,
        name: name(text),
        spec: spec(),
    }
}

async fn made(catalog: &Catalog, owner: &str, text: &str) -> Collection {
    catalog.create_collection(&key(), new_collection(owner, text)).await.unwrap()
}

fn at<'a>(account: &'a AccountId, collection: &'a str, name: &'a str) -> IndexKey<'a> {
    IndexKey { account, collection, name }
}

#[tokio::test]
async fn indexes_are_made_found_changed_and_dropped() {
    let home = Home::new();
    let catalog = home.open().await;
    let owner = account("default");
    let collection = made(&catalog, "default", "example").await;
    let created = catalog.create_index(&key(), new_index(&collection, "b")).await.unwrap();
    assert_eq!((created.spec.clone(), created.created_ms, created.updated_by.clone()), (spec(), START_MS, key()));
    catalog.create_index(&key(), new_index(&collection, "a")).await.unwrap();
    let again = catalog.create_index(&key(), new_index(&collection, "b")).await.unwrap_err();
    assert!(matches!(again, Error::IndexExists { .. }), "{again:?}");
    let names = |indexes: &[Index]| indexes.iter().map(|i| i.name.to_string()).collect::<Vec<_>>();
    let listed = catalog.indexes(&owner, "example").await.unwrap();
    assert_eq!((names(&listed), &listed[1]), (vec!["a".to_owned(), "b".to_owned()], &created));

    home.clock.set_wall(START_MS + 9);
    let by = KeyId::new("AKLTother");
    let change = IndexChange {
        description: Some(String::new()),
        cpu_quota: Some(4),
        shard_policy: Some(ShardPolicy::Custom),
        shard_count: Some(3),
        scalars: vec!["x".into()],
    };
    let changed = catalog.update_index(&by, at(&owner, "example", "b"), &change).await.unwrap();
    let expected = IndexSpec {
        description: String::new(),
        cpu_quota: 4,
        shard_policy: ShardPolicy::Custom,
        shard_count: 3,
        ..spec()
    };
    assert_eq!((changed.spec.clone(), changed.updated_ms, changed.created_ms), (expected, START_MS + 9, START_MS));
    assert_eq!((changed.id, &changed.updated_by), (created.id, &by));
    let nothing = IndexChange::default();
    assert_eq!(catalog.update_index(&by, at(&owner, "example", "b"), &nothing).await.unwrap().spec, changed.spec);

    assert_eq!(catalog.drop_index(&by, at(&owner, "example", "b")).await.unwrap(), changed);
    for missing in ["b", "", "B", "é"] {
        let error = catalog.drop_index(&key(), at(&owner, "example", missing)).await.unwrap_err();
        assert!(matches!(error, Error::IndexMissing { .. }), "{missing}");
        let error = catalog.update_index(&key(), at(&owner, "example", missing), &nothing).await.unwrap_err();
        assert!(matches!(error, Error::IndexMissing { .. }), "{missing}");
    }
    let second = catalog.create_index(&key(), new_index(&collection, "b")).await.unwrap();
    assert_ne!(second.id, created.id, "another incarnation");
    catalog.audit_verify().await.unwrap();
    let log = catalog.audit_list(0, 100).await.unwrap();
    let actions: Vec<_> = log.iter().filter(|r| r.action.starts_with("index.")).map(|r| r.action.as_str()).collect();
    assert_eq!(actions, ["index.create", "index.create", "index.update", "index.update", "index.drop", "index.create"]);
}

#[tokio::test]
async fn fields_are_added_to_a_list_and_to_nothing_else() {
    let home = Home::new();
    let catalog = home.open().await;
    let collection = made(&catalog, "default", "example").await;
    let listed = IndexSpec { scalar_index: ScalarIndex::Fields(vec!["a".into()]), vector: None, ..spec() };
    let new = NewIndex { spec: listed.clone(), ..new_index(&collection, "i") };
    assert_eq!(catalog.create_index(&key(), new).await.unwrap().spec, listed);
    let owner = account("default");
    let change = IndexChange { scalars: vec!["b".into(), "a".into()], ..Default::default() };
    let changed = catalog.update_index(&key(), at(&owner, "example", "i"), &change).await.unwrap();
    assert_eq!(changed.spec.scalar_index, ScalarIndex::Fields(vec!["a".into(), "b".into()]));
}

#[tokio::test]
async fn indexes_go_with_their_collection() {
    let home = Home::new();
    let catalog = home.open().await;
    let owner = account("default");
    let old = made(&catalog, "default", "example").await;
    let other = made(&catalog, "other", "example").await;
    catalog.create_index(&key(), new_index(&old, "i")).await.unwrap();
    catalog.create_index(&key(), new_index(&other, "i")).await.unwrap();
    catalog.drop_collection(&key(), &owner, "example").await.unwrap();
    let gone = catalog.create_index(&key(), new_index(&old, "i")).await.unwrap_err();
    assert!(matches!(gone, Error::CollectionMissing { .. }), "{gone:?}");
    let new = made(&catalog, "default", "example").await;
    assert_eq!(catalog.indexes(&owner, "example").await.unwrap(), []);
    assert_eq!(catalog.indexes(&account("other"), "example").await.unwrap().len(), 1, "another account's");
    // The specification was checked against the fields of the first one.
    let stale = catalog.create_index(&key(), new_index(&old, "i")).await.unwrap_err();
    assert!(matches!(stale, Error::CollectionMissing { .. }), "{stale:?}");
    catalog.create_index(&key(), new_index(&new, "i")).await.unwrap();
}

#[tokio::test]
async fn bounds_hold_exactly() {
    let home = Home::new();
    let catalog = home.open().await;
    let mut collections = Vec::new();
    for text in ["a", "b", "c"] {
        collections.push(made(&catalog, "default", text).await);
    }
    for (collection, most) in collections.iter().zip([INDEXES_PER_COLLECTION, INDEXES_PER_COLLECTION, 0]) {
        for n in 0..most {
            catalog.create_index(&key(), new_index(collection, &format!("i{n}"))).await.unwrap();
        }
        let of = if most == 0 { "account" } else { "collection" };
        let error = catalog.create_index(&key(), new_index(collection, "more")).await.unwrap_err();
        assert!(matches!(error, Error::TooManyIndexes { of: which, .. } if which == of), "{error:?}");
    }
    let elsewhere = made(&catalog, "other", "a").await;
    catalog.create_index(&key(), new_index(&elsewhere, "i")).await.unwrap();
}

#[test]
fn what_this_code_never_writes_is_refused() {
    let good = String::from_utf8(stored::encode(&spec())).unwrap();
    assert_eq!(stored::decode(good.as_bytes()).unwrap(), spec());
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("\"ip\"", "\"hamming\""),
        ("\"DiskANN\"", "\"annoy\""),
        ("\"shard_policy\":\"\"", "\"shard_policy\":\"x\""),
        ("{", "{\"new\":1,"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(matches!(stored::decode(bad.as_bytes()), Err(Error::Malformed { .. })), "{bad}");
    }
}
