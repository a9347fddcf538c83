//! Embedding models: searches by text and image, and collections whose vectors a model makes. The model is a small
//! endpoint of the test's process; what it was asked is kept.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::exports;
use crate::process::Server;
use crate::world::{World, create_task, eventually, fetch, missing, upsert, wait};

const INDEX: &str = "idx";

/// An OpenAI-compatible endpoint: the text "7" is [7, 1, 0, 0], an image [its bytes as base64, 0, 1, 0], both their
/// sum, any other text [0, 0, 0, 1]; at "fail" it gives up, at "slow" it waits for its gate. Ends with the test's
/// process.
#[derive(Clone)]
struct Model {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
    /// Shut while a test holds it for writing.
    gate: Arc<RwLock<()>>,
}

impl Model {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1/embeddings", listener.local_addr().expect("bound"));
        let model = Self { url, asked: Arc::default(), gate: Arc::default() };
        let serving = model.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                thread::spawn(move || serving.answer(stream));
            }
        });
        model
    }

    fn answer(&self, mut stream: TcpStream) {
        let Some(asked) = read_json(&mut stream) else { return };
        let inputs = asked["input"].as_array().expect("inputs").clone();
        self.asked.lock().unwrap().push(Value::Array(inputs.clone()));
        if inputs.iter().any(|input| text_of(input) == Some("slow")) {
            let _opened = self.gate.read();
        }
        let reply = if inputs.iter().any(|input| text_of(input) == Some("fail")) {
            "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        } else {
            let items = inputs.iter().enumerate();
            let items: Vec<Value> = items.map(|(n, input)| json!({"index": n, "embedding": vector(input)})).collect();
            let body = json!({"data": items}).to_string();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        };
        let _ = stream.write_all(reply.as_bytes());
    }

    /// The inputs of each call since the last look.
    fn take_asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Settings with this endpoint under the name `m`, and as `v` that reads images.
    fn settings(&self) -> String {
        let url = &self.url;
        format!("{{m={{url=\"{url}\",model=\"x\"}},v={{url=\"{url}\",model=\"y\",images=true}}}}")
    }

    fn server(&self, world: &World) -> Server {
        world.start_with(&[("KNARR_EMBEDDING", &self.settings()), ("KNARR_EMBEDDING_DEFAULT", "m")])
    }
}

/// The body of a request, by the length that its head tells.
fn read_json(stream: &mut TcpStream) -> Option<Value> {
    let (mut seen, mut piece) = (Vec::new(), [0; 64 * 1024]);
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        seen.extend_from_slice(&piece[..read]);
        let Some(at) = seen.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&seen[..at]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if seen.len() >= at + 4 + length.parse::<usize>().expect("a number") {
            return serde_json::from_slice(&seen[at + 4..]).ok();
        }
    }
}

fn text_of(input: &Value) -> Option<&str> {
    input.as_str().or(input["text"].as_str())
}

fn vector(input: &Value) -> [f32; 4] {
    let text = match text_of(input).map(str::parse::<f32>) {
        Some(Ok(number)) => [number, 1.0, 0.0, 0.0],
        Some(Err(_)) => [0.0, 0.0, 0.0, 1.0],
        None => [0.0; 4],
    };
    let image = input["image"].as_str().map_or([0.0; 4], |base64| [base64.len() as f32, 0.0, 1.0, 0.0]);
    [0, 1, 2, 3].map(|at| text[at] + image[at])
}

fn vectorized(name: &str, dense: &Value) -> Value {
    let field = |name: &str, kind: &str| json!({"field_name": name, "field_type": kind});
    let fields = [field("id", "int64"), field("n", "int64"), field("t", "text"), field("i", "image")];
    json!({"collection_name": name, "primary_key": "id", "fields": fields, "vectorize": [{"dense": dense}]})
}

/// A collection with its index.
fn create(client: &mut Client, name: &str, dense: &Value) {
    client.must("/api/collection/create", &vectorized(name, dense));
    let vector = json!({"index_type": "flat", "distance": "l2", "quant": "float"});
    let index = json!({"collection_name": name, "index_name": INDEX, "vector_index": vector});
    client.must("/api/index/create", &index);
}

