use std::io::Cursor;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::builder::{
    FixedSizeListBuilder, Float32Builder, Int64Builder, ListBuilder, MapBuilder, StringBuilder,
};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_array::{Date32Array, Float32Array};
use serde_json::{Value, json};

use super::*;

fn lines(text: &str) -> Vec<Result<Batch, Error>> {
    jsonl_batches(Cursor::new(text.to_owned())).collect()
}

#[test]
fn lines_come_in_calls_of_a_hundred() {
    let text: String = (0..250).map(|n| format!("{{\"id\":{n}}}\n{}", if n % 7 == 0 { "\n" } else { "" })).collect();
    let batches: Vec<Batch> = lines(&text).into_iter().map(|b| b.expect("valid")).collect();
    assert_eq!(batches.iter().map(|b| b.rows).collect::<Vec<_>>(), [100, 100, 50]);
    assert_eq!(batches.last().map(|b| b.position), Some(text.len() as u64));
    let ids: Vec<Value> =
        batches.iter().flat_map(|b| serde_json::from_str::<Vec<Value>>(&b.json).expect("JSON")).collect();
    assert_eq!(ids, (0..250).map(|n| json!({"id": n})).collect::<Vec<_>>());
    assert!(lines("").is_empty() && lines("\n \n").is_empty());
}

#[test]
fn large_rows_make_small_calls() {
    let row = format!("{{\"t\":\"{}\"}}\n", "x".repeat(BATCH_BYTES / 3));
    let rows: Vec<usize> = lines(&row.repeat(7)).into_iter().map(|b| b.expect("valid").rows).collect();
    assert_eq!(rows, [3, 3, 1]);
}

#[test]
fn a_bad_line_is_named_and_ends_the_file() {
    for bad in ["[1]", "{\"id\":", "{\"id\":1}{\"id\":2}", "7", "{\"id\":1},"] {
        let mut found = lines(&format!("{{\"id\":0}}\n\n{bad}\n{{\"id\":3}}\n"));
        assert_eq!(found.len(), 1, "{bad}");
        let error = found.remove(0).expect_err(bad);
        assert!(error.to_string().starts_with("line 3: "), "{bad}: {error}");
    }
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> std::fs::File {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut file = tempfile::tempfile().expect("a temporary file");
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writable schema");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    file
}

#[test]
fn every_field_type_is_read_from_parquet() {
    let mut ints = ListBuilder::new(Int64Builder::new());
    ints.append_value([Some(1), Some(i64::MAX)]);
    ints.append_value([]);
    let mut texts = ListBuilder::new(StringBuilder::new());
    texts.append_value([Some("a\"b")]);
    texts.append_null();
    let mut vectors = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    for row in [[0.1f32, -2.5], [1e-7, 3.0]] {
        vectors.values().append_slice(&row);
        vectors.append(true);
    }
    let mut sparse = MapBuilder::new(None, StringBuilder::new(), Float32Builder::new());
    sparse.keys().append_value("tok");
    sparse.values().append_value(0.25);
    sparse.append(true).expect("keys and values of one length");
    sparse.append(false).expect("keys and values of one length");
    let file = parquet_of(vec![
        ("id", Arc::new(Int64Array::from(vec![i64::MIN, 2]))),
        ("small", Arc::new(Int32Array::from(vec![7, -7]))),
        ("score", Arc::new(Float32Array::from(vec![0.1, 16_777_216.0]))),
        ("wide", Arc::new(Float64Array::from(vec![0.1, 1e300]))),
        ("ok", Arc::new(BooleanArray::from(vec![true, false]))),
        ("city", Arc::new(StringArray::from(vec![Some("北京"), None]))),
        ("ints", Arc::new(ints.finish())),
        ("texts", Arc::new(texts.finish())),
        ("v", Arc::new(vectors.finish())),
        ("s", Arc::new(sparse.finish())),
    ]);
    let mut batches = parquet_batches(file).expect("readable");
    assert_eq!(batches.rows(), 2);
    let batch = batches.next().expect("one batch").expect("valid");
    assert_eq!((batch.rows, batch.position), (2, 2));
    let head = r#"[{"id":-9223372036854775808,"small":7,"score":0.1,"wide":0.1,"ok":true,"city":"北京","ints":[1,9223372036854775807],"texts":["a\"b"],"v":[0.1,-2.5],"s":{"tok":0.25}},"#;
    assert_eq!(&batch.json[..head.len()], head);
    let rows: Vec<Value> = serde_json::from_str(&batch.json).expect("JSON");
    let second =
        json!({"id": 2, "small": -7, "score": 16_777_216.0, "wide": 1e300, "ok": false, "ints": [], "v": [1e-7, 3.0]});
    assert_eq!(rows[1], second);
    assert!(batches.next().is_none());
}

#[test]
fn parquet_comes_in_calls_of_a_hundred() {
    let file = parquet_of(vec![("id", Arc::new(Int64Array::from_iter_values(0..250)))]);
    let batches: Vec<Batch> = parquet_batches(file).expect("readable").map(|b| b.expect("valid")).collect();
    assert_eq!(batches.iter().map(|b| (b.rows, b.position)).collect::<Vec<_>>(), [(100, 100), (100, 200), (50, 250)]);
    assert!(batches[2].json.ends_with(r#"{"id":249}]"#));
}

#[test]
fn what_no_field_can_hold_is_refused() {
    let file = parquet_of(vec![("day", Arc::new(Date32Array::from(vec![1])))]);
    assert!(matches!(parquet_batches(file), Err(Error::Column { name, .. }) if name == "day"));
    let file = parquet_of(vec![("x", Arc::new(Float32Array::from(vec![1.0, f32::NAN])))]);
    let found = parquet_batches(file).expect("readable").next().expect("an answer");
    assert!(matches!(found, Err(Error::NotFinite { row: 2, name }) if name == "x"));
    let mut text = tempfile::tempfile().expect("a temporary file");
    std::io::Write::write_all(&mut text, b"{\"id\":1}").expect("written");
    assert!(parquet_batches(text).is_err());
}
