//! Connections and their settings. Every setting is read back: `SQLite` answers quietly with another value when it cannot.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::error::OpenError;

/// How long the writer waits for a lock before what it holds is deferred.
pub(super) const WRITER_BUSY: Duration = Duration::from_millis(250);
/// How long a reader waits for a lock.
const READER_BUSY: Duration = Duration::from_millis(50);
/// The longest value or row, in bytes.
const LONGEST: i32 = 16 * 1024 * 1024;
/// The longest statement, also in a schema, in bytes.
const LONGEST_SQL: i32 = 256 * 1024;
/// Steps of the database engine between two looks whether a question takes too long.
const PATIENCE_STEPS: i32 = 100_000;
/// So many looks are there for the smallest file,
const LEAST_PATIENCE: u64 = 500;
/// and one more for so many bytes. A question about every row takes less than a tenth of that.
const BYTES_PER_PATIENCE: u64 = 25_000;
/// The first `SQLite` without the WAL-reset defect.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Prepared statements kept per connection: more than there are.
const STATEMENTS: usize = 64;

/// Refuses an `SQLite` library that may corrupt the file.
pub(super) fn check_sqlite() -> Result<(), OpenError> {
    if rusqlite::version_number() >= OLDEST_SQLITE {
        Ok(())
    } else {
        Err(OpenError::OldSqlite {
            found: rusqlite::version(),
        })
    }
}

/// Opens an existing database for writing. `busy` is how long a lock is waited for.
pub(super) fn open_writer(path: &Path, busy: Duration) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    limit(&connection)?;
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    set(&connection, "journal_mode", "WAL", "wal")?;
    set(&connection, "synchronous", "FULL", "2")?;
    set(&connection, "foreign_keys", "ON", "1")?;
    set(&connection, "recursive_triggers", "ON", "1")?;
    set(&connection, "trusted_schema", "OFF", "0")?;
    set(&connection, "wal_autocheckpoint", "1000", "1000")?;
    set(&connection, "journal_size_limit", "67108864", "67108864")?;
    set(&connection, "mmap_size", "0", "0")?;
    // Zeroes what is deleted where that costs no write of its own; an erasure asks for more.
    set(&connection, "secure_delete", "FAST", "2")?;
    set(&connection, "cache_size", "-16384", "-16384")?;
    expect(&connection, "auto_vacuum", "2")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(connection)
}

/// Opens an existing database for reading only.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(path, reader_flags())?;
    prepare_reader(&mut connection)?;
    Ok(connection)
}

/// How readers open the file.
pub(super) fn reader_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// The settings of a reader.
pub(super) fn prepare_reader(connection: &mut Connection) -> rusqlite::Result<()> {
    limit(connection)?;
    connection.busy_timeout(READER_BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "query_only", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "mmap_size", "0")?;
    connection.pragma_update(None, "cache_size", "-4096")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(())
}

/// No value of ours is nearly as long, and a file that somebody made has no say in how much memory is taken.
fn limit(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, LONGEST_SQL)?;
    Ok(())
}

/// Lets questions to a file that somebody else may have made end, whatever it holds: they may take so many steps as a sound file of its size
/// takes at most.
pub(super) fn bound(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    let mut left = LEAST_PATIENCE.saturating_add(bytes / BYTES_PER_PATIENCE);
    connection.progress_handler(
        PATIENCE_STEPS,
        Some(move || {
            left = left.saturating_sub(1);
            left == 0
        }),
    )
}

/// Sets a pragma and insists that it holds.
pub(super) fn set(
    connection: &Connection,
    pragma: &'static str,
    value: &str,
    wanted: &str,
) -> Result<(), OpenError> {
    connection.pragma_update(None, pragma, value)?;
    expect(connection, pragma, wanted)
}

fn expect(connection: &Connection, pragma: &'static str, wanted: &str) -> Result<(), OpenError> {
    use rusqlite::types::Value;
    let found = connection.pragma_query_value(None, pragma, |row| row.get::<_, Value>(0))?;
    let found = match found {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Null | Value::Real(_) | Value::Blob(_) => String::new(),
    };
    if found == wanted {
        return Ok(());
    }
    Err(OpenError::Setting {
        pragma,
        wanted: wanted.to_owned(),
        found,
    })
}

/// Writes the header of the database as it is: the smallest change that takes a commit to the disk, and leaves nothing behind.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}

/// Pages of the file that hold nothing.
pub(super) fn free_pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "freelist_count", |row| row.get(0))
}

/// Gives up to so many free pages back to the file system.
pub(super) fn give_back(connection: &Connection, pages: u32) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Moves the whole write-ahead log into the database and empties it. `false` where a reader is in the way.
pub(super) fn checkpoint(connection: &Connection, busy: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(busy)?;
    let blocked = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    connection.busy_timeout(WRITER_BUSY)?;
    Ok(blocked? == 0)
}
