use super::*;
use crate::tests::{Home, START_MS, account, bucket, key};

#[tokio::test]
async fn a_bucket_belongs_to_its_first_account() {
    let home = Home::new();
    let catalog = home.open().await;
    let (a, b) = (account("a"), account("b"));
    let ensure =
        async |owner: &AccountId, name: &str| catalog.ensure_bucket(&key(), owner, &bucket(name)).await.unwrap();
    assert_eq!(catalog.bucket_owner(&bucket("data-export")).await.unwrap(), None);
    assert_eq!(ensure(&a, "data-export").await, BucketOutcome::Created);
    assert_eq!(ensure(&a, "data-export").await, BucketOutcome::Existing);
    assert_eq!(ensure(&b, "data-export").await, BucketOutcome::Foreign);
    assert_eq!(ensure(&a, "aaa").await, BucketOutcome::Created);
    assert_eq!(catalog.bucket_owner(&bucket("data-export")).await.unwrap(), Some(a.clone()));
    let listed = catalog.list_buckets(&a).await.unwrap();
    assert_eq!(listed, [(bucket("aaa"), START_MS), (bucket("data-export"), START_MS)]);
    assert!(catalog.list_buckets(&b).await.unwrap().is_empty());
    assert_eq!(catalog.audit_verify().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_makes_the_bucket() {
    let home = Home::new();
    let catalog = home.open().await;
    let calls = (0..16).map(|i| {
        let (catalog, owner) = (catalog.clone(), account(if i % 2 == 0 { "a" } else { "b" }));
        tokio::spawn(async move { (catalog.ensure_bucket(&key(), &owner, &bucket("race")).await.unwrap(), owner) })
    });
    let outcomes = futures::future::join_all(calls.collect::<Vec<_>>()).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    let owner = catalog.bucket_owner(&bucket("race")).await.unwrap().unwrap();
    assert_eq!(outcomes.iter().filter(|(outcome, _)| *outcome == BucketOutcome::Created).count(), 1);
    for (outcome, asker) in outcomes {
        assert_eq!(outcome == BucketOutcome::Foreign, asker != owner);
    }
}
