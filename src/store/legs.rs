//! Table `legs`: the connections of each call. A projection of the audit log.
//!
//! Reports arrive late, twice and out of order. A leg never goes back, least of all from its end; what comes too late to
//! move it stays in the audit log.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::column::{self, Columns};
use super::error::StoreError;
use super::readers::RowReader;
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
#[schema(as = Direction)]
pub enum LegDirection {
    /// The caller's own.
    Inbound,
    /// Made by a dial of the call.
    OutboundDial,
}

impl LegDirection {
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
    pub direction: LegDirection,
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
    report: LegReport,
    /// Whose line it is: a dialer's name, or that of the last resort.
    line: Option<String>,
    at: i64,
}

impl LegChange {
    fn new(report: LegReport, is_last_resort: bool, at: i64) -> Self {
        let line = match &report.dialer {
            Some(dialer) => Some(dialer.as_str().to_owned()),
            None => is_last_resort.then(|| LAST_RESORT.to_owned()),
        };
        Self { report, line, at }
    }
}

pub(super) fn of_report(report: LegReport, at: i64) -> LegChange {
    let is_last_resort = report.is_last_resort();
    LegChange::new(report, is_last_resort, at)
}

pub(super) fn of_dial(call: &CallId, report: DialReport, at: i64) -> Option<LegChange> {
    let report = LegReport {
        leg: report.leg?,
        parent: Some(call.clone()),
        step: Some(report.step),
        dialer: report.dialer,
        status: LegStatus::Ended(report.end),
        sequence: None,
        duration_s: report.duration_s,
        sip_code: report.sip_code,
    };
    Some(LegChange::new(report, true, at))
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
    let report = LegReport {
        leg: call.clone(),
        parent: None,
        step: None,
        dialer: None,
        status: LegStatus::Ended(end),
        sequence: None,
        duration_s,
        sip_code: None,
    };
    let at = ended_at.map_or(at, Timestamp::as_millisecond);
    Some(LegChange::new(report, false, at))
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
    let (status, rank, end_reason) = columns(change.report.status);
    let at = |wanted: &str| (status == wanted).then_some(change.at);
    let direction = match change.report.parent {
        None => LegDirection::Inbound,
        Some(_) => LegDirection::OutboundDial,
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
            change.report.leg.as_str(),
            change.report.parent.as_ref().map(CallId::as_str),
            direction.as_str(),
            change.line,
            change.report.step,
            status,
            end_reason.map(EndReason::as_str),
            change.report.sequence,
            change.report.sip_code,
            change.report.duration_s,
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
            change.report.leg.as_str(),
            change.line,
            change.report.step,
            change.report.sequence,
            change.report.sip_code,
            change.report.duration_s,
            change.at,
        ])?;
    Ok(())
}

/// The legs of a call, in the order in which they were heard of.
pub(super) fn of_call(reader: &RowReader<'_>, call: &CallId) -> Result<Vec<StoredLeg>, StoreError> {
    let which = "WHERE call_id = (SELECT id FROM calls WHERE sid = ?1) ORDER BY id";
    reader.rows("legs", which, [call.as_str()], read)
}

/// The legs of the call in a row, in the order in which they were heard of.
pub(super) fn of_row(reader: &RowReader<'_>, row: i64) -> Result<Vec<StoredLeg>, StoreError> {
    reader.rows("legs", "WHERE call_id = ?1 ORDER BY id", [row], read)
}

/// The dialer of a line; `None` for the last resort's.
pub(super) fn dialer_of(line: Option<String>) -> Option<DialerId> {
    let name = line.filter(|name| name != LAST_RESORT)?;
    Some(DialerId::new(&name))
}

fn read(row: &Columns<'_, '_>) -> Result<StoredLeg, StoreError> {
    let (status, end): (String, Option<String>) = (row.get("status")?, row.get("end_reason")?);
    let status = match (status.as_str(), end.as_deref()) {
        ("initiated", None) => Some(LegStatus::Initiated),
        ("ringing", None) => Some(LegStatus::Ringing),
        ("answered", None) => Some(LegStatus::Answered),
        ("ended", Some(reason)) => column::word(reason).map(LegStatus::Ended),
        _ => None,
    };
    let call_id = |sid: String| CallId::parse(&sid).ok();
    let small = |number: i64| u32::try_from(number).ok();
    let line: Option<String> = row.get("dialer")?;
    Ok(StoredLeg {
        leg: row.valid(call_id(row.get("sid")?))?,
        parent: row.optional("parent_sid", call_id)?,
        direction: row.word("direction")?,
        is_last_resort: line.as_deref() == Some(LAST_RESORT),
        dialer: dialer_of(line),
        step: row.optional("step", small)?,
        status: row.valid(status)?,
        sequence: row.optional("sequence", small)?,
        sip_code: row.optional("sip_code", |code: i64| u16::try_from(code).ok())?,
        duration_s: row.optional("duration_s", small)?,
        ringing_at: row.optional("ringing_at", column::time)?,
        answered_at: row.optional("answered_at", column::time)?,
        ended_at: row.optional("ended_at", column::time)?,
        created_at: row.time("created_at")?,
    })
}
