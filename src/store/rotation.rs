//! Changing the installation's secret while calls go on.
//!
//! What is written from the beginning on is under the new secret, so one way through the rows is enough: the keys of callers are wrapped
//! and the callers hashed anew, rows that carry a MAC are signed anew, profiles, which are a cache, go. Until the end both secrets are valid;
//! a rotation that was cut off begins its way anew and passes by what is done. No audit record is touched: what is sealed in one names the
//! caller's row, and that row the secret.

use rusqlite::params;

use super::background::{Background, WAIT};
use super::copy;
use super::error::StoreError;
use super::handle::Store;
use super::readers::RowReader;
use super::secrets::{self, TABLES};
use super::work::{RotationStep, Work};

/// Rows of one slice beside calls.
const ROWS: u32 = 20;
/// Rows looked at in one question.
const PAGE: u32 = 1_000;

/// A part of a way through a table.
struct RotationPage {
    /// Rows that are under the former secret.
    due: Vec<i64>,
    looked_at: u64,
    /// The last row that was looked at.
    last: i64,
    has_more: bool,
}

impl RotationPage {
    fn read(
        reader: &RowReader<'_>,
        table: &'static str,
        after: i64,
        width: usize,
    ) -> rusqlite::Result<Self> {
        let mut page = Self {
            due: Vec::new(),
            looked_at: 0,
            last: after,
            has_more: false,
        };
        let sql = format!("SELECT * FROM {table} WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut statement = reader.prepare_cached(&sql)?;
        let mut rows = statement.query(params![after, PAGE])?;
        while page.due.len() < width
            && let Some(row) = rows.next()?
        {
            page.last = row.get("id")?;
            page.looked_at += 1;
            if secrets::is_due(reader.key_ring(), table, row)? {
                page.due.push(page.last);
            }
        }
        page.has_more = page.due.len() >= width || page.looked_at >= u64::from(PAGE);
        Ok(page)
    }
}

/// The way through all rows, beside calls or alone.
#[derive(Clone, Debug)]
pub struct Rotation(Background);

impl Rotation {
    pub fn new(store: Store, is_alone: bool) -> Self {
        Self(Background { store, is_alone })
    }

    /// Whether one is under way: two secrets are valid.
    pub fn is_under_way(&self) -> bool {
        self.0.store.key_ring().is_rotating()
    }

    /// From here on `next`, which must be on the disk, is the secret of what is written; records who asked for it. Does nothing where that
    /// is so already.
    pub async fn begin(&self, next: &str, by: &str) -> Result<(), StoreError> {
        let store = &self.0.store;
        store.key_ring().rotate_to(next.as_bytes());
        if !self.is_under_way() {
            return Ok(());
        }
        let step = RotationStep::Begin {
            by: by.to_owned(),
            now: store.clock().now().as_millisecond(),
        };
        // When it is committed, no transaction is open that began under the former secret.
        store.submit(Work::Rotate(step)).await.map(drop)
    }

    /// Puts everything under the current secret, and ends the former; gives how many rows were looked at. May be cut off at any moment and
    /// called again. `tell` hears how many rows were looked at, and how many there are.
    pub async fn run(&self, mut tell: impl FnMut(u64, u64)) -> Result<u64, StoreError> {
        let mut total = 0;
        for table in TABLES {
            total += self.count(table).await?;
        }
        let mut done = 0;
        for table in TABLES {
            let mut after = i64::MIN;
            loop {
                let page = self.page(table, after).await?;
                after = page.last;
                done += page.looked_at;
                if page.due.is_empty() {
                    self.0.rest(WAIT).await;
                } else {
                    let rows = page.due;
                    let step = RotationStep::Rows { table, rows };
                    self.0.slice(Work::Rotate(step)).await?;
                }
                tell(done, total.max(done));
                if !page.has_more {
                    break;
                }
            }
        }
        let store = self.0.store.clone();
        let vouched =
            tokio::task::spawn_blocking(move || copy::vouch_again(store.path(), store.key_ring()));
        if let Ok(Err(error)) = vouched.await {
            tracing::warn!(event = "secret.backup_unknown", error = %error, "what is known of the last backup is not believed any more; make one");
        }
        self.0.slice(Work::Rotate(RotationStep::End)).await?;
        self.0.store.key_ring().end_rotation();
        if !self.0.store.empty_wal().await? {
            tracing::warn!(
                event = "secret.wal_not_emptied",
                "old pages stay in the write-ahead log until whoever reads the database for long ends"
            );
        }
        Ok(done)
    }

    async fn page(&self, table: &'static str, after: i64) -> Result<RotationPage, StoreError> {
        let width = self.0.width(ROWS) as usize;
        self.0
            .store
            .ask(move |reader| Ok(RotationPage::read(reader, table, after, width)?))
            .await
    }

    async fn count(&self, table: &'static str) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = self
            .0
            .store
            .ask(move |reader| Ok(reader.query_row(&sql, [], |row| row.get::<_, i64>(0))?));
        Ok(count.await?.unsigned_abs())
    }
}
