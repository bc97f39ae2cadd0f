//! Table `service_starts`: when the process started.

use rusqlite::Connection;

/// Notes that the process started.
pub(super) fn started(connection: &Connection, at: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO service_starts (created_at) VALUES (?1)")?
        .execute([at])?;
    connection
        .prepare_cached(
            "DELETE FROM service_starts WHERE id <= (SELECT max(id) FROM service_starts) - 1000",
        )?
        .execute([])?;
    Ok(())
}

/// How often it started from one time to another, both included.
pub(super) fn between(connection: &Connection, bounds: [i64; 2]) -> rusqlite::Result<u32> {
    connection
        .prepare_cached("SELECT count(*) FROM service_starts WHERE created_at BETWEEN ?1 AND ?2")?
        .query_row(bounds, |row| row.get(0))
}
