//! Table `outbox_messages`: what is to be sent, to whom, and what became of it. A message is written with the record that is its occasion.

use jiff::Timestamp;
use rusqlite::{Connection, Params, params};

use super::column::{self, Columns};
use super::error::StoreError;
use super::incidents;
use super::readers::RowReader;
use super::rows::Written;
use crate::alerts::{Channel, EventType, Notification, Recipient};

/// More messages than this do not wait: what comes later is dead at once, and says so.
const WAITING: i64 = 1_000;
/// Messages that are kept; the oldest go first.
const KEPT: i64 = 50_000;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum MessageState {
    /// It is to be sent.
    Waiting,
    /// The receiver has taken it.
    Sent,
    /// It was refused for good, or tried for too long.
    Dead,
    /// A later message says what it would have said.
    Superseded,
}

impl MessageState {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A message to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The notice: the same for all recipients, however often it is sent.
    pub notice: String,
    pub occasion: EventType,
    pub recipient: Recipient,
    /// The payload of its record, as JSON.
    pub detail: String,
    pub state: MessageState,
    /// How often it was tried.
    pub attempts: u32,
    pub last_error: Option<String>,
    pub sent_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// The row of its incident, where it is about one.
    pub incident: Option<i64>,
}

/// What became of an attempt to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    pub notice: String,
    pub recipient: Recipient,
    pub state: MessageState,
    /// How often it was tried.
    pub attempts: u32,
    pub error: Option<String>,
}

/// What a record wants to have sent.
pub(super) struct ToSend {
    pub(super) occasion: EventType,
    pub(super) about: About,
    pub(super) detail: String,
}

pub(super) enum About {
    Incident(Box<Notification>),
    /// None: a test, a summary.
    Nothing {
        id: String,
        tell: Vec<Recipient>,
    },
}

/// Writes what a record changes: the incident, and a message for everybody who is told.
pub(super) fn announce(
    connection: &Connection,
    written: &Written,
    told: &ToSend,
    at: i64,
) -> rusqlite::Result<()> {
    let (id, tell, incident) = match &told.about {
        About::Incident(notice) => {
            match told.occasion {
                EventType::Opened => incidents::open(connection, notice, at)?,
                EventType::Reminded => incidents::remind(connection, notice, at)?,
                EventType::Resolved => incidents::resolve(connection, notice, at)?,
                EventType::Acknowledged | EventType::Tested | EventType::Summary => {}
            }
            let row = incidents::row_of(connection, &notice.incident)?;
            (&notice.id, &notice.tell, row)
        }
        About::Nothing { id, tell } => (id, tell, None),
    };
    if let (EventType::Resolved, Some(incident)) = (told.occasion, incident) {
        // Nobody is told of a failure that is over.
        let which = "incident_id = ?1 AND state = 'waiting'";
        supersede(connection, written, which, params![incident], at)?;
    }
    for recipient in tell {
        let recipient = recipient.to_string();
        if let Some(incident) = incident {
            let which = "incident_id = ?1 AND recipient = ?2 AND occasion = 'reminded' AND state = 'waiting'";
            supersede(connection, written, which, params![incident, recipient], at)?;
        }
        connection
            .prepare_cached(
                "INSERT INTO outbox_messages (incident_id, notice, occasion, recipient, detail, state, attempts,
                     last_error, created_at, updated_at)
                 SELECT ?1, ?2, ?3, ?4, ?5, iif(waiting < ?7, 'waiting', 'dead'), 0,
                     iif(waiting < ?7, NULL, 'too many messages wait'), ?6, ?6
                 FROM (SELECT count(*) AS waiting FROM outbox_messages WHERE state = 'waiting')
                 WHERE true
                 ON CONFLICT (notice, recipient) DO NOTHING",
            )?
            .execute(params![
                incident,
                id,
                told.occasion.as_str(),
                recipient,
                told.detail,
                at,
                WAITING,
            ])?;
    }
    connection
        .prepare_cached(
            "DELETE FROM outbox_messages
             WHERE id <= (SELECT max(id) FROM outbox_messages) - ?1 AND state <> 'waiting'",
        )?
        .execute([KEPT])?;
    Ok(())
}

