//! A store that fails on command, for tests of everything that writes objects.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Fail,
    LoseAck,
    Hang,
}

/// The test's hand on the store. Calls (of any kind, parts and completions of uploads too) are counted from 1.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<State>);

#[derive(Debug, Default)]
struct State {
    plan: Mutex<Plan>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    faults: Vec<(u64, Fault)>,
    hanging: usize,
}

impl Faults {
    /// None planned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.plan.lock().calls
    }

    /// Calls that hang now.
    pub fn hanging(&self) -> usize {
        self.0.plan.lock().hanging
    }

    /// The `n`-th call from now (1: the next) fails and does nothing.
    pub fn fail(&self, n: u64) {
        self.plan(n, Fault::Fail);
    }

    /// The `n`-th call from now is carried out, but its caller hears of a failure.
    pub fn lose_ack(&self, n: u64) {
        self.plan(n, Fault::LoseAck);
    }

    /// The `n`-th call from now waits for [`Faults::release`], then is carried out.
    pub fn hang(&self, n: u64) {
        self.plan(n, Fault::Hang);
    }

    /// Lets all hanging calls go on.
    pub fn release(&self) {
        self.0.released.notify_waiters();
    }

    /// Forgets what is planned.
    pub fn clear(&self) {
        self.0.plan.lock().faults.clear();
    }

    fn plan(&self, n: u64, fault: Fault) {
        let mut plan = self.0.plan.lock();
        let call = plan.calls + n;
        plan.faults.push((call, fault));
    }

    /// Counts a call, carries it out as planned.
    async fn call<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        // Registered before the plan says that this call hangs, so that no release is missed.
        let released = self.0.released.notified();
        let fault = self.next(true);
        match fault {
            None => work.await,
            Some(Fault::Fail) => Err(injected()),
            Some(Fault::LoseAck) => work.await.and_then(|_| Err(injected())),
            Some(Fault::Hang) => {
                let _hanging = Hanging(&self.0);
                released.await;
                work.await
            }
        }
    }

    fn next(&self, may_hang: bool) -> Option<Fault> {
        let mut plan = self.0.plan.lock();
        plan.calls += 1;
        let call = plan.calls;
        let fault = plan.faults.iter().find(|(n, _)| *n == call).map(|(_, fault)| *fault);
        plan.hanging += usize::from(may_hang && fault == Some(Fault::Hang));
        fault
    }
}

/// A hanging call stops hanging when it is released or dropped.
struct Hanging<'a>(&'a State);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.plan.lock().hanging -= 1;
    }
}

fn injected() -> Error {
    Error::Generic { store: "faulty", source: "injected".into() }
}

/// Another store, through [`Faults`].
#[derive(Debug)]
pub(super) struct FailingStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FailingStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// A stream whose first item may be an injected failure; a planned hang counts as one.
    fn stream<T: Send + 'static>(&self, inner: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        match self.faults.next(false) {
            None => inner,
            Some(_) => stream::once(async { Err(injected()) }).boxed(),
        }
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failing {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FailingStore {
    async fn put_opts(&self, location: &StorePath, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.faults.call(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.faults.call(self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(FailingUpload { inner, faults: self.faults.clone() }))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.faults.call(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &StorePath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.faults.call(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, all: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        self.stream(self.inner.delete_stream(all))
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&StorePath>,
        offset: &StorePath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.faults.call(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.faults.call(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FailingUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faults,
}

#[async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (work, faults) = (self.inner.put_part(part), self.faults.clone());
        async move { faults.call(work).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faults.call(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
