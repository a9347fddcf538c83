//! Collections and their rows through the service.

use knarr_base::Kind;
use knarr_base::id::Name;
use knarr_base::schema::{Field, FieldType};
use knarr_base::value::Key;

use knarr_engine::disk::fault::FaultDisk;

use super::harness::{Bed, admin, example, named, row};
use crate::collections::{CollectionRef, RowWrite, UpdateCollection};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_lives_and_dies() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    let again = bed.service.create_collection(&by, example("example")).await;
    assert_eq!(again.map_err(|e| e.kind()), Err(Kind::CollectionExists));
    bed.upsert(&by, (0..10).map(|id| (id, id, "a"))).await;
    let alias = Name::parse("alias", "other_name").expect("valid");
    let field = Field {
        name: Name::parse("field_name", "price").expect("valid"),
        kind: FieldType::Float32,
        default: None,
        pipeline: None,
    };
    let change = UpdateCollection { description: Some("d".into()), aliases: Some(vec![alias]), fields: vec![field] };
    bed.service.update_collection(&by, &named("example"), change).await.expect("updated");
    let bed = bed.restart().await;
    let by_alias = CollectionRef::Alias("other_name".into());
    let info = bed.service.collection_info(&by, &by_alias).await.expect("info");
    assert_eq!((info.name.as_str(), info.description.as_str(), info.rows), ("example", "d", 10));
    assert_eq!(info.schema.fields().len(), 5);
    // Rows written before the field existed read its default.
    let rows = bed.service.fetch(&by, &by_alias, vec![Key::Int(3)]).await.expect("fetch");
    let mut text = Vec::new();
    rows.write_members(0, &mut text);
    assert_eq!(
        String::from_utf8_lossy(&text),
        r#""id":3,"user_id":3,"city":"a","v":[3.5,0.0,1.0,-1.0],"price":0.0"#.replace(".0", zero())
    );
    bed.service.drop_collection(&by, &named("example")).await.expect("dropped");
    let gone = bed.service.fetch(&by, &named("example"), vec![Key::Int(3)]).await;
    assert_eq!(gone.map(|_| ()).map_err(|e| e.kind()), Err(Kind::CollectionMissing));
    let gone = bed.service.collection_info(&by, &by_alias).await;
    assert_eq!(gone.map(|_| ()).map_err(|e| e.kind()), Err(Kind::AliasMissing));
    bed.example().await;
    assert!(bed.present(&by, 0..10).await.is_empty(), "the new one does not see the old one's rows");
}

/// Callers are told that it is the disk, reads go on, and so does everything once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_apart() {
    let mut faults = None;
    let bed = Bed::on(|dir| faults.insert(FaultDisk::new(dir)).clone()).await;
    let disk = faults.expect("was made");
    let by = bed.example().await;
    bed.upsert(&by, (0..10).map(|id| (id, id, "a"))).await;
    disk.set_full(true);
    let (service, c) = (&bed.service, named("example"));
    let refused = [
        service.upsert(&by, &c, RowWrite::new(&format!("[{}]", row(1, 1, "b")), 0)).await,
        service.delete_rows(&by, &c, vec![Key::Int(1)]).await,
        service.create_collection(&by, example("another")).await,
    ];
    assert_eq!(refused.map(|r| r.map_err(|e| e.kind())), [Err(Kind::DiskFull); 3]);
    assert_eq!(bed.present(&by, 0..10).await.len(), 10);
    disk.set_full(false);
    bed.service.create_collection(&by, example("another")).await.expect("there is room");
    bed.upsert(&by, [(10, 10, "a")]).await;
    assert_eq!(bed.present(&by, 0..11).await.len(), 11);
}

/// How a whole float is written: with or without `.0`, as the row printer does.
fn zero() -> &'static str {
    ".0"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_change_nothing() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    for (rows, kind) in [
        ("[]", Kind::Invalid),
        ("{}", Kind::Invalid),
        ("[1]", Kind::Invalid),
        (r#"[{"id":1,"user_id":1,"city":"a","v":[1,2,3]}]"#, Kind::Invalid),
        (r#"[{"id":1,"user_id":1,"city":"a"}]"#, Kind::Invalid),
        (r#"[{"id":1,"nope":1,"v":[1,2,3,4]}]"#, Kind::Invalid),
        (r#"[{"user_id":1,"city":"a","v":[1,2,3,4]}]"#, Kind::Invalid),
        (r#"[{"id":true,"v":[1,2,3,4]}]"#, Kind::InvalidKey),
        (r#"[{"id":1,"v":[1,2,3,4]},{"id":2,"v":[1,2,3,1e400]}]"#, Kind::Invalid),
    ] {
        let result = bed.service.upsert(&by, &named("example"), RowWrite::new(rows, 0)).await;
        assert_eq!(result.map_err(|e| e.kind()), Err(kind), "{rows}");
    }
    let many = format!("[{}]", vec![r#"{"id":1,"v":[1,2,3,4]}"#; 101].join(","));
    assert!(bed.service.upsert(&by, &named("example"), RowWrite::new(&many, 0)).await.is_err());
    assert!(
        bed.service.upsert(&by, &named("example"), RowWrite::new(r#"[{"id":1,"v":[1,2,3,4]}]"#, -1)).await.is_err()
    );
    assert!(bed.present(&by, 0..10).await.is_empty());
    let missing = bed.service.update_rows(&by, &named("example"), RowWrite::new(r#"[{"id":2,"city":"b"}]"#, 0)).await;
    let error = missing.expect_err("missing");
    assert_eq!((error.kind(), error.message()), (Kind::RowMissing, "primary key 2 data not exist"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ttl_and_del_all() {
    let bed = Bed::new().await;
    let by = bed.example().await;
    bed.upsert(&by, (0..5).map(|id| (id, id, "a"))).await;
    let rows = r#"[{"id":10,"v":[1,2,3,4]}]"#;
    bed.service.upsert(&by, &named("example"), RowWrite::new(rows, 60)).await.expect("upsert");
    assert_eq!(bed.present(&by, 0..20).await, [0, 1, 2, 3, 4, 10]);
    bed.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(bed.present(&by, 0..20).await, [0, 1, 2, 3, 4]);
    bed.service.delete_all(&by, &named("example")).await.expect("del_all");
    assert!(bed.present(&by, 0..20).await.is_empty());
    bed.upsert(&by, [(7, 7, "b")]).await;
    let bed = bed.restart().await;
    assert_eq!(bed.present(&by, 0..20).await, [7]);
    assert_eq!(admin("default").key, by.key);
}
