//! Table `legs`: the connections of each call. A projection of the audit log.
//!
//! Reports arrive late, twice and out of order. A leg never goes back, least of all from its end; what comes too late to
//! move it stays in the audit log.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::{StoreError, column};
use crate::call::{
    CallId, CarrierAnswer, DialReport, EndReason, LAST_RESORT, LegReport, LegStatus,
};
use crate::routing::DialerId;

/// Which way a leg was set up.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Direction {
    /// The caller's own.
    Inbound,
    /// Made by a dial of the call.
    OutboundDial,
}

impl Direction {
    /// The stable name, as in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A leg as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLeg {
    pub leg: CallId,
    /// The leg it is a child of.
    pub parent: Option<CallId>,
    /// Which way it was set up.
    pub direction: Direction,
    /// The dialer that was dialled; `None` for the caller's own leg and the last resort's.
    pub dialer: Option<DialerId>,
    /// The last-resort number was dialled.
    pub is_last_resort: bool,
    /// Which dial of the call made it, from 1.
    pub step: Option<u32>,
    /// How far it has come.
    pub status: LegStatus,
    /// The carrier's count of its events.
    pub sequence: Option<u32>,
    pub sip_code: Option<u16>,
    pub duration_s: Option<u32>,
    /// When it began to ring.
    pub ringing_at: Option<Timestamp>,
    /// When it was picked up.
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// When it was first heard of.
    pub created_at: Timestamp,
}

/// What a report says of a leg.
pub(super) struct LegChange {
    leg: CallId,
    parent: Option<CallId>,
    /// Whose line it is: a dialer's name, or that of the last resort.
    line: Option<String>,
    step: Option<u32>,
    status: LegStatus,
    sequence: Option<u32>,
    sip_code: Option<u16>,
    duration_s: Option<u32>,
    at: i64,
}

/// What the column `dialer` says of a line.
fn line(dialer: Option<&DialerId>, is_last_resort: bool) -> Option<String> {
    match dialer {
        Some(dialer) => Some(dialer.as_str().to_owned()),
        None => is_last_resort.then(|| LAST_RESORT.to_owned()),
    }
}

pub(super) fn of_report(report: &LegReport, at: i64) -> LegChange {
    LegChange {
        leg: report.leg.clone(),
        parent: report.parent.clone(),
        line: line(report.dialer.as_ref(), report.is_last_resort()),
        step: report.step,
        status: report.status,
        sequence: report.sequence,
        sip_code: report.sip_code,
        duration_s: report.duration_s,
        at,
    }
}

pub(super) fn of_dial(call: &CallId, report: &DialReport, at: i64) -> Option<LegChange> {
    Some(LegChange {
        leg: report.leg.clone()?,
        parent: Some(call.clone()),
        line: line(report.dialer.as_ref(), true),
        step: Some(report.step),
        status: LegStatus::Ended(report.end),
        sequence: None,
        sip_code: report.sip_code,
        duration_s: report.duration_s,
        at,
    })
}

/// The caller's own leg, where the carrier's books tell its end.
pub(super) fn of_found(call: &CallId, found: CarrierAnswer, at: i64) -> Option<LegChange> {
    let CarrierAnswer::Ended {
        end,
        duration_s,
        at: ended_at,
    } = found
    else {
        return None;
    };
    Some(LegChange {
        leg: call.clone(),
        parent: None,
        line: None,
        step: None,
        status: LegStatus::Ended(end),
        sequence: None,
        sip_code: None,
        duration_s,
        at: ended_at.map_or(at, Timestamp::as_millisecond),
    })
}

/// The words of a status, and how far along it is.
fn columns(status: LegStatus) -> (&'static str, u8, Option<EndReason>) {
    match status {
        LegStatus::Initiated => ("initiated", 0, None),
        LegStatus::Ringing => ("ringing", 1, None),
        LegStatus::Answered => ("answered", 2, None),
        LegStatus::Ended(reason) => ("ended", 3, Some(reason)),
    }
}

/// Takes a report of a leg in.
pub(super) fn report(
    connection: &Connection,
    call_row: i64,
    change: &LegChange,
) -> rusqlite::Result<()> {
    let (status, rank, end_reason) = columns(change.status);
    let at = |wanted: &str| (status == wanted).then_some(change.at);
    let direction = match change.parent {
        None => Direction::Inbound,
        Some(_) => Direction::OutboundDial,
    };
    let moved = connection
        .prepare_cached(
            "INSERT INTO legs (call_id, sid, parent_sid, direction, dialer, step, status, end_reason, sequence,
                 sip_code, duration_s, ringing_at, answered_at, ended_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15)
             ON CONFLICT (sid) DO UPDATE SET
                 parent_sid = coalesce(legs.parent_sid, excluded.parent_sid),
                 dialer = coalesce(legs.dialer, excluded.dialer),
                 step = coalesce(legs.step, excluded.step),
                 status = excluded.status,
                 end_reason = excluded.end_reason,
                 sequence = coalesce(excluded.sequence, legs.sequence),
                 sip_code = coalesce(excluded.sip_code, legs.sip_code),
                 duration_s = coalesce(excluded.duration_s, legs.duration_s),
                 ringing_at = coalesce(legs.ringing_at, excluded.ringing_at),
                 answered_at = coalesce(legs.answered_at, excluded.answered_at),
                 ended_at = excluded.ended_at,
                 updated_at = excluded.updated_at
             WHERE ?16 > CASE legs.status WHEN 'initiated' THEN 0 WHEN 'ringing' THEN 1 WHEN 'answered' THEN 2 ELSE 3 END
                 AND (excluded.sequence IS NULL OR legs.sequence IS NULL OR excluded.sequence > legs.sequence)",
        )?
        .execute(params![
            call_row,
            change.leg.as_str(),
            change.parent.as_ref().map(CallId::as_str),
            direction.as_str(),
            change.line,
            change.step,
            status,
            end_reason.map(EndReason::as_str),
            change.sequence,
            change.sip_code,
            change.duration_s,
            at("ringing"),
            at("answered"),
            at("ended"),
            change.at,
            rank,
        ])?;
    if moved == 0 && end_reason.is_some() {
        complete(connection, change)?;
    }
    Ok(())
}

