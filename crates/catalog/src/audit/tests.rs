use knarr_base::right::Grant;
use proptest::prelude::*;

use super::*;
use crate::collections::CollectionChange;
use crate::tasks::{Status, TaskChange};
use crate::tests::{Home, START_MS, account, bucket, kept, key, moved, new_collection, new_task, note, running};

#[tokio::test]
async fn records_come_back_as_they_went() {
    let home = Home::new();
    let catalog = home.open().await;
    assert_eq!(catalog.audit_verify().await.unwrap(), 0);
    let entry = Audit {
        who: Audit::server(),
        action: "a.b",
        object: "\0 é 船 ' \" \u{10ffff}".into(),
        detail: String::new(),
        outcome: "intent",
    };
    for i in 0..5 {
        home.clock.set_wall(START_MS - i);
        catalog.audit(entry.clone()).await.unwrap();
    }
    let records = catalog.audit_list(1, 3).await.unwrap();
    assert_eq!(records.iter().map(|record| record.n).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(records[0].at_ms, START_MS - 1);
    assert_eq!(records[0].fields(), ["server", "a.b", &entry.object, "", "intent"]);
    assert_ne!(records[0].hash, records[1].hash);
    assert!(catalog.audit_list(5, 3).await.unwrap().is_empty());
    assert!(catalog.audit_list(u64::MAX, u64::MAX).await.unwrap().is_empty());
    assert_eq!(catalog.audit_list(0, u64::MAX).await.unwrap().len(), 5);
    assert_eq!(catalog.audit_verify().await.unwrap(), 5);
}

/// Whoever changes the file is found out, at the first record that was touched.
#[tokio::test]
async fn tampering_is_detected() {
    let cases = [
        ("UPDATE audit SET at_ms = at_ms + 1 WHERE n = 3", 3),
        ("UPDATE audit SET who = 'someone' WHERE n = 1", 1),
        ("UPDATE audit SET action = 'other' WHERE n = 2", 2),
        ("UPDATE audit SET object = 'other' WHERE n = 3", 3),
        ("UPDATE audit SET detail = '{}x' WHERE n = 4", 4),
        ("UPDATE audit SET outcome = 'intent' WHERE n = 5", 5),
        ("UPDATE audit SET hash = zeroblob(32) WHERE n = 3", 3),
        ("UPDATE audit SET hash = zeroblob(31) WHERE n = 3", 3),
        ("UPDATE audit SET object = x'ff' WHERE n = 3", 3),
        // A byte moved from one field to its neighbour.
        ("UPDATE audit SET action = 'not', object = 'ex2' WHERE n = 3", 3),
        ("UPDATE audit SET n = 6 WHERE n = 5", 5),
        ("DELETE FROM audit WHERE n = 1", 1),
        ("DELETE FROM audit WHERE n = 3", 3),
        ("DELETE FROM audit WHERE n = 5", 5),
        ("DELETE FROM audit", 1),
        ("DELETE FROM audit_head", 0),
        ("UPDATE audit_head SET n = 4", 5),
        ("UPDATE audit_head SET n = 6", 6),
        ("UPDATE audit_head SET hash = zeroblob(32)", 6),
        ("INSERT INTO audit SELECT 6, at_ms, who, action, object, detail, outcome, hash FROM audit WHERE n = 5", 6),
        ("UPDATE audit SET n = -n; UPDATE audit SET n = 6 + n", 1),
    ];
    for (tamper, broken_at) in cases {
        let home = Home::new();
        let catalog = home.open().await;
        for i in 0..5 {
            catalog.audit(Audit { object: format!("x{i}"), ..note("note") }).await.unwrap();
        }
        assert_eq!(catalog.audit_verify().await.unwrap(), 5);
        home.raw(tamper).await;
        let error = catalog.audit_verify().await.unwrap_err();
        assert!(matches!(error, Error::AuditBroken { at } if at == broken_at), "{tamper}: {error}");
    }
}

/// Every change leaves its record, and a call that changed nothing leaves none.
#[tokio::test]
async fn audit_matches_history() {
    let home = Home::new();
    let catalog = home.open().await;
    let (by, owner) = (key(), account("default"));
    let (id, _) = catalog.create_key(&by, &owner, "l", vec![Grant::everything()]).await.unwrap();
    catalog.revoke_key(&by, &owner, &id).await.unwrap();
    catalog.revoke_key(&by, &owner, &id).await.unwrap();
    catalog.ensure_bucket(&by, &owner, &bucket("data")).await.unwrap();
    catalog.ensure_bucket(&by, &owner, &bucket("data")).await.unwrap();
    catalog.create_collection(&by, new_collection("default", "c")).await.unwrap();
    catalog.create_collection(&by, new_collection("default", "c")).await.unwrap_err();
    let change = CollectionChange { fields_added: true, ..Default::default() };
    catalog.update_collection(&by, &owner, "c", change.clone()).await.unwrap();
    catalog.update_collection(&by, &owner, "d", change).await.unwrap_err();
    catalog.drop_collection(&by, &owner, "c").await.unwrap();
    catalog.drop_collection(&by, &owner, "c").await.unwrap_err();
    let task = running(&catalog, 1).await;
    catalog.create_task(new_task("default"), 1).await.unwrap_err();
    catalog.move_task(task.id, 0, TaskChange::to(Status::Done), note("stale")).await.unwrap_err();
    let fence = catalog.lease_unit(task.id, 0, "w", START_MS + 1).await.unwrap().unwrap();
    catalog.begin_publish(task.id, 0, fence + 1, note("fenced")).await.unwrap();
    catalog.begin_publish(task.id, 0, fence, note("unit.publish")).await.unwrap();
    catalog.request_cancel(task.id, note("too.late")).await.unwrap();
    catalog.finish_unit(task.id, 0, fence + 1, "{}", Some(note("fenced"))).await.unwrap();
    catalog.finish_unit(task.id, 0, fence, "{}", Some(note("unit.done"))).await.unwrap();
    catalog.drop_task(task.id, note("open")).await.unwrap_err();
    moved(&catalog, &task, TaskChange::to(Status::Done)).await;
    catalog.request_cancel(task.id, note("final")).await.unwrap();
    catalog.drop_task(task.id, note("task.drop")).await.unwrap();
    catalog.expire_tasks(&kept(i64::MAX, 0)).await.unwrap();

    let records = catalog.audit_list(0, 1000).await.unwrap();
    let actions: Vec<_> = records.iter().map(|record| record.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "key.create",
            "key.revoke",
            "bucket.create",
            "collection.create",
            "collection.update",
            "collection.drop",
            "task.create",
            "task.move",
            "unit.publish",
            "unit.done",
            "task.move",
            "task.drop",
        ]
    );
    assert!(records[4].detail.contains("\"changed\":[\"fields\"]"), "{}", records[4].detail);
    assert!(records[6].detail.contains("params_sha256") && !records[6].detail.contains("filter"));
    assert_eq!(catalog.audit_verify().await.unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_once_make_one_chain() {
    let home = Home::new();
    let catalog = home.open().await;
    let calls = (0..64).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move { catalog.audit(note("a")).await.unwrap() })
    });
    let mut calls: futures::stream::FuturesUnordered<_> = calls.collect();
    let mut done = 0;
    while let Some(call) = calls.try_next().await.unwrap() {
        let () = call;
        done += 1;
        if done % 16 == 0 {
            assert!(catalog.audit_verify().await.unwrap() >= done);
        }
    }
    assert_eq!(catalog.audit_verify().await.unwrap(), 64);
}

/// A text cut into five fields at four places.
fn cut(text: &str, places: [prop::sample::Index; 4]) -> [String; 5] {
    let chars: Vec<_> = text.chars().collect();
    let mut places = places.map(|place| place.index(chars.len() + 1));
    places.sort_unstable();
    let [a, b, c, d] = places;
    [&chars[..a], &chars[a..b], &chars[b..c], &chars[c..d], &chars[d..]].map(|part| part.iter().collect())
}

proptest! {
    /// Different records have different hashes, wherever the borders between their fields are.
    #[test]
    fn the_canonical_form_is_unambiguous(
        text in "[ab\0é]{0,4}",
        places in any::<[[prop::sample::Index; 4]; 2]>(),
        numbers in any::<[bool; 2]>(),
    ) {
        let [a, b] = places.map(|places| cut(&text, places));
        let hash = |n: bool, fields: &[String; 5]| chain(b"", n.into(), 0, fields.each_ref().map(String::as_str));
        prop_assert_eq!(hash(numbers[0], &a) == hash(numbers[1], &b), numbers[0] == numbers[1] && a == b);
    }
}
