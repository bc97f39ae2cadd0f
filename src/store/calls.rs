//! Table `calls`: where each call stands. A projection of the audit log.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::callers::EncryptedPersonal;
use super::column::{self, Columns};
use super::counted::Counted;
use super::error::StoreError;
use super::key_ring::Purpose;
use super::legs;
use super::legs::LegChange;
use super::readers::RowReader;
use super::rows::Written;
use crate::audit::{CallAdopted, CallAfter, Kind, Personal};
use crate::call::{CallId, CallState, Disposition, LAST_RESORT, Status};
use crate::lead::{LeadScore, TierName};
use crate::routing::{Decision, DialerId, History, LastAnswered, Reason, RulesetVersion};

/// A call as the database knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    pub id: CallId,
    /// The caller and the number called, as received; no body. [`Personal::erased`] where the caller was erased.
    pub personal: Personal,
    /// The row of the caller, once it is written; `None` where the caller was erased.
    pub caller_row: Option<i64>,
    pub status: Status,
    /// How it counts; set exactly when it has ended.
    pub disposition: Option<Disposition>,
    /// Why it went as it went.
    pub reason: Reason,
    pub tier: Option<TierName>,
    pub score: Option<LeadScore>,
    pub rule: Option<String>,
    /// The rule set that decided.
    pub ruleset: RulesetVersion,
    /// The dialer that was dialled last; `None` where that was the last resort, which [`CallState::last_resort`] tells.
    pub dialer: Option<DialerId>,
    /// It went to another dialer than the first of its plan.
    pub failed_over: bool,
    pub held: bool,
    pub started_at: Timestamp,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Arrival to answer of the first webhook, in milliseconds.
    pub routing_ms: Option<u64>,
    /// The machine that decided it, where that was another one: there it counts. Empty where that one has no name.
    pub adopted_from: Option<String>,
    /// What the next webhook needs.
    pub state: CallState,
    /// When something last happened to it.
    pub updated_at: Timestamp,
}

impl StoredCall {
    /// The call as its decision opens it.
    pub fn begun(id: CallId, personal: Personal, decision: &Decision, at: Timestamp) -> Self {
        Self {
            id,
            personal,
            caller_row: None,
            status: Status::Routing,
            disposition: None,
            reason: decision.reason,
            tier: decision.tier.clone(),
            score: decision.score,
            rule: decision.rule.clone(),
            ruleset: decision.ruleset.clone(),
            dialer: None,
            failed_over: false,
            held: false,
            started_at: at,
            answered_at: None,
            ended_at: None,
            routing_ms: None,
            adopted_from: None,
            state: CallState::routing(decision.plan.dialers.clone()),
            updated_at: at,
        }
    }

    /// The call once a record of `at` has moved it on.
    pub fn moved_on(self, after: &CallAfter, at: Timestamp) -> Self {
        Self {
            status: after.status,
            disposition: after.disposition,
            reason: after.reason,
            dialer: after.dialer.clone(),
            failed_over: after.failed_over,
            held: after.held,
            answered_at: after.answered_at,
            ended_at: after.ended_at,
            routing_ms: after.routing_ms,
            state: after.state.clone(),
            updated_at: at,
            ..self
        }
    }
}

/// The row of a call that begins.
pub(super) struct NewCall {
    call: CallId,
    reason: Reason,
    tier: Option<TierName>,
    score: Option<LeadScore>,
    rule: Option<String>,
    ruleset: RulesetVersion,
    adopted_from: Option<String>,
    state: String,
    started_at: i64,
    at: i64,
}

/// What changes when a call moves on.
pub(super) struct CallChange {
    after: Box<CallAfter>,
    state: String,
    leg: Option<LegChange>,
    /// The answer that this tells of overran the budget.
    overran: bool,
    at: i64,
}

/// What a change made of a call, as figures count it.
pub(super) struct Moved {
    pub(super) started_at: i64,
    pub(super) before: Counted,
    pub(super) after: Counted,
    /// It counts here; an adopted call counts where it was decided.
    pub(super) counts: bool,
}

