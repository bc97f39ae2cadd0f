//! How a call moves and how it counts, whatever is reported of it and in whatever order.

use jiff::Timestamp;

use super::*;
use crate::call::{CallId, NotCallId};

const EACH: Duration = Duration::from_secs(20);
const LAST_RESORT: &str = "+493011111179";

fn plan() -> Vec<DialerId> {
    vec![DialerId::new("a"), DialerId::new("b")]
}

/// There is time for every ring.
const AMPLE: Ringing = Ringing {
    each: EACH,
    total: Duration::from_mins(10),
    last_resort: true,
};

fn report(step: u32, end: EndReason, caller_gone: bool) -> DialReport {
    DialReport {
        step,
        dialer: None,
        end,
        leg: None,
        duration_s: None,
        sip_code: None,
        caller_gone,
    }
}

fn leg(status: LegStatus, child: bool, step: u32) -> LegReport {
    LegReport {
        leg: CallId::parse(if child { "CA2" } else { "CA1" }).unwrap(),
        parent: child.then(|| CallId::parse("CA1").unwrap()),
        step: Some(step),
        dialer: None,
        status,
        sequence: None,
        duration_s: None,
        sip_code: None,
    }
}

fn at(second: u64) -> Stamp {
    Stamp {
        at: Timestamp::UNIX_EPOCH,
        uptime_ms: second * 1_000,
    }
}

fn ringing() -> CallState {
    CallState::routing(plan()).dialing(&DialerId::new("a"), None)
}

fn at_last_resort() -> CallState {
    CallState::routing(plan()).dialing_last_resort(&E164::parse(LAST_RESORT).unwrap())
}

fn answered(step: u32) -> LegReport {
    leg(LegStatus::Answered, true, step)
}

fn own_end() -> LegReport {
    leg(LegStatus::Ended(EndReason::Completed), false, 0)
}

fn again(name: &str) -> AfterDial {
    AfterDial::RingAgain {
        dialer: DialerId::new(name),
    }
}

fn next(names: &[&str]) -> AfterDial {
    AfterDial::NextDialers {
        dialers: names.iter().map(|name| DialerId::new(name)).collect(),
    }
}

fn exhausted(last: EndReason) -> AfterDial {
    AfterDial::PlanExhausted { last }
}

#[test]
fn an_id_of_a_call_is_safe_in_a_url_and_says_whose_line_the_call_is_on() {
    let long = "a".repeat(64);
    for id in ["CA1", "api-x_Y-1", "apih-0", long.as_str()] {
        let parsed = CallId::parse(id).unwrap();
        assert_eq!(
            (parsed.as_str(), parsed.is_of_calls_api()),
            (id, id.starts_with("api"))
        );
        assert_eq!(format!("{parsed} {parsed:?}"), format!("{id} {id}"));
    }
    for wrong in ["", "a b", "a/b", "a.b", "\u{e4}", &format!("{long}a")] {
        assert_eq!(CallId::parse(wrong), Err(NotCallId), "{wrong}");
    }
}

#[test]
fn a_call_names_the_dialer_that_rings_its_reference_and_whether_that_is_another_than_the_first() {
    let [a, b] = ["a", "b"].map(DialerId::new);
    let said = |state: &CallState| {
        let dialer = state.dialer().map(ToString::to_string);
        let reference = state.reference().map(ToOwned::to_owned);
        (
            dialer,
            reference,
            state.failed_over(),
            state.is_at_last_resort(),
        )
    };
    let name = |text: &str| Some(text.to_owned());
    let first = CallState::routing(plan()).dialing(&a, name("4711"));
    assert_eq!(said(&first), (name("a"), name("4711"), false, false));
    let second = first.dialing(&b, None);
    assert_eq!(said(&second), (name("b"), None, true, false));
    let last = second.dialing_last_resort(&E164::parse(LAST_RESORT).unwrap());
    assert_eq!(said(&last), (None, None, false, true));
    assert_eq!(
        said(&CallState::routing(plan())),
        (None, None, false, false)
    );
}

