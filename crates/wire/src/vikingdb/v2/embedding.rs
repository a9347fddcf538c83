//! Handler of `/api/vikingdb/embedding`: texts and images, by the models that the operator configured.

use knarr_base::Result;
use knarr_service::Service;
use serde::Serialize;

use super::convert::Embedding;
use super::envelope;
use crate::http::request::{Answer, Signed};
use crate::json::{Object, invalid};
use crate::vikingdb::convert;
use crate::vikingdb::search::write_list;

/// One item's vectors.
#[derive(Serialize)]
struct Item<'a> {
    dense: &'a [f32],
}

pub(super) async fn embed(service: &Service, request: &Signed) -> Result<Answer> {
    let Embedding { model, dim, materials } = Embedding::parse(&Object::parse(&request.body)?)?;
    let vectors = service.embed(&request.principal, &model, materials).await?;
    check_dim(&vectors, dim)?;
    Ok(Answer::Json(envelope::result(request.request_id, |out| {
        out.extend_from_slice(b"{\"data\":");
        write_list(out, vectors.iter(), |dense, out| convert::write(&Item { dense }, out));
        out.push(b'}');
    })))
}

/// A model has the dimension that it has: another one cannot be asked of it.
fn check_dim(vectors: &[Vec<f32>], dim: Option<i64>) -> Result<()> {
    let has = vectors.first().map_or(0, Vec::len);
    match dim {
        Some(dim) if usize::try_from(dim) != Ok(has) => {
            Err(invalid(format!("dim is {dim}, and the model makes vectors of {has} elements")))
        }
        _ => Ok(()),
    }
}