impl NewCall {
    pub(super) fn decided(call: CallId, decision: Decision, at: i64) -> serde_json::Result<Self> {
        let state = CallState::routing(decision.plan.dialers);
        Ok(Self {
            call,
            reason: decision.reason,
            tier: decision.tier,
            score: decision.score,
            rule: decision.rule,
            ruleset: decision.ruleset,
            adopted_from: None,
            state: serde_json::to_string(&state)?,
            started_at: at,
            at,
        })
    }

    pub(super) fn adopted(call: CallId, adopted: CallAdopted, at: i64) -> serde_json::Result<Self> {
        Ok(Self {
            call,
            reason: adopted.reason,
            tier: adopted.tier,
            score: adopted.score,
            rule: adopted.rule,
            ruleset: adopted.ruleset,
            adopted_from: Some(adopted.from),
            state: serde_json::to_string(&adopted.state)?,
            started_at: adopted.started_at.as_millisecond(),
            at,
        })
    }

    pub(super) fn at(&self) -> i64 {
        self.at
    }

    /// What it adds to the figures; an adopted call counts where it was decided.
    pub(super) fn counted(&self, called_id: Option<i64>) -> Option<Counted> {
        self.adopted_from.is_none().then(|| Counted {
            reason: self.reason.as_str().to_owned(),
            tier: self.tier.as_ref().map(|tier| tier.as_str().to_owned()),
            rule: self.rule.clone(),
            called_id,
            ..Counted::default()
        })
    }
}

impl CallChange {
    /// `overran`: it tells of an answer that came after the budget had ended.
    pub(super) fn new(
        after: Box<CallAfter>,
        leg: Option<LegChange>,
        overran: bool,
        at: i64,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            state: serde_json::to_string(&after.state)?,
            after,
            leg,
            overran,
            at,
        })
    }

    /// Where it leaves the call.
    pub(super) fn after(&self) -> &CallAfter {
        &self.after
    }

    /// Whose line was dialled last: a dialer's name, or that of the last resort.
    fn line(&self) -> Option<&str> {
        match self.after.state.last_resort() {
            Some(_) => Some(LAST_RESORT),
            None => self.after.dialer.as_ref().map(DialerId::as_str),
        }
    }

    fn routing_ms(&self) -> Option<i64> {
        let ms = self.after.routing_ms?;
        Some(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    fn move_on(&self, counted: &mut Counted) {
        let after = &self.after;
        counted.disposition = after.disposition.map(|how| how.as_str().to_owned());
        after.reason.as_str().clone_into(&mut counted.reason);
        counted.dialer = self.line().map(ToOwned::to_owned);
        counted.failed_over = after.failed_over;
        counted.held = after.held;
        counted.at_last_resort = matches!(after.status, Status::Dialing | Status::Bridged)
            && after.state.is_at_last_resort();
        counted.answered_at = ms(after.answered_at);
        counted.ended_at = ms(after.ended_at);
    }

    fn complete(&self, counted: &mut Counted) {
        if counted.dialer.is_none() {
            counted.dialer = self.line().map(ToOwned::to_owned);
        }
        counted.failed_over |= self.after.failed_over;
        counted.held |= self.after.held;
        counted.answered_at = counted.answered_at.or(ms(self.after.answered_at));
    }
}

fn ms(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millisecond)
}

/// Writes a call that begins, with what its first record has sealed; `false` where it is there already.
pub(super) fn begin(
    connection: &Connection,
    call: &NewCall,
    called_id: Option<i64>,
    sealed: Option<&EncryptedPersonal>,
) -> rusqlite::Result<bool> {
    let written = connection
        .prepare_cached(
            "INSERT INTO calls (sid, caller_id, personal, status, reason, tier, score, rule, ruleset,
                 failed_over, held, started_at, state, adopted_from, created_at, updated_at, called_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, ?10, ?11, ?12, ?13, ?13, ?14)
             ON CONFLICT (sid) DO NOTHING",
        )?
        .execute(params![
            call.call.as_str(),
            sealed.map(|sealed| sealed.caller_row),
            sealed.map(|sealed| &sealed.bytes),
            Status::Routing.as_str(),
            call.reason.as_str(),
            call.tier.as_ref().map(TierName::as_str),
            call.score.map(LeadScore::value),
            call.rule,
            call.ruleset.as_str(),
            call.started_at,
            call.state,
            call.adopted_from,
            call.at,
            called_id,
        ])?;
    Ok(written > 0)
}