#[test]
fn every_dialer_is_rung_twice_then_the_plan_is_exhausted() {
    let rounds = [
        ("a", EndReason::Busy, again("a")),
        ("a", EndReason::NoAnswer, next(&["b"])),
        ("b", EndReason::Failed, again("b")),
        ("b", EndReason::Busy, exhausted(EndReason::Busy)),
    ];
    let mut state = CallState::routing(plan());
    for (step, (dialer, end, expected)) in (1..).zip(rounds) {
        state = state.dialing(&DialerId::new(dialer), None);
        let (moved, after) = state.dial_ended(&report(step, end, false), &AMPLE).unwrap();
        assert_eq!(after, expected, "step {step}");
        state = moved;
    }
    let state = state.dialing_last_resort(&E164::parse(LAST_RESORT).unwrap());
    assert_eq!(state.last_resort(), Some("+**********79"));
    let talked = report(5, EndReason::Completed, false);
    let (state, after) = state.dial_ended(&talked, &AMPLE).unwrap();
    assert_eq!(
        (after, state.disposition()),
        (AfterDial::Over, Some(Disposition::LastResort))
    );
}

/// The lines that ring where nobody answers: a letter each, `L` for the last resort.
fn rung(n_dialers: usize, end: EndReason, limits: &Ringing) -> String {
    let names = ["a", "b", "c", "d", "e", "f"];
    let plan: Vec<DialerId> = names
        .iter()
        .take(n_dialers)
        .map(|n| DialerId::new(n))
        .collect();
    let first = plan.first().unwrap().clone();
    let mut state = CallState::routing(plan).dialing(&first, None);
    let mut lines = first.as_str().to_owned();
    loop {
        let ended = report(state.step(), end, false);
        let (moved, after) = state.dial_ended(&ended, limits).unwrap();
        let dialer = match after {
            AfterDial::RingAgain { dialer } => dialer,
            AfterDial::NextDialers { dialers } => dialers.first().unwrap().clone(),
            AfterDial::PlanExhausted { .. } => {
                if limits.last_resort {
                    lines.push('L');
                }
                return lines;
            }
            AfterDial::Over => panic!("nobody has talked"),
        };
        assert!(limits.next(moved.rung()) >= Duration::from_secs(5));
        lines.push_str(dialer.as_str());
        state = moved.dialing(&dialer, None);
    }
}

#[test]
fn a_second_ring_is_dropped_before_any_dialer_or_the_last_resort_loses_its_own() {
    let no_answer = EndReason::NoAnswer;
    // (dialers, seconds in all, a last resort, the lines that ring for 20 s each)
    let cases = [
        (2, 60, true, "abL"),
        (2, 60, false, "aab"),
        (2, 80, true, "aabL"),
        (2, 100, true, "aabbL"),
        (2, 600, true, "aabbL"),
        (1, 60, true, "aaL"),
        (1, 20, true, "aL"),
        (3, 60, true, "abcL"),
        // The fourth would ring when the time is over.
        (4, 60, true, "abcL"),
        // The third gets what is left.
        (3, 50, true, "abcL"),
        (3, 44, true, "abL"),
    ];
    for (n_dialers, total, last_resort, expected) in cases {
        let limits = Ringing {
            each: EACH,
            total: Duration::from_secs(total),
            last_resort,
        };
        let lines = rung(n_dialers, no_answer, &limits);
        assert_eq!(lines, expected, "{n_dialers} dialers, {limits:?}");
        // What does not ring takes none of the time.
        let n_rings = if total >= 20 * (n_dialers as u64 + u64::from(last_resort) + 1) {
            2
        } else {
            1
        };
        let busy = rung(n_dialers, EndReason::Busy, &limits);
        assert!(busy.starts_with(&"a".repeat(n_rings)), "{busy}");
    }
}

#[test]
fn a_line_rings_for_what_is_left_and_no_longer() {
    let limits = Ringing {
        each: EACH,
        total: Duration::from_secs(50),
        last_resort: false,
    };
    let seconds = |rung| limits.next(Duration::from_secs(rung)).as_secs();
    assert_eq!([0, 20, 40, 50, 99].map(seconds), [20, 20, 10, 0, 0]);
}

#[test]
fn the_end_of_a_dial_decides_how_the_call_counts() {
    let cases = [
        (EndReason::Completed, false, Disposition::Answered),
        (EndReason::Completed, true, Disposition::Answered),
        (EndReason::Canceled, false, Disposition::Abandoned),
        (EndReason::NoAnswer, true, Disposition::Abandoned),
        (EndReason::Busy, true, Disposition::Abandoned),
        (EndReason::Failed, true, Disposition::Abandoned),
    ];
    for (end, caller_gone, expected) in cases {
        let ended = report(1, end, caller_gone);
        let (state, after) = ringing().dial_ended(&ended, &AMPLE).unwrap();
        assert_eq!(
            (after, state.disposition()),
            (AfterDial::Over, Some(expected)),
            "{end:?} {caller_gone}"
        );
    }
}

