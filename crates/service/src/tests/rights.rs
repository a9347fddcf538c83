//! Who may do what (A2, A3, A4).

use knarr_base::Kind;
use knarr_base::filter::Filter;
use knarr_base::right::{Grant, Right};
use knarr_base::value::Key;

use super::harness::{Bed, admin, delete, example, export, named, principal, users_below};
use crate::Principal;
use crate::collections::{RowWrite, UpdateCollection};
use crate::tasks::{Status, TaskQuery};

fn holder(rights: &[Right], pattern: &str) -> Principal {
    principal("default", "AKLTholder", vec![Grant { rights: rights.to_vec(), pattern: pattern.into() }])
}

/// Each right alone opens exactly its own calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_matrix() {
    let bed = Bed::new().await;
    let root = bed.example().await;
    bed.upsert(&root, [(1, 1, "a")]).await;
    let c = named("example");
    for right in Right::ALL {
        let by = holder(&[right], "*");
        let s = &bed.service;
        let allowed = |result: Result<(), knarr_base::Error>, needs: &[Right], what: &str| match result {
            Ok(()) => assert!(needs.contains(&right), "{} may {what}", right.name()),
            Err(error) if error.kind() == Kind::Forbidden => {
                assert!(!needs.contains(&right), "{} may not {what}", right.name());
            }
            Err(error) => panic!("{what}: {error:?}"),
        };
        allowed(s.fetch(&by, &c, vec![Key::Int(1)]).await.map(|_| ()), &[Right::Read], "fetch");
        allowed(s.collection_info(&by, &c).await.map(|_| ()), &[Right::Read], "info");
        allowed(s.upsert(&by, &c, RowWrite::new(r#"[{"id":1,"v":[1,2,3,4]}]"#, 0)).await, &[Right::Write], "upsert");
        allowed(s.update_rows(&by, &c, RowWrite::new(r#"[{"id":1,"city":"b"}]"#, 0)).await, &[Right::Write], "update");
        allowed(s.delete_rows(&by, &c, vec![Key::Int(9)]).await, &[Right::Delete], "delete");
        allowed(bed.create(&by, export(Filter::All)).await.map(|_| ()), &[Right::Export], "export");
        allowed(bed.create(&by, delete(users_below(0), true)).await.map(|_| ()), &[Right::Delete], "filter_delete");
        allowed(s.update_collection(&by, &c, UpdateCollection::default()).await, &[Right::Admin], "update collection");
        allowed(s.list_keys(&by).await.map(|_| ()), &[Right::Admin], "list keys");
        allowed(s.create_collection(&by, example(&format!("made_{}", right.name()))).await, &[Right::Admin], "create");
    }
    let narrow = holder(&[Right::Read], "shop_*");
    let refused = bed.service.fetch(&narrow, &c, vec![Key::Int(1)]).await;
    assert_eq!(refused.map(|_| ()).map_err(|e| e.kind()), Err(Kind::Forbidden));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_for_readers() {
    let bed = Bed::new().await;
    let root = bed.example().await;
    bed.upsert(&root, (0..10).map(|id| (id, id, "a"))).await;
    let blind = holder(&[Right::Delete, Right::Confirm], "example");
    let id = bed.create(&blind, delete(users_below(5), true)).await.expect("created");
    let seen = bed.wait(&blind, id, &[Status::Confirm]).await;
    assert_eq!((seen.process.matched_rows, seen.process.sampled_data.as_str()), (5, "[]"));
    let full = bed.service.task_info(&root, id).await.expect("info");
    assert_ne!(full.process.sampled_data, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_never_meet() {
    let bed = Bed::new().await;
    let root = bed.example().await;
    let other = admin("other");
    let id = bed.create(&root, export(Filter::All)).await.expect("created");
    bed.wait(&root, id, &[Status::Done]).await;
    assert_eq!(bed.service.task_info(&other, id).await.map(|_| ()).map_err(|e| e.kind()), Err(Kind::TaskMissing));
    assert!(bed.service.list_tasks(&other, TaskQuery::default()).await.expect("list").is_empty());
    assert!(bed.service.list_collections(&other, None).await.expect("list").is_empty());
    let foreign = bed.service.collection_info(&other, &named("example")).await;
    assert_eq!(foreign.map(|_| ()).map_err(|e| e.kind()), Err(Kind::CollectionMissing));
    let bucket = knarr_base::object::BucketName::parse("data-export").expect("valid");
    let listed = bed.service.list_objects(&other, &bucket, "", None, 10).await;
    assert_eq!(listed.map(|_| ()).map_err(|e| e.kind()), Err(Kind::Forbidden));
    assert!(bed.service.list_buckets(&other).await.expect("list").is_empty());
    // The same names are free in another account, and stay apart.
    bed.service.create_collection(&other, example("example")).await.expect("created");
    bed.upsert(&other, [(5, 5, "x")]).await;
    assert!(bed.present(&root, 0..10).await.is_empty());
    // A revoked key is unknown at once.
    let (key, _) = bed.service.create_key(&root, "t", vec![Grant::everything()]).await.expect("key");
    assert!(bed.service.find_key(&key).await.expect("find").is_some());
    assert_eq!(bed.service.revoke_key(&other, &key).await.map_err(|e| e.kind()), Err(Kind::NotFound));
    bed.service.revoke_key(&root, &key).await.expect("revoked");
    assert!(bed.service.find_key(&key).await.expect("find").is_none());
}