/// The row of a call.
pub(super) fn row_of(connection: &Connection, sid: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM calls WHERE sid = ?1")?
        .query_row([sid], |row| row.get(0))
        .optional()
}

/// Moves a call on, with the leg that made progress; `None` where the call is unknown, or its row is not the one
/// that was written.
pub(super) fn change(
    connection: &Connection,
    written: &Written,
    call: &CallId,
    change: &CallChange,
) -> rusqlite::Result<Option<Moved>> {
    let Some(found) = previous_row(connection, written, call)? else {
        return Ok(None);
    };
    let row = found.row;
    let mut after = found.counted.clone();
    after.overran |= change.overran;
    // Two webhooks of a call may cross; the one that still saw it alive does not bring it back.
    if found.is_over && change.after.status != Status::Ended {
        complete(connection, row, change)?;
        change.complete(&mut after);
    } else {
        move_on(connection, row, change)?;
        change.move_on(&mut after);
    }
    if let Some(leg) = &change.leg {
        legs::report(connection, row, leg)?;
    }
    Ok(Some(Moved {
        started_at: found.started_at,
        before: found.counted,
        after,
        counts: found.counts,
    }))
}

/// A row before it changes.
struct PreviousRow {
    row: i64,
    is_over: bool,
    started_at: i64,
    counts: bool,
    counted: Counted,
}

fn previous_row(
    connection: &Connection,
    written: &Written,
    call: &CallId,
) -> rusqlite::Result<Option<PreviousRow>> {
    connection
        .prepare_cached("SELECT * FROM calls WHERE sid = ?1")?
        .query_row([call.as_str()], |row| {
            if !written.believes(TABLE, row)? {
                return Ok(None);
            }
            Ok(Some(PreviousRow {
                row: row.get("id")?,
                is_over: row.get_ref("status")?.as_str()? == Status::Ended.as_str(),
                started_at: row.get("started_at")?,
                counts: row.get::<_, Option<String>>("adopted_from")?.is_none(),
                counted: Counted {
                    disposition: row.get("disposition")?,
                    reason: row.get("reason")?,
                    tier: row.get("tier")?,
                    dialer: row.get("dialer")?,
                    failed_over: row.get("failed_over")?,
                    held: row.get("held")?,
                    overran: row.get("overran")?,
                    at_last_resort: is_at_last_resort(row)?,
                    rule: row.get("rule")?,
                    called_id: row.get("called_id")?,
                    answered_at: row.get("answered_at")?,
                    ended_at: row.get("ended_at")?,
                },
            }))
        })
        .optional()
        .map(Option::flatten)
}

/// Whether the last resort is being rung, or has the caller.
fn is_at_last_resort(row: &Row<'_>) -> rusqlite::Result<bool> {
    let status = row.get_ref("status")?.as_str()?;
    if status != Status::Dialing.as_str() && status != Status::Bridged.as_str() {
        return Ok(false);
    }
    let state: Option<serde_json::Value> =
        serde_json::from_str(row.get_ref("state")?.as_str()?).ok();
    let target = state
        .as_ref()
        .and_then(|state| state.pointer("/phase/target/is"));
    Ok(target.and_then(serde_json::Value::as_str) == Some("last_resort"))
}

