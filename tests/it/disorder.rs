//! Thousands of calls while everything that may go wrong with webhooks does: callbacks twice, never, late and crossing each other,
//! arriving calls announced twice, dialers that fail now and then.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use switchboard::audit::Kind;
use switchboard::call::{CallId, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::store::{CallsAsked, Part, StoredCall, StoredRecord};
use switchboard_simulator::braze::Profile;
use switchboard_simulator::chance::Chance;
use switchboard_simulator::faults::{Fault, Garbage};
use switchboard_simulator::requests::{Request, Requests};
use switchboard_simulator::twilio::{
    Call, CallResult, Disorder, Duplicate, LineBehaviour, Outcome,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::world::{CALLED, LAST_RESORT, Settings, World, id};

/// People who call at the same time.
const AT_ONCE: usize = 24;
/// So many numbers call, again and again.
const NUMBERS: u64 = 200;
/// Every so many-th call has all its webhooks repeated long after it is over.
const REPEATED: usize = 20;
/// A request to a dialer may be repeated once.
const REQUESTS_PER_HANDOFF: usize = 2;
/// More failures than these say nothing new.
const FAILURES_SHOWN: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_calls_in_disorder_end_once_each() {
    check(2_000, 0x0d15_0de2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; the same with two thousand calls runs always"]
async fn ten_thousand_calls_in_disorder_end_once_each() {
    check(10_000, Chance::fresh_seed()).await;
}

/// What was wrong, by call.
#[derive(Default)]
struct Findings {
    n: usize,
    text: String,
}

impl Findings {
    fn add(&mut self, call: &str, what: &str) {
        self.n += 1;
        if self.n <= FAILURES_SHOWN {
            writeln!(self.text, "{call}: {what}").unwrap();
        }
    }
}

async fn check(n_calls: usize, seed: u64) {
    let world = world(seed).await;
    let mut chance = Chance::seeded(seed);
    let calls: Vec<Call> = (0..n_calls).map(|_| drawn_call(&mut chance)).collect();
    let (first, second) = calls.split_at(n_calls / 2);
    let mut results = make(&world, first.to_vec()).await;
    // The other reading of what Twilio does when a caller hangs up: only callbacks tell of it. None of them crosses another, so that it
    // can be said what was told first.
    world.outside.twilio.configure(|settings| {
        settings.action_after_hang_up = false;
        settings.disorder.concurrent = 0.0;
    });
    results.extend(make(&world, second.to_vec()).await);

    let mut findings = Findings::default();
    let ledger = Ledger::read(&world).await;
    let asked = [
        requests_by_call(world.outside.dialfire.requests(), dialfire_call),
        requests_by_call(world.outside.zendesk.requests(), zendesk_call),
    ];
    for result in &results {
        check_call(result, &ledger, &mut findings);
        check_handoffs(result, &ledger, &asked, &mut findings);
    }
    check_active(&world, &results, &mut findings).await;
    check_repeats(&world, &results, &mut findings).await;
    let n = findings.n;
    assert!(n == 0, "seed {seed:#x}, {n} findings:\n{}", findings.text);
}

async fn world(seed: u64) -> World {
    let world = World::with(Settings {
        // A circuit that opens does not make the rest of the test a test of holding.
        dialers: "probe_every = \"1h\"\nopen_for = \"1s\"".to_owned(),
        seed,
        ..Settings::default()
    })
    .await;
    let outside = &world.outside;
    for n in 0..NUMBERS / 2 {
        let score = i64::try_from(n).unwrap();
        let profile = Profile::new(&number(n)).with("lead_score", score);
        outside.braze.add(profile);
    }
    let seconds = Duration::from_secs;
    let varied = LineBehaviour::Varied {
        ring: (seconds(1), seconds(15)),
        talk: (seconds(1), seconds(300)),
    };
    let leaves = LineBehaviour::CallerHangsUpRinging { after: seconds(3) };
    let line = LineBehaviour::OneOf(vec![
        (5.0, varied),
        (1.0, LineBehaviour::Busy),
        (1.0, LineBehaviour::NoAnswer),
        (1.0, LineBehaviour::Failed),
        (1.0, leaves),
    ]);
    outside.twilio.set_line("", line);
    outside.twilio.configure(|settings| {
        settings.disorder = Disorder {
            duplicate: 0.15,
            lose: 0.15,
            reorder: 0.25,
            concurrent: 0.25,
        };
    });
    outside.braze.faults().sometimes(0.05, Fault::status(500));
    for faults in [outside.dialfire.faults(), outside.zendesk.faults()] {
        faults.sometimes(0.05, Fault::status(500));
        faults.sometimes(0.05, Fault::ResetAfterAccept);
        // Refused at once: now and then by both, so that a caller waits.
        faults.sometimes(0.1, Fault::Garbage(Garbage::Html));
    }
    world
}

fn number(n: u64) -> String {
    format!("+49170{n:07}")
}

fn drawn_call(chance: &mut Chance) -> Call {
    let from = if chance.happens(0.05) {
        "anonymous".to_owned()
    } else {
        number(chance.below(NUMBERS))
    };
    let duplicates = [
        Duplicate::Never,
        Duplicate::AtOnce,
        Duplicate::AfterAnswer,
        Duplicate::AfterEnd,
    ];
    let duplicate = *chance.one_of(&duplicates).unwrap();
    let patience = if chance.happens(0.1) {
        Duration::from_secs(6)
    } else {
        Duration::from_mins(3)
    };
    Call::new(&from, CALLED)
        .duplicate(duplicate)
        .patience(patience)
        .call_sid(&format!("CA{}", chance.hex(32)))
}

async fn make(world: &World, calls: Vec<Call>) -> Vec<CallResult> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for call in calls {
        let at_once = Arc::clone(&at_once);
        let twilio = world.outside.twilio.clone();
        under_way.spawn(async move {
            let _permit = at_once.acquire_owned().await.unwrap();
            twilio.call(call).await
        });
    }
    under_way.join_all().await
}

/// The whole log, by call.
struct Ledger {
    calls: HashMap<CallId, StoredCall>,
    steps: HashMap<CallId, Vec<Step>>,
}

/// What one record says of its call.
enum Step {
    /// The call afterwards.
    After {
        ended: bool,
        disposition: Option<String>,
        /// It puts right how the call counts.
        corrects: bool,
    },
    Intended {
        dialer: String,
    },
    Accepted {
        dialer: String,
    },
}

impl Ledger {
    async fn read(world: &World) -> Self {
        const PAGE: u32 = 5_000;
        let store = &world.running().store;
        let mut steps: HashMap<CallId, Vec<Step>> = HashMap::new();
        let mut after_id = 0;
        loop {
            let page = store.records(after_id, PAGE).await.unwrap();
            let Some(last) = page.last() else { break };
            after_id = last.id;
            for record in &page {
                let Some(call_id) = &record.call_id else {
                    continue;
                };
                let of_call = steps.entry(call_id.clone()).or_default();
                of_call.extend(Step::of(record));
            }
        }
        let all = Part {
            after: None,
            skip: 0,
            size: 1_000_000,
        };
        let calls = store.calls_page(CallsAsked::default(), all).await.unwrap();
        let calls = calls.rows.into_iter().map(|(call, _)| call);
        let calls = calls.map(|call| (call.id.clone(), call));
        Self {
            calls: calls.collect(),
            steps,
        }
    }

    fn steps(&self, result: &CallResult) -> &[Step] {
        self.steps.get(&id(result)).map_or(&[], Vec::as_slice)
    }
}

impl Step {
    fn of(record: &StoredRecord) -> impl Iterator<Item = Self> + use<> {
        let event = record.event().unwrap();
        let intended = event.intended().map(|intended| Self::Intended {
            dialer: intended.dialer.to_string(),
        });
        let attempt = event.attempt();
        let accepted = attempt.filter(|attempt| attempt.outcome.failure().is_none());
        let accepted = accepted.map(|attempt| Self::Accepted {
            dialer: attempt.dialer.to_string(),
        });
        let detail: serde_json::Value = serde_json::from_str(&record.detail).unwrap();
        let text = |name| detail.get(name).and_then(serde_json::Value::as_str);
        let after = text("status").map(|status| Self::After {
            ended: status == "ended",
            disposition: text("disposition").map(str::to_owned),
            corrects: record.kind == Kind::CallCorrected,
        });
        intended.into_iter().chain(accepted).chain(after)
    }
}

/// A call ends once, when its end is told and not before. It counts as what happened to its caller, by all that was told: what was told late is
/// put right by a record of its own, and nothing else changes a call that is over.
fn check_call(result: &CallResult, ledger: &Ledger, findings: &mut Findings) {
    let mut wrong = |what: &str| findings.add(&result.call_sid, what);
    for violation in &result.violations {
        wrong(violation);
    }
    let Some(stored) = ledger.calls.get(&id(result)) else {
        return wrong("it is not in the store");
    };
    let over = stored.status == Status::Ended;
    if over != is_end_told(result) {
        wrong(&format!(
            "its end was told: {}; it is {}",
            is_end_told(result),
            stored.status.as_str()
        ));
    }
    let mut end: Option<&Option<String>> = None;
    for step in ledger.steps(result) {
        let Step::After {
            ended,
            disposition,
            corrects,
        } = step
        else {
            continue;
        };
        match end {
            None if *ended => end = Some(disposition),
            None => {}
            Some(first) if *ended && first == disposition => {}
            Some(_) if *ended && *corrects => end = Some(disposition),
            Some(first) => wrong(&format!("ended as {first:?}, and then {disposition:?}")),
        }
    }
    if over {
        let recorded = end.cloned().flatten();
        let disposition = stored.disposition.map(Disposition::as_str);
        if recorded.as_deref() != disposition {
            wrong(&format!(
                "recorded as {recorded:?}, stored as {disposition:?}"
            ));
        }
        let expected = dispositions(result);
        if !stored.disposition.is_some_and(|d| expected.contains(&d)) {
            wrong(&format!(
                "{:?}, not one of {expected:?}",
                stored.disposition
            ));
        }
    }
}

/// Whether anything that arrived said that the call is over: its number, the end of a dial after which there is nothing more to do, or
/// that the caller has gone.
fn is_end_told(result: &CallResult) -> bool {
    let number = result
        .steps_to("/webhooks/twilio/status")
        .into_iter()
        .any(|step| step.field("CallSid") == Some(&result.call_sid));
    let dial = result
        .steps_to("/webhooks/twilio/dial")
        .into_iter()
        .any(|step| {
            let last_resort = !step.path.contains("dialer=");
            let talked = step.field("DialCallStatus") == Some("completed");
            let gone = step.field("CallStatus") == Some("completed");
            last_resort || talked || gone
        });
    number || dial
}

/// How a call may count, given what happened to its caller and what of it was told.
fn dispositions(result: &CallResult) -> &'static [Disposition] {
    let on_last_resort = result
        .dialled
        .last()
        .is_some_and(|leg| leg.address == LAST_RESORT);
    match &result.outcome {
        Outcome::Talked { .. } | Outcome::CallerHungUp if on_last_resort => {
            &[Disposition::LastResort]
        }
        Outcome::Talked { .. } if was_talk_told(result) => &[Disposition::Answered],
        // Nobody said that the line was answered.
        Outcome::Talked { .. } | Outcome::CallerHungUp => &[Disposition::Abandoned],
        Outcome::HungUp => &[Disposition::Failed],
        Outcome::Rejected | Outcome::ErrorMessage | Outcome::Endless => &[],
    }
}

/// Whether the talk was told: by the end of the dial, or by the line's own callbacks.
fn was_talk_told(result: &CallResult) -> bool {
    let talk = |status: Option<&str>| matches!(status, Some("in-progress" | "completed"));
    let talked_on = result.dialled.last().map(|leg| leg.call_sid.as_str());
    result.steps.iter().any(|step| {
        let line = step.field("CallSid") == talked_on;
        talk(step.field("DialCallStatus")) || (line && talk(step.field("CallStatus")))
    })
}

/// A request that meets a kept connection which the peer resets is sent again over a new one; that is no retry and has no intent of its own.
const SENT_AT_MOST: usize = 2;

/// No dialer is asked more often than it may be, and none that has taken the call is asked again.
fn check_handoffs(
    result: &CallResult,
    ledger: &Ledger,
    asked: &[HashMap<String, usize>; 2],
    findings: &mut Findings,
) {
    let n_rounds = result.steps_to("/webhooks/twilio/hold").len();
    let allowed = REQUESTS_PER_HANDOFF * (1 + n_rounds);
    let mut accepted = HashSet::new();
    let mut intended: HashMap<&str, usize> = HashMap::new();
    for step in ledger.steps(result) {
        match step {
            Step::Accepted { dialer } => {
                accepted.insert(dialer.as_str());
            }
            Step::Intended { dialer } => {
                *intended.entry(dialer).or_default() += 1;
                if accepted.contains(dialer.as_str()) {
                    findings.add(&result.call_sid, &format!("{dialer} has it, asked again"));
                }
            }
            Step::After { .. } => {}
        }
    }
    for (dialer, asked) in ["dialfire", "zendesk"].into_iter().zip(asked) {
        let n = asked.get(&result.call_sid).copied().unwrap_or_default();
        let intended = intended.get(dialer).copied().unwrap_or_default();
        if intended > allowed || n > SENT_AT_MOST * intended {
            let what = format!("{dialer} got {n} requests, {allowed} allowed, {intended} intended");
            findings.add(&result.call_sid, &what);
        }
    }
}

fn requests_by_call(
    requests: &Requests,
    call_of: impl Fn(&Request) -> Option<String>,
) -> HashMap<String, usize> {
    let all = requests.all();
    let forgotten = requests.count() - u64::try_from(all.len()).unwrap();
    assert_eq!(forgotten, 0, "the stand-in has forgotten requests");
    let mut by_call = HashMap::new();
    for call in all.iter().filter_map(call_of) {
        *by_call.entry(call).or_default() += 1;
    }
    by_call
}

/// A contact is created once per request; an update follows on a conflict and is part of the same request.
fn dialfire_call(request: &Request) -> Option<String> {
    let creates = request.path().ends_with("/create");
    let call = request.json()?.get("router_call_sid")?.as_str()?.to_owned();
    creates.then_some(call)
}

fn zendesk_call(request: &Request) -> Option<String> {
    let json = request.json()?;
    Some(json.pointer("/ticket/external_id")?.as_str()?.to_owned())
}

/// Active are the calls whose end was lost, and when it is told after all, none is.
async fn check_active(world: &World, results: &[CallResult], findings: &mut Findings) {
    let store = &world.running().store;
    let open: Vec<&CallResult> = results.iter().filter(|r| !is_end_told(r)).collect();
    let expected: HashSet<CallId> = open.iter().map(|result| id(result)).collect();
    let active = store.calls_in_progress().await.unwrap();
    let active: HashSet<CallId> = active.into_iter().map(|(id, _)| id).collect();
    for call in active.symmetric_difference(&expected) {
        findings.add(call.as_str(), "active, or not, against what was told");
    }
    assert!(!open.is_empty(), "no end was lost: this shows nothing");
    for result in open {
        let mut fields = result.steps.first().unwrap().fields.clone();
        for (name, value) in &mut fields {
            if name == "CallStatus" {
                "completed".clone_into(value);
            }
        }
        let path = "/webhooks/twilio/status";
        world.outside.twilio.post(path, &fields).await.unwrap();
    }
    let counts = store.counts().await.unwrap();
    let n_calls = usize::try_from(counts.calls).unwrap();
    if n_calls != results.len() {
        let what = format!("{n_calls} calls in the store, {} made", results.len());
        findings.add("all", &what);
    }
    if counts.active_calls != 0 {
        let what = format!("{} calls are active in the end", counts.active_calls);
        findings.add("all", &what);
    }
}

/// Whether the call has been over for about a minute, so that nobody repeats its webhooks any more.
fn was_over(ended_at: Option<Timestamp>) -> bool {
    let age = |ended_at| Clock::system().now().duration_since(ended_at);
    ended_at.is_some_and(|ended_at| age(ended_at) > SignedDuration::from_secs(59))
}

/// Every webhook of a call once more, last first: same answers, or an empty one where the call has been over for a while, and the call stays
/// as it is.
async fn check_repeats(world: &World, results: &[CallResult], findings: &mut Findings) {
    for result in results.iter().step_by(REPEATED) {
        let before = world.stored(result).await;
        for step in result.steps.iter().rev() {
            let again = world.outside.twilio.post(&step.path, &step.fields).await;
            let again = again.unwrap();
            let is_past = again.body.ends_with("<Response/>") && was_over(before.ended_at);
            if again.body != step.body && !is_past {
                let what = format!("{} is answered {:?} later", step.path, again.body);
                findings.add(&result.call_sid, &what);
            }
        }
        let after = world.stored(result).await;
        let end = |call: &StoredCall| (call.status, call.disposition, call.ended_at, call.reason);
        if end(&after) != end(&before) || after.state != before.state {
            let what = format!("{:?} became {:?}", end(&before), end(&after));
            findings.add(&result.call_sid, &what);
        }
    }
}
