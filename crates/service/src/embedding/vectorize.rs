//! `vectorize`: a collection whose vectors its model makes from a text field, an image field, or both together.
//!
//! The schema of such a collection has a made vector (`knarr_base::schema::MADE_VECTOR`). It is made between the
//! decoding of a call's rows and their write: no lock is held, nothing is written unless all were made, and the write
//! is as atomic as any other.

use knarr_base::schema::{FieldType, Schema};
use knarr_base::{Error, Kind, Result};
use knarr_engine::rows::Rows;
use serde::Deserialize;

use super::{Input, Material, not_configured};
use crate::collections::Opened;
use crate::{Inner, Principal};

/// What a model is given to find out how long its vectors are.
const PROBE: &str = "dimension";

/// `vectorize` as it is stored, a list of one entry. Its `sparse` is kept for clients to read and makes nothing.
pub(super) struct Vectorize {
    pub(super) model: String,
    dim: Option<u32>,
    text_field: Option<String>,
    image_field: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    dense: Dense,
}

#[derive(Deserialize)]
struct Dense {
    model_name: String,
    dim: Option<u32>,
    text_field: Option<String>,
    image_field: Option<String>,
}

/// Positions of the fields that a vector is made from: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sources {
    text: Option<usize>,
    image: Option<usize>,
}

impl Vectorize {
    /// # Errors
    /// `Kind::Invalid`.
    pub(super) fn parse(stored: &str) -> Result<Self> {
        let malformed = |e: serde_json::Error| invalid(format!("vectorize: {e}"));
        let [entry]: [Entry; 1] = serde_json::from_str(stored).map_err(malformed)?;
        let Dense { model_name, dim, text_field, image_field } = entry.dense;
        let given = |name: Option<String>| name.filter(|name| !name.is_empty());
        Ok(Self { model: model_name, dim, text_field: given(text_field), image_field: given(image_field) })
    }

    /// # Errors
    /// `Kind::Invalid` for fields that are not there or of another type, and where neither is named.
    fn sources(&self, schema: &Schema) -> Result<Sources> {
        let position = |what: &str, name: &Option<String>, kind: FieldType| match name {
            None => Ok(None),
            Some(name) => match schema.field(name) {
                Some((at, field)) if field.kind == kind => Ok(Some(at)),
                _ => Err(invalid(format!("vectorize: {what} must name a field of type {}", kind.name()))),
            },
        };
        let text = position("text_field", &self.text_field, FieldType::Text)?;
        let image = position("image_field", &self.image_field, FieldType::Image)?;
        if text.is_none() && image.is_none() {
            return Err(invalid("vectorize: dense needs a text_field or an image_field"));
        }
        Ok(Sources { text, image })
    }
}

impl Sources {
    /// What the vector of each row is made of; `None` for a changed row that keeps its vector.
    fn materials(self, schema: &Schema, rows: &Rows) -> Result<Vec<Option<Material>>> {
        let values = |field: Option<usize>| match field {
            Some(field) => rows.texts(field),
            None => vec![None; rows.len()],
        };
        let pairs = values(self.text).into_iter().zip(values(self.image));
        pairs.map(|(text, image)| self.material(schema, text, image, rows.is_update())).collect()
    }

    fn material(
        self,
        schema: &Schema,
        text: Option<&str>,
        image: Option<&str>,
        update: bool,
    ) -> Result<Option<Material>> {
        let names: Vec<_> = [self.text, self.image].into_iter().flatten().map(|at| &schema.fields()[at].name).collect();
        let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" and ");
        if text == Some("") || image == Some("") {
            return Err(invalid(format!("{names}: a model makes no vector of nothing")));
        }
        let both = self.text.is_some() && self.image.is_some();
        match (text, image) {
            (None, None) if update => Ok(None),
            (None, None) => Err(invalid(format!("each row needs {names}, from which its vector is made"))),
            // The other half is in the row as it is stored, which may change before this write comes to it.
            (None, _) | (_, None) if update && both => {
                Err(invalid(format!("an update gives {names} together or neither: one vector is made of them")))
            }
            (text, image) => Ok(Some(Material { text: text.map(str::to_owned), image: image.map(str::to_owned) })),
        }
    }
}

impl Inner {
    /// The schema of a collection that is yet to be created, with the vector that `vectorize` asks for. Without a
    /// dimension and without the model there is none, and its rows are refused later.
    pub(crate) async fn with_made_vector(&self, schema: Schema, vectorize: Option<&str>) -> Result<Schema> {
        let Some(text) = vectorize else { return Ok(schema) };
        let vectorize = Vectorize::parse(text)?;
        vectorize.sources(&schema)?;
        let dim = match (vectorize.dim, self.models.takes(&vectorize.model)) {
            (Some(dim), _) => dim,
            (None, None) => return Ok(schema),
            (None, Some(_)) => {
                let probe = vec![Input::text(PROBE.to_owned())];
                let vectors = self.models.embed(&vectorize.model, probe).await?;
                vectors.first().map_or(0, |vector| u32::try_from(vector.len()).unwrap_or(u32::MAX))
            }
        };
        schema.with_made_vector(dim)
    }

    /// Rows with the vectors that the collection's model makes of them; the same rows where it has none to make.
    pub(crate) async fn make_vectors(
        &self,
        by: &Principal,
        opened: &Opened,
        schema: &Schema,
        rows: Rows,
    ) -> Result<Rows> {
        let Some(text) = &opened.record.vectorize else { return Ok(rows) };
        let vectorize = Vectorize::parse(text)?;
        let materials = vectorize.sources(schema)?.materials(schema, &rows)?;
        let Some((_, dim)) = schema.made_vector() else {
            if materials.iter().all(Option::is_none) {
                return Ok(rows);
            }
            return Err(self.no_vectors(&vectorize.model));
        };
        let vectors = self.vectors_of(by, &vectorize.model, Some(dim as usize), materials).await?;
        Ok(rows.with_vectors(&vectors)?)
    }

    /// Why a collection has no made vector: it was created without a dimension and without its model.
    fn no_vectors(&self, model: &str) -> Error {
        match self.models.takes(model) {
            None => not_configured(model),
            Some(_) => Error::new(
                Kind::Refused,
                "the collection was created before its model was configured, so it has no vectors: create it again",
            ),
        }
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}