fn move_on(connection: &Connection, row: i64, change: &CallChange) -> rusqlite::Result<()> {
    let after = &change.after;
    connection
        .prepare_cached(
            "UPDATE calls SET status = ?2, disposition = ?3, reason = ?4, dialer = ?5, failed_over = ?6, held = ?7,
                 answered_at = ?8, ended_at = ?9, routing_ms = ?10, state = ?11, updated_at = ?12, overran = max(overran, ?13)
             WHERE id = ?1",
        )?
        .execute(params![
            row,
            after.status.as_str(),
            after.disposition.map(Disposition::as_str),
            after.reason.as_str(),
            change.line(),
            after.failed_over,
            after.held,
            ms(after.answered_at),
            ms(after.ended_at),
            change.routing_ms(),
            change.state,
            change.at,
            change.overran,
        ])?;
    Ok(())
}

/// Adds to a call that is over what was not known of it.
fn complete(connection: &Connection, row: i64, change: &CallChange) -> rusqlite::Result<()> {
    let after = &change.after;
    connection
        .prepare_cached(
            "UPDATE calls SET dialer = coalesce(dialer, ?2), answered_at = coalesce(answered_at, ?3),
                 routing_ms = coalesce(routing_ms, ?4), failed_over = max(failed_over, ?5), held = max(held, ?6),
                 updated_at = ?7, overran = max(overran, ?8)
             WHERE id = ?1",
        )?
        .execute(params![
            row,
            change.line(),
            ms(after.answered_at),
            change.routing_ms(),
            after.failed_over,
            after.held,
            change.at,
            change.overran,
        ])?;
    Ok(())
}

/// The calls in progress whose caller is on a line of ours: a call of the JSON door is on the line of whoever brought it.
pub(super) const ON_THE_LINE: &str = "status <> 'ended' AND sid NOT GLOB 'api*-*'";

const TABLE: &str = "calls";

/// For what a call's caller and called number are sealed.
pub(super) fn purpose(call: &str, created_at: i64, is_adopted: bool) -> Purpose<'_> {
    let first = if is_adopted {
        Kind::CallAdopted
    } else {
        Kind::CallDecided
    };
    Purpose {
        kind: first.as_str(),
        call: Some(call),
        created_at,
    }
}

pub(super) fn find(
    reader: &RowReader<'_>,
    call: &CallId,
) -> Result<Option<StoredCall>, StoreError> {
    let mut found = several(reader, "WHERE sid = ?1", [call.as_str()])?;
    Ok(found.pop())
}

/// The call in a row.
pub(super) fn at_row(reader: &RowReader<'_>, row: i64) -> Result<Option<StoredCall>, StoreError> {
    Ok(several(reader, "WHERE id = ?1", [row])?.pop())
}

/// Calls on hold, oldest first.
pub(super) fn held(reader: &RowReader<'_>) -> Result<Vec<StoredCall>, StoreError> {
    let which =
        "INDEXED BY idx_calls_status WHERE status = 'held' AND status <> 'ended' ORDER BY id";
    several(reader, which, [])
}

/// Calls in progress of which nothing was heard since `before`, longest silence first: each with the time of its last news.
pub(super) fn silent(
    reader: &RowReader<'_>,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
    let which = "status <> 'ended' AND updated_at < ?1 ORDER BY updated_at, id LIMIT ?2";
    with_times(
        reader,
        which,
        "updated_at",
        params![before.as_millisecond(), limit],
    )
}

/// Calls and a time of each, without those whose rows are not what was written.
fn with_times(
    reader: &RowReader<'_>,
    which: &str,
    time: &str,
    wanted: impl Params,
) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
    let which = format!("INDEXED BY idx_calls_status WHERE {which}");
    reader.rows(TABLE, &which, wanted, |row| {
        let id = CallId::parse(&row.get::<String>("sid")?).ok();
        Ok((row.valid(id)?, row.time(time)?))
    })
}

