//! Runs one unit under a lease: renewed while it works, fenced when lost, retried within bounds.

use std::time::Duration;

use knarr_base::{Error, Kind, Result, limit};
use knarr_engine::Error as EngineError;

use super::driver::{Driver, interrupted};

/// What one attempt at a unit came to.
pub(super) enum Attempt {
    /// Finished and recorded.
    Done,
    /// The lease went to another holder; whatever this one did is repeated or already there.
    Fenced,
}

/// Why an attempt failed.
pub(super) enum Failure {
    /// The work panicked or its child aborted: counts as a strike.
    Strike(Error),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<knarr_catalog::Error> for Failure {
    fn from(error: knarr_catalog::Error) -> Self {
        Failure::Error(error.into())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            panicked @ EngineError::Panicked { .. } => Failure::Strike(panicked.into()),
            EngineError::Cancelled => Failure::Error(interrupted()),
            other => Failure::Error(other.into()),
        }
    }
}

impl Driver<'_> {
    /// Runs unit `ordinal` to its end. `attempt` gets the fence of the lease and must be repeatable.
    ///
    /// # Errors
    /// The last attempt's, after `limit::UNIT_RETRIES` of a store or disk that is unavailable, or
    /// `limit::UNIT_STRIKES` panics.
    pub(super) async fn unit<F>(&self, ordinal: u32, attempt: impl Fn(u64) -> F) -> Result<()>
    where
        F: Future<Output = Result<Attempt, Failure>>,
    {
        let _permit = self.unless_interrupted(self.inner.tasks.units.acquire()).await?;
        let mut pause = limit::UNIT_RETRY_PAUSE;
        let mut retries = 0;
        loop {
            let fence = self.lease(ordinal).await?;
            let outcome = tokio::select! {
                outcome = attempt(fence) => outcome,
                error = self.heartbeat(ordinal, fence) => Err(Failure::Error(error)),
            };
            let error = match outcome {
                Ok(Attempt::Done) => return Ok(()),
                Ok(Attempt::Fenced) => Error::new(Kind::Unavailable, "the unit's lease was lost"),
                Err(Failure::Strike(error)) => {
                    let strikes = self.inner.catalog.strike_unit(self.task.id, ordinal).await?;
                    tracing::error!(task = %self.task.id, unit = ordinal, strikes, error = error.chain(), "a unit panicked");
                    if strikes >= limit::UNIT_STRIKES {
                        let text = format!("unit {ordinal} failed {strikes} times: {}", error.message());
                        return Err(Error::new(Kind::Internal, text).with_source(error));
                    }
                    self.inner.catalog.release_lease(self.task.id, ordinal, fence).await?;
                    continue;
                }
                Err(Failure::Error(error)) => error,
            };
            self.inner.catalog.release_lease(self.task.id, ordinal, fence).await?;
            if !error.kind().retryable() || retries == limit::UNIT_RETRIES {
                return Err(error);
            }
            tracing::warn!(task = %self.task.id, unit = ordinal, retries, error = error.chain(), "a unit is tried again");
            self.unless_interrupted(tokio::time::sleep(pause)).await?;
            pause *= 2;
            retries += 1;
        }
    }

    async fn lease(&self, ordinal: u32) -> Result<u64> {
        let holder = &self.inner.tasks.holder;
        loop {
            let until = self.lease_end();
            if let Some(fence) = self.inner.catalog.lease_unit(self.task.id, ordinal, holder, until).await? {
                return Ok(fence);
            }
            // Another holder has it. Its lease ends or it finishes; both are seen by asking again.
            self.unless_interrupted(tokio::time::sleep(limit::LEASE / 4)).await?;
        }
    }

    fn lease_end(&self) -> i64 {
        self.inner.clock.now_ms().saturating_add(i64::try_from(limit::LEASE.as_millis()).unwrap_or(i64::MAX))
    }

    /// Renews until the lease is lost.
    async fn heartbeat(&self, ordinal: u32, fence: u64) -> Error {
        let every: Duration = limit::LEASE / 3;
        loop {
            tokio::time::sleep(every).await;
            match self.inner.catalog.renew_lease(self.task.id, ordinal, fence, self.lease_end()).await {
                Ok(true) => {}
                Ok(false) => return Error::new(Kind::Unavailable, "the unit's lease was lost"),
                Err(error) => tracing::warn!(task = %self.task.id, %error, "a lease could not be renewed"),
            }
        }
    }
}
