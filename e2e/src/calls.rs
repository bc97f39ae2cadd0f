//! Calls of any number, written as the program writes them, and what SQL makes of their rows.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use switchboard::audit::{
    Answer, CallAfter, CallAnswered, CallDecided, Event, Ingress, Personal, Record, Stages,
};
use switchboard::call::{CallId, CallState, Disposition};
use switchboard::clock::Clock;
use switchboard::lead::TierName;
use switchboard::routing::{
    CallFacts, Course, Decision, DialerId, Lookup, LookupUnavailable, Reason, RoutePlan,
    RulesetVersion, Source, Trace,
};
use switchboard::store::Store;

use crate::seed;

/// Calls that are handed to the store at once.
const BATCH: usize = 250;
/// Over so many days they are spread, until now.
const DAYS: i64 = 56;

/// Numbers that look drawn and are the same every time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, sides: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        i64::try_from(self.0 >> 33).unwrap_or_default() % sides
    }
}

/// The three records of a call: its decision, its answer, and its end, which one in fifty tells anew later.
fn records_of(
    n: usize,
    at: Timestamp,
    draws: &mut Draws,
    rules: &RulesetVersion,
) -> anyhow::Result<Vec<Record>> {
    let call = CallId::parse(&format!("CA{n:032x}"))?;
    let rule = [
        None,
        Some("hot leads"),
        Some("VIP"),
        Some("cold calls"),
        Some("night shift"),
    ];
    let tier = [None, Some("hot"), Some("warm"), Some("cold")];
    let hour = at.to_zoned(jiff::tz::TimeZone::UTC).hour();
    let which = usize::try_from(draws.below(5))?;
    let lookup = match draws.below(20) {
        0 => Lookup::Unknown {
            source: Source::Stale,
            age_ms: 900_000,
        },
        1 => Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        },
        _ => Lookup::Unknown {
            source: Source::Fetched,
            age_ms: 0,
        },
    };
    let dialers = ["dialfire", "zendesk"].map(DialerId::new);
    let decision = Decision {
        tier: tier
            .get(usize::try_from(draws.below(4))?)
            .copied()
            .flatten()
            .map(TierName::new),
        score: None,
        rule: rule.get(which).copied().flatten().map(str::to_owned),
        reason: Reason::RuleMatched,
        course: Course::Dialers,
        plan: RoutePlan {
            dialers: dialers.to_vec(),
            skipped: Vec::new(),
        },
        trace: Trace::default(),
        ruleset: rules.clone(),
    };
    let decided = Event::CallDecided(Box::new(CallDecided {
        request_id: "r".to_owned(),
        door: Ingress::Twilio,
        caller: "+*********50".to_owned(),
        facts: CallFacts::new(at, lookup, Vec::new()),
        lookup_exchange: None,
        decision,
        intended: None,
    }));
    let personal = Personal {
        caller: Some(format!("+4915112{:06}", draws.below(20_000))),
        called: Some(format!("+493012345{}", draws.below(6))),
        ..Personal::default()
    };
    let begun = Record {
        personal: Some(personal),
        ..Record::of_call(at, &call, decided)
    };
    let rang = SignedDuration::from_millis(2_000 + draws.below(20_000));
    let talk = SignedDuration::from_millis(draws.below(400_000));
    let late = i64::from(hour > 17) * 30;
    let how = match draws.below(100) + late {
        0..72 => Disposition::Answered,
        72..85 => Disposition::Abandoned,
        85..92 => Disposition::NoAnswer,
        92..96 => Disposition::Failed,
        _ => Disposition::Busy,
    };
    let line = dialers.get(usize::try_from(draws.below(3))?).cloned();
    let answered_at = (how == Disposition::Answered).then_some(at + rang);
    let ended_at = answered_at.map_or(at + rang, |at| at + talk);
    let leaving = |how: Option<Disposition>, at: Timestamp| {
        let state = CallState::routing(dialers.to_vec());
        let state = match how {
            Some(how) => state.ended(how),
            None => state.dialing(line.as_ref().unwrap_or(&dialers[0]), None),
        };
        let after = CallAfter {
            status: state.status(),
            disposition: how,
            reason: Reason::RuleMatched,
            dialer: line.clone(),
            failed_over: false,
            held: false,
            answered_at: answered_at.filter(|_| how == Some(Disposition::Answered)),
            ended_at: how.map(|_| ended_at),
            routing_ms: Some(40),
            state,
        };
        let answered = Event::CallAnswered(Box::new(CallAnswered {
            request_id: "r".to_owned(),
            step: if how.is_none() { "inbound" } else { "dial-1" }.to_owned(),
            answer: Answer::Nothing,
            stages: Stages::default(),
            within_budget: true,
            unclaimed: false,
            attempt: None,
        }));
        Record::of_call(at, &call, answered).leaving(after)
    };
    let mut records = vec![begun, leaving(None, at)];
    if draws.below(50) == 0 {
        records.push(leaving(Some(Disposition::Unknown), ended_at));
        let later = ended_at + SignedDuration::from_hours(3);
        records.push(leaving(Some(how), later));
    } else {
        records.push(leaving(Some(how), ended_at));
    }
    Ok(records)
}

/// Writes so many calls in `folder`.
pub async fn called(folder: &Path, calls: usize) -> anyhow::Result<()> {
    let clock = Clock::system();
    let store = Store::open(&seed::options(folder, clock.clone())?)?;
    let rules = serde_json::from_value(json!("0123456789ab"))?;
    let mut draws = Draws(1);
    let span_ms = DAYS * 86_400_000;
    let first = clock.now() - SignedDuration::from_millis(span_ms);
    let (mut n, mut records) = (0, 0);
    while n < calls {
        let mut batch = Vec::new();
        for _ in 0..BATCH.min(calls - n) {
            let share = i64::try_from(n)? * (span_ms / i64::try_from(calls)?);
            let at = first + SignedDuration::from_millis(share);
            batch.extend(records_of(n, at, &mut draws, &rules)?);
            n += 1;
        }
        records += batch.len();
        seed::append(&store, batch).await;
    }
    seed::close(store, records).await
}

/// What SQL makes of the rows of calls, by a column or another expression: calls, ended, answered and abandoned ones, and the means of talk, time
/// to answer and time until the caller left, in milliseconds.
pub fn by_sql(folder: &Path, key: &str) -> anyhow::Result<BTreeMap<String, [Option<f64>; 7]>> {
    let database = rusqlite::Connection::open(folder.join(seed::DATABASE))?;
    let mut statement = database.prepare(&format!(
        "SELECT coalesce(CAST({key} AS TEXT), ''), count(*), sum(disposition IS NOT NULL),
             count(*) FILTER (WHERE disposition = 'answered'), count(*) FILTER (WHERE disposition = 'abandoned'),
             avg(ended_at - answered_at) FILTER (WHERE disposition = 'answered'),
             avg(answered_at - started_at) FILTER (WHERE disposition = 'answered'),
             avg(ended_at - started_at) FILTER (WHERE disposition = 'abandoned')
         FROM calls GROUP BY 1"
    ))?;
    let rows = statement.query_map([], |row| {
        let mut figures = [None; 7];
        for (n, figure) in figures.iter_mut().enumerate() {
            *figure = row.get(n + 1)?;
        }
        Ok((row.get(0)?, figures))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
