//! The readers: a few read-only connections, used off the runtime's own threads.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, Params};

use super::column::Columns;
use super::error::{OpenError, StoreError};
use super::key_ring::{self, KeyRing, Purpose};
use super::{caller_keys, connection, packed, rows};
use crate::audit::Personal;

/// How many questions are answered at the same time.
const READERS: u32 = 4;
/// How long the readers may take to start.
const START: Duration = Duration::from_secs(10);

/// A pool of read-only connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers {
    pool: r2d2::Pool<SqliteConnectionManager>,
    key_ring: KeyRing,
}

/// A connection that reads, and the keys to what is sealed.
#[derive(Clone, Copy)]
pub(super) struct RowReader<'a> {
    connection: &'a Connection,
    key_ring: &'a KeyRing,
}

impl<'a> RowReader<'a> {
    pub(super) fn new(connection: &'a Connection, key_ring: &'a KeyRing) -> Self {
        Self {
            connection,
            key_ring,
        }
    }

    pub(super) fn key_ring(&self) -> &'a KeyRing {
        self.key_ring
    }

    /// The rows of a table that `which` asks for. One that steers calls or grants rights and is not what was written is left out.
    pub(super) fn rows<T>(
        &self,
        table: &'static str,
        which: &str,
        wanted: impl Params,
        read: impl FnMut(&Columns<'_, '_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.first_rows(usize::MAX, table, which, wanted, read)
    }

    /// The first `limit` of them.
    pub(super) fn first_rows<T>(
        &self,
        limit: usize,
        table: &'static str,
        which: &str,
        wanted: impl Params,
        mut read: impl FnMut(&Columns<'_, '_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.prepare_cached(&format!("SELECT * FROM {table} {which}"))?;
        let mut rows = statement.query(wanted)?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            if !rows::TABLES.contains(&table) || rows::believes(self.key_ring, table, row)? {
                found.push(read(&Columns::new(table, row)?)?);
            }
        }
        Ok(found)
    }

    /// Opens personal data as it is stored. What belonged to somebody who was erased reads as [`Personal::erased`]; `None` where
    /// the bytes cannot be true.
    pub(super) fn personal(&self, bytes: &[u8], purpose: Purpose<'_>) -> Option<Personal> {
        let (caller_row, sealed) = key_ring::sealed_for(bytes)?;
        let Some(key) = caller_keys::find(self.connection, self.key_ring, caller_row).ok()? else {
            return Some(Personal::erased());
        };
        let packed = KeyRing::open(&key.ok()?, caller_row, purpose, sealed).ok()?;
        serde_json::from_slice(&packed::unpack(&packed)?).ok()
    }
}

impl Deref for RowReader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Readers {
    /// Opens the readers of an existing database. `patience` is how long a question waits for one of them.
    pub(super) fn open(
        path: &Path,
        key_ring: KeyRing,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let manager = SqliteConnectionManager::file(path)
            .with_flags(connection::reader_flags())
            .with_init(connection::prepare_reader);
        let pool = r2d2::Pool::builder()
            .max_size(READERS)
            .connection_timeout(patience)
            .test_on_check_out(false)
            .build_unchecked(manager);
        // Opening is slow on a busy disk; only here may it take its time. All are held at once, so that all are open.
        let opened: Result<Vec<_>, _> = (0..READERS).map(|_| pool.get_timeout(START)).collect();
        drop(opened.map_err(|error| OpenError::Start(error.into()))?);
        Ok(Self { pool, key_ring })
    }

    /// Asks a question on one of the readers.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&RowReader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Self { pool, key_ring } = self.clone();
        tokio::task::spawn_blocking(move || {
            let connection = pool
                .get()
                .map_err(|error| StoreError::Unavailable(error.into()))?;
            question(&RowReader::new(&connection, &key_ring))
        })
        .await
        .map_err(|error| StoreError::Unavailable(error.into()))?
    }
}