#[test]
fn a_dial_of_two_who_talked_is_over_and_answered_however_it_ends() {
    for end in [EndReason::Busy, EndReason::NoAnswer, EndReason::Failed] {
        let bridged = ringing().leg_reported(&answered(1));
        let (state, after) = bridged.dial_ended(&report(1, end, false), &AMPLE).unwrap();
        assert_eq!(
            (after, state.status(), state.disposition()),
            (AfterDial::Over, Status::Ended, Some(Disposition::Answered)),
            "{end:?}"
        );
    }
}

#[test]
fn a_last_resort_that_is_not_reached_is_a_failure() {
    let ends = |end, caller_gone| {
        let ended = report(1, end, caller_gone);
        let (state, _) = at_last_resort().dial_ended(&ended, &AMPLE).unwrap();
        state.disposition()
    };
    for end in [EndReason::Busy, EndReason::NoAnswer, EndReason::Failed] {
        assert_eq!(ends(end, false), Some(Disposition::Failed), "{end:?}");
        assert_eq!(ends(end, true), Some(Disposition::LastResort), "{end:?}");
    }
    let talked = ends(EndReason::Completed, false);
    assert_eq!(talked, Some(Disposition::LastResort));
}

#[test]
fn a_last_resort_that_was_picked_up_took_the_call_however_its_dial_ends() {
    for end in [EndReason::Busy, EndReason::NoAnswer, EndReason::Failed] {
        let bridged = at_last_resort().leg_reported(&answered(1));
        assert_eq!(bridged.status(), Status::Bridged);
        let (state, after) = bridged.dial_ended(&report(1, end, false), &AMPLE).unwrap();
        let expected = (AfterDial::Over, Some(Disposition::LastResort));
        assert_eq!((after, state.disposition()), expected, "{end:?}");
    }
}

#[test]
fn the_end_of_another_dial_leaves_the_call_as_it_is() {
    let second = ringing()
        .dial_ended(&report(1, EndReason::Busy, false), &AMPLE)
        .unwrap()
        .0
        .dialing(&DialerId::new("a"), None);
    for end in [EndReason::Completed, EndReason::Canceled, EndReason::Busy] {
        for step in [0, 1, 3] {
            for caller_gone in [false, true] {
                let ended = report(step, end, caller_gone);
                assert!(second.clone().dial_ended(&ended, &AMPLE).is_err());
            }
        }
    }
    for state in [
        CallState::routing(plan()),
        CallState::routing(plan()).held(at(0)),
    ] {
        let ended = report(0, EndReason::Busy, false);
        assert!(state.dial_ended(&ended, &AMPLE).is_err());
    }
    let still_ringing = ringing().leg_reported(&answered(7));
    assert_eq!(still_ringing, ringing());
}

#[test]
fn a_held_call_keeps_the_time_its_wait_began() {
    let held = CallState::routing(Vec::new()).held(at(10)).held(at(15));
    assert_eq!(
        (held.status(), held.waiting()),
        (Status::Held, Some((at(10), 2)))
    );
    let gone = held.clone().leg_reported(&own_end());
    assert_eq!(gone.disposition(), Some(Disposition::Abandoned));
    let ringing = held.replanned(plan()).dialing(&DialerId::new("b"), None);
    assert_eq!(
        (ringing.status(), ringing.failed_over()),
        (Status::Dialing, true)
    );
}

#[test]
fn a_completed_leg_was_answered_even_if_the_answer_was_never_told() {
    for (reason, expected) in [
        (EndReason::Completed, Disposition::Answered),
        (EndReason::NoAnswer, Disposition::Abandoned),
        (EndReason::Canceled, Disposition::Abandoned),
    ] {
        let after = ringing().leg_reported(&leg(LegStatus::Ended(reason), true, 1));
        let over = after.leg_reported(&own_end());
        assert_eq!(over.disposition(), Some(expected), "{reason:?}");
    }
}

