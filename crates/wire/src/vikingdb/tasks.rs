//! Handlers of `/api/task/{create,info,list,update,drop}`.

use knarr_base::Result;
use knarr_service::Service;

use super::convert::{self, task};
use super::{done, envelope, model};
use crate::http::request::{Answer, Signed};

pub(super) async fn create(service: &Service, request: &Signed) -> Result<Answer> {
    let new = task::create(&request.args()?, request.digest())?;
    let id = service.create_task(&request.principal, new).await.map_err(task::as_parameter)?;
    let view = model::Created { task_id: id.to_string() };
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&view, out))))
}

pub(super) async fn info(service: &Service, request: &Signed) -> Result<Answer> {
    let id = task::id(&request.args()?)?;
    let info = service.task_info(&request.principal, id).await?;
    let view = task::view(&info)?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&view, out))))
}

pub(super) async fn list(service: &Service, request: &Signed) -> Result<Answer> {
    let infos = match task::query(&request.args()?)? {
        Some(query) => service.list_tasks(&request.principal, query).await?,
        None => Vec::new(),
    };
    let views = infos.iter().map(task::view).collect::<Result<Vec<_>>>()?;
    Ok(Answer::Json(envelope::data(request.request_id, |out| convert::write(&views, out))))
}

pub(super) async fn update(service: &Service, request: &Signed) -> Result<Answer> {
    let args = request.args()?;
    let (change, id) = (task::change(&args)?, task::id(&args)?);
    match change {
        task::Change::Confirm => service.confirm_task(&request.principal, id).await?,
        task::Change::Cancel => service.cancel_task(&request.principal, id).await?,
    }
    Ok(done(request))
}

pub(super) async fn drop(service: &Service, request: &Signed) -> Result<Answer> {
    let id = task::id(&request.args()?)?;
    service.drop_task(&request.principal, id).await?;
    Ok(done(request))
}
