//! Table `dialer_states`: the last recorded state of each dialer and of Braze. A projection of the audit log, so that a
//! restart finds what was taken out taken out, and what was open open.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::column::{self, Columns};
use super::error::StoreError;
use super::readers::RowReader;
use super::rows::Written;
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
            "INSERT INTO dialer_states (service, state, cause, drained_by, drained_at, drained_reason, drained_until, open_cause,
                 open_why, opened_at, open_until, open_refusals, credentials, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?14)
             ON CONFLICT (service) DO UPDATE SET
                 state = excluded.state, cause = excluded.cause,
                 drained_by = excluded.drained_by, drained_at = excluded.drained_at,
                 drained_reason = excluded.drained_reason, drained_until = excluded.drained_until,
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
            drained.and_then(|drained| drained.reason.as_deref()),
            drained
                .and_then(|drained| drained.until)
                .map(Timestamp::as_millisecond),
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
pub(super) fn all(reader: &RowReader<'_>) -> Result<Vec<ServiceState>, StoreError> {
    reader.rows(TABLE, "ORDER BY id", [], read)
}

const TABLE: &str = "dialer_states";

fn read(row: &Columns<'_, '_>) -> Result<ServiceState, StoreError> {
    let drained = match (
        row.get("drained_by")?,
        row.optional("drained_at", column::time)?,
    ) {
        (Some(by), Some(since)) => Some(Some(Drained {
            by,
            since,
            reason: row.get("drained_reason")?,
            until: row.optional("drained_until", column::time)?,
        })),
        (None, None) => Some(None),
        (Some(_), None) | (None, Some(_)) => None,
    };
    let cause: Option<OpenCause> =
        row.optional("open_cause", |cause: String| column::word(&cause))?;
    let since = row.optional("opened_at", column::time)?;
    let until = row.optional("open_until", column::time)?;
    let credentials: Option<String> = row.get("credentials")?;
    let refusals = row.get("open_refusals")?;
    let open = match (cause, row.get("open_why")?, since, credentials, refusals) {
        (Some(cause), Some(why), Some(since), Some(credentials), Some(refusals)) => {
            Some(Some(OpenCircuit {
                cause,
                why,
                since,
                until,
                refusals,
                credentials: Fingerprint::kept(&credentials),
            }))
        }
        (None, None::<String>, None, None, None) if until.is_none() => Some(None),
        _ => None,
    };
    Ok(ServiceState {
        service: row.get("service")?,
        state: row.get("state")?,
        cause: row.get("cause")?,
        standing: PersistedState {
            drained: row.valid(drained)?,
            open: row.valid(open)?,
        },
        changed_at: row.time("updated_at")?,
    })
}