/// The calls that dialers have now, each with its dialer and the time of its arrival.
pub(super) fn at_dialers(
    reader: &RowReader<'_>,
) -> Result<Vec<(CallId, DialerId, Timestamp)>, StoreError> {
    let which = "INDEXED BY idx_calls_status WHERE status <> 'ended' AND status IN ('dialing', 'bridged') AND dialer IS NOT NULL";
    let found = several(reader, which, [])?;
    let at_dialer = |call: StoredCall| {
        let dialer = call.state.dialer()?.clone();
        Some((call.id, dialer, call.started_at))
    };
    Ok(found.into_iter().filter_map(at_dialer).collect())
}

/// So many calls of a caller are looked through for the last one that was answered.
const HISTORY: u32 = 100;

/// What a caller's calls before `call` say, of those that are kept.
pub(super) fn history(
    reader: &RowReader<'_>,
    who: &[u8],
    call: &CallId,
    now: Timestamp,
) -> Result<History, StoreError> {
    let mut history = History::default();
    for identity in reader.key_ring().identities_of(who) {
        let caller = "caller_id = (SELECT id FROM callers WHERE identity_hash = ?1) AND sid <> ?2";
        let last = format!("WHERE {caller} ORDER BY id DESC LIMIT 1");
        let answered = format!(
            "WHERE id IN (SELECT id FROM calls WHERE {caller} ORDER BY id DESC LIMIT {HISTORY})
             AND disposition = 'answered' AND dialer IS NOT NULL AND dialer <> '{LAST_RESORT}' ORDER BY id DESC LIMIT 1"
        );
        let age_s =
            |at: Timestamp| u64::try_from(now.duration_since(at).as_secs()).unwrap_or_default();
        let wanted = params![identity.0, call.as_str()];
        for call in several(reader, &last, wanted)? {
            let age = age_s(call.started_at);
            history.called_before_s =
                Some(history.called_before_s.map_or(age, |known| known.min(age)));
        }
        for call in several(reader, &answered, wanted)? {
            let age_s = age_s(call.started_at);
            if let Some(dialer) = call.dialer
                && history
                    .last_answered
                    .as_ref()
                    .is_none_or(|known| age_s < known.age_s)
            {
                history.last_answered = Some(LastAnswered { dialer, age_s });
            }
        }
    }
    Ok(history)
}

/// Calls in progress, and those that began after `since`, oldest first: the newest `limit` of them. Each of the two has its
/// index; asked for together, they would be looked for among all calls there ever were.
pub(super) fn since(
    reader: &RowReader<'_>,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<StoredCall>, StoreError> {
    let which = "WHERE id IN (
             SELECT id FROM (
                 SELECT id FROM calls INDEXED BY idx_calls_started_at WHERE started_at >= ?2
                 ORDER BY started_at DESC, id DESC LIMIT ?1
             )
             UNION SELECT id FROM calls INDEXED BY idx_calls_status WHERE status <> 'ended'
         )
         ORDER BY started_at DESC, id DESC LIMIT ?1";
    let mut calls = several(reader, which, params![limit, since.as_millisecond()])?;
    calls.reverse();
    Ok(calls)
}

/// The numbers that were called from one time to another, its end left out, one for each of the first `limit` calls. One whose caller was erased
/// names none.
pub(super) fn called_between(
    reader: &RowReader<'_>,
    [from, to]: [i64; 2],
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    let which = "INDEXED BY idx_calls_started_at WHERE started_at >= ?1 AND started_at < ?2 ORDER BY started_at LIMIT ?3";
    let called = reader.rows(TABLE, which, params![from, to, limit], |row| {
        Ok(personal(reader, row)?.called)
    })?;
    Ok(called.into_iter().flatten().collect())
}

/// Calls in progress, in the order of their arrival, each with its time.
pub(super) fn in_progress(reader: &RowReader<'_>) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
    with_times(reader, "status <> 'ended' ORDER BY id", "started_at", [])
}

/// Calls in progress, by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InProgress {
    pub active: i64,
    /// Caller and agent can talk.
    pub talking: i64,
    pub on_hold: i64,
    /// When the first of those on hold arrived.
    pub on_hold_since: Option<Timestamp>,
}

