//! filter_delete: scan and show, back up if asked, wait for a human, delete exactly what was shown and not written since.

use knarr_base::filter::Filter;
use knarr_base::object::ObjectPath;
use knarr_base::{Error, Kind, Result};
use knarr_catalog::audit::Audit;
use knarr_catalog::units::{Publish, UnitState};
use knarr_engine::bulk::Format;
use knarr_engine::compute::{Lane, Meter};
use knarr_engine::table::{Deleted, Publication};
use serde_json::json;

use super::driver::{Driver, interrupted};
use super::machine::Event;
use super::report::{UnitWork, from_text};
use super::units::{Attempt, Failure};

impl Driver<'_> {
    /// Everything a filter_delete does after its start, up to its confirmation or from it.
    pub(super) async fn delete(
        &mut self,
        filter: &Filter,
        need_confirm: bool,
        backup: Option<(ObjectPath, Format)>,
    ) -> Result<()> {
        if filter.is_all() {
            return Err(Error::new(Kind::Invalid, "a delete needs a filter"));
        }
        let ask = need_confirm && !self.report.confirmed;
        if self.inner.catalog.units(self.task.id).await?.is_empty() {
            let files = self.scan(filter).await?;
            let works = match &backup {
                Some(_) => files.into_iter().chain([UnitWork::Seal, UnitWork::Delete]).collect(),
                None => vec![UnitWork::Delete],
            };
            let at_once = (ask && backup.is_none()).then(|| self.confirm_by());
            self.plan(works, at_once).await?;
            if at_once.is_some() {
                return Ok(());
            }
        }
        if let Some((target, format)) = &backup {
            self.write_files(filter, target, *format).await?;
        }
        if ask {
            let by = self.confirm_by();
            return self.move_to(Event::Ask, |change| change.confirm_by_ms = Some(Some(by)), "{}").await;
        }
        self.delete_rows(filter).await?;
        self.finish().await
    }

    fn confirm_by(&self) -> i64 {
        let wait = i64::try_from(self.inner.policy.confirm.as_millis()).unwrap_or(i64::MAX);
        self.inner.clock.now_ms().saturating_add(wait)
    }

    /// End of the time to undo a delete that publishes now: nobody can name a task that is forgotten.
    fn undo_until(&self) -> Option<i64> {
        let window = self.inner.policy.undo.min(self.inner.policy.retention);
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        (window > 0).then(|| self.inner.clock.now_ms().saturating_add(window))
    }

    /// The one unit that deletes. After a restart it first reads back whether its publication landed.
    async fn delete_rows(&mut self, filter: &Filter) -> Result<()> {
        let units = self.inner.catalog.units(self.task.id).await?;
        let found = units.iter().find(|u| from_text(&u.spec).is_ok_and(|work: UnitWork| work == UnitWork::Delete));
        let Some(unit) = found else { return Err(Error::new(Kind::Corrupt, "the task's plan has no delete")) };
        let snapshot = self.snapshot().await?;
        if unit.state != UnitState::Done {
            let ordinal = unit.ordinal;
            self.unit(ordinal, |fence| self.publish_delete(ordinal, fence, filter, &snapshot)).await?;
        }
        let units = self.inner.catalog.units(self.task.id).await?;
        let done = units.iter().find(|u| u.ordinal == unit.ordinal).map(|u| u.report.as_str()).unwrap_or_default();
        let counts: serde_json::Value = from_text(done)?;
        let count = |name: &str| counts.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        self.report.deleted = count("deleted");
        self.report.changed = count("changed_since");
        self.report.missing = count("missing");
        self.report.undo_until_ms = counts.get("undo_until_ms").and_then(serde_json::Value::as_i64).unwrap_or(0);
        Ok(())
    }

    async fn publish_delete(
        &self,
        ordinal: u32,
        fence: u64,
        filter: &Filter,
        snapshot: &knarr_engine::table::Snapshot,
    ) -> Result<Attempt, Failure> {
        let (catalog, id) = (&self.inner.catalog, self.task.id);
        let audit = |outcome, detail: String| Audit {
            who: Audit::server(),
            action: "delete",
            object: id.to_string(),
            detail,
            outcome,
        };
        let intent = audit("intent", json!({ "matched": self.report.matched }).to_string());
        match catalog.begin_publish(id, ordinal, fence, intent).await? {
            Publish::Granted => {}
            Publish::Cancelled => return Err(interrupted().into()),
            Publish::Fenced => return Ok(Attempt::Fenced),
        }
        fail::fail_point!("service::delete::before_publication");
        let deleted = self.publication(ordinal, fence, filter, snapshot).await?;
        fail::fail_point!("service::delete::after_publication");
        let Deleted { deleted, changed_since, missing } = deleted;
        // Of an earlier holder's publication as well.
        let undo_until_ms = self.table.undoable_until(id).unwrap_or(0);
        let counts = json!({ "deleted": deleted, "changed_since": changed_since, "missing": missing,
            "undo_until_ms": undo_until_ms });
        let counts = counts.to_string();
        let kept = catalog.finish_unit(id, ordinal, fence, &counts, Some(audit("done", counts.clone()))).await?;
        fail::fail_point!("service::delete::after_record");
        Ok(if kept { Attempt::Done } else { Attempt::Fenced })
    }

    /// Publishes, unless an earlier holder's publication of this unit is already in the table. Once granted it runs to
    /// its end: an interruption now would leave its outcome unknown for nothing.
    async fn publication(
        &self,
        unit: u32,
        fence: u64,
        filter: &Filter,
        snapshot: &knarr_engine::table::Snapshot,
    ) -> Result<Deleted, Failure> {
        let task = self.task.id;
        if let Some(old) = self.table.published(task, unit)? {
            return Ok(Deleted { deleted: old.deleted, changed_since: old.changed_since, missing: old.missing });
        }
        let (table, snapshot, filter) = (self.table.clone(), snapshot.clone(), filter.clone());
        let undo_until_ms = self.undo_until();
        let work = move || {
            let never = knarr_engine::compute::Cancel::new();
            let publication = Publication { task, unit, fence };
            table.delete_matching(&snapshot, &filter, publication, undo_until_ms, &Meter::new(), &never)
        };
        Ok(self.inner.pool.run(Lane::Serve, work).await??)
    }
}
