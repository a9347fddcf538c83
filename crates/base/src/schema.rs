//! The typed shape of a collection (docs/wire/vikingdb.md section 3).

use std::collections::HashSet;

use crate::id::Name;
use crate::limit;
use crate::value::{KeyType, Value};
use crate::{Error, Kind, Result};

/// Name of the generated primary key.
pub const AUTO_ID: &str = "__AUTO_ID__";
/// Name of the vector that a model makes from a row's text or image. No request can declare or give it.
pub const MADE_VECTOR: &str = "__VECTOR__";

/// Type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// 64-bit signed integer.
    Int64,
    /// 32-bit IEEE float, finite.
    Float32,
    /// UTF-8 string.
    String,
    /// Boolean.
    Bool,
    /// List of 64-bit integers.
    Int64List,
    /// List of strings.
    StringList,
    /// Dense vector of `dim` float32.
    Vector {
        /// Number of elements, a multiple of 4 in 4..=4096.
        dim: u32,
    },
    /// Token to weight, any number of tokens.
    SparseVector,
    /// Long text; may be absent.
    Text,
    /// Reference to an image (`tos://bucket/object`), kept as a string; may be absent.
    Image,
}

impl FieldType {
    /// The vendor's name of the type (`list<int64>`, ...).
    pub fn name(self) -> &'static str {
        match self {
            FieldType::Int64 => "int64",
            FieldType::Float32 => "float32",
            FieldType::String => "string",
            FieldType::Bool => "bool",
            FieldType::Int64List => "list<int64>",
            FieldType::StringList => "list<string>",
            FieldType::Vector { .. } => "vector",
            FieldType::SparseVector => "sparse_vector",
            FieldType::Text => "text",
            FieldType::Image => "image",
        }
    }

    /// The type of that name; `dim` is needed for `vector` and refused for the others.
    pub fn parse(name: &str, dim: Option<u32>) -> Result<Self> {
        let plain = match name {
            "int64" => FieldType::Int64,
            "float32" => FieldType::Float32,
            "string" => FieldType::String,
            "bool" => FieldType::Bool,
            "list<int64>" => FieldType::Int64List,
            "list<string>" => FieldType::StringList,
            "sparse_vector" => FieldType::SparseVector,
            "text" => FieldType::Text,
            "image" => FieldType::Image,
            "vector" => {
                let dim = dim.ok_or_else(|| Error::new(Kind::Invalid, "a vector field needs dim"))?;
                let fits = (limit::VECTOR_DIM_MIN..=limit::VECTOR_DIM_MAX).contains(&dim);
                if !fits || dim % limit::VECTOR_DIM_STEP != 0 {
                    return Err(Error::new(Kind::Invalid, "dim must be a multiple of 4 between 4 and 4096"));
                }
                return Ok(FieldType::Vector { dim });
            }
            _ => return Err(Error::new(Kind::Invalid, format!("unknown field_type {name:?}"))),
        };
        Ok(plain)
    }

    /// What a row without this field and without a declared default holds. `None`: the value is absent, or, for a
    /// vector, must be given.
    pub fn implicit_default(self) -> Option<Value> {
        match self {
            FieldType::Int64 => Some(Value::Int(0)),
            FieldType::Float32 => Some(Value::Float(0.0)),
            FieldType::String => Some(Value::Str("default".to_owned())),
            FieldType::Bool => Some(Value::Bool(false)),
            FieldType::Int64List => Some(Value::IntList(vec![0])),
            FieldType::StringList => Some(Value::StrList(vec!["default".to_owned()])),
            FieldType::Vector { .. } | FieldType::SparseVector | FieldType::Text | FieldType::Image => None,
        }
    }

    /// True for the types that filters understand and a scalar index may hold.
    pub fn scalar(self) -> bool {
        match self {
            FieldType::Int64
            | FieldType::Float32
            | FieldType::String
            | FieldType::Bool
            | FieldType::Int64List
            | FieldType::StringList => true,
            FieldType::Vector { .. } | FieldType::SparseVector | FieldType::Text | FieldType::Image => false,
        }
    }

    /// True for the types whose column may hold nulls: absent sparse vectors, texts and images.
    pub fn nullable(self) -> bool {
        matches!(self, FieldType::SparseVector | FieldType::Text | FieldType::Image)
    }

    /// True if `value` is of this type.
    pub fn accepts(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (FieldType::Int64, Value::Int(_))
                | (FieldType::Float32, Value::Float(_))
                | (FieldType::String, Value::Str(_))
                | (FieldType::Bool, Value::Bool(_))
                | (FieldType::Int64List, Value::IntList(_))
                | (FieldType::StringList, Value::StrList(_))
        )
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Unique in the schema.
    pub name: Name,
    /// Type.
    pub kind: FieldType,
    /// Declared default; `None` means the type's implicit one.
    pub default: Option<Value>,
    /// Vendor's text pipeline, echoed (docs/wire/vikingdb.md section 3.6).
    pub pipeline: Option<String>,
}

