//! Handlers of `/knarr/v1/keys/{create,list,revoke}`.

use knarr_base::Result;
use knarr_base::id::KeyId;
use knarr_service::Service;

use super::convert;
use crate::http::request::{Answer, Signed, required};
use crate::vikingdb::convert::write;
use crate::vikingdb::{done, envelope};

pub(super) async fn create(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let label = args.text("label")?.unwrap_or_default();
    let grants = convert::grants(required("grants", args.value("grants")?)?)?;
    let (id, secret) = service.create_key(&request.principal, &label, grants).await?;
    let view = convert::NewKey { access_key: id.as_str(), secret_key: secret.as_str() };
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&view, out))))
}

pub(super) async fn list(service: &Service, request: &Signed) -> Result<Answer> {
    let keys = service.list_keys(&request.principal).await?;
    let views: Vec<_> = keys.iter().map(convert::key).collect();
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&views, out))))
}

pub(super) async fn revoke(service: &Service, request: &Signed) -> Result<Answer> {
    let id = required("access_key", request.args()?.text("access_key")?)?;
    service.revoke_key(&request.principal, &KeyId::new(id)).await?;
    Ok(done(request))
}
