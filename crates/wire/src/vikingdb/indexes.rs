//! Handlers of `/api/index/{create,info,list,update,drop,fetch_data}`.

use axum::http::header;
use knarr_base::Result;
use knarr_base::value::Key;
use knarr_service::Service;
use knarr_service::indexes::{Fetched, Projection, Shown};

use super::convert::{self, collection, index, rows, search};
use super::{Dialect, FetchShape, done, envelope};
use crate::http::request::{Answer, Signed, required};
use crate::json::Value;

pub(super) async fn create(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (reference, new) = (collection::reference(&args)?, index::create(&args)?);
    service.create_index(&request.principal, &reference, new).await?;
    Ok(done(request))
}

pub(super) async fn info(service: &Service, request: &Signed) -> Result<Answer> {
    let reference = index::reference(&request.args()?)?;
    let info = service.index_info(&request.principal, &reference).await?;
    let view = index::view(&info);
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&view, out))))
}

pub(super) async fn list(service: &Service, request: &Signed) -> Result<Answer> {
    let reference = collection::reference(&request.args()?)?;
    let infos = service.list_indexes(&request.principal, &reference).await?;
    let views: Vec<_> = infos.iter().map(index::view).collect();
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&views, out))))
}

pub(super) async fn update(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (reference, change) = (index::reference(&args)?, index::update(&args)?);
    service.update_index(&request.principal, &reference, change).await?;
    Ok(done(request))
}

pub(super) async fn drop(service: &Service, request: &Signed) -> Result<Answer> {
    let reference = index::reference(&request.args()?)?;
    service.drop_index(&request.principal, &reference).await?;
    Ok(done(request))
}

pub(super) async fn fetch(service: &Service, dialect: &Dialect, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let reference = index::lenient_reference(&args)?;
    let single = !matches!(args.value("primary_keys")?, Some(Value::List(_)));
    let keys = required("primary_keys", rows::keys(&args)?)?;
    let fields = search::output_fields(args.value("output_fields")?)?;
    let replace_primary = args.flag("replace_primay")?.unwrap_or(false);
    let partition = args.value("partition")?;

    let index = service.open_index(&request.principal, &reference).await?;
    let shown = fields.as_deref().map_or(Shown::Scalars, Shown::Fields);
    let items = Items {
        fetched: index.fetch(keys, &search::partition(partition)?)?,
        fields: index.projection(shown, false)?,
        vectors: index.vector_columns("vector", "sparse_vector")?,
        dimension: index.schema().vector().map(|(_, dim)| dim),
        key_name: if replace_primary { rows::PRIMARY_KEY } else { index.schema().key_name() },
    };
    let as_map = single && wants_map(dialect, request);
    Ok(Answer::Json(envelope::data(request.request_id, |out| items.write(as_map, out))))
}

/// The vendor's document has a map for a single key, all of its clients want a list.
fn wants_map(dialect: &Dialect, request: &Signed) -> bool {
    match dialect.single_fetch_shape {
        FetchShape::Array => false,
        FetchShape::Map => true,
        FetchShape::Auto => {
            let agent = request.headers.get(header::USER_AGENT);
            !agent.is_some_and(|agent| agent.as_bytes().starts_with(b"volc-sdk-"))
        }
    }
}

/// The answer of index/fetch_data (docs/wire/vikingdb.md section 6.1).
struct Items<'a> {
    fetched: Fetched,
    fields: Option<Projection>,
    vectors: Option<Projection>,
    dimension: Option<u32>,
    key_name: &'a str,
}

impl Items<'_> {
    fn write(&self, as_map: bool, out: &mut Vec<u8>) {
        if as_map {
            return self.write_item(0, out);
        }
        out.push(b'[');
        for at in 0..self.fetched.len() {
            if at > 0 {
                out.push(b',');
            }
            self.write_item(at, out);
        }
        out.push(b']');
    }

    fn write_item(&self, at: usize, out: &mut Vec<u8>) {
        let key: &Key = self.fetched.key(at);
        if !self.fetched.found(at) {
            return rows::write_missing(key, self.key_name, false, out);
        }
        out.push(b'{');
        rows::write_key_member(key, self.key_name, out);
        if let Some(vectors) = &self.vectors {
            out.push(b',');
            self.fetched.write_chosen(at, vectors, out);
        }
        if let Some(dimension) = self.dimension {
            out.extend_from_slice(format!(",\"dimension\":{dimension}").as_bytes());
        }
        if let Some(fields) = &self.fields {
            out.extend_from_slice(b",\"fields\":{");
            self.fetched.write_chosen(at, fields, out);
            out.push(b'}');
        }
        out.push(b'}');
    }
}
