//! Handlers of `/api/vikingdb/data/{fetch_in_index,agg}`.

use knarr_base::Result;
use knarr_service::Service;
use knarr_service::indexes::{Groups, Shown};

use super::convert::{Count, IndexFetch};
use super::data::write_fetched;
use super::envelope;
use crate::http::request::{Answer, Signed};
use crate::json::{self, Object};
use crate::vikingdb::search::write_counts;

/// What an aggregation without a field says its field is, in the vendor's words.
const NO_FIELD: &str = "__NONE__";
/// Its total, under the name of the vendor's page and under that which the vendor's other clients read.
const TOTALS: &[&str] = &["__TOTAL__", "_total"];

pub(super) async fn fetch(service: &Service, request: &Signed) -> Result<Answer> {
    let asked = IndexFetch::parse(&Object::parse(&request.body)?)?;
    let index = service.open_index(&request.principal, &asked.index).await?;
    let shown = asked.output_fields.as_deref().map_or(Shown::ScalarsAndKey, Shown::Fields);
    let (fields, vectors) = (index.projection(shown, false)?, index.vector_columns("dense_vector", "sparse_vector")?);
    let dim = index.schema().vector().map(|(_, dim)| dim);
    let fetched = index.fetch(asked.ids, &asked.partition)?;
    let item = |at: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(b",\"fields\":{");
        if let Some(fields) = &fields {
            fetched.write_chosen(at, fields, out);
        }
        out.push(b'}');
        if let Some(dim) = dim {
            out.extend_from_slice(format!(",\"dense_dim\":{dim}").as_bytes());
        }
        if let Some(vectors) = &vectors {
            out.push(b',');
            fetched.write_chosen(at, vectors, out);
        }
    };
    Ok(Answer::Json(envelope::result(request.request_id, |out| write_fetched(&fetched, item, out))))
}

pub(super) async fn aggregate(service: &Service, request: &Signed) -> Result<Answer> {
    let count = Count::parse(&Object::parse(&request.body)?)?;
    let index = service.open_index(&request.principal, &count.index).await?;
    let mut groups = index.aggregate(count.request()?).await?;
    sort(&mut groups, count.descending);
    let field = count.form.field.as_deref();
    Ok(Answer::Json(envelope::result(request.request_id, |out| write_groups(&groups, field, out))))
}

/// Groups of as many rows stay in the order of their values.
fn sort(groups: &mut Groups, descending: Option<bool>) {
    match descending {
        None => {}
        Some(false) => groups.groups.sort_by_key(|group| group.rows),
        Some(true) => groups.groups.sort_by_key(|group| std::cmp::Reverse(group.rows)),
    }
}

fn write_groups(groups: &Groups, field: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"agg\":");
    write_counts(groups, if field.is_none() { TOTALS } else { &[] }, out);
    out.extend_from_slice(b",\"op\":\"count\"");
    for name in ["field", "group_by"] {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        json::write_text(field.unwrap_or(NO_FIELD), out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
