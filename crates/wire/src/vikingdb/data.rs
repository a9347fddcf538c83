//! Handlers of `/api/collection/{upsert,async_upsert,update,del,fetch}_data`. Rows pass as raw text both ways.

use knarr_base::Result;
use knarr_service::Service;
use knarr_service::collections::{CollectionRef, Fetched, RowWrite};

use super::convert::{collection, rows};
use super::{done, envelope};
use crate::http::request::{Answer, Args, Signed, required};
use crate::json::invalid;

pub(super) async fn upsert(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args_with_rows()?;
    let (reference, ttl) = (collection::reference(&args)?, rows::ttl(&args)?);
    service.upsert(&request.principal, &reference, RowWrite::new(rows::fields(&args)?, ttl)).await?;
    Ok(done(request))
}

pub(super) async fn update(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args_with_rows()?;
    let (reference, ttl) = (collection::reference(&args)?, rows::ttl(&args)?);
    service.update_rows(&request.principal, &reference, RowWrite::new(rows::fields(&args)?, ttl)).await?;
    Ok(done(request))
}

pub(super) async fn delete(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let reference = collection::reference(&args)?;
    let everything = args.flag("del_all")?.unwrap_or(false);
    match (rows::keys(&args)?, everything) {
        (Some(keys), false) => service.delete_rows(&request.principal, &reference, keys).await?,
        (None, true) => service.delete_all(&request.principal, &reference).await?,
        (Some(_), true) => return Err(invalid("primary_keys and del_all exclude each other")),
        (None, false) => return Err(invalid("primary_keys is required, or del_all")),
    }
    Ok(done(request))
}

pub(super) async fn fetch(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let reference = fetch_reference(&args)?;
    let keys = required("primary_keys", rows::keys(&args)?)?;
    let replace_primary = args.flag("replace_primay")?.unwrap_or(false);
    let fetched = service.fetch(&request.principal, &reference, keys).await?;
    let key_name = if (0..fetched.len()).all(|at| fetched.found(at)) {
        String::new()
    } else {
        key_name(service, request, &reference).await?
    };
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&fetched, &key_name, replace_primary, out))))
}

/// One example of the vendor's writes `collection`.
fn fetch_reference(args: &Args<'_>) -> Result<CollectionRef> {
    match args.text("collection")? {
        Some(name) if args.value("collection_name")?.is_none() && args.value("collection_alias")?.is_none() => {
            Ok(CollectionRef::Name(name))
        }
        _ => collection::reference(args),
    }
}

/// The name under which a missing row's key is shown.
async fn key_name(service: &Service, request: &Signed, reference: &CollectionRef) -> Result<String> {
    let info = service.collection_info(&request.principal, reference).await?;
    Ok(info.schema.key_name().to_owned())
}

fn write(fetched: &Fetched, key_name: &str, replace_primary: bool, out: &mut Vec<u8>) {
    out.push(b'[');
    for at in 0..fetched.len() {
        if at > 0 {
            out.push(b',');
        }
        let key = fetched.key(at);
        if fetched.found(at) {
            rows::write_found(key, replace_primary, |out| fetched.write_members(at, out), out);
        } else {
            rows::write_missing(key, key_name, replace_primary, out);
        }
    }
    out.push(b']');
}