impl Field {
    /// The vector that a model makes of each row.
    ///
    /// # Errors
    /// `Kind::Invalid` for a dimension that no vector may have.
    pub fn made_vector(dim: u32) -> Result<Self> {
        let kind = FieldType::parse("vector", Some(dim))?;
        Ok(Self { name: Name::reserved(MADE_VECTOR), kind, default: None, pipeline: None })
    }

    /// True if a model makes its values: it is not among the fields that users see, and no call gives it.
    pub fn made(&self) -> bool {
        self.name.as_str() == MADE_VECTOR
    }

    /// What a row that lacks this field holds; `None` where that is absent or refused.
    pub fn default_value(&self) -> Option<Value> {
        self.default.clone().or_else(|| self.kind.implicit_default())
    }
}

/// Where the primary key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryKey {
    /// The field at this position.
    Field(usize),
    /// Generated: positive int64, column `__AUTO_ID__`.
    Auto,
}

/// Fields in the order they were declared, and the key. Fields are only ever added at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    fields: Vec<Field>,
    primary_key: PrimaryKey,
}

impl Schema {
    /// Checks every rule of docs/wire/vikingdb.md section 2.3.
    pub fn new(fields: Vec<Field>, primary_key: &str) -> Result<Self> {
        let key = if primary_key == AUTO_ID {
            PrimaryKey::Auto
        } else {
            let at = fields.iter().position(|f| f.name.as_str() == primary_key);
            PrimaryKey::Field(at.ok_or_else(|| Error::new(Kind::Invalid, "primary_key must name one of the fields"))?)
        };
        let schema = Self { fields, primary_key: key };
        schema.check()?;
        Ok(schema)
    }

