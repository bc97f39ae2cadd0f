//! From columns to values of the domain. `None` means that the column cannot be true.

use jiff::Timestamp;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::StoreError;

/// A word of a closed list, by its stable name.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Option<T> {
    let word: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(word).ok()
}

/// As [`word`], where there may be none: the outer `None` is an error.
#[expect(clippy::option_option, reason = "the outer one is an error, for `?`")]
pub(super) fn optional_word<T: DeserializeOwned>(text: Option<&str>) -> Option<Option<T>> {
    optional(text, |text| word(text))
}

/// Reads a nullable column: the outer `None` is an error.
#[expect(clippy::option_option, reason = "the outer one is an error, for `?`")]
pub(super) fn optional<T, U>(
    column: Option<T>,
    read: impl FnOnce(T) -> Option<U>,
) -> Option<Option<U>> {
    match column {
        None => Some(None),
        Some(column) => read(column).map(Some),
    }
}

pub(super) fn time(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

/// The columns' verdict as a result.
pub(super) fn or_inconsistent<T>(
    value: Option<T>,
    table: &'static str,
    row: i64,
) -> Result<T, StoreError> {
    value.ok_or(StoreError::Inconsistent { table, row })
}