fn supersede(
    connection: &Connection,
    written: &Written,
    which: &str,
    wanted: impl Params,
    at: i64,
) -> rusqlite::Result<()> {
    for row in believed(connection, written, which, wanted)? {
        connection
            .prepare_cached(
                "UPDATE outbox_messages SET state = 'superseded', updated_at = ?2 WHERE id = ?1",
            )?
            .execute([row, at])?;
    }
    Ok(())
}

/// Writes what became of an attempt. A message that is sent stays sent.
pub(super) fn attempted(
    connection: &Connection,
    written: &Written,
    attempted: &Attempted,
    at: i64,
) -> rusqlite::Result<()> {
    // One that left while its incident ended was sent all the same.
    let which = if attempted.state == MessageState::Sent {
        "notice = ?1 AND recipient = ?2 AND state IN ('waiting', 'superseded')"
    } else {
        "notice = ?1 AND recipient = ?2 AND state = 'waiting'"
    };
    let recipient = attempted.recipient.to_string();
    for row in believed(connection, written, which, [&attempted.notice, &recipient])? {
        connection
            .prepare_cached(
                "UPDATE outbox_messages SET state = ?2, attempts = ?3, last_error = ?4,
                     sent_at = iif(?2 = 'sent', ?5, NULL), updated_at = ?5
                 WHERE id = ?1",
            )?
            .execute(params![
                row,
                attempted.state.as_str(),
                attempted.attempts,
                attempted.error,
                at,
            ])?;
    }
    Ok(())
}

/// The rows of messages that are what was written.
fn believed(
    connection: &Connection,
    written: &Written,
    which: &str,
    wanted: impl Params,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT * FROM outbox_messages WHERE {which}"))?;
    let mut rows = statement.query(wanted)?;
    let mut believed = Vec::new();
    while let Some(row) = rows.next()? {
        if written.believes(TABLE, row)? {
            believed.push(row.get("id")?);
        }
    }
    Ok(believed)
}

/// The messages of one way that wait, oldest first.
pub(super) fn waiting(
    reader: &RowReader<'_>,
    channel: Channel,
    limit: u32,
) -> Result<Vec<StoredMessage>, StoreError> {
    let which =
        "WHERE state = 'waiting' AND (recipient = ?1 OR recipient LIKE ?1 || ':%') ORDER BY id";
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    reader.first_rows(limit, TABLE, which, [channel.as_str()], read)
}

/// The messages of one notice.
pub(super) fn of_notice(
    reader: &RowReader<'_>,
    notice: &str,
) -> Result<Vec<StoredMessage>, StoreError> {
    reader.rows(TABLE, "WHERE notice = ?1 ORDER BY id", [notice], read)
}

/// The messages of one incident, oldest first.
pub(super) fn of_incident(
    reader: &RowReader<'_>,
    row: i64,
) -> Result<Vec<StoredMessage>, StoreError> {
    reader.first_rows(
        200,
        TABLE,
        "WHERE incident_id = ?1 ORDER BY id",
        [row],
        read,
    )
}

const TABLE: &str = "outbox_messages";

/// How many messages wait, and how many are dead.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM outbox_messages WHERE state = 'waiting'),
                    (SELECT count(*) FROM outbox_messages WHERE state = 'dead')",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn read(row: &Columns<'_, '_>) -> Result<StoredMessage, StoreError> {
    let recipient: String = row.get("recipient")?;
    Ok(StoredMessage {
        notice: row.get("notice")?,
        occasion: row.word("occasion")?,
        recipient: row.valid(Recipient::parse(&recipient))?,
        detail: row.get("detail")?,
        state: row.word("state")?,
        attempts: row.get("attempts")?,
        last_error: row.get("last_error")?,
        sent_at: row.optional("sent_at", column::time)?,
        created_at: row.time("created_at")?,
        incident: row.get("incident_id")?,
    })
}
