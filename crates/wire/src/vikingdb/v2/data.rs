//! Handlers of `/api/vikingdb/data/{upsert,update,delete,fetch_in_collection}`. Rows pass as raw text both ways.

use knarr_base::Result;
use knarr_service::Service;
use knarr_service::collections::Fetched;

use super::convert::{self, Delete, ROWS, Write};
use super::envelope;
use crate::http::request::{Answer, Signed};
use crate::json::Object;
use crate::vikingdb::convert::rows;
use crate::vikingdb::search::write_list;

pub(super) async fn upsert(service: &Service, request: &Signed) -> Result<Answer> {
    let args = Object::parse_around(&request.body, ROWS)?;
    let Write { collection, rows } = Write::upsert(&args)?;
    service.upsert(&request.principal, &collection, rows).await?;
    Ok(written(request))
}

pub(super) async fn update(service: &Service, request: &Signed) -> Result<Answer> {
    let args = Object::parse_around(&request.body, ROWS)?;
    let Write { collection, rows } = Write::update(&args)?;
    service.update_rows(&request.principal, &collection, rows).await?;
    Ok(written(request))
}

/// Tokens that a model may have used are not known.
fn written(request: &Signed) -> Answer {
    Answer::Json(envelope::result(request.request_id, |out| out.extend_from_slice(b"{\"token_usage\":{}}")))
}

pub(super) async fn delete(service: &Service, request: &Signed) -> Result<Answer> {
    let Delete { collection, ids } = Delete::parse(&Object::parse(&request.body)?)?;
    match ids {
        Some(ids) => service.delete_rows(&request.principal, &collection, ids).await?,
        None => service.delete_all(&request.principal, &collection).await?,
    }
    Ok(Answer::Json(envelope::bare(request.request_id)))
}

pub(super) async fn fetch(service: &Service, request: &Signed) -> Result<Answer> {
    let (collection, ids) = convert::fetch(&Object::parse(&request.body)?)?;
    let fetched = service.fetch(&request.principal, &collection, ids).await?;
    Ok(Answer::Json(envelope::result(request.request_id, |out| {
        write_fetched(
            &fetched,
            |at, out| {
                out.extend_from_slice(b",\"fields\":{");
                fetched.write_members(at, out);
                out.push(b'}');
            },
            out,
        );
    })))
}

/// Rows that are there, each its key and what `write` appends, and the keys of those that are not.
pub(super) fn write_fetched(fetched: &Fetched, write: impl Fn(usize, &mut Vec<u8>), out: &mut Vec<u8>) {
    let places = |found| (0..fetched.len()).filter(move |at| fetched.found(*at) == found);
    out.extend_from_slice(b"{\"fetch\":");
    write_list(out, places(true), |at, out| {
        out.push(b'{');
        rows::write_key_member(fetched.key(at), "id", out);
        write(at, out);
        out.push(b'}');
    });
    out.extend_from_slice(b",\"ids_not_exist\":");
    write_list(out, places(false), |at, out| rows::write_key(fetched.key(at), out));
    out.push(b'}');
}
