//! What follows on the end of a dial, with a store on disk and nobody to talk to.

use super::*;
use crate::alerts::{AlertPolicy, AlertRules, CallObserver, Incidents};
use crate::audit::{Adoption, Answer, CallAnswered, CallDecided, Ingress, Personal, Stages};
use crate::call::{CallId, Ringing};
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::dialer::stand_in::sip_line;
use crate::flow::{
    DialerLoads, IdempotencyLocks, MissedCalls, Policies, Policy, Recorder, Waiting,
};
use crate::lead::Tiers;
use crate::phone::{Caller, E164};
use crate::routing::{CallFacts, DialerId, Lists, Lookup, LookupUnavailable, Ruleset};
use crate::store::{KeyRing, Options, Store};
use crate::twiml::CallbackUrls;
use crate::twiml::answer::CallerIdPolicy;

const CALLER: &str = "+491700000090";
const LAST_RESORT: &str = "+493011111179";
const TICKET: &str = "4711";
const EMPTY: &str = "<Response/>";

struct Bench {
    calls: Calls,
    store: Store,
    policy: Policy,
    observer: CallObserver,
    call: CallId,
    _home: tempfile::TempDir,
}

fn ruleset() -> Ruleset {
    Ruleset::of_rules(Tiers::default(), Vec::new(), &["desk", "floor"])
}

fn policy() -> Policy {
    Policy {
        ruleset: ruleset().into(),
        draft: None,
        rule_tests: Vec::new(),
        lint: Vec::new(),
        budget: Duration::from_secs(2),
        last_resort: Some(E164::parse(LAST_RESORT).unwrap()),
        max_hold: Duration::from_mins(2),
        hold_message: String::new(),
        goodbye_message: "Please call again.".to_owned(),
        language: "en-GB".to_owned(),
        closed_message: None,
        closed_number: None,
        missed_to: None,
        caller_id: CallerIdPolicy::Caller { ours: None },
        ringing: Ringing {
            each: Duration::from_secs(20),
            total: Duration::from_mins(10),
            last_resort: true,
        },
        urls: CallbackUrls::new("https://calls.example.com"),
        default_connect: None,
    }
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let key_ring = KeyRing::new(b"a secret of thirty-two bytes or so");
        let path = home.path().join("switchboard.db");
        let clock = Clock::system();
        let store = Store::open(&Options::new(path, clock.clone(), key_ring)).unwrap();
        let fleet = Fleet::new(vec![sip_line("desk"), sip_line("floor")]);
        let recorder = Recorder::new(clock.clone(), store.clone());
        let observer = CallObserver::new(clock.clone(), AlertRules::default().window);
        let alert_policy = AlertPolicy {
            rules: AlertRules::default(),
            recipients: Vec::new(),
            daily: None,
            silence_zone: None,
        };
        let waiting = Waiting::default();
        let calls = Calls {
            clock: clock.clone(),
            policies: Policies::new(policy()),
            locks: IdempotencyLocks::new(clock.clone(), store.clone()),
            incidents: Incidents::new(
                clock,
                fleet.clone(),
                waiting.clone(),
                recorder.clone(),
                observer.clone(),
                alert_policy,
            ),
            fleet,
            waiting,
            lists: Lists::new(store.list_key()),
            loads: DialerLoads::new(Clock::system(), jiff::tz::TimeZone::UTC),
            missed: MissedCalls::default(),
            recorder,
        };
        Self {
            calls,
            store,
            policy: policy(),
            observer,
            call: CallId::parse("CA00000000000000000000000000000001").unwrap(),
            _home: home,
        }
    }

    /// The call stands so in the store.
    async fn stands(&self, change: impl FnOnce(CallState) -> CallState) {
        let now = self.calls.clock.now();
        let lookup = Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        };
        let facts = CallFacts::new(now, lookup, Vec::new());
        let decision = routing::decide(&ruleset().into(), &facts);
        let personal = Personal {
            caller: Some(CALLER.to_owned()),
            ..Personal::default()
        };
        let begun = StoredCall::begun(self.call.clone(), personal.clone(), &decision, now);
        let plan = vec![DialerId::new("desk"), DialerId::new("floor")];
        let state = change(CallState::routing(plan));
        let answered = CallAnswered {
            request_id: "r".to_owned(),
            step: "inbound".to_owned(),
            answer: Answer::Nothing,
            stages: Stages::default(),
            within_budget: true,
            unclaimed: false,
            attempt: None,
        };
        let after = call_after(&begun, &state, begun.reason, now, None);
        let decided = CallDecided {
            request_id: "r".to_owned(),
            door: Ingress::Twilio,
            caller: String::new(),
            facts,
            lookup_exchange: None,
            decision,
            intended: None,
        };
        let record = |event| Record::of_call(now, &self.call, event);
        let records = vec![
            Record {
                personal: Some(personal),
                ..record(Event::CallDecided(Box::new(decided)))
            },
            record(Event::CallAnswered(Box::new(answered))).leaving(after),
        ];
        self.store.open_call(records).await.unwrap();
    }

    async fn ended(&self, step: u32, dialer: Option<&str>, end: EndReason) -> String {
        self.told(step, dialer, end, false).await
    }

    async fn told(
        &self,
        step: u32,
        dialer: Option<&str>,
        end: EndReason,
        caller_gone: bool,
    ) -> String {
        let ended = DialEnded {
            call: InboundCall {
                call_id: self.call.clone(),
                caller: Caller::classify(CALLER),
                called: None,
            },
            report: DialReport {
                step,
                dialer: dialer.map(DialerId::new),
                end,
                leg: None,
                duration_s: None,
                sip_code: None,
                caller_gone,
            },
            passport: None,
            adoption: Adoption::Passport,
        };
        self.calls.dial_ended(ended, "r").await
    }

    async fn state(&self) -> CallState {
        self.calls.locks.call(&self.call).await.unwrap().state
    }

    /// Calls for which nothing could be decided.
    fn n_failed(&self) -> u64 {
        let now = self.calls.clock.instant();
        self.observer.counters().calls_rate(now).failed
    }
}