fn search_body(name: &str, search: Value) -> Value {
    json!({"collection_name": name, "index_name": INDEX, "search": search})
}

/// The key of the nearest row, and its score.
fn nearest(client: &mut Client, name: &str, order: Value) -> (i64, f64) {
    let Value::Object(mut search) = order else { panic!("an object") };
    search.extend([("limit".to_owned(), json!(1)), ("output_fields".to_owned(), json!([]))]);
    let found = client.must("/api/index/search", &search_body(name, Value::Object(search)));
    (found[0][0]["id"].as_i64().expect("a key"), found[0][0]["score"].as_f64().expect("a score"))
}

fn by_text(text: &str) -> Value {
    json!({"order_by_raw": {"text": text}})
}

fn refused(client: &mut Client, path: &str, body: &Value, code: i64, text: &str) -> Reply {
    let reply = client.post(path, body).expect("an answer");
    assert_eq!(reply.code, code, "{path}: {}", reply.text);
    assert!(reply.text.contains(text), "{path}: {text:?} in {}", reply.text);
    reply
}

fn refused_row(client: &mut Client, name: &str, row: Value, code: i64, text: &str) {
    refused(client, "/api/collection/upsert_data", &upsert(name, &[row]), code, text);
}

#[test]
fn texts_are_searched_and_embedded_by_a_configured_model() {
    let (world, model) = (World::new(), Model::start());
    let server = model.server(&world);
    let mut client = server.client();
    let fields =
        json!([{"field_name": "id", "field_type": "int64"}, {"field_name": "v", "field_type": "vector", "dim": 4}]);
    let body = json!({"collection_name": "own", "primary_key": "id", "fields": fields});
    client.must("/api/collection/create", &body);
    let vector = json!({"index_type": "flat", "distance": "l2", "quant": "float"});
    client.must("/api/index/create", &json!({"collection_name": "own", "index_name": INDEX, "vector_index": vector}));
    let rows: Vec<Value> = (1..=9).map(|id| json!({"id": id, "v": [id, 1, 0, 0]})).collect();
    client.must("/api/collection/upsert_data", &upsert("own", &rows));
    assert_eq!(nearest(&mut client, "own", by_text("7")), (7, 0.0));
    let items = json!([{"data_type": "text", "text": "1"}, {"data_type": "text", "text": "2"}]);
    let vectors = json!([[1.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0]]);
    let body = json!({"model": {"model_name": "m", "params": null}, "data": items});
    assert_eq!(client.must("/api/data/embedding", &body), vectors);
    let second = client.must("/api/data/embedding/version/2", &body);
    assert_eq!(second, json!({"sentence_dense_embedding": vectors}));
    let images = json!([{"data_type": "image", "image": "aGk="}, {"data_type": "text", "text": "1"}]);
    let body = json!({"model": {"model_name": "v"}, "data": images});
    assert_eq!(client.must("/api/data/embedding", &body), json!([[4.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]));
    let body = json!({"model": {"model_name": "m"}, "data": images});
    refused(&mut client, "/api/data/embedding", &body, 1_000_025, "takes no images");
    let many = json!({"model": {"model_name": "m"}, "data": vec![json!({"text": "5"}); 100]});
    assert_eq!(client.must("/api/data/embedding", &many).as_array().unwrap().len(), 100);
    let image = search_body("own", json!({"order_by_raw": {"image": "aGk="}}));
    assert_eq!(refused(&mut client, "/api/index/search", &image, 1_000_025, "takes no images").status, 500);
    let other = json!({"model": {"model_name": "other"}, "data": items});
    refused(&mut client, "/api/data/embedding", &other, 1_000_025, "need [embedding.other]");
}

#[test]
fn the_vectors_of_a_collection_are_made_by_its_model() {
    let (world, model) = (World::new(), Model::start());
    let server = model.server(&world);
    let mut client = server.client();
    let dense = json!({"model_name": "m", "text_field": "t"});
    create(&mut client, "notes", &dense);
    assert_eq!(model.take_asked().len(), 1, "the dimension was asked for");
    let info = client.must("/api/collection/info", &json!({"collection_name": "notes"}));
    let names: Vec<_> = info["fields"].as_array().unwrap().iter().map(|field| field["field_name"].clone()).collect();
    assert_eq!(names, ["id", "n", "t", "i"]);
    assert_eq!(info["vectorize"], json!([{"dense": dense}]));

    let rows: Vec<Value> = (1..=100).map(|id| json!({"id": id, "n": id, "t": id.to_string()})).collect();
    client.must("/api/collection/upsert_data", &upsert("notes", &rows));
    let calls = model.take_asked();
    assert_eq!(calls.iter().map(|inputs| inputs.as_array().unwrap().len()).collect::<Vec<_>>(), [32, 32, 32, 4]);
    assert_eq!(calls[0][0], "1");
    assert_eq!(nearest(&mut client, "notes", by_text("42")), (42, 0.0));
    assert_eq!(nearest(&mut client, "notes", json!({"order_by_vector": {"vectors": [[17.2, 1, 0, 0]]}})).0, 17);
    assert_eq!(nearest(&mut client, "notes", json!({"order_by_vector": {"primary_keys": 9}})), (9, 0.0));

    // The vector is an index's to show; a row has the fields that were written.
    assert_eq!(fetch(&mut client, "notes", 7..8), [json!({"id": 7, "n": 7, "t": "7", "i": null})]);
    let asked = json!({"collection_name": "notes", "index_name": INDEX, "primary_keys": [7]});
    let shown = client.must("/api/index/fetch_data", &asked);
    assert_eq!((&shown[0]["vector"], &shown[0]["dimension"]), (&json!([7.0, 1.0, 0.0, 0.0]), &json!(4)));
    assert_eq!(shown[0]["fields"], json!({"n": 7, "t": "7", "i": null}));
    let with = json!({"order_by_vector": {"primary_keys": 7}, "limit": 1, "need_return_vector": true});
    let found = client.must("/api/index/search", &search_body("notes", with));
    assert_eq!(found[0][0]["fields"]["__VECTOR__"], json!([7.0, 1.0, 0.0, 0.0]));
    // A row that is changed keeps its vector unless its text is given, and later fields have their place behind it.
    model.take_asked();
    let later = json!({"collection_name": "notes", "fields": [{"field_name": "later", "field_type": "string"}]});
    client.must("/api/collection/update", &later);
    let update = |rows: Value| json!({"collection_name": "notes", "fields": rows});
    client.must("/api/collection/update_data", &update(json!([{"id": 7, "n": 8}, {"id": 8, "t": "500"}])));
    assert_eq!(model.take_asked(), [json!(["500"])]);
    assert_eq!(nearest(&mut client, "notes", by_text("500")), (8, 0.0));
    assert_eq!(nearest(&mut client, "notes", by_text("7")), (7, 0.0));

    let export = json!({"collection_name": "notes", "tos_path": "files/notes", "file_type": "json"});
    let export = create_task(&mut client, "data_export", export);
    wait(&mut client, &export, "done");
    let exported = exports::rows(&exports::dir(&world.data(), "files/notes", &export));
    assert_eq!(
        (exported.len(), &exported[&7]),
        (100, &json!({"id": 7, "n": 8, "t": "7", "i": null, "later": "default"}))
    );

    world.stop(server);
    let server = world.start();
    let mut client = server.client();
    assert_eq!(nearest(&mut client, "notes", json!({"order_by_vector": {"vectors": [[500, 1, 0, 0]]}})), (8, 0.0));
    // Without the model nothing is written that could not be found.
    refused_row(&mut client, "notes", json!({"id": 1, "t": "5"}), 1_000_025, "need [embedding.m]");
    let raw = search_body("notes", by_text("5"));
    refused(&mut client, "/api/index/search", &raw, 1_000_025, "need [embedding.m]");
    client.must("/api/collection/update_data", &update(json!([{"id": 7, "n": 9}])));
}

#[test]
fn a_row_without_its_vector_is_not_written() {
    let (world, model) = (World::new(), Model::start());
    let server = model.server(&world);
    let mut client = server.client();
    create(&mut client, "notes", &json!({"model_name": "m", "text_field": "t", "dim": 4}));
    assert!(model.take_asked().is_empty(), "the dimension was given");
    let mut rows: Vec<Value> = (1..=100).map(|id| json!({"id": id, "t": id.to_string()})).collect();
    rows[77]["t"] = json!("fail");
    refused(&mut client, "/api/collection/upsert_data", &upsert("notes", &rows), 1_000_025, "gave no vectors");
    assert_eq!(model.take_asked().len(), 3, "batches up to the one that failed");
    assert!(fetch(&mut client, "notes", 1..101).iter().all(missing));
    for (row, text) in [
        (json!({"id": 1}), "each row needs t"),
        (json!({"id": 1, "t": null}), "each row needs t"),
        (json!({"id": 1, "t": ""}), "makes no vector of nothing"),
        (json!({"id": 1, "t": "1", "__VECTOR__": [1, 2, 3, 4]}), "cannot be given"),
        (json!({"id": 1, "__VECTOR__": null, "t": "1"}), "cannot be given"),
    ] {
        refused_row(&mut client, "notes", row, 1_000_003, text);
    }
    client.must("/api/collection/upsert_data", &upsert("notes", &[json!({"id": 1, "t": "1"})]));
    let update = json!({"collection_name": "notes", "fields": [{"id": 1, "t": "fail"}]});
    refused(&mut client, "/api/collection/update_data", &update, 1_000_025, "gave no vectors");
    assert_eq!(nearest(&mut client, "notes", by_text("1")), (1, 0.0));
    create(&mut client, "longer", &json!({"model_name": "m", "text_field": "t", "dim": 8}));
    refused_row(
        &mut client,
        "longer",
        json!({"id": 1, "t": "1"}),
        1_000_025,
        "vectors of 4 elements where 8 are needed",
    );
    for (dense, text) in [
        (json!({"model_name": "m"}), "text_field or an image_field"),
        (json!({"model_name": "m", "text_field": "n"}), "must name a field of type text"),
        (json!({"model_name": "m", "text_field": "none"}), "must name a field of type text"),
        (json!({"model_name": "m", "image_field": "t"}), "must name a field of type image"),
        (json!({"model_name": "m", "text_field": "t", "dim": 6}), "multiple of 4"),
    ] {
        refused(&mut client, "/api/collection/create", &vectorized("bad", &dense), 1_000_003, text);
    }
}

#[test]
fn a_slow_model_holds_up_nobody_else() {
    let (world, model) = (World::new(), Model::start());
    let server = model.server(&world);
    let mut client = server.client();
    create(&mut client, "notes", &json!({"model_name": "m", "text_field": "t", "dim": 4}));
    let write = |id: i64, text: &str| upsert("notes", &[json!({"id": id, "t": text})]);
    let shut = model.gate.write().unwrap();
    let (mut other, slow) = (server.client(), write(1, "slow"));
    let waiting = thread::spawn(move || other.post("/api/collection/upsert_data", &slow).expect("an answer").code);
    eventually("the model to be asked", || (!model.take_asked().is_empty()).then_some(()));
    client.must("/api/collection/upsert_data", &write(2, "2"));
    assert_eq!(nearest(&mut client, "notes", by_text("2")), (2, 0.0));
    assert!(missing(&fetch(&mut client, "notes", 1..2)[0]), "not before it has its vector");
    assert!(!waiting.is_finished());
    drop(shut);
    assert_eq!(waiting.join().unwrap(), 0);
    assert_eq!(nearest(&mut client, "notes", by_text("slow")), (1, 0.0));
}

#[test]
fn without_its_model_a_collection_is_kept_and_its_rows_refused() {
    let (world, model) = (World::new(), Model::start());
    let server = world.start();
    let mut client = server.client();
    create(&mut client, "known", &json!({"model_name": "m", "text_field": "t", "dim": 4}));
    let unknown = vectorized("unknown", &json!({"model_name": "m", "text_field": "t"}));
    client.must("/api/collection/create", &unknown);
    for name in ["known", "unknown"] {
        refused_row(&mut client, name, json!({"id": 1, "t": "1"}), 1_000_025, "need [embedding.m]");
    }
    let raw = search_body("known", by_text("1"));
    refused(&mut client, "/api/index/search", &raw, 1_000_025, "need [embedding.m]");
    world.stop(server);
    let server = model.server(&world);
    let mut client = server.client();
    client.must("/api/collection/upsert_data", &upsert("known", &[json!({"id": 1, "t": "1"})]));
    assert_eq!(nearest(&mut client, "known", by_text("1")), (1, 0.0));
    refused_row(&mut client, "unknown", json!({"id": 1, "t": "1"}), 1_000_006, "create it again");
}

#[test]
fn images_are_read_from_the_servers_own_buckets() {
    let (world, model) = (World::new(), Model::start());
    let server = model.server(&world);
    let mut client = server.client();
    client.must("/knarr/v1/buckets/create", &json!({"bucket": "pictures"}));
    let bucket = world.data().join("objects/pictures");
    fs::write(bucket.join("a.png"), [1; 30]).unwrap();
    fs::write(bucket.join("huge.png"), vec![1; 5 * 1024 * 1024 + 1]).unwrap();
    create(&mut client, "both", &json!({"model_name": "v", "text_field": "t", "image_field": "i"}));
    model.take_asked();
    let rows = [
        json!({"id": 1, "i": "tos://pictures/a.png"}),
        json!({"id": 2, "t": "2"}),
        json!({"id": 3, "t": "3", "i": "data:image/png;base64,aGk="}),
    ];
    client.must("/api/collection/upsert_data", &upsert("both", &rows));
    let a = "AQEB".repeat(10);
    assert_eq!(model.take_asked(), [json!([{"image": a}, {"text": "2"}, {"text": "3", "image": "aGk="}])]);
    let stored = |at: i64, client: &mut Client| fetch(client, "both", at..at + 1)[0]["i"].clone();
    assert_eq!(stored(1, &mut client), "tos://pictures/a.png");
    let raw = |order: Value| json!({"order_by_raw": order});
    assert_eq!(nearest(&mut client, "both", raw(json!({"image": "tos://pictures/a.png"}))), (1, 0.0));
    assert_eq!(nearest(&mut client, "both", raw(json!({"image": "aGk=", "text": "3"}))), (3, 0.0));
    assert_eq!(nearest(&mut client, "both", raw(json!({"text": "2"}))), (2, 0.0));
    let two = json!({"collection_name": "both", "index_name": INDEX, "image": "tos://pictures/a.png", "limit": 1});
    let found = client.post("/api/vikingdb/data/search/multi_modal", &two).unwrap();
    assert!(found.text.contains(r#""data":[{"id":1,"#), "{}", found.text);

    for (image, text) in [
        ("tos://pictures/none.png", "no bucket of this server has it"),
        ("tos://elsewhere/a.png", "no bucket of this server has it"),
        ("tos://pictures/../a.png", "object key"),
        ("tos://pictures/huge.png", "at most 5242880 bytes"),
        ("http://127.0.0.1/a.png", "other addresses are not called"),
        ("what?", "or base64"),
    ] {
        refused_row(&mut client, "both", json!({"id": 9, "i": image}), 1_000_003, text);
        let search = search_body("both", raw(json!({"image": image})));
        refused(&mut client, "/api/index/search", &search, 1_000_003, text);
    }
    let half = json!({"collection_name": "both", "fields": [{"id": 3, "t": "4"}]});
    refused(&mut client, "/api/collection/update_data", &half, 1_000_003, "t and i together or neither");
    let whole = json!({"collection_name": "both", "fields": [{"id": 3, "t": "4", "i": "aGk="}]});
    client.must("/api/collection/update_data", &whole);
    // Whoever may write rows may not look into buckets by it.
    let mut writer = World::client_with(&server, &[(&["read", "write"], "both")]);
    let row = json!({"id": 9, "i": "tos://pictures/a.png"});
    refused_row(&mut writer, "both", row, 1_000_002, "no permission");
    create(&mut client, "blind", &json!({"model_name": "m", "image_field": "i", "dim": 4}));
    refused_row(&mut client, "blind", json!({"id": 1, "i": "aGk="}), 1_000_025, "takes no images");
}
