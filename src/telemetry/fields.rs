//! The fields of an event or a span, as values.

use std::error::Error;
use std::fmt::Debug;

use tracing::field::{Field, Visit};

use super::escape::{json_string, write_infallibly};

/// The value of a field.
#[derive(Clone, Debug)]
pub(super) enum FieldValue {
    /// Already as JSON writes it: a number, `true`, `false`, `null`.
    Literal(String),
    Text(String),
}

impl FieldValue {
    pub(super) fn write_json(&self, out: &mut String) {
        match self {
            Self::Literal(literal) => out.push_str(literal),
            Self::Text(text) => json_string(text, out),
        }
    }
}

/// Fields in the order they were said; a field said again has its last value.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, FieldValue)>);

impl Fields {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'static str, FieldValue)> {
        self.0.iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&FieldValue> {
        self.0
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    fn set(&mut self, field: &Field, value: FieldValue) {
        let key = field.name();
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, earlier)) => *earlier = value,
            None => self.0.push((key, value)),
        }
    }

    fn set_literal(&mut self, field: &Field, literal: &impl ToString) {
        self.set(field, FieldValue::Literal(literal.to_string()));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.set_literal(field, &value);
        } else {
            self.set_literal(field, &"null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set_literal(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set_literal(field, &value);
    }

    // Readers of JSON take numbers for 64-bit ones, at best.
    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(field, FieldValue::Text(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(field, FieldValue::Text(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set_literal(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, FieldValue::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            write_infallibly(&mut text, format_args!(": {error}"));
            cause = error.source();
        }
        self.set(field, FieldValue::Text(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, FieldValue::Text(format!("{value:?}")));
    }
}