fn desk_rings(state: CallState) -> CallState {
    state.dialing(&DialerId::new("desk"), Some(TICKET.to_owned()))
}

#[tokio::test]
async fn a_line_is_rung_again_with_the_reference_of_its_handoff() {
    let bench = Bench::new();
    bench.stands(desk_rings).await;
    let answer = bench.ended(1, Some("desk"), EndReason::Busy).await;
    assert!(answer.contains("sip:desk@acme.sip.twilio.com"), "{answer}");
    let header = format!("X-Zendesk-Ticket-Id={TICKET}");
    assert!(answer.contains(&header), "{answer}");
    assert!(answer.contains("dialer=desk&amp;step=2"), "{answer}");
    let state = bench.state().await;
    assert_eq!((state.step(), state.reference()), (2, Some(TICKET)));
}

#[tokio::test]
async fn a_line_that_is_no_dialers_any_more_is_not_rung_again() {
    let bench = Bench::new();
    bench.stands(desk_rings).await;
    bench.calls.fleet.replace(vec![sip_line("floor")]);
    let answer = bench.ended(1, Some("desk"), EndReason::Busy).await;
    assert!(answer.contains(LAST_RESORT), "{answer}");
    assert_eq!(bench.state().await.last_resort(), Some("+**********79"));
}

#[tokio::test]
async fn whoever_waits_behind_the_end_of_an_unknown_dial_is_put_through_safely() {
    let bench = Bench::new();
    for end in [EndReason::Busy, EndReason::NoAnswer, EndReason::Failed] {
        let answer = bench.ended(1, Some("desk"), end).await;
        assert!(answer.contains(LAST_RESORT), "{end:?}: {answer}");
    }
    assert_eq!(bench.n_failed(), 1, "one call, however often it asks");
}

#[tokio::test]
async fn an_unknown_dial_behind_which_nobody_waits_is_over() {
    let bench = Bench::new();
    for end in [
        EndReason::Busy,
        EndReason::NoAnswer,
        EndReason::Failed,
        EndReason::Completed,
        EndReason::Canceled,
    ] {
        let last_resort = bench.ended(1, None, end).await;
        assert!(last_resort.ends_with(EMPTY), "{end:?}: {last_resort}");
        let gone = bench.told(1, Some("desk"), end, true).await;
        assert!(gone.ends_with(EMPTY), "{end:?}: {gone}");
    }
    for end in [EndReason::Completed, EndReason::Canceled] {
        let over = bench.ended(1, Some("desk"), end).await;
        assert!(over.ends_with(EMPTY), "{end:?}: {over}");
    }
    assert_eq!(bench.n_failed(), 0);
}

#[tokio::test]
async fn without_a_last_resort_the_last_leg_says_how_the_call_counts() {
    let cases = [
        (EndReason::Busy, Disposition::Busy),
        (EndReason::NoAnswer, Disposition::NoAnswer),
        (EndReason::Failed, Disposition::Failed),
    ];
    for (end, expected) in cases {
        let bench = Bench::new();
        bench.calls.policies.replace(Policy {
            last_resort: None,
            ..bench.policy.clone()
        });
        let floor = DialerId::new("floor");
        bench
            .stands(|state| state.dialing(&floor, None).dialing(&floor, None))
            .await;
        let answer = bench.ended(2, Some("floor"), end).await;
        assert!(answer.contains("Please call again."), "{answer}");
        let known = bench.calls.locks.call(&bench.call).await.unwrap();
        assert_eq!(known.disposition, Some(expected), "{end:?}");
    }
}

#[tokio::test]
async fn what_is_told_late_of_a_dial_gets_an_empty_answer_and_counts() {
    let bench = Bench::new();
    bench
        .stands(|state| desk_rings(state).ended(Disposition::Abandoned))
        .await;
    let answer = bench.ended(1, Some("desk"), EndReason::Completed).await;
    assert!(answer.ends_with(EMPTY), "{answer}");
    let known = bench.calls.locks.call(&bench.call).await.unwrap();
    assert_eq!(
        (known.status, known.disposition),
        (Status::Ended, Some(Disposition::Answered))
    );
    let other = bench.ended(7, Some("desk"), EndReason::Busy).await;
    assert!(other.ends_with(EMPTY), "{other}");
}
