//! Handlers of `/api/data/embedding` and its second version (docs/wire/vikingdb.md section 2.9).

use knarr_base::{Error, Kind, Result, limit};
use knarr_service::Service;
use knarr_service::embedding::Material;

use super::{convert, envelope};
use crate::http::request::{Answer, Args, Signed, required};
use crate::json::{self, Members, Value, invalid};

/// A list of vectors, in the order of the items.
pub(super) async fn first(service: &Service, request: &Signed) -> Result<Answer> {
    let (model, materials) = question(&request.args()?)?;
    let vectors = service.embed(&request.principal, &model, materials).await?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&vectors, out))))
}

/// The same inside an object.
pub(super) async fn second(service: &Service, request: &Signed) -> Result<Answer> {
    let (model, materials) = question(&request.args()?)?;
    let vectors = service.embed(&request.principal, &model, materials).await?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| {
        out.extend_from_slice(b"{\"sentence_dense_embedding\":");
        convert::write(&vectors, out);
        out.push(b'}');
    })))
}

/// The model's name and what it shall read.
fn question(args: &Args<'_>) -> Result<(String, Vec<Material>)> {
    let mut model = map("model", required("model", args.value("model")?)?)?;
    let name = required("model_name", json::text("model_name", model.take("model_name"))?)?;
    if let Some(params) = model.take("params") {
        let sparse = json::flag("return_sparse", map("params", params)?.take("return_sparse"))?;
        if sparse == Some(true) {
            return Err(Error::new(Kind::EmbeddingFailed, format!("model {name:?} has no sparse vectors")));
        }
    }
    let items = match required("data", args.value("data")?)? {
        Value::List(items) if (1..=limit::EMBEDDING_ITEMS).contains(&items.len()) => items,
        _ => return Err(invalid(format!("data must be a list of 1 to {} items", limit::EMBEDDING_ITEMS))),
    };
    Ok((name.clone(), items.into_iter().map(|item| material(&name, item)).collect::<Result<_>>()?))
}

/// Beside an image there may be a text; one of the clients always sends one, empty.
fn material(model: &str, item: Value) -> Result<Material> {
    let mut item = map("an item of data", item)?;
    let data_type = json::text("data_type", item.take("data_type"))?;
    let text = json::text("text", item.take("text"))?;
    match data_type.as_deref() {
        None | Some("text") => Ok(Material { text: Some(required("text", text)?), image: None }),
        Some("image") => {
            let image = required("image", json::text("image", item.take("image"))?)?;
            Ok(Material { text: text.filter(|text| !text.is_empty()), image: Some(image) })
        }
        Some(other) => Err(Error::new(Kind::EmbeddingFailed, format!("model {model:?} takes no {other}"))),
    }
}

fn map(name: &str, value: Value) -> Result<Members> {
    if let Value::Map(members) = value { Ok(members) } else { Err(invalid(format!("{name} must be an object"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Result<(String, Vec<Material>)> {
        question(&Args::new("", body.as_bytes()).expect("arguments"))
    }

    #[test]
    fn the_clients_question_is_read() {
        let body = r#"{"model":{"model_name":"bge-m3","params":null},
                       "data":[{"data_type":"text","text":"a"},{"data_type":"text","text":"b","image":null}]}"#;
        let (model, materials) = asked(body).expect("valid");
        let text = |text: &str| Material { text: Some(text.to_owned()), image: None };
        assert_eq!((model.as_str(), materials), ("bge-m3", vec![text("a"), text("b")]));
        let body = r#"{"model":{"model_name":"m"},"data":[{"data_type":"image","image":"x"},
                       {"data_type":"image","image":"x","text":""},{"data_type":"image","image":"x","text":"a"}]}"#;
        let image = |text: Option<&str>| Material { text: text.map(str::to_owned), image: Some("x".to_owned()) };
        assert_eq!(asked(body).expect("valid").1, [image(None), image(None), image(Some("a"))]);
    }

    #[test]
    fn what_no_model_here_can_do_is_refused() {
        let kind = |body: &str| asked(body).map_err(|e| e.kind()).expect_err(body);
        let video = r#"{"model":{"model_name":"m"},"data":[{"data_type":"video","video":"x"}]}"#;
        let sparse = r#"{"model":{"model_name":"m","params":{"return_sparse":true}},"data":[{"text":"a"}]}"#;
        assert_eq!((kind(video), kind(sparse)), (Kind::EmbeddingFailed, Kind::EmbeddingFailed));
        for bad in [
            "{}",
            r#"{"model":"m","data":[{"text":"a"}]}"#,
            r#"{"model":{},"data":[{"text":"a"}]}"#,
            r#"{"model":{"model_name":"m"},"data":[]}"#,
            r#"{"model":{"model_name":"m"},"data":[{"data_type":"text"}]}"#,
            r#"{"model":{"model_name":"m"},"data":["a"]}"#,
            r#"{"model":{"model_name":"m"},"data":[{"data_type":"image","text":"a"}]}"#,
        ] {
            assert_eq!(kind(bad), Kind::Invalid, "{bad}");
        }
        let many = vec![r#"{"text":"a"}"#; limit::EMBEDDING_ITEMS + 1].join(",");
        assert_eq!(kind(&format!(r#"{{"model":{{"model_name":"m"}},"data":[{many}]}}"#)), Kind::Invalid);
    }
}
