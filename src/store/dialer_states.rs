//! Table `dialer_states`: the last recorded state of each dialer and of Braze. A projection of the audit log, so that a
//! restart finds what was taken out taken out, and what was open open.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::readers::Reader;
use super::rows::Written;
use super::{StoreError, column};
use crate::audit::{Drained, Fingerprint, OpenCause, OpenCircuit, PersistedState, ServiceState};

/// Keeps a state, unless a later one is kept already: a change that a call saw is written with the call's other records.
pub(super) fn upsert(
    connection: &Connection,
    written: &Written,
    change: &ServiceState,
) -> rusqlite::Result<()> {
    let believed = connection
        .prepare_cached("SELECT * FROM dialer_states WHERE service = ?1")?
        .query_row([&change.service], |row| written.believes(TABLE, row))
        .optional()?;
    if believed == Some(false) {
        // What was planted has no say in what comes after.
        connection.execute(
            "DELETE FROM dialer_states WHERE service = ?1",
            [&change.service],
        )?;
    }
    let PersistedState { drained, open } = &change.standing;
    let (drained, open) = (drained.as_ref(), open.as_ref());
    connection
        .prepare_cached(
            "INSERT INTO dialer_states (service, state, cause, drained_by, drained_at, open_cause, open_why, opened_at,
                 open_until, open_refusals, credentials, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)
             ON CONFLICT (service) DO UPDATE SET
                 state = excluded.state, cause = excluded.cause,
                 drained_by = excluded.drained_by, drained_at = excluded.drained_at,
                 open_cause = excluded.open_cause, open_why = excluded.open_why, opened_at = excluded.opened_at,
                 open_until = excluded.open_until, open_refusals = excluded.open_refusals,
                 credentials = excluded.credentials,
                 updated_at = excluded.updated_at
             WHERE excluded.updated_at >= dialer_states.updated_at",
        )?
        .execute(params![
            change.service,
            change.state,
            change.cause,
            drained.map(|drained| drained.by.as_str()),
            drained.map(|drained| drained.since.as_millisecond()),
            open.map(|open| open.cause.as_str()),
            open.map(|open| open.why.as_str()),
            open.map(|open| open.since.as_millisecond()),
            open.and_then(|open| open.until).map(Timestamp::as_millisecond),
            open.map(|open| open.refusals),
            open.map(|open| open.credentials.as_str()),
            change.changed_at.as_millisecond(),
        ])?;
    Ok(())
}

/// Every state, in the order in which the services were first heard of, without rows that are not what was written.
pub(super) fn all(reader: &Reader<'_>) -> Result<Vec<ServiceState>, StoreError> {
    let mut statement = reader.prepare_cached("SELECT * FROM dialer_states ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        if reader.believes(TABLE, row)? {
            states.push(raw(row)?.read()?);
        }
    }
    Ok(states)
}

const TABLE: &str = "dialer_states";

/// The columns as `SQLite` gives them.
struct RawState {
    row: i64,
    service: String,
    state: String,
    cause: String,
    drained_by: Option<String>,
    drained_at: Option<i64>,
    open_cause: Option<String>,
    open_why: Option<String>,
    opened_at: Option<i64>,
    open_until: Option<i64>,
    open_refusals: Option<u32>,
    credentials: Option<String>,
    updated_at: i64,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<RawState> {
    Ok(RawState {
        row: row.get("id")?,
        service: row.get("service")?,
        state: row.get("state")?,
        cause: row.get("cause")?,
        drained_by: row.get("drained_by")?,
        drained_at: row.get("drained_at")?,
        open_cause: row.get("open_cause")?,
        open_why: row.get("open_why")?,
        opened_at: row.get("opened_at")?,
        open_until: row.get("open_until")?,
        open_refusals: row.get("open_refusals")?,
        credentials: row.get("credentials")?,
        updated_at: row.get("updated_at")?,
    })
}

impl RawState {
    fn read(self) -> Result<ServiceState, StoreError> {
        let row = self.row;
        column::or_inconsistent(self.try_read(), "dialer_states", row)
    }

    fn try_read(self) -> Option<ServiceState> {
        let drained = match (self.drained_by, self.drained_at) {
            (Some(by), Some(at)) => Some(Drained {
                by,
                since: column::time(at)?,
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return None,
        };
        let cause: Option<OpenCause> = column::optional_word(self.open_cause.as_deref())?;
        let open = match (cause, self.open_why, self.opened_at, self.credentials) {
            (Some(cause), Some(why), Some(since), Some(credentials)) => Some(OpenCircuit {
                cause,
                why,
                since: column::time(since)?,
                until: column::optional(self.open_until, column::time)?,
                refusals: self.open_refusals?,
                credentials: Fingerprint::kept(&credentials),
            }),
            (None, None, None, None)
                if self.open_until.is_none() && self.open_refusals.is_none() =>
            {
                None
            }
            _ => return None,
        };
        Some(ServiceState {
            service: self.service,
            state: self.state,
            cause: self.cause,
            standing: PersistedState { drained, open },
            changed_at: column::time(self.updated_at)?,
        })
    }
}