#[test]
fn an_answered_leg_bridges_and_the_callers_own_leg_ends_the_call() {
    let bridged = ringing().leg_reported(&answered(1));
    assert_eq!(bridged.status(), Status::Bridged);
    let over = bridged.leg_reported(&own_end());
    assert_eq!(over.disposition(), Some(Disposition::Answered));
    let over = ringing().leg_reported(&own_end());
    assert_eq!(over.disposition(), Some(Disposition::Abandoned));
    let over = at_last_resort().leg_reported(&own_end());
    assert_eq!(over.disposition(), Some(Disposition::LastResort));
}

#[test]
fn a_call_that_was_looked_up_counts_by_where_it_was_last_seen() {
    let ended = |end| CarrierAnswer::Ended {
        end,
        duration_s: Some(50),
        at: None,
    };
    let completed = ended(EndReason::Completed);
    let routing = CallState::routing(plan());
    let held = CallState::routing(plan()).held(at(0));
    let bridged = ringing().leg_reported(&answered(1));
    let talked = ringing().leg_reported(&leg(LegStatus::Ended(EndReason::Completed), true, 1));
    let cases = [
        (&routing, completed, Disposition::Abandoned),
        (&routing, CarrierAnswer::NotFound, Disposition::Unknown),
        (&held, completed, Disposition::Abandoned),
        (&held, CarrierAnswer::Unasked, Disposition::Unknown),
        (&ringing(), completed, Disposition::Abandoned),
        (
            &ringing(),
            ended(EndReason::Canceled),
            Disposition::Abandoned,
        ),
        (&ringing(), CarrierAnswer::NotFound, Disposition::Unknown),
        (&bridged, completed, Disposition::Answered),
        (&bridged, ended(EndReason::Failed), Disposition::Answered),
        (&bridged, CarrierAnswer::Unasked, Disposition::Unknown),
        (&talked, CarrierAnswer::Unasked, Disposition::Answered),
        (&at_last_resort(), completed, Disposition::LastResort),
        (
            &at_last_resort(),
            CarrierAnswer::NotFound,
            Disposition::LastResort,
        ),
        (
            &at_last_resort(),
            CarrierAnswer::Unasked,
            Disposition::LastResort,
        ),
    ];
    for (state, found, expected) in cases {
        let over = state.clone().reconciled(&found).unwrap();
        assert_eq!(over.disposition(), Some(expected), "{state:?} {found:?}");
        for later in [completed, CarrierAnswer::NotFound, CarrierAnswer::Unasked] {
            assert!(over.clone().reconciled(&later).is_err(), "over is over");
        }
    }
}

#[test]
fn an_outcome_that_an_asker_reports_counts_and_the_first_one_stands() {
    let cases = [
        (
            ReportedOutcome::Answered,
            Disposition::Answered,
            Disposition::LastResort,
        ),
        (
            ReportedOutcome::NoAnswer,
            Disposition::NoAnswer,
            Disposition::Failed,
        ),
        (
            ReportedOutcome::Busy,
            Disposition::Busy,
            Disposition::Failed,
        ),
        (
            ReportedOutcome::Failed,
            Disposition::Failed,
            Disposition::Failed,
        ),
        (
            ReportedOutcome::Abandoned,
            Disposition::Abandoned,
            Disposition::LastResort,
        ),
    ];
    for (outcome, at_dialer, at_the_last_resort) in cases {
        for (state, expected) in [
            (ringing(), at_dialer),
            (at_last_resort(), at_the_last_resort),
        ] {
            let unknown = state.clone().reconciled(&CarrierAnswer::Unasked).unwrap();
            for before in [state, unknown] {
                let over = before.outcome_reported(outcome);
                assert_eq!(over.disposition(), Some(expected), "{outcome:?}");
                assert_eq!(over.outcome(), Some(outcome));
                for other in ReportedOutcome::ALL {
                    assert_eq!(over.clone().outcome_reported(*other), over);
                }
            }
        }
    }
    let nobody = CallState::routing(plan()).ended(Disposition::Failed);
    assert_eq!(nobody.outcome(), Some(ReportedOutcome::Failed));
}

/// One thing that is reported of a call whose last dial rings.
#[derive(Clone, Debug)]
enum News {
    Leg(LegReport),
    Dial(DialReport),
    Carrier(CarrierAnswer),
}

impl News {
    /// The call after it. What does not fit changes nothing.
    fn told_to(&self, state: CallState) -> CallState {
        match self {
            Self::Leg(report) => state.leg_reported(report),
            Self::Dial(report) => match state.clone().dial_ended(report, &AMPLE) {
                // Nobody is there to be rung again.
                Ok((moved, AfterDial::Over)) => moved,
                Ok(_) | Err(_) => state,
            },
            Self::Carrier(found) => state.clone().reconciled(found).unwrap_or(state),
        }
    }
}

