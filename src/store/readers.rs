//! The readers: a few read-only connections, used off the runtime's own threads.

use std::path::Path;
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;

use super::{OpenError, StoreError, connection};

/// How many questions are answered at the same time.
const READERS: u32 = 4;
/// How long a question waits for a free reader.
const WAIT: Duration = Duration::from_millis(200);
/// How long the readers may take to start.
const START: Duration = Duration::from_secs(10);

/// A pool of read-only connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers(r2d2::Pool<SqliteConnectionManager>);

impl Readers {
    /// Opens the readers of an existing database.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let manager = SqliteConnectionManager::file(path)
            .with_flags(connection::reader_flags())
            .with_init(connection::prepare_reader);
        let pool = r2d2::Pool::builder()
            .max_size(READERS)
            .connection_timeout(WAIT)
            .test_on_check_out(false)
            .build_unchecked(manager);
        // Opening is slow on a busy disk; only here may it take its time.
        pool.get_timeout(START)
            .map_err(|error| OpenError::Start(error.into()))?;
        Ok(Self(pool))
    }

    /// Asks a question on one of the readers.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let pool = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let connection = pool
                .get()
                .map_err(|error| StoreError::Unavailable(error.into()))?;
            question(&connection)
        })
        .await
        .map_err(|error| StoreError::Unavailable(error.into()))?
    }
}
