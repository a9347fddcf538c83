//! Vectors of texts and images, by models that run elsewhere.
//!
//! The service knows models by the names that clients use; the server brings whatever asks them. Without one every call
//! here is refused, never answered with something made up. `image` finds what a caller calls an image, `batch` asks for
//! many vectors, `vectorize` for those of a collection's rows.

mod batch;
mod image;
mod vectorize;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use knarr_base::{Error, Kind, Result, limit};

use crate::{Inner, Principal, Service};
use vectorize::Vectorize;

pub(crate) use image::ImageRoom;

/// What one vector is made of, as callers name it: a text, an image, or both together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Material {
    /// The text.
    pub text: Option<String>,
    /// `tos://bucket/object` in a bucket of this server, or base64.
    pub image: Option<String>,
}

/// The same as a model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The text.
    pub text: Option<String>,
    /// The image's bytes as base64.
    pub image: Option<String>,
}

impl Input {
    /// A text alone.
    pub fn text(text: String) -> Self {
        Self { text: Some(text), image: None }
    }

    fn bytes(&self) -> usize {
        [&self.text, &self.image].into_iter().flatten().map(String::len).sum()
    }
}

/// What a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Texts alone.
    Texts,
    /// Texts and images.
    TextsAndImages,
}

/// The vectors of some inputs, in their order.
pub type Embedded = Pin<Box<dyn Future<Output = Result<Vec<Vec<f32>>>> + Send>>;

/// Asks models for vectors. Calls only what the operator configured; nothing of a request chooses where to.
pub trait Embed: Send + Sync + 'static {
    /// Vectors of `inputs` by the model that is configured under this name: as many, finite, of one length.
    ///
    /// # Errors
    /// `Kind::EmbeddingFailed` also for a name that is not configured, `Kind::Busy`.
    fn embed(&self, model: &str, inputs: Vec<Input>) -> Embedded;

    /// What the model of this name reads; `None` if none is configured.
    fn takes(&self, model: &str) -> Option<Takes>;

    /// The model of collections that name none.
    fn default_model(&self) -> Option<&str>;
}

/// No model at all.
pub struct NoModels;

impl Embed for NoModels {
    fn embed(&self, model: &str, _: Vec<Input>) -> Embedded {
        let error = not_configured(model);
        Box::pin(async move { Err(error) })
    }

    fn takes(&self, _: &str) -> Option<Takes> {
        None
    }

    fn default_model(&self) -> Option<&str> {
        None
    }
}

/// What a caller is told who names a model that is not there.
pub fn not_configured(model: &str) -> Error {
    let text = format!("no embedding model {model:?} is configured: the server's settings need [embedding.{model}]");
    Error::new(Kind::EmbeddingFailed, text)
}

impl Inner {
    /// Refuses a model that is not configured, and images for one that reads none.
    pub(crate) fn check_model(&self, model: &str, images: bool) -> Result<()> {
        match self.models.takes(model) {
            None => Err(not_configured(model)),
            Some(Takes::Texts) if images => {
                Err(Error::new(Kind::EmbeddingFailed, format!("embedding model {model:?} takes no images")))
            }
            Some(_) => Ok(()),
        }
    }

    /// One vector.
    ///
    /// # Errors
    /// Those of [`Inner::vectors_of`].
    pub(crate) async fn vector_of(&self, by: &Principal, model: &str, material: Material) -> Result<Vec<f32>> {
        let mut vectors = self.vectors_of(by, model, None, vec![Some(material)]).await?;
        Ok(vectors.pop().flatten().unwrap_or_default())
    }
}

impl Service {
    /// Vectors of 1 to `limit::EMBEDDING_ITEMS` texts and images, of one length. Any valid key may ask.
    ///
    /// # Errors
    /// `Kind::Invalid` without or with too many of them, `Kind::EmbeddingFailed`, `Kind::Busy`; for images
    /// `Kind::Invalid`, and `Kind::Forbidden` in a bucket that the key may not read.
    pub async fn embed(&self, by: &Principal, model: &str, materials: Vec<Material>) -> Result<Vec<Vec<f32>>> {
        if !(1..=limit::EMBEDDING_ITEMS).contains(&materials.len()) {
            let text = format!("data must hold 1 to {} items", limit::EMBEDDING_ITEMS);
            return Err(Error::new(Kind::Invalid, text));
        }
        let vectors = self.inner.vectors_of(by, model, None, materials.into_iter().map(Some).collect()).await?;
        Ok(vectors.into_iter().flatten().collect())
    }
}

/// The model that embeds for a collection: the one its `vectorize` names, else the operator's default.
///
/// # Errors
/// `Kind::EmbeddingFailed` where there is neither.
pub(crate) fn model_of(vectorize: Option<&str>, models: &Arc<dyn Embed>) -> Result<String> {
    let named = vectorize.and_then(|text| Vectorize::parse(text).ok()).map(|vectorize| vectorize.model);
    named
        .or_else(|| models.default_model().map(str::to_owned))
        .ok_or_else(|| Error::new(Kind::EmbeddingFailed, "no embedding model is configured"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Embed for One {
        fn embed(&self, _: &str, inputs: Vec<Input>) -> Embedded {
            Box::pin(async move { Ok(inputs.iter().map(|input| vec![input.bytes() as f32]).collect()) })
        }

        fn takes(&self, _: &str) -> Option<Takes> {
            Some(Takes::Texts)
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
        assert_eq!(NoModels.takes("m"), None);
        let refused = NoModels.embed("m", vec![Input::text("x".into())]).await;
        assert_eq!(refused.map_err(|e| e.kind()), Err(Kind::EmbeddingFailed));
    }
}
