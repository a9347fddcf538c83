//! Handler of `/knarr/v1/tasks/undo`.

use knarr_base::Result;
use knarr_service::Service;

use super::convert;
use crate::http::request::{Answer, Signed};
use crate::vikingdb::convert::{task, write};
use crate::vikingdb::envelope;

pub(super) async fn undo(service: &Service, request: &Signed) -> Result<Answer> {
    let id = task::id(&request.args()?)?;
    let undone = service.undo_task(&request.principal, id).await?;
    let view = convert::undo(id, &undone);
    Ok(Answer::Json(envelope::data(request.request_id, |out| write(&view, out))))
}