/// The end of a leg is told twice, by its dial and by its own report: the second adds what the first did not know.
fn complete(connection: &Connection, change: &LegChange) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE legs SET dialer = coalesce(dialer, ?2), step = coalesce(step, ?3), sequence = coalesce(max(sequence, ?4), sequence, ?4),
                 sip_code = coalesce(sip_code, ?5), duration_s = coalesce(duration_s, ?6), updated_at = ?7
             WHERE sid = ?1 AND status = 'ended'",
        )?
        .execute(params![
            change.leg.as_str(),
            change.line,
            change.step,
            change.sequence,
            change.sip_code,
            change.duration_s,
            change.at,
        ])?;
    Ok(())
}

/// The legs of a call, in the order in which they were heard of.
pub(super) fn of_call(
    connection: &Connection,
    call: &CallId,
) -> Result<Vec<StoredLeg>, StoreError> {
    connection
        .prepare_cached(
            "SELECT * FROM legs WHERE call_id = (SELECT id FROM calls WHERE sid = ?1) ORDER BY id",
        )?
        .query_map([call.as_str()], raw)?
        .map(|raw| raw?.read())
        .collect()
}

/// The legs of the call in a row, in the order in which they were heard of.
pub(super) fn of_row(connection: &Connection, row: i64) -> Result<Vec<StoredLeg>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM legs WHERE call_id = ?1 ORDER BY id")?
        .query_map([row], raw)?
        .map(|raw| raw?.read())
        .collect()
}

/// The columns as `SQLite` gives them.
struct RawLeg {
    row: i64,
    sid: String,
    parent_sid: Option<String>,
    direction: String,
    dialer: Option<String>,
    step: Option<i64>,
    status: String,
    end_reason: Option<String>,
    sequence: Option<i64>,
    sip_code: Option<i64>,
    duration_s: Option<i64>,
    ringing_at: Option<i64>,
    answered_at: Option<i64>,
    ended_at: Option<i64>,
    created_at: i64,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<RawLeg> {
    Ok(RawLeg {
        row: row.get("id")?,
        sid: row.get("sid")?,
        parent_sid: row.get("parent_sid")?,
        direction: row.get("direction")?,
        dialer: row.get("dialer")?,
        step: row.get("step")?,
        status: row.get("status")?,
        end_reason: row.get("end_reason")?,
        sequence: row.get("sequence")?,
        sip_code: row.get("sip_code")?,
        duration_s: row.get("duration_s")?,
        ringing_at: row.get("ringing_at")?,
        answered_at: row.get("answered_at")?,
        ended_at: row.get("ended_at")?,
        created_at: row.get("created_at")?,
    })
}

impl RawLeg {
    fn read(self) -> Result<StoredLeg, StoreError> {
        let row = self.row;
        column::or_inconsistent(self.try_read(), "legs", row)
    }

    fn try_read(self) -> Option<StoredLeg> {
        let status = match (self.status.as_str(), self.end_reason.as_deref()) {
            ("initiated", None) => LegStatus::Initiated,
            ("ringing", None) => LegStatus::Ringing,
            ("answered", None) => LegStatus::Answered,
            ("ended", Some(reason)) => LegStatus::Ended(column::word(reason)?),
            _ => return None,
        };
        let call_id = |sid: String| CallId::parse(&sid).ok();
        let small = |number: i64| u32::try_from(number).ok();
        Some(StoredLeg {
            leg: call_id(self.sid)?,
            parent: column::optional(self.parent_sid, call_id)?,
            direction: column::word(&self.direction)?,
            is_last_resort: self.dialer.as_deref() == Some(LAST_RESORT),
            dialer: self
                .dialer
                .filter(|name| name != LAST_RESORT)
                .map(|name| DialerId::new(&name)),
            step: column::optional(self.step, small)?,
            status,
            sequence: column::optional(self.sequence, small)?,
            sip_code: column::optional(self.sip_code, |code| u16::try_from(code).ok())?,
            duration_s: column::optional(self.duration_s, small)?,
            ringing_at: column::optional(self.ringing_at, column::time)?,
            answered_at: column::optional(self.answered_at, column::time)?,
            ended_at: column::optional(self.ended_at, column::time)?,
            created_at: column::time(self.created_at)?,
        })
    }
}
