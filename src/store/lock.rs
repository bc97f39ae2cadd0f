//! Holds a database for writing, as another program may: for drills.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

/// Nobody else writes to the database until this is dropped.
#[derive(Debug)]
pub struct HeldDatabase(#[expect(dead_code, reason = "held, and let go when dropped")] Connection);

/// Begins to hold it; waits for whoever writes now.
pub fn lock(path: &Path) -> rusqlite::Result<HeldDatabase> {
    let stranger = Connection::open(path)?;
    stranger.busy_timeout(Duration::from_secs(5))?;
    stranger.execute_batch("BEGIN IMMEDIATE")?;
    Ok(HeldDatabase(stranger))
}
