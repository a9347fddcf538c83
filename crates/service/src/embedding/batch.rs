//! Many vectors: some at a time, so that neither a model nor memory has to hold all of them at once.

use knarr_base::{Error, Kind, Result, limit};
use tokio::time::timeout;

use super::{Input, Material};
use crate::{Inner, Principal};

/// What goes to the model in one call, and which materials it is made of.
#[derive(Default)]
struct Batch {
    places: Vec<usize>,
    inputs: Vec<Input>,
    bytes: usize,
}

impl Batch {
    /// True if this input has to wait for the next one.
    fn full(&self, next: &Input) -> bool {
        let over = self.bytes + next.bytes() > limit::EMBEDDING_BATCH_BYTES;
        self.inputs.len() == limit::EMBEDDING_BATCH || (over && !self.inputs.is_empty())
    }

    fn push(&mut self, place: usize, input: Input) {
        self.bytes += input.bytes();
        self.places.push(place);
        self.inputs.push(input);
    }
}

impl Inner {
    /// The vector of each material, none where there is none. All have one length: `dim`, if it is given.
    ///
    /// # Errors
    /// `Kind::EmbeddingFailed`, `Kind::Busy`; for images `Kind::Invalid`, `Kind::Forbidden`.
    pub(super) async fn vectors_of(
        &self,
        by: &Principal,
        model: &str,
        dim: Option<usize>,
        materials: Vec<Option<Material>>,
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let made = timeout(limit::EMBEDDING_CALLS_TIME, Box::pin(self.in_batches(by, model, dim, materials)));
        made.await.unwrap_or_else(|_| {
            Err(Error::new(Kind::EmbeddingFailed, format!("model {model:?} did not make all vectors in time")))
        })
    }

    async fn in_batches(
        &self,
        by: &Principal,
        model: &str,
        mut dim: Option<usize>,
        materials: Vec<Option<Material>>,
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let images = materials.iter().flatten().any(|material| material.image.is_some());
        let _room = images.then(|| self.images.enter()).transpose()?;
        let mut vectors = vec![None; materials.len()];
        let mut batch = Batch::default();
        for (place, material) in materials.into_iter().enumerate() {
            let Some(material) = material else { continue };
            self.check_model(model, material.image.is_some())?;
            let input = self.input(by, material).await?;
            if batch.full(&input) {
                self.send(model, &mut dim, std::mem::take(&mut batch), &mut vectors).await?;
            }
            batch.push(place, input);
        }
        self.send(model, &mut dim, batch, &mut vectors).await?;
        Ok(vectors)
    }

    async fn send(
        &self,
        model: &str,
        dim: &mut Option<usize>,
        batch: Batch,
        vectors: &mut [Option<Vec<f32>>],
    ) -> Result<()> {
        if batch.places.is_empty() {
            return Ok(());
        }
        for (place, vector) in batch.places.into_iter().zip(self.models.embed(model, batch.inputs).await?) {
            let dim = *dim.get_or_insert(vector.len());
            if vector.len() != dim {
                let text = format!("model {model:?} makes vectors of {} elements where {dim} are needed", vector.len());
                return Err(Error::new(Kind::EmbeddingFailed, text));
            }
            vectors[place] = Some(vector);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: usize) -> Input {
        Input::text("x".repeat(bytes))
    }

    #[test]
    fn a_batch_is_full_by_number_and_by_bytes() {
        let mut batch = Batch::default();
        assert!(!batch.full(&input(limit::EMBEDDING_BATCH_BYTES + 1)), "what is too large goes alone");
        for place in 0..limit::EMBEDDING_BATCH {
            assert!(!batch.full(&input(1)), "{place}");
            batch.push(place, input(1));
        }
        assert!(batch.full(&input(1)));
        let mut batch = Batch::default();
        batch.push(0, input(limit::EMBEDDING_BATCH_BYTES - 10));
        assert!(!batch.full(&input(10)) && batch.full(&input(11)));
    }
}
