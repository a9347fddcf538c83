//! Files of a frozen set of rows: the scan that plans them, the files, the manifest and the mark of completeness.
//!
//! Used by data_export, and by filter_delete for its backup. A unit is a file; the same unit writes the same bytes to the
//! same name, so a restart repeats only what was not recorded. `_SUCCESS` comes last.

use futures::{StreamExt, stream};
use knarr_base::filter::Filter;
use knarr_base::object::{ObjectKey, ObjectPath};
use knarr_base::schema::Schema;
use knarr_base::{Error, Kind, Result, limit};
use knarr_catalog::audit::Audit;
use knarr_catalog::tasks::{Task, TaskChange};
use knarr_catalog::units::{Publish, Unit, UnitState};
use knarr_engine::bulk::{self, Export, Format, RowRange, UnitSpec};
use knarr_engine::compute::Meter;
use knarr_engine::table::Snapshot;
use serde_json::json;

use super::driver::{Driver, interrupted, transition};
use super::machine::Event;
use super::report::{FileDone, UnitWork, from_text, to_text};
use super::units::{Attempt, Failure};
use super::{TaskSpec, spec};
use crate::Inner;
use crate::principal::Principal;

impl Driver<'_> {
    /// Everything a data_export does after its start.
    pub(super) async fn export(&mut self, filter: &Filter, target: &ObjectPath, format: Format) -> Result<()> {
        if self.inner.catalog.units(self.task.id).await?.is_empty() {
            let files = self.scan(filter).await?;
            self.plan(files.into_iter().chain([UnitWork::Seal]).collect(), None).await?;
        }
        self.write_files(filter, target, format).await?;
        self.finish().await
    }

    /// Counts and samples what matches; returns one unit of work per file.
    pub(super) async fn scan(&mut self, filter: &Filter) -> Result<Vec<UnitWork>> {
        let snapshot = self.snapshot().await?;
        filter.check(&self.table.schema())?;
        let _permit = self.unless_interrupted(self.inner.tasks.units.acquire()).await?;
        let meter = Meter::new();
        let counted = {
            let scan = bulk::count(&self.inner.pool, &snapshot, filter, &meter, &self.live.cancel);
            tokio::pin!(scan);
            loop {
                match tokio::time::timeout(limit::PROGRESS_INTERVAL, &mut scan).await {
                    Ok(counted) => break counted.map_err(stop_or)?,
                    Err(_) => {
                        self.report.scanned = self.report.scanned.max(meter.rows_scanned());
                        self.report.matched = self.report.matched.max(meter.rows_matched());
                        self.inner.catalog.save_report(self.task.id, &to_text(&self.report)?).await?;
                    }
                }
            }
        };
        self.report.scanned = counted.scanned;
        self.report.matched = counted.matched;
        self.report.sample = counted.sample;
        let work = |unit: UnitSpec| UnitWork::File {
            ranges: unit.ranges.iter().map(|r| (r.segment, r.start, r.end)).collect(),
            matched: unit.matched,
        };
        Ok(counted.units.into_iter().map(work).collect())
    }

    /// Records the units; with `ask`, the task waits for a human in the same transaction.
    pub(super) async fn plan(&mut self, works: Vec<UnitWork>, ask: Option<i64>) -> Result<()> {
        if works.len() > limit::UNITS_PER_TASK {
            return Err(Error::new(Kind::Invalid, "the task would need too many files; narrow its filter"));
        }
        let units = works.iter().map(to_text).collect::<Result<Vec<_>>>()?;
        let detail = format!("{{\"units\":{},\"matched\":{}}}", units.len(), self.report.matched);
        fail::fail_point!("service::task::before_plan");
        match ask {
            Some(by) => {
                let plan = |change: &mut TaskChange| {
                    change.units = Some(units);
                    change.confirm_by_ms = Some(Some(by));
                };
                self.move_to(Event::Ask, plan, &detail).await?;
            }
            None => {
                let mut change = TaskChange::to(self.task.status);
                change.units = Some(units);
                change.report = Some(to_text(&self.report)?);
                let audit = transition(&self.task, Audit::server(), self.task.status, &detail);
                self.task = self.inner.catalog.move_task(self.task.id, self.task.revision, change, audit).await?;
            }
        }
        fail::fail_point!("service::task::after_plan");
        Ok(())
    }

    /// Writes the files that are not there yet, two at a time, then seals them.
    pub(super) async fn write_files(&mut self, filter: &Filter, target: &ObjectPath, format: Format) -> Result<()> {
        let owner =
            Principal { account: self.task.account.clone(), key: self.task.creator.clone(), grants: Vec::new() };
        self.inner.ensure_bucket(&owner, &target.bucket).await?;
        let snapshot = self.snapshot().await?;
        let units = self.inner.catalog.units(self.task.id).await?;
        let mut files = Vec::new();
        for unit in units.iter().filter(|unit| unit.state != UnitState::Done) {
            if let UnitWork::File { ranges, matched } = from_text(&unit.spec)? {
                let ranges = ranges.into_iter().map(|(segment, start, end)| RowRange { segment, start, end }).collect();
                files.push(self.one_file(
                    unit.ordinal,
                    UnitSpec { ranges, matched },
                    &snapshot,
                    filter,
                    target,
                    format,
                ));
            }
        }
        let written: Vec<Result<()>> = stream::iter(files).buffer_unordered(limit::UNITS_RUNNING).collect().await;
        written.into_iter().collect::<Result<()>>()?;
        let seal = units.iter().find(|unit| from_text(&unit.spec).is_ok_and(|work: UnitWork| work == UnitWork::Seal));
        let Some(seal) = seal else { return Err(Error::new(Kind::Corrupt, "the task's plan has no seal")) };
        if seal.state != UnitState::Done {
            let ordinal = seal.ordinal;
            self.unit(ordinal, |fence| self.seal(ordinal, fence, filter, target, format)).await?;
        }
        Ok(())
    }

    async fn one_file(
        &self,
        ordinal: u32,
        work: UnitSpec,
        snapshot: &Snapshot,
        filter: &Filter,
        target: &ObjectPath,
        format: Format,
    ) -> Result<()> {
        self.unit(ordinal, |fence| self.file(ordinal, fence, &work, snapshot, filter, target, format)).await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one unit, borrowed from the task; a struct would be built once and taken apart once"
    )]
    async fn file(
        &self,
        ordinal: u32,
        fence: u64,
        work: &UnitSpec,
        snapshot: &Snapshot,
        filter: &Filter,
        target: &ObjectPath,
        format: Format,
    ) -> Result<Attempt, Failure> {
        let (inner, key) = (self.inner, file_key(target, &self.task, ordinal, format)?);
        let (meter, cancel) = (Meter::new(), &self.live.cancel);
        let stores = &inner.stores;
        let export = Export { filter, unit: work, format, bucket: &target.bucket, key: &key };
        let file = bulk::export_unit(&inner.pool, stores, snapshot, export, &meter, cancel).await?;
        fail::fail_point!("service::export::after_file");
        let done = FileDone {
            rows: file.rows,
            bytes: file.bytes,
            sha256: hex(&file.sha256),
            digest: format!("{:032x}", file.digest),
        };
        let kept = inner.catalog.finish_unit(self.task.id, ordinal, fence, &to_text(&done)?, None).await?;
        Ok(if kept { Attempt::Done } else { Attempt::Fenced })
    }

    /// `_manifest.json`, then `_SUCCESS`. For an export this is its publication, and from the grant on it cannot be
    /// cancelled; a backup only comes before one.
    async fn seal(
        &self,
        ordinal: u32,
        fence: u64,
        filter: &Filter,
        target: &ObjectPath,
        format: Format,
    ) -> Result<Attempt, Failure> {
        let (inner, id) = (self.inner, self.task.id);
        let intent = |outcome| Audit {
            who: Audit::server(),
            action: "export",
            object: id.to_string(),
            detail: json!({ "target": target.to_string(), "rows": self.report.matched }).to_string(),
            outcome,
        };
        if matches!(self.spec, TaskSpec::Export { .. }) {
            match inner.catalog.begin_publish(id, ordinal, fence, intent("intent")).await? {
                Publish::Granted => {}
                Publish::Cancelled => return Err(interrupted().into()),
                Publish::Fenced => return Ok(Attempt::Fenced),
            }
        }
        fail::fail_point!("service::export::before_manifest");
        let units = inner.catalog.units(id).await?;
        let manifest = self.manifest(&units, filter, target, format)?;
        let dir = task_dir(target, &self.task)?;
        inner.stores.put_new(&target.bucket, &dir.child("_manifest.json")?, manifest.into()).await?;
        fail::fail_point!("service::export::before_success");
        inner.stores.put_new(&target.bucket, &dir.child("_SUCCESS")?, Vec::new().into()).await?;
        fail::fail_point!("service::export::after_success");
        let kept = inner.catalog.finish_unit(id, ordinal, fence, "{}", Some(intent("done"))).await?;
        Ok(if kept { Attempt::Done } else { Attempt::Fenced })
    }

    /// What a reader checks the files against. The same bytes whenever it is written: nothing in it is of now.
    fn manifest(&self, units: &[Unit], filter: &Filter, target: &ObjectPath, format: Format) -> Result<Vec<u8>> {
        let Some(pin) = self.task.pin else { return Err(Error::new(Kind::Internal, "a sealed task has no snapshot")) };
        let (mut files, mut rows, mut bytes, mut digest) = (Vec::new(), 0, 0, 0u128);
        for (ordinal, file) in done_files(units)? {
            let name = format!("{ordinal}.{}", format.as_str());
            rows += file.rows;
            bytes += file.bytes;
            let sum = u128::from_str_radix(&file.digest, 16);
            digest =
                digest.wrapping_add(sum.map_err(|e| Error::new(Kind::Corrupt, "a digest is not hex").with_source(e))?);
            files.push(json!({ "name": name, "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256 }));
        }
        let manifest = json!({
            "format": 1,
            "task_id": self.task.id.to_string(),
            "collection_name": self.task.collection,
            "table": self.task.table.to_string(),
            "path": task_dir(target, &self.task)?.as_str(),
            "file_type": format.as_str(),
            "files": files,
            "rows": rows,
            "bytes": bytes,
            "content_digest": format!("xxh3-128-sum:{digest:032x}"),
            "schema": schema_json(&self.table.schema()),
            "filter": spec::filter_json(filter)?,
            "snapshot": { "manifest_version": pin.version, "seq": pin.seq, "sampled_timestamp": pin.at_ms },
        });
        serde_json::to_vec_pretty(&manifest)
            .map_err(|e| Error::new(Kind::Internal, "a manifest could not be written").with_source(e))
    }
}

/// The finished file units, by ordinal.
pub(super) fn done_files(units: &[Unit]) -> Result<Vec<(u32, FileDone)>> {
    let mut files = Vec::new();
    for unit in units.iter().filter(|unit| unit.state == UnitState::Done) {
        if let UnitWork::File { .. } = from_text(&unit.spec)? {
            files.push((unit.ordinal, from_text(&unit.report)?));
        }
    }
    Ok(files)
}

/// `{dir}/{task_id}`: two tasks can never write to one name.
pub(super) fn task_dir(target: &ObjectPath, task: &Task) -> Result<ObjectKey> {
    target.key.child(&task.id.to_string())
}

pub(super) fn file_key(target: &ObjectPath, task: &Task, ordinal: u32, format: Format) -> Result<ObjectKey> {
    task_dir(target, task)?.child(&format!("{ordinal}.{}", format.as_str()))
}

/// Removes what a task wrote that was cancelled or failed, unless it was sealed: then the files are complete and stay.
pub(super) async fn remove_unsealed(inner: &Inner, task: &Task) -> Result<()> {
    let target = match spec::decode(&task.spec)? {
        TaskSpec::Export { target, .. } => target,
        TaskSpec::Delete { backup: Some((target, _)), .. } => target,
        TaskSpec::Delete { backup: None, .. } => return Ok(()),
    };
    let units = inner.catalog.units(task.id).await?;
    let sealed = |unit: &Unit| {
        unit.state != UnitState::Pending && from_text(&unit.spec).is_ok_and(|work: UnitWork| work == UnitWork::Seal)
    };
    if units.iter().any(sealed) || !inner.stores.bucket_exists(&target.bucket).await? {
        return Ok(());
    }
    let dir = task_dir(&target, task)?;
    // First, so that no reader ever finds it beside files that are going.
    inner.stores.delete(&target.bucket, &dir.child("_SUCCESS")?).await?;
    let prefix = format!("{dir}/");
    loop {
        let page = inner.stores.list(&target.bucket, &prefix, None, limit::LIST_PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        for object in page {
            inner.stores.delete(&target.bucket, &ObjectKey::parse(&object.key)?).await?;
        }
    }
}

fn schema_json(schema: &Schema) -> serde_json::Value {
    let fields: Vec<_> = schema
        .shown()
        .map(|(_, field)| match field.kind {
            knarr_base::schema::FieldType::Vector { dim } => {
                json!({ "field_name": field.name.as_str(), "field_type": field.kind.name(), "dim": dim })
            }
            _ => json!({ "field_name": field.name.as_str(), "field_type": field.kind.name() }),
        })
        .collect();
    json!({ "primary_key": schema.key_name(), "fields": fields })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A scan that was told to stop is an interruption, not a failure.
fn stop_or(error: knarr_engine::Error) -> Error {
    match error {
        knarr_engine::Error::Cancelled => interrupted(),
        other => other.into(),
    }
}
