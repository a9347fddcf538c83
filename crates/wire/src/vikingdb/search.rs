//! Handlers of `/api/index/{search,search/agg,sort}`.

use knarr_base::Result;
use knarr_base::index::Distance;
use knarr_base::search::Score;
use knarr_base::value::{self, Key};
use knarr_service::Service;
use knarr_service::indexes::{Found, Groups, OpenIndex, Projection, Shown, Sorted};

use super::convert::search::{self, AggForm, Form};
use super::convert::{index, rows};
use super::envelope;
use crate::http::request::{Answer, Signed};
use crate::json;

pub(super) async fn search(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (reference, form) = (index::reference(&args)?, Form::parse(&args)?);
    let index = service.open_index(&request.principal, &reference).await?;
    let fields = fields(&index, &form)?;
    let embedded = match form.raw() {
        Some(material) => Some(index.embed(&request.principal, material.clone()).await?),
        None => None,
    };
    let found = index.search(form.request(&index, embedded)?).await?;
    let items = Items {
        found: &found,
        fields,
        key_name: if form.replace_primary { rows::PRIMARY_KEY } else { index.schema().key_name() },
        distances: index.vector_index().is_ok_and(|vector| vector.distance == Distance::L2)
            && form.orders_by_distance(),
    };
    let extend = (form.count || form.explain).then(|| extend(&found, form.explain));
    Ok(Answer::Json(envelope::data_and(request.request_id, |out| items.write(out), extend.as_deref())))
}

fn fields(index: &OpenIndex, form: &Form<'_>) -> Result<Option<Projection>> {
    index.projection(form.output_fields.as_deref().map_or(Shown::Scalars, Shown::Fields), form.with_vector)
}

/// What stands beside `data`.
fn extend(found: &Found, explain: bool) -> String {
    let mut members = Vec::new();
    members.extend(found.passed().map(|rows| format!("\"search_count\":{rows}")));
    if explain {
        let text = serde_json::to_string(&search::explain(found.explain())).expect("words and numbers are JSON");
        members.push(format!("\"explain\":{text}"));
    }
    format!("{{{}}}", members.join(","))
}

/// The lists of an answer.
struct Items<'a> {
    found: &'a Found,
    fields: Option<Projection>,
    key_name: &'a str,
    /// Scores are distances, and shown as such too.
    distances: bool,
}

impl Items<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        write_list(out, 0..self.found.lists(), |list, out| {
            write_list(out, 0..self.found.len(list), |at, out| self.write_item(list, at, out));
        });
    }

    fn write_item(&self, list: usize, at: usize, out: &mut Vec<u8>) {
        let score = self.found.score(list, at);
        out.push(b'{');
        rows::write_key_member(self.found.key(list, at), self.key_name, out);
        out.extend_from_slice(b",\"score\":");
        write_score(score, out);
        if self.distances {
            out.extend_from_slice(b",\"dist\":");
            write_score(score, out);
        }
        if let Some(fields) = &self.fields {
            out.extend_from_slice(b",\"fields\":{");
            self.found.write_members(list, at, fields, out);
            out.push(b'}');
        }
        out.push(b'}');
    }
}

/// From here on floats are otherwise written with an exponent.
const LARGE_SCORE: f32 = 1e13;

/// A float always has a fraction, and a large one no exponent: the Java client takes `36` and `1e13` for integers, and
/// then its sort fails.
pub(super) fn write_score(score: Score, out: &mut Vec<u8>) {
    let written = match score {
        Score::Float(x) if x.abs() >= LARGE_SCORE => {
            out.extend_from_slice(format!("{x}.0").as_bytes());
            Ok(())
        }
        Score::Float(x) => serde_json::to_writer(out, &x),
        Score::Int(n) => serde_json::to_writer(out, &n),
    };
    written.expect("finite numbers are written into memory");
}

pub(super) fn write_list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

pub(super) async fn aggregate(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (reference, form) = (index::reference(&args)?, AggForm::parse(&args)?);
    let index = service.open_index(&request.principal, &reference).await?;
    let groups = index.aggregate(form.request()?).await?;
    let field = form.field.as_deref();
    Ok(Answer::Json(envelope::data(request.request_id, |out| write_groups(&groups, field, out))))
}

/// Without a field the total has the name that the newer API gives it.
fn write_groups(groups: &Groups, field: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"agg_op\":\"count\",\"group_by_field\":");
    json::write_text(field.unwrap_or_default(), out);
    out.extend_from_slice(b",\"agg_result\":");
    write_counts(groups, if field.is_none() { &["_total"] } else { &[] }, out);
    out.push(b'}');
}

/// An object of the total, under each of these names, and of every group.
pub(super) fn write_counts(groups: &Groups, totals: &[&str], out: &mut Vec<u8>) {
    out.push(b'{');
    let member = |name: &str, rows: u64, out: &mut Vec<u8>| {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        json::write_text(name, out);
        out.extend_from_slice(format!(":{rows}").as_bytes());
    };
    for name in totals {
        member(name, groups.total, out);
    }
    for group in &groups.groups {
        match &group.value {
            value::Value::Int(n) => member(&n.to_string(), group.rows, out),
            value::Value::Bool(b) => member(&b.to_string(), group.rows, out),
            value::Value::Str(text) => member(text, group.rows, out),
            value::Value::Float(_) | value::Value::IntList(_) | value::Value::StrList(_) => {}
        }
    }
    out.push(b'}');
}

pub(super) async fn sort(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (reference, (query, keys)) = (index::reference(&args)?, search::sort(&args)?);
    let index = service.open_index(&request.principal, &reference).await?;
    let sorted = index.sort(index.query_vector(query)?, keys).await?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| write_sorted(&sorted, out))))
}

fn write_sorted(sorted: &Sorted, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"sort_result\":");
    write_list(out, sorted.rows.iter(), |(key, score): &(Key, f32), out| {
        out.push(b'{');
        rows::write_key_member(key, "primary_key", out);
        out.extend_from_slice(b",\"score\":");
        write_score(Score::Float(*score), out);
        out.push(b'}');
    });
    out.extend_from_slice(b",\"primary_key_not_exist\":");
    write_list(out, sorted.missing.iter(), rows::write_key);
    out.push(b'}');
}

#[cfg(test)]
mod tests;
