//! Handlers of `/knarr/v1/buckets/*` and `/knarr/v1/objects/*`.

use knarr_base::{Error, Kind, Result, limit};
use knarr_service::Service;
use knarr_service::buckets::ByteStream;

use super::convert;
use crate::http::request::{Answer, Signed};
use crate::json::invalid;
use crate::vikingdb::convert::write;
use crate::vikingdb::envelope;

pub(super) async fn create_bucket(service: &Service, request: &Signed) -> Result<Answer> {
    let bucket = convert::bucket(&request.args()?)?;
    let created = service.create_bucket(&request.principal, &bucket).await?;
    let view = convert::BucketCreated { bucket: bucket.as_str(), created };
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&view, out))))
}

pub(super) async fn list_buckets(service: &Service, request: &Signed) -> Result<Answer> {
    let buckets = service.list_buckets(&request.principal).await?;
    let views: Vec<_> = buckets.iter().map(|(name, created_ms)| convert::bucket_view(name, *created_ms)).collect();
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&views, out))))
}

pub(super) async fn list(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let bucket = convert::bucket(&args)?;
    let prefix = convert::prefix("prefix", args.text("prefix")?)?.unwrap_or_default();
    let after = convert::prefix("after", args.text("after")?)?;
    let most = match args.int("limit")? {
        None => limit::LIST_PAGE,
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|n| (1..=limit::LIST_PAGE).contains(n))
            .ok_or_else(|| invalid(format!("limit must be between 1 and {}", limit::LIST_PAGE)))?,
    };
    let objects = service.list_objects(&request.principal, &bucket, &prefix, after.as_deref(), most).await?;
    let views: Vec<_> = objects.iter().map(convert::object).collect();
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&views, out))))
}

pub(super) async fn info(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (info, _) =
        service.get_object(&request.principal, &convert::bucket(&args)?, &convert::object_key(&args)?).await?;
    let view = convert::object(&info);
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&view, out))))
}

pub(super) async fn get(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (bucket, key) = (convert::bucket(&args)?, convert::object_key(&args)?);
    let (info, bytes) = service.get_object(&request.principal, &bucket, &key).await?;
    Ok(Answer::Object(info, bytes))
}

/// The arguments are in the query: the body is the object.
pub(super) async fn put(service: &Service, request: &Signed, stream: Option<ByteStream>) -> Result<Answer> {
    let bytes = stream.ok_or_else(|| Error::new(Kind::Internal, "the route does not stream"))?;
    let args = request.args()?;
    let (bucket, key) = (convert::bucket(&args)?, convert::object_key(&args)?);
    let info = service.put_object(&request.principal, &bucket, &key, bytes).await?;
    let view = convert::object(&info);
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&view, out))))
}
