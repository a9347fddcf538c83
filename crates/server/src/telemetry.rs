//! Logs to stderr, counters for Prometheus.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Result};

/// Starts logging. Logs carry constant sentences with fields; no secret and no row value is ever a field.
pub(crate) fn start_logs(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|e| Failure::usage(format!("log: {e}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|e| Failure::failed(format!("logging: {e}")))
}

/// Starts collecting what `/metrics` shows. Without an admin port nothing is collected.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().map_err(|e| Failure::failed(format!("metrics: {e}")))
}
