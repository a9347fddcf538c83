//! Opens the layers from the bottom up and hands them to the service. The only place that knows all of them.

use std::sync::Arc;

use knarr_base::clock::SystemClock;
use knarr_base::id::{AccountId, KeyId};
use knarr_base::right::Grant;
use knarr_catalog::{Catalog, MasterKey};
use knarr_engine::compute::Pool;
use knarr_engine::disk::OsDisk;
use knarr_engine::objects::Stores;
use knarr_engine::table::{self, Tables};
use knarr_service::keys::ProcessKey;
use knarr_service::tasks::Policy;
use knarr_service::{Parts, Service};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::embedding::Models;
use crate::failure::{Failure, Result};
use crate::keyfile::{self, Credentials};

/// A running service.
pub(crate) struct Opened {
    pub(crate) service: Arc<Service>,
    /// What to print of the key that the first start makes.
    pub(crate) first_key: Option<Zeroizing<String>>,
}

/// Opens the data directory. `credentials` is an administrator's pair for the life of the process.
pub(crate) async fn open(config: &Config, credentials: Option<Credentials>) -> Result<Opened> {
    let dir = config.data.clone();
    keyfile::make_dir(&dir)?;
    let clock = SystemClock::shared();
    let pool = Pool::new(config.threads);
    // First of all, since it takes the directory's lock: nothing below runs twice on one directory.
    let options = table::Options {
        dir: dir.clone(),
        clock: Arc::clone(&clock),
        disk: Arc::new(OsDisk),
        pool: Arc::clone(&pool),
        memtable_bytes: config.memtable_bytes,
        structure_rows: config.structure_rows,
    };
    let opening = tokio::task::spawn_blocking(move || Tables::open(options)).await;
    let tables = opening.map_err(|e| Failure::failed(e.to_string()))?.map_err(knarr_base::Error::from)?;
    let stores = Stores::open_local(&dir.join("objects")).map_err(knarr_base::Error::from)?;
    let master = MasterKey::from_hex(&keyfile::master_key(&dir)?).map_err(knarr_base::Error::from)?;
    let database = dir.join("catalog.db");
    let catalog = Catalog::open(&database, Arc::clone(&clock), master).await.map_err(knarr_base::Error::from)?;

    let (keys, needs_key) = (catalog.clone(), credentials.is_none());
    let process_key = |c: Credentials| ProcessKey { id: KeyId::new(c.access_key), secret: c.secret_key };
    let process_keys = credentials.into_iter().map(process_key).collect();
    let models = Arc::new(Models::new(config.embedding.clone(), config.embedding_default.clone()));
    let stores = Arc::new(stores);
    let policy = Policy {
        confirm: config.confirm_wait,
        retention: config.task_retention,
        confirm_by_another: config.confirm_by_another,
        undo: config.undo_window,
    };
    let service = Service::open(Parts { tables, catalog, stores, pool, clock, policy, models, process_keys }).await?;
    // Last: a directory that is refused keeps its admin.key.
    let first_key = if needs_key { first_key(config, &keys).await? } else { None };
    Ok(Opened { service: Arc::new(service), first_key })
}

/// Makes an administrator's key if no stored key is one.
async fn first_key(config: &Config, catalog: &Catalog) -> Result<Option<Zeroizing<String>>> {
    if catalog.has_admin_key().await.map_err(knarr_base::Error::from)? {
        return Ok(None);
    }
    let (by, account) = (KeyId::new("server"), AccountId::default_account());
    let made = catalog.create_key(&by, &account, "administrator of the first start", vec![Grant::everything()]).await;
    let (id, secret) = made.map_err(knarr_base::Error::from)?;
    keyfile::write_admin_key(&config.data, id.as_str(), secret.expose()).map(Some)
}