    /// This schema with `added` fields at the end. Fields that are already there with the same type are skipped; vectors,
    /// sparse vectors and pipeline texts cannot be added to a live collection.
    pub fn with_added(&self, added: Vec<Field>) -> Result<Self> {
        let mut next = self.clone();
        for field in added {
            match self.field(field.name.as_str()) {
                Some((_, old)) if old.kind == field.kind => continue,
                Some(_) => {
                    return Err(Error::new(Kind::Invalid, format!("field {} exists with another type", field.name)));
                }
                None => {}
            }
            let vector = matches!(field.kind, FieldType::Vector { .. } | FieldType::SparseVector);
            if vector || field.pipeline.is_some() {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("field {}: vectors and pipeline texts cannot be added to a collection", field.name),
                ));
            }
            next.fields.push(field);
        }
        next.check()?;
        Ok(next)
    }

    fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::new(Kind::Invalid, text));
        let shown = self.shown().count();
        if shown == 0 || shown > limit::FIELDS {
            return invalid(format!("a collection has 1 to {} fields", limit::FIELDS));
        }
        let mut names = HashSet::new();
        let (mut vectors, mut sparse, mut pipelines) = (0, 0, 0);
        for (at, field) in self.fields.iter().enumerate() {
            if !names.insert(field.name.as_str()) {
                return invalid(format!("field {} appears twice", field.name));
            }
            let vector = matches!(field.kind, FieldType::Vector { .. });
            if field.made() && !vector {
                return invalid(format!("field {} must be a vector", field.name));
            }
            vectors += usize::from(vector);
            sparse += usize::from(field.kind == FieldType::SparseVector);
            if field.pipeline.is_some() {
                pipelines += 1;
                if field.kind != FieldType::Text {
                    return invalid(format!("field {}: only a text field has a pipeline_name", field.name));
                }
            }
            if let Some(default) = &field.default
                && self.primary_key != PrimaryKey::Field(at)
                && !field.kind.accepts(default)
            {
                return invalid(format!("field {}: default_val is not a {}", field.name, field.kind.name()));
            }
        }
        if vectors > 1 || sparse > 1 {
            return invalid("a collection has at most one vector and one sparse_vector field".to_owned());
        }
        if pipelines > 1 || (pipelines == 1 && vectors + sparse > 0) {
            return invalid("a pipeline text field excludes vector fields and other pipelines".to_owned());
        }
        if let PrimaryKey::Field(at) = self.primary_key
            && !matches!(self.fields[at].kind, FieldType::Int64 | FieldType::String)
        {
            return invalid("primary_key must be an int64 or string field".to_owned());
        }
        Ok(())
    }

    /// Fields in order, without the generated key, with a vector that a model makes.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Fields that users see, with their positions: those they declared.
    pub fn shown(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.fields.iter().enumerate().filter(|(_, field)| !field.made())
    }

    /// This schema with the vector that a model makes, after the fields of a collection that is yet to be created.
    ///
    /// # Errors
    /// `Kind::Invalid` beside a declared vector, and for a dimension that no vector may have.
    pub fn with_made_vector(&self, dim: u32) -> Result<Self> {
        let mut next = self.clone();
        next.fields.push(Field::made_vector(dim)?);
        next.check()?;
        Ok(next)
    }

    /// The vector that a model makes of each row, if there is one: its position and dimension.
    pub fn made_vector(&self) -> Option<(usize, u32)> {
        self.vector().filter(|(at, _)| self.fields[*at].made())
    }

    /// Where the key comes from.
    pub fn primary_key(&self) -> PrimaryKey {
        self.primary_key
    }

    /// The key's column name: a field's, or `__AUTO_ID__`.
    pub fn key_name(&self) -> &str {
        match self.primary_key {
            PrimaryKey::Field(at) => self.fields[at].name.as_str(),
            PrimaryKey::Auto => AUTO_ID,
        }
    }

    /// Integers or strings.
    pub fn key_type(&self) -> KeyType {
        match self.primary_key {
            PrimaryKey::Field(at) if self.fields[at].kind == FieldType::String => KeyType::Str,
            PrimaryKey::Field(_) | PrimaryKey::Auto => KeyType::Int,
        }
    }

    /// A field by its exact name, with its position.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, f)| f.name.as_str() == name)
    }

    /// The dense vector field, if there is one.
    pub fn vector(&self) -> Option<(usize, u32)> {
        self.fields.iter().enumerate().find_map(|(at, f)| match f.kind {
            FieldType::Vector { dim } => Some((at, dim)),
            _ => None,
        })
    }

    /// The sparse vector field, if there is one.
    pub fn sparse_vector(&self) -> Option<usize> {
        self.fields.iter().position(|f| f.kind == FieldType::SparseVector)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A field without a default.
    pub(crate) fn field(name: &str, kind: FieldType) -> Field {
        Field { name: Name::parse("field_name", name).expect("valid"), kind, default: None, pipeline: None }
    }

    #[test]
    fn keys_are_fields_or_generated() {
        let fields = || vec![field("id", FieldType::Int64), field("city", FieldType::String)];
        assert_eq!(Schema::new(fields(), "id").expect("valid").key_type(), KeyType::Int);
        assert_eq!(Schema::new(fields(), "city").expect("valid").key_type(), KeyType::Str);
        assert_eq!(Schema::new(fields(), AUTO_ID).expect("valid").key_name(), AUTO_ID);
        assert!(Schema::new(fields(), "other").is_err());
        assert!(Schema::new(vec![field("id", FieldType::Bool)], "id").is_err());
        assert!(Schema::new(vec![], AUTO_ID).is_err());
    }

    #[test]
    fn shapes_that_clash_are_refused() {
        let v = FieldType::Vector { dim: 4 };
        assert!(Schema::new(vec![field("id", FieldType::Int64), field("id", FieldType::Bool)], "id").is_err());
        assert!(Schema::new(vec![field("id", FieldType::Int64), field("a", v), field("b", v)], "id").is_err());
        let mut text = field("t", FieldType::Text);
        text.pipeline = Some("text_bge_m3".to_owned());
        assert!(Schema::new(vec![field("id", FieldType::Int64), text, field("b", v)], "id").is_err());
        let mut wrong = field("n", FieldType::Int64);
        wrong.default = Some(Value::Str("x".to_owned()));
        assert!(Schema::new(vec![field("id", FieldType::Int64), wrong], "id").is_err());
        for dim in [0, 2, 6, 4100] {
            assert!(FieldType::parse("vector", Some(dim)).is_err(), "{dim}");
        }
    }

    #[test]
    fn a_made_vector_is_nobodys_field() {
        let schema =
            Schema::new(vec![field("id", FieldType::Int64), field("t", FieldType::Text)], "id").expect("valid");
        let made = schema.with_made_vector(8).expect("valid");
        assert_eq!((made.vector(), made.made_vector(), made.fields().len()), (Some((2, 8)), Some((2, 8)), 3));
        assert_eq!(made.shown().map(|(at, f)| (at, f.name.as_str())).collect::<Vec<_>>(), [(0, "id"), (1, "t")]);
        let wider = made.with_added(vec![field("n", FieldType::Bool)]).expect("valid");
        assert_eq!(wider.shown().map(|(at, _)| at).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(schema.made_vector(), None);
        assert!(Name::parse("field_name", MADE_VECTOR).is_err(), "no request can declare it");
        assert!(schema.with_made_vector(6).is_err() && made.with_made_vector(8).is_err());
        let text = vec![field("id", FieldType::Int64), Field { kind: FieldType::Text, ..made.fields()[2].clone() }];
        assert!(Schema::new(text, "id").is_err());
        let own = Schema::new(vec![field("id", FieldType::Int64), field("v", FieldType::Vector { dim: 4 })], "id");
        let own = own.expect("valid");
        assert!(own.made_vector().is_none() && own.with_made_vector(4).is_err());
        // It does not count as one of the fields that a collection may have.
        let many = (0..limit::FIELDS).map(|n| field(&format!("f{n}"), FieldType::Int64)).collect();
        assert!(Schema::new(many, "f0").expect("valid").with_made_vector(4).is_ok());
    }

    #[test]
    fn fields_are_only_added() {
        let schema = Schema::new(vec![field("id", FieldType::Int64)], "id").expect("valid");
        let wider = schema.with_added(vec![field("id", FieldType::Int64), field("n", FieldType::Bool)]).expect("valid");
        assert_eq!(wider.fields().len(), 2);
        assert!(wider.with_added(vec![field("n", FieldType::Int64)]).is_err());
        assert!(wider.with_added(vec![field("v", FieldType::Vector { dim: 4 })]).is_err());
    }
}
