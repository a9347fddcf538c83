//! Vectors of texts, by models that run elsewhere.
//!
//! The service knows models by the names that clients use; the server brings whatever asks them. Without one every call
//! here is refused, never answered with something made up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use knarr_base::{Error, Kind, Result, limit};
use serde::Deserialize;

use crate::{Principal, Service};

/// The vectors of some texts, in their order.
pub type Embedded = Pin<Box<dyn Future<Output = Result<Vec<Vec<f32>>>> + Send>>;

/// Asks models for vectors. Calls only what the operator configured; nothing of a request chooses where to.
pub trait Embed: Send + Sync + 'static {
    /// Vectors of `texts` by the model that is configured under this name: as many, finite, of one length.
    ///
    /// # Errors
    /// `Kind::EmbeddingFailed` also for a name that is not configured, `Kind::Busy`.
    fn embed(&self, model: &str, texts: Vec<String>) -> Embedded;

    /// The model of collections that name none.
    fn default_model(&self) -> Option<&str>;
}

/// No model at all.
pub struct NoModels;

impl Embed for NoModels {
    fn embed(&self, model: &str, _: Vec<String>) -> Embedded {
        let error = not_configured(model);
        Box::pin(async move { Err(error) })
    }

    fn default_model(&self) -> Option<&str> {
        None
    }
}

/// What a caller is told who names a model that is not there.
pub fn not_configured(model: &str) -> Error {
    Error::new(Kind::EmbeddingFailed, format!("no embedding model {model:?} is configured"))
}

impl Service {
    /// Vectors of 1 to `limit::EMBEDDING_TEXTS` texts. Any valid key may ask.
    ///
    /// # Errors
    /// `Kind::Invalid` without or with too many texts, `Kind::EmbeddingFailed`, `Kind::Busy`.
    pub async fn embed(&self, _by: &Principal, model: &str, texts: Vec<String>) -> Result<Vec<Vec<f32>>> {
        if !(1..=limit::EMBEDDING_TEXTS).contains(&texts.len()) {
            let text = format!("data must hold 1 to {} items", limit::EMBEDDING_TEXTS);
            return Err(Error::new(Kind::Invalid, text));
        }
        self.inner.models.embed(model, texts).await
    }
}

/// The model that embeds for a collection: the one its `vectorize` names, else the operator's default.
///
/// # Errors
/// `Kind::EmbeddingFailed` where there is neither.
pub(crate) fn model_of(vectorize: Option<&str>, models: &Arc<dyn Embed>) -> Result<String> {
    #[derive(Deserialize)]
    struct Entry {
        dense: Dense,
    }
    #[derive(Deserialize)]
    struct Dense {
        model_name: String,
    }
    let entries: Option<Vec<Entry>> = vectorize.and_then(|text| serde_json::from_str(text).ok());
    let named = entries.and_then(|entries| entries.into_iter().next()).map(|entry| entry.dense.model_name);
    named
        .or_else(|| models.default_model().map(str::to_owned))
        .ok_or_else(|| Error::new(Kind::EmbeddingFailed, "no embedding model is configured"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Embed for One {
        fn embed(&self, _: &str, texts: Vec<String>) -> Embedded {
            Box::pin(async move { Ok(texts.iter().map(|text| vec![text.len() as f32]).collect()) })
        }

        fn default_model(&self) -> Option<&str> {
            Some("fallback")
        }
    }

    #[test]
    fn a_collections_own_model_comes_first() {
        let one: Arc<dyn Embed> = Arc::new(One);
        let none: Arc<dyn Embed> = Arc::new(NoModels);
        let vectorize = r#"[{"dense":{"model_name":"own","dim":4}}]"#;
        assert_eq!(model_of(Some(vectorize), &one).expect("named"), "own");
        assert_eq!(model_of(None, &one).expect("default"), "fallback");
        assert_eq!(model_of(None, &none).map_err(|e| e.kind()), Err(Kind::EmbeddingFailed));
    }

    #[tokio::test]
    async fn without_models_nothing_is_made_up() {
        let refused = NoModels.embed("m", vec!["x".into()]).await;
        assert_eq!(refused.map_err(|e| e.kind()), Err(Kind::EmbeddingFailed));
    }
}