/// A small generator with the same numbers every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn shuffle<T>(&mut self, of: &mut [T]) {
        for n in (1..of.len()).rev() {
            of.swap(n, self.roll(n + 1));
        }
    }
}

/// Everything that the carrier says of one whole call, and how it counts by all of it.
fn stories() -> Vec<(&'static str, CallState, Vec<News>, Disposition)> {
    let child = |status| News::Leg(leg(status, true, 1));
    let ended = |reason| child(LegStatus::Ended(reason));
    let begun = || {
        vec![
            child(LegStatus::Initiated),
            child(LegStatus::Ringing),
            News::Leg(leg(LegStatus::Answered, false, 0)),
            News::Leg(own_end()),
        ]
    };
    let story = |more: Vec<News>| [begun(), more].concat();
    let dial = |end, gone| News::Dial(report(1, end, gone));
    let talk = vec![
        child(LegStatus::Answered),
        ended(EndReason::Completed),
        dial(EndReason::Completed, false),
    ];
    let books = News::Carrier(CarrierAnswer::Ended {
        end: EndReason::Completed,
        duration_s: None,
        at: None,
    });
    vec![
        (
            "a talk",
            ringing(),
            story(talk.clone()),
            Disposition::Answered,
        ),
        (
            "a talk that broke off",
            ringing(),
            story(vec![
                child(LegStatus::Answered),
                ended(EndReason::Failed),
                dial(EndReason::Failed, true),
            ]),
            Disposition::Answered,
        ),
        (
            "a caller who left",
            ringing(),
            story(vec![
                ended(EndReason::Canceled),
                dial(EndReason::NoAnswer, true),
            ]),
            Disposition::Abandoned,
        ),
        (
            "a caller who left, found in the books",
            ringing(),
            story(vec![ended(EndReason::NoAnswer), books.clone()]),
            Disposition::Abandoned,
        ),
        (
            "a talk that the books do not know",
            ringing(),
            story([talk.clone(), vec![News::Carrier(CarrierAnswer::NotFound)]].concat()),
            Disposition::Answered,
        ),
        (
            "a talk, found in the books",
            ringing(),
            story([talk.clone(), vec![books]].concat()),
            Disposition::Answered,
        ),
        (
            "a talk at the last resort",
            at_last_resort(),
            story(talk),
            Disposition::LastResort,
        ),
        (
            "a last resort that did not answer",
            at_last_resort(),
            story(vec![
                ended(EndReason::NoAnswer),
                dial(EndReason::NoAnswer, false),
            ]),
            Disposition::Failed,
        ),
    ]
}

/// Tells it all in that order; a call that is over stays over.
fn told(start: &CallState, news: &[News]) -> CallState {
    news.iter().fold(start.clone(), |state, one| {
        let before = state.status();
        let after = one.told_to(state);
        assert!(before != Status::Ended || after.status() == Status::Ended);
        after
    })
}

#[test]
fn how_a_call_counts_depends_on_what_was_reported_and_not_on_the_order() {
    let mut dice = Dice(0x0c14);
    for (name, start, whole, expected) in stories() {
        assert_eq!(
            told(&start, &whole).disposition(),
            Some(expected),
            "{name}, as it happened"
        );
        let reversed: Vec<News> = whole.iter().rev().cloned().collect();
        assert_eq!(
            told(&start, &reversed).disposition(),
            Some(expected),
            "{name}, the other way round"
        );
        for round in 0..2_000 {
            // Some of it is lost, some comes twice.
            let mut news: Vec<News> = whole
                .iter()
                .flat_map(|one| vec![one.clone(); [0, 1, 1, 1, 2][dice.roll(5)]])
                .collect();
            let first = told(&start, &news);
            for _ in 0..6 {
                dice.shuffle(&mut news);
                let other = told(&start, &news);
                assert_eq!(
                    (other.status(), other.disposition()),
                    (first.status(), first.disposition()),
                    "{name}, round {round}: {news:?}"
                );
            }
        }
        for _ in 0..500 {
            let mut news = whole.clone();
            dice.shuffle(&mut news);
            let repeat = news.clone();
            news.extend(repeat);
            let state = told(&start, &news);
            assert_eq!(state.disposition(), Some(expected), "{name}: {news:?}");
        }
    }
}
