//! Handlers of `/api/vikingdb/data/search/…`: one kind of search under each path.

use knarr_base::Result;
use knarr_service::Service;
use knarr_service::indexes::{Found, Projection, Shown};

use super::convert;
use super::envelope;
use super::routes::By;
use crate::http::request::{Answer, Signed};
use crate::json::{self, Object};
use crate::vikingdb::convert::rows;
use crate::vikingdb::convert::search::Form;
use crate::vikingdb::search::{write_list, write_score};

pub(super) async fn search(service: &Service, by: By, request: &Signed) -> Result<Answer> {
    let args = Object::parse(&request.body)?;
    let (reference, form) = convert::search(by, &args)?;
    let index = service.open_index(&request.principal, &reference).await?;
    let shown = form.output_fields.as_deref().map_or(Shown::ScalarsAndKey, Shown::Fields);
    let fields = index.projection(shown, false)?;
    let embedded = match form.raw() {
        Some(material) => Some(index.embed(&request.principal, material.clone()).await?),
        None => None,
    };
    let found = index.search(form.request(&index, embedded)?).await?;
    Ok(Answer::Json(envelope::result(request.request_id, |out| write(&found, fields.as_ref(), by, &form, out))))
}

/// A V2 search has one query, so its answer is one list.
fn write(found: &Found, fields: Option<&Projection>, by: By, form: &Form<'_>, out: &mut Vec<u8>) {
    const LIST: usize = 0;
    out.extend_from_slice(b"{\"data\":");
    write_list(out, 0..found.len(LIST), |at, out| {
        out.push(b'{');
        rows::write_key_member(found.key(LIST, at), "id", out);
        out.extend_from_slice(b",\"fields\":{");
        if let Some(fields) = fields {
            found.write_members(LIST, at, fields, out);
        }
        out.extend_from_slice(b"},\"score\":");
        write_score(found.score(LIST, at), out);
        if matches!(by, By::Vector | By::Id | By::MultiModal) {
            out.extend_from_slice(b",\"ann_score\":");
            write_score(found.score(LIST, at), out);
        }
        out.push(b'}');
    });
    if let Some(rows) = found.passed() {
        out.extend_from_slice(format!(",\"filter_matched_count\":{rows}").as_bytes());
    }
    out.extend_from_slice(format!(",\"total_return_count\":{}", found.len(LIST)).as_bytes());
    if let Some(text) = form.raw().and_then(|material| material.text.as_ref()) {
        out.extend_from_slice(b",\"real_text_query\":");
        json::write_text(text, out);
    }
    out.push(b'}');
}
