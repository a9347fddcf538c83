//! Handlers of `/api/collection/{create,info,list,update,drop}`.

use knarr_base::Result;
use knarr_service::Service;

use super::convert::{self, collection};
use super::{done, envelope};
use crate::http::request::{Answer, Signed};

pub(super) async fn create(service: &Service, request: &Signed) -> Result<Answer> {
    let new = collection::create(&request.args()?)?;
    service.create_collection(&request.principal, new).await?;
    Ok(done(request))
}

pub(super) async fn info(service: &Service, request: &Signed) -> Result<Answer> {
    let reference = collection::reference(&request.args()?)?;
    let info = service.collection_info(&request.principal, &reference).await?;
    let view = collection::view(&info)?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&view, out))))
}

pub(super) async fn list(service: &Service, request: &Signed) -> Result<Answer> {
    let project = request.args()?.text("project")?.filter(|p| !p.is_empty());
    let infos = service.list_collections(&request.principal, project.as_deref()).await?;
    let views = infos.iter().map(collection::view).collect::<Result<Vec<_>>>()?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&views, out))))
}

pub(super) async fn update(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (reference, change) = (collection::reference(&args)?, collection::update(&args)?);
    service.update_collection(&request.principal, &reference, change).await?;
    Ok(done(request))
}

pub(super) async fn drop(service: &Service, request: &Signed) -> Result<Answer> {
    let reference = collection::reference(&request.args()?)?;
    service.drop_collection(&request.principal, &reference).await?;
    Ok(done(request))
}
