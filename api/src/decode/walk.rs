//! The walk over the input with the schema at hand: one serde visitor for every source. Scalars with a text of their own are
//! in `scalar`. Invariant: the walk goes on after unknown and duplicate fields, and stops at the first wrong type.

mod any;
mod path;

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

pub(super) use any::AnyVisitor;
pub(super) use path::Context;
use path::{Path, Step};

use super::{DEPTH_MAX, scalar};
use crate::meta::GroupVersionKind;
use crate::schema::{self, Field, Shape, Type};

/// The walk over a whole object; kinds without a schema are taken as they are.
pub(super) fn root<'a>(gvk: &GroupVersionKind, context: &'a Context) -> Root<'a> {
    Root {
        ty: schema::lookup(gvk),
        context,
    }
}

pub(super) struct Root<'a> {
    ty: Option<&'static Type>,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.ty {
            None => deserializer.deserialize_any(AnyVisitor),
            Some(ty) => deserializer.deserialize_any(Walk {
                goal: Goal::Root(ty),
                path: Path::ROOT,
                context: self.context,
            }),
        }
    }
}

#[derive(Clone, Copy)]
enum Goal {
    Root(&'static Type),
    Shape(&'static Shape),
}

/// One step of the walk.
struct Walk<'a> {
    goal: Goal,
    path: Path<'a>,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.goal {
            Goal::Shape(shape) if any(shape) => deserializer.deserialize_any(AnyVisitor),
            _ => deserializer.deserialize_any(self),
        }
    }
}

/// Shapes whose values are kept as they come.
fn any(shape: &Shape) -> bool {
    matches!(
        shape,
        Shape::Raw
            | Shape::FieldsV1
            | Shape::Json
            | Shape::SchemaOrArray
            | Shape::SchemaOrBool
            | Shape::SchemaOrStrings
    )
}

/// What a null inside of a list or map becomes: Go's zero value.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Quantity => Value::from("0"),
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

impl Walk<'_> {
    fn wrong<E: Error>(&self, found: &str) -> E {
        let go_type = match self.goal {
            Goal::Root(_) => {
                let wanted = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
                return self.context.fail(format!(
                    "json: cannot unmarshal {found} into Go value of type {wanted}"
                ));
            }
            Goal::Shape(shape) => shape.go_type(),
        };
        let field = self.path.go_field();
        self.context.fail(format!(
            "json: cannot unmarshal {found} into Go struct field {field} of type {go_type}"
        ))
    }

    fn number<E: Error>(&self, number: Number) -> Result<Value, E> {
        let Goal::Shape(shape) = self.goal else {
            return Err(self.wrong("number"));
        };
        let fits = match shape {
            Shape::Int32 | Shape::IntOrString => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            Shape::Int64 => number.as_i64().is_some(),
            Shape::Double => true,
            Shape::Quantity => return self.text(&number.to_string()),
            _ => return Err(self.wrong("number")),
        };
        if fits {
            Ok(Value::Number(number))
        } else {
            Err(self.wrong(&format!("number {number}")))
        }
    }

    fn text<E: Error>(&self, text: &str) -> Result<Value, E> {
        let Goal::Shape(shape) = self.goal else {
            return Err(self.wrong("string"));
        };
        let canonical = match shape {
            Shape::String | Shape::IntOrString => return Ok(Value::from(text)),
            Shape::Quantity => scalar::quantity(text),
            Shape::Time => scalar::time(text),
            Shape::MicroTime => scalar::micro_time(text),
            Shape::Bytes => scalar::bytes(text),
            _ => return Err(self.wrong("string")),
        };
        canonical
            .map(Value::String)
            .map_err(|error| self.context.fail(error))
    }

    fn object<'de, A: MapAccess<'de>>(
        &self,
        ty: &'static Type,
        mut map: A,
    ) -> Result<Value, A::Error> {
        let mut out = Map::new();
        // Fields that are dropped must still be known when they come again.
        let mut dropped: Vec<&'static str> = Vec::new();
        while let Some(name) = map.next_key_seed(FieldName(ty))? {
            let field = match name {
                Ok(field) => field,
                Err(unknown) => {
                    map.next_value::<IgnoredAny>()?;
                    self.context.fault("unknown", &self.path, &unknown);
                    continue;
                }
            };
            let path = self.path.step(Step::Field(ty, field));
            let walk = Walk {
                goal: Goal::Shape(&field.shape),
                path,
                context: self.context,
            };
            let value = map.next_value_seed(walk)?;
            if out.contains_key(field.name) || dropped.contains(&field.name) {
                self.context.fault("duplicate", &self.path, field.name);
            }
            if value.is_null() || (!field.required && is_empty_container(&field.shape, &value)) {
                out.shift_remove(field.name);
                dropped.push(field.name);
            } else {
                out.insert(field.name.to_owned(), value);
            }
        }
        Ok(Value::Object(out))
    }

    fn map<'de, A: MapAccess<'de>>(
        &self,
        item: &'static Shape,
        mut map: A,
    ) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = self.path.step(Step::Key(&key));
            let value = map.next_value_seed(Walk {
                goal: Goal::Shape(item),
                path,
                context: self.context,
            })?;
            let value = if value.is_null() { zero(item) } else { value };
            if out.contains_key(&key) {
                self.context.fault("duplicate", &self.path, &key);
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }

    fn check_depth<E: Error>(&self) -> Result<(), E> {
        if self.path.depth > DEPTH_MAX {
            Err(self.context.fail("exceeded max depth".to_owned()))
        } else {
            Ok(())
        }
    }
}

/// Go leaves out optional lists and maps that are empty; a struct without fields stays.
fn is_empty_container(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::List(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(entries)) => entries.is_empty(),
        _ => false,
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the schema's type")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        match self.goal {
            Goal::Root(_) => Ok(Value::Object(Map::new())),
            Goal::Shape(_) => Ok(Value::Null),
        }
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        match self.goal {
            Goal::Shape(Shape::Bool) => Ok(Value::Bool(value)),
            Goal::Shape(Shape::Quantity) => self.text(if value { "true" } else { "false" }),
            _ => Err(self.wrong("bool")),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => Err(self.wrong("number")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.text(value)
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        match self.goal {
            Goal::Shape(Shape::String | Shape::IntOrString) => Ok(Value::String(value)),
            _ => self.text(&value),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Goal::Shape(Shape::List(item)) = self.goal else {
            return Err(self.wrong("array"));
        };
        self.check_depth()?;
        let mut out = Vec::new();
        loop {
            let path = self.path.step(Step::Index(out.len()));
            let walk = Walk {
                goal: Goal::Shape(item),
                path,
                context: self.context,
            };
            match items.next_element_seed(walk)? {
                Some(Value::Null) => out.push(zero(item)),
                Some(value) => out.push(value),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        match self.goal {
            Goal::Root(ty) => self.object(ty, map),
            Goal::Shape(Shape::Object(id)) => self.object(id.get(), map),
            Goal::Shape(Shape::Map(item)) => self.map(item, map),
            Goal::Shape(Shape::Quantity) => self.text("{}"),
            Goal::Shape(_) => Err(self.wrong("object")),
        }
    }
}

/// Reads a key without keeping its text when the type knows it.
struct FieldName(&'static Type);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Result<&'static Field, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Result<&'static Field, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(name).ok_or_else(|| name.to_owned()))
    }
}
