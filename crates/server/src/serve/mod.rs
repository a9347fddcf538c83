//! `knarr serve`: from settings to a server that accepts requests, and back to an exit code.
//!
//! Order of a start: settings are checked, signals caught, ports bound, the data directory opened, `knarr ready` printed,
//! connections accepted. Order of a stop: no new connections, requests in flight end, tasks rest where they stand,
//! the tables and the catalog are closed.

mod admin;
mod http;
mod shutdown;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::service::TowerToHyperService;
use knarr_base::limit;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::failure::{Failure, Result};
use crate::keyfile::Credentials;
use crate::output::Output;
use crate::{keyfile, telemetry, wiring};
use admin::{Health, State};
use shutdown::Signals;

/// Run a server on a data directory.
///
/// Prints `knarr ready on http://HOST:PORT` on stdout when it accepts requests (with --json: {"ready": URL}); the log goes
/// to stderr. The first start makes an administrator's key, prints it once (not with --json) and writes it to
/// DIR/admin.key, unless KNARR_ACCESS_KEY and KNARR_SECRET_KEY name one, which then lives as long as the process.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knarr serve --data ./data
  knarr serve --data /srv/knarr --listen 0.0.0.0:8080 --admin-listen 127.0.0.1:9090
  knarr config > knarr.toml; knarr serve --config knarr.toml --data ./data
  curl http://127.0.0.1:9090/healthz; curl http://127.0.0.1:9090/metrics

SIGTERM or Ctrl-C: stops accepting, lets requests in flight end (30 s at most), exits 0. A second one leaves at once;
nothing that was answered is lost either way.")]
pub(crate) struct Args {
    /// Directory that holds everything; made where it is missing.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where /healthz and /metrics listen [default: nowhere].
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Settings file; `knarr config` prints one with every setting.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log, for example debug or info,knarr_engine=debug [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<()> {
    let Args { data, listen, admin_listen, config: file, log } = args;
    let flags = [("data", data), ("listen", listen), ("admin_listen", admin_listen), ("log", log)];
    let config = config::load(file.as_deref(), std::env::vars(), flags)?;
    let credentials = keyfile::credentials_from_env()?;
    telemetry::start_logs(&config.log)?;
    let metrics = config.admin_listen.map(|_| telemetry::start_metrics()).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(config, credentials, metrics, out));
    // A thread that is stuck in a disk call must not hold the exit: everything acknowledged is on disk.
    runtime.shutdown_background();
    served
}

async fn serve(
    config: Config,
    credentials: Option<Credentials>,
    metrics: Option<PrometheusHandle>,
    out: &Output,
) -> Result<()> {
    let mut signals = Signals::catch()?;
    let api = bind("listen", config.listen).await?;
    let address = api.local_addr()?;
    let health = Health::starting();
    let stop_admin = CancellationToken::new();
    let admin = match (config.admin_listen, metrics) {
        (Some(wanted), Some(metrics)) => {
            let listener = bind("admin_listen", wanted).await?;
            tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
            Some(tokio::spawn(http::serve(listener, admin::service(health.clone(), metrics), stop_admin.clone())))
        }
        _ => None,
    };

    let opened = wiring::open(&config, credentials).await?;
    let router = knarr_wire::router(Arc::clone(&opened.service), config.wire());
    let stop_api = CancellationToken::new();
    let accepting = tokio::spawn(http::serve(api, TowerToHyperService::new(router), stop_api.clone()));
    announce(out, opened.first_key.as_deref().map(String::as_str), address)?;
    health.set(State::Ready);

    let signal = signals.first().await;
    tracing::info!(signal, "stopping: requests in flight may end");
    health.set(State::Stopping);
    signals.leave_at_the_next();
    stop_api.cancel();
    if tokio::time::timeout(limit::DRAIN_TIMEOUT, accepting).await.is_err() {
        tracing::warn!(seconds = limit::DRAIN_TIMEOUT.as_secs(), "some requests did not end in time");
    }
    opened.service.shutdown().await;
    stop_admin.cancel();
    if let Some(admin) = admin {
        admin.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| Failure::failed(format!("{setting} {address}: {e}")))
}

/// The only lines on stdout.
fn announce(out: &Output, first_key: Option<&str>, address: SocketAddr) -> Result<()> {
    let url = format!("http://{address}");
    if !out.json() {
        std::io::stdout().lock().write_all(first_key.unwrap_or_default().as_bytes())?;
    }
    out.show(&serde_json::json!({"ready": url}).to_string(), || format!("knarr ready on {url}"))
}
