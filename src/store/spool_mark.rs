//! Table `spool_mark`: the number of the last submission that is in the database.

use rusqlite::Connection;

/// Notes that everything up to `number` is in the database; part of the same transaction.
pub(super) fn set(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE spool_mark SET through = ?1")?
        .execute([number])?;
    Ok(())
}

/// The number of the last submission that is in the database; 0 before the first.
pub(super) fn get(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT through FROM spool_mark")?
        .query_row([], |row| row.get(0))
}
