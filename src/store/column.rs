//! From columns to values of the domain. `None` means that a column cannot be true.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::FromSql;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::error::StoreError;

/// A row of a table, read column by column: what cannot be true is [`StoreError::Inconsistent`].
#[derive(Clone, Copy)]
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    table: &'static str,
    id: i64,
}

impl<'r, 's> Columns<'r, 's> {
    pub(super) fn new(table: &'static str, row: &'r Row<'s>) -> rusqlite::Result<Self> {
        let id = row.get("id")?;
        Ok(Self { row, table, id })
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    pub(super) fn get<T: FromSql>(&self, name: &str) -> Result<T, StoreError> {
        Ok(self.row.get(name)?)
    }

    /// A word of a closed list, by its stable name.
    pub(super) fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        self.valid(word(&self.get::<String>(name)?))
    }

    pub(super) fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        self.valid(time(self.get(name)?))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        self.valid(serde_json::from_str(&self.get::<String>(name)?).ok())
    }

    /// A column that may be NULL.
    pub(super) fn optional<T: FromSql, U>(
        &self,
        name: &str,
        read: impl FnOnce(T) -> Option<U>,
    ) -> Result<Option<U>, StoreError> {
        let column: Option<T> = self.get(name)?;
        column.map(|column| self.valid(read(column))).transpose()
    }

    /// What the columns say, unless they contradict each other.
    pub(super) fn valid<T>(&self, value: Option<T>) -> Result<T, StoreError> {
        or_inconsistent(value, self.table, self.id)
    }
}

/// A word of a closed list, by its stable name.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Option<T> {
    let word: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(word).ok()
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
