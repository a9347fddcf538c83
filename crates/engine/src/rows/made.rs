//! Vectors that a model makes: what it reads of a call's rows, and what it gave.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use knarr_base::schema::FieldType;

use super::Rows;
use crate::columns;
use crate::error::Error;

impl Rows {
    /// Whether each row holds a value of the text or image field at this position of the schema: what it gave, if this
    /// is an update.
    ///
    /// # Panics
    /// For a field of another type.
    pub fn texts(&self, field: usize) -> Vec<Option<&str>> {
        assert!(matches!(self.schema.fields()[field].kind, FieldType::Text | FieldType::Image), "a text or an image");
        let column = self.column_of(field);
        let texts = self.batch.column(column).as_string::<i32>();
        let given = self.given.as_ref().map(|given| &given[column]);
        let text = |row| (texts.is_valid(row) && given.is_none_or(|given| given.value(row))).then(|| texts.value(row));
        (0..self.len()).map(text).collect()
    }

    /// True for changes to rows, false for whole rows.
    pub fn is_update(&self) -> bool {
        self.given.is_some()
    }

    /// The rows with the vectors that a model made, one per row. Without one an updated row keeps the vector it has.
    ///
    /// # Errors
    /// `Rows` if the schema has no made vector, for vectors of another number or length, and for a whole row without.
    pub fn with_vectors(mut self, vectors: &[Option<Vec<f32>>]) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::Rows(format!("made vectors: {what}")));
        let Some((field, dim)) = self.schema.made_vector() else { return wrong("the collection has none") };
        if vectors.len() != self.len() || vectors.iter().flatten().any(|vector| vector.len() != dim as usize) {
            return wrong("of another number or length");
        }
        if !self.is_update() && vectors.iter().any(Option::is_none) {
            return wrong("a row without one");
        }
        let column = self.column_of(field);
        let mut columns = self.batch.columns().to_vec();
        columns[column] = vector_column(dim, vectors);
        let replaced = RecordBatch::try_new(self.batch.schema(), columns);
        self.batch = replaced.map_err(|e| Error::Encode { what: "the rows of a call", source: Box::new(e) })?;
        if let Some(given) = &mut self.given {
            given[column] = BooleanBuffer::from_iter(vectors.iter().map(Option::is_some));
        }
        self.bytes += vectors.iter().flatten().map(|vector| size_of_val(vector.as_slice())).sum::<usize>();
        self.unmade = false;
        Ok(self)
    }

    /// Rows whose vectors were never made are not written: their places hold zeros.
    pub(crate) fn need_made(&self) -> Result<(), Error> {
        if self.unmade { Err(Error::Rows("the model has not made their vectors".to_owned())) } else { Ok(()) }
    }

    /// Position of a field in the batch: a call's rows have no generated key, changes to rows have.
    fn column_of(&self, field: usize) -> usize {
        if self.is_update() { columns::field_column(&self.schema, field) } else { field }
    }
}

fn vector_column(dim: u32, vectors: &[Option<Vec<f32>>]) -> ArrayRef {
    let mut values = Vec::with_capacity(vectors.len() * dim as usize);
    for vector in vectors {
        match vector {
            Some(vector) => values.extend_from_slice(vector),
            None => values.resize(values.len() + dim as usize, 0.0),
        }
    }
    let DataType::FixedSizeList(item, width) = columns::data_type(FieldType::Vector { dim }) else {
        unreachable!("vectors are lists of one size")
    };
    Arc::new(FixedSizeListArray::new(item, width, Arc::new(Float32Array::from(values)), None))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use knarr_base::schema::{AUTO_ID, Schema};

    use super::*;
    use crate::rows::testing::field;

    fn schema(key: &str) -> Arc<Schema> {
        let fields = vec![field("id", FieldType::Int64), field("t", FieldType::Text), field("n", FieldType::Int64)];
        Arc::new(Schema::new(fields, key).unwrap().with_made_vector(4).unwrap())
    }

    #[test]
    fn a_model_reads_the_texts_of_the_rows_that_stay() {
        for key in ["id", AUTO_ID] {
            let json = r#"[{"id":1,"t":"a"},{"id":2},{"id":3,"t":""}]"#;
            let rows = Rows::decode_upsert(&schema(key), json).unwrap();
            assert_eq!(rows.texts(1), [Some("a"), None, Some("")], "{key}");
        }
        let twice = Rows::decode_upsert(&schema("id"), r#"[{"id":1,"t":"a"},{"id":1,"t":"b"}]"#).unwrap();
        assert_eq!(twice.texts(1), [Some("b")]);
        let json = format!(r#"[{{"{AUTO_ID}":7,"n":1}},{{"{AUTO_ID}":8,"t":"x"}}]"#);
        let changes = Rows::decode_update(&schema(AUTO_ID), &json).unwrap();
        assert_eq!((changes.texts(1), changes.is_update()), (vec![None, Some("x")], true));
    }

    #[test]
    fn no_call_gives_a_made_vector_and_none_is_written_without() {
        let schema = schema("id");
        for json in [r#"[{"id":1,"t":"a","__VECTOR__":[1,2,3,4]}]"#, r#"[{"id":1,"t":"a","n":1,"__VECTOR__":null}]"#] {
            for decoded in [Rows::decode_upsert(&schema, json), Rows::decode_update(&schema, json)] {
                assert!(decoded.unwrap_err().to_string().contains("cannot be given"), "{json}");
            }
        }
        let rows = Rows::decode_upsert(&schema, r#"[{"id":1,"t":"a"}]"#).unwrap();
        assert!(rows.need_made().is_err());
        let none = rows.clone().with_vectors(&[None]);
        let short = rows.clone().with_vectors(&[Some(vec![1.0])]);
        let many = rows.clone().with_vectors(&[Some(vec![1.0; 4]), Some(vec![1.0; 4])]);
        assert!(none.is_err() && short.is_err() && many.is_err());
        let made = rows.with_vectors(&[Some(vec![1.0, 2.0, 3.0, 4.0])]).unwrap();
        assert!(made.need_made().is_ok());
        // Of the update, a row without a new text keeps its vector.
        let changes = Rows::decode_update(&schema, r#"[{"id":1,"t":"a"},{"id":2,"n":1}]"#).unwrap();
        assert!(changes.need_made().is_err());
        let changes = changes.with_vectors(&[Some(vec![0.5; 4]), None]).unwrap();
        let given = &changes.given().unwrap()[3];
        assert_eq!((given.value(0), given.value(1)), (true, false));
    }
}