/// How many calls are in progress, and where they stand.
pub(super) fn in_progress_now(connection: &Connection) -> rusqlite::Result<InProgress> {
    connection
        .prepare_cached(&format!(
            "SELECT count(*), count(*) FILTER (WHERE status = 'bridged'), count(*) FILTER (WHERE status = 'held'),
                 min(started_at) FILTER (WHERE status = 'held')
             FROM calls WHERE {ON_THE_LINE}"
        ))?
        .query_row([], |row| {
            let since: Option<i64> = row.get(3)?;
            Ok(InProgress {
                active: row.get(0)?,
                talking: row.get(1)?,
                on_hold: row.get(2)?,
                on_hold_since: since.and_then(column::time),
            })
        })
}

/// How many calls are on the line.
pub(super) fn count_active(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(&format!("SELECT count(*) FROM calls WHERE {ON_THE_LINE}"))?
        .query_row([], |row| row.get(0))
}

/// The rows of ended calls of which nothing was heard since `before` and no record is left, longest ago first.
pub(super) fn due(connection: &Connection, before: i64, limit: u32) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM calls
             WHERE started_at < ?1 AND status = 'ended' AND updated_at < ?1
                 AND NOT EXISTS (SELECT 1 FROM audit_records WHERE call_id = calls.id)
             ORDER BY started_at LIMIT ?2",
        )?
        .query_map(params![before, limit], |row| row.get(0))?
        .collect()
}

/// The highest row, and how many calls are on the line.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection
        .prepare_cached(&format!(
            "SELECT coalesce((SELECT max(id) FROM calls), 0),
                    (SELECT count(*) FROM calls WHERE {ON_THE_LINE})",
        ))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Calls, without those whose rows are not what was written.
fn several(
    reader: &RowReader<'_>,
    which: &str,
    wanted: impl Params,
) -> Result<Vec<StoredCall>, StoreError> {
    reader.rows(TABLE, which, wanted, |row| read(reader, row))
}

/// Caller and called number of the call in a row.
fn personal(reader: &RowReader<'_>, row: &Columns<'_, '_>) -> Result<Personal, StoreError> {
    let sid: String = row.get("sid")?;
    let adopted_from: Option<String> = row.get("adopted_from")?;
    let purpose = purpose(&sid, row.get("created_at")?, adopted_from.is_some());
    match row.get::<Option<Vec<u8>>>("personal")? {
        Some(sealed) => row.valid(reader.personal(&sealed, purpose)),
        None => Ok(Personal::erased()),
    }
}

fn read(reader: &RowReader<'_>, row: &Columns<'_, '_>) -> Result<StoredCall, StoreError> {
    let sid: String = row.get("sid")?;
    let adopted_from: Option<String> = row.get("adopted_from")?;
    let status = row.word("status")?;
    let disposition: Option<Disposition> =
        row.optional("disposition", |word: String| column::word(&word))?;
    let has_ended = status == Status::Ended;
    row.valid((has_ended == disposition.is_some()).then_some(()))?;
    Ok(StoredCall {
        id: row.valid(CallId::parse(&sid).ok())?,
        personal: personal(reader, row)?,
        caller_row: row.get("caller_id")?,
        status,
        disposition,
        reason: row.word("reason")?,
        tier: row.optional("tier", |tier: String| Some(TierName::new(&tier)))?,
        score: row.optional("score", LeadScore::new)?,
        rule: row.get("rule")?,
        ruleset: row.word("ruleset")?,
        dialer: legs::dialer_of(row.get("dialer")?),
        failed_over: row.get("failed_over")?,
        held: row.get("held")?,
        started_at: row.time("started_at")?,
        answered_at: row.optional("answered_at", column::time)?,
        ended_at: row.optional("ended_at", column::time)?,
        routing_ms: row.optional("routing_ms", |ms: i64| u64::try_from(ms).ok())?,
        adopted_from,
        state: row.json("state")?,
        updated_at: row.time("updated_at")?,
    })
}
