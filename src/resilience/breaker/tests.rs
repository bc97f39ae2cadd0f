#![expect(clippy::disallowed_methods, reason = "any instant will do")]

use proptest::prelude::*;

use super::*;

const OPEN_FOR: Duration = Duration::from_secs(15);
const LEASE: Duration = Duration::from_secs(1);
/// As of a dialer whose probe uses the credentials.
const DIALER: BreakerPolicy = BreakerPolicy {
    open_for: OPEN_FOR,
    trial_lease: LEASE,
    try_lease: LEASE,
    tried_by: TriedBy::Probe,
    opens_by_share: false,
    probes_apart: true,
};
/// No probe uses the credentials.
const BY_CALL: BreakerPolicy = BreakerPolicy {
    tried_by: TriedBy::Request,
    ..DIALER
};
const BRAZE: BreakerPolicy = BreakerPolicy {
    trial_lease: Duration::from_secs(5),
    opens_by_share: true,
    probes_apart: false,
    ..DIALER
};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn unauthorized() -> HealthSignal {
    HealthSignal::Unauthorized("unauthorized (401)".to_owned())
}

fn failing() -> HealthSignal {
    HealthSignal::Failing("timeout".to_owned())
}

fn dialer() -> Breaker {
    Breaker::new(DIALER)
}

fn opened(now: Instant) -> Breaker {
    opened_by(DIALER, now)
}

fn opened_by(policy: BreakerPolicy, now: Instant) -> Breaker {
    let mut breaker = Breaker::new(policy);
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(breaker.view(now), BreakerView::Closed);
        breaker.request_ended(failing(), now);
    }
    assert_eq!(breaker.view(now), BreakerView::Open);
    breaker
}

#[test]
fn a_success_in_between_starts_the_count_again() {
    let now = Instant::now();
    let mut breaker = dialer();
    for signal in [
        failing(),
        failing(),
        failing(),
        failing(),
        HealthSignal::Healthy,
        failing(),
    ] {
        breaker.request_ended(signal, now);
    }
    assert_eq!(breaker.view(now), BreakerView::Closed);
}

#[test]
fn after_its_time_one_call_tries_and_its_success_closes() {
    let start = Instant::now();
    let mut breaker = opened(start);
    assert!(!breaker.admit(start));
    let later = start + OPEN_FOR;
    assert_eq!(breaker.view(later), BreakerView::HalfOpen);
    assert!(breaker.admit(later));
    assert_eq!(breaker.view(later), BreakerView::Open, "the trial is taken");
    assert!(!breaker.admit(later));
    breaker.request_ended(HealthSignal::Healthy, later);
    assert_eq!(breaker.view(later), BreakerView::Closed);
}

#[test]
fn a_failed_trial_opens_for_another_time() {
    let start = Instant::now();
    let mut breaker = opened(start);
    let later = start + OPEN_FOR;
    assert!(breaker.admit(later));
    breaker.request_ended(failing(), later);
    assert_eq!(breaker.view(later), BreakerView::Open);
    assert!(breaker.admit(later + OPEN_FOR));
}

#[test]
fn a_lost_trial_frees_its_place() {
    let start = Instant::now();
    let mut breaker = opened(start);
    let later = start + OPEN_FOR;
    assert!(breaker.admit(later));
    assert!(breaker.admit(later + LEASE));
}

#[test]
fn a_late_success_from_before_does_not_close() {
    let now = Instant::now();
    let mut breaker = opened(now);
    breaker.request_ended(HealthSignal::Healthy, now);
    assert_eq!(breaker.view(now), BreakerView::Open);
}

#[test]
fn two_good_probes_close_and_a_bad_one_between_them_counts_again() {
    let now = Instant::now();
    let mut breaker = opened(now);
    for signal in [HealthSignal::Healthy, failing(), HealthSignal::Healthy] {
        breaker.probe_ended(signal, now);
        assert_eq!(breaker.view(now), BreakerView::Open);
    }
    breaker.probe_ended(HealthSignal::Healthy, now);
    assert_eq!(breaker.view(now), BreakerView::Closed);
}

#[test]
fn bad_probes_alone_open_it_and_good_ones_do_not_hide_failing_requests() {
    let now = Instant::now();
    let mut breaker = dialer();
    for _ in 0..FAILURES_TO_OPEN {
        breaker.probe_ended(failing(), now);
    }
    assert_eq!(breaker.view(now), BreakerView::Open);
    let mut breaker = dialer();
    for _ in 0..FAILURES_TO_OPEN {
        breaker.request_ended(failing(), now);
        breaker.probe_ended(HealthSignal::Healthy, now);
    }
    assert_eq!(breaker.view(now), BreakerView::Open);
}

#[test]
fn refused_credentials_let_no_call_pass_and_are_tried_by_one_probe_at_a_time() {
    let start = Instant::now();
    let mut breaker = dialer();
    breaker.request_ended(unauthorized(), start);
    let soon = start + secs(29);
    // Probes at the dialer's own pace pause, and one that was under way says nothing.
    for _ in 0..3 {
        breaker.probe_ended(HealthSignal::Healthy, soon);
    }
    assert!(!breaker.take_try(soon));
    let due = start + secs(30);
    assert!(!breaker.admit(due), "no call has to try it");
    assert_eq!(breaker.view(due), BreakerView::Open);
    assert!(breaker.take_try(due));
    assert!(!breaker.take_try(due), "one request per try");
    breaker.tried(HealthSignal::Healthy, due);
    assert!(breaker.admit(due));
    assert!(!breaker.take_try(due), "nothing is refused");
}

#[test]
fn without_a_probe_the_next_call_tries_refused_credentials() {
    let start = Instant::now();
    let mut breaker = Breaker::new(BY_CALL);
    breaker.request_ended(unauthorized(), start);
    assert!(!breaker.admit(start + secs(29)));
    let due = start + secs(30);
    assert!(!breaker.take_try(due));
    assert_eq!(breaker.view(due), BreakerView::HalfOpen);
    assert!(breaker.admit(due));
    assert!(!breaker.admit(due), "one at a time");
    breaker.request_ended(unauthorized(), due);
    assert_eq!(breaker.refused().unwrap().1, 2);
    assert!(!breaker.admit(due + secs(59)));
    assert!(breaker.admit(due + secs(60)));
    breaker.request_ended(failing(), due + secs(60));
    assert_eq!(breaker.refused().unwrap().1, 3, "not accepted either");
    assert!(breaker.admit(due + secs(180)));
    breaker.request_ended(HealthSignal::Healthy, due + secs(180));
    assert_eq!(breaker.view(due + secs(180)), BreakerView::Closed);
}

#[test]
fn a_try_that_does_not_succeed_is_followed_by_a_later_one_for_good() {
    let start = Instant::now();
    let mut breaker = dialer();
    breaker.probe_ended(unauthorized(), start);
    let mut now = start + secs(30);
    for (signal, pause) in [
        (unauthorized(), 60),
        (failing(), 120),
        (HealthSignal::BackOff(secs(1), String::new()), 240),
        (unauthorized(), 300),
        (unauthorized(), 300),
    ] {
        assert!(breaker.take_try(now));
        breaker.tried(signal, now);
        assert!(!breaker.take_try(now + secs(pause - 1)));
        now += secs(pause);
    }
    let (opened, count) = breaker.refused().unwrap();
    assert_eq!((opened.since, opened.until, count), (start, now, 6));
    assert_eq!(opened.why, "unauthorized (401)");
}

#[test]
fn a_probe_that_cannot_answer_leaves_the_question_to_the_next_call() {
    let start = Instant::now();
    let mut breaker = dialer();
    breaker.request_ended(unauthorized(), start);
    let due = start + secs(30);
    assert!(breaker.take_try(due));
    breaker.tried(HealthSignal::Unknown, due);
    assert!(breaker.admit(due));
    breaker.request_ended(unauthorized(), due);
    assert!(!breaker.admit(due + secs(60)));
    assert!(breaker.take_try(due + secs(60)));
}

#[test]
fn a_try_that_is_lost_or_asked_for_is_made_anew() {
    let start = Instant::now();
    let mut breaker = dialer();
    breaker.request_ended(unauthorized(), start);
    breaker.try_now(start);
    assert!(breaker.take_try(start));
    assert!(breaker.take_try(start + LEASE));
    breaker.proven();
    assert_eq!(breaker.view(start), BreakerView::Closed);
    let mut failing = opened(start);
    failing.try_now(start);
    failing.proven();
    failing.tried(HealthSignal::Healthy, start);
    assert_eq!(
        failing.view(start),
        BreakerView::Open,
        "of credentials only"
    );
}

#[test]
fn what_a_probe_has_proven_is_believed_until_a_request_is_refused_again() {
    let start = Instant::now();
    let mut breaker = dialer();
    breaker.request_ended(unauthorized(), start);
    breaker.tried(HealthSignal::Healthy, start + secs(30));
    breaker.request_ended(unauthorized(), start + secs(40));
    let (opened, count) = breaker.refused().unwrap();
    assert_eq!((opened.until, count), (start + secs(100), 2));
    breaker.tried(HealthSignal::Healthy, start + secs(100));
    breaker.request_ended(HealthSignal::Healthy, start + secs(101));
    breaker.request_ended(unauthorized(), start + secs(102));
    assert_eq!(breaker.refused().unwrap().1, 1);
    breaker.credentials_changed();
    assert!(breaker.admit(start + secs(102)));
}

#[test]
fn a_bad_probe_does_not_prolong_an_opening_whose_time_is_not_over() {
    let start = Instant::now();
    let mut breaker = opened(start);
    breaker.probe_ended(failing(), start + secs(14));
    assert_eq!(breaker.view(start + OPEN_FOR), BreakerView::HalfOpen);
    breaker.probe_ended(failing(), start + OPEN_FOR);
    assert_eq!(breaker.view(start + secs(29)), BreakerView::Open);
    assert_eq!(breaker.view(start + OPEN_FOR * 2), BreakerView::HalfOpen);
}

#[test]
fn a_late_failure_of_an_older_request_prolongs_no_opening() {
    let start = Instant::now();
    let late = start + secs(5);
    let mut breaker = opened(start);
    breaker.request_ended(failing(), late);
    assert_eq!(breaker.view(start + OPEN_FOR), BreakerView::HalfOpen);
    for policy in [DIALER, BY_CALL] {
        let mut breaker = Breaker::new(policy);
        breaker.request_ended(unauthorized(), start);
        let back_off = HealthSignal::BackOff(secs(60), String::new());
        for signal in [unauthorized(), failing(), back_off, HealthSignal::Healthy] {
            breaker.request_ended(signal, late);
        }
        let (opened, count) = breaker.refused().unwrap();
        assert_eq!((opened.until, count), (start + secs(30), 1));
    }
}

#[test]
fn credentials_that_are_refused_while_it_is_open_are_named_as_such() {
    let start = Instant::now();
    let mut breaker = opened(start);
    breaker.request_ended(unauthorized(), start + secs(1));
    let (opened, _) = breaker.refused().unwrap();
    assert_eq!((opened.since, opened.until), (start, start + secs(31)));
    assert_eq!(opened.cause, OpenCause::RefusedRequest);
}

#[test]
fn a_retry_after_is_obeyed_but_not_for_an_hour() {
    let start = Instant::now();
    let mut breaker = dialer();
    let hour = Duration::from_hours(1);
    breaker.request_ended(HealthSignal::BackOff(hour, String::new()), start);
    let second = || HealthSignal::BackOff(Duration::from_secs(1), String::new());
    breaker.request_ended(second(), start);
    for _ in 0..2 {
        breaker.probe_ended(HealthSignal::Healthy, start);
    }
    let before = start + MAX_BACK_OFF.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!(breaker.view(before), BreakerView::Open);
    assert_eq!(breaker.view(start + MAX_BACK_OFF), BreakerView::HalfOpen);
}

#[test]
fn changed_credentials_do_not_hide_a_failing_service() {
    let now = Instant::now();
    let mut breaker = opened(now);
    breaker.credentials_changed();
    assert_eq!(breaker.view(now), BreakerView::Open);
}

#[test]
fn a_trial_that_never_reports_loses_its_lease_and_one_that_is_given_back_is_free_at_once() {
    let start = Instant::now();
    let mut breaker = opened_by(BRAZE, start);
    assert!(breaker.admit(start + secs(15)));
    assert!(!breaker.admit(start + secs(19)));
    assert!(breaker.admit(start + secs(20)));
    breaker.abandoned();
    assert!(breaker.admit(start + secs(20)));
    assert!(breaker.opened().unwrap().is_half_open);
}

#[test]
fn a_failed_trial_trips_it_anew_and_it_is_open_since_the_first_time() {
    let start = Instant::now();
    let mut breaker = opened_by(BRAZE, start);
    let tried = start + OPEN_FOR;
    assert!(breaker.admit(tried));
    breaker.request_ended(failing(), tried + secs(1));
    let open = breaker.opened().unwrap();
    assert_eq!((open.since, open.tripped_at), (start, tried + secs(1)));
    assert!(!open.is_half_open);
    assert!(!breaker.admit(tried + secs(15)));
    assert!(breaker.admit(tried + secs(16)));
}

#[test]
fn a_trial_whose_credentials_are_refused_is_followed_by_none() {
    let start = Instant::now();
    let mut breaker = opened_by(BRAZE, start);
    let tried = start + OPEN_FOR;
    assert!(breaker.admit(tried));
    breaker.request_ended(unauthorized(), tried);
    let (open, count) = breaker.refused().unwrap();
    assert_eq!((open.until, count), (tried + secs(30), 1));
    // Time alone, which would let another trial pass, does not.
    assert!(!breaker.admit(tried + OPEN_FOR * 100));
}

#[test]
fn mostly_failing_opens_it_without_a_row_where_the_policy_says_so() {
    let now = Instant::now();
    for (policy, why) in [(BRAZE, Some("13 of 20 requests failed")), (DIALER, None)] {
        let mut breaker = Breaker::new(policy);
        for _ in 0..7 {
            breaker.request_ended(HealthSignal::Healthy, now);
            breaker.request_ended(failing(), now);
            breaker.request_ended(failing(), now);
        }
        assert_eq!(breaker.opened().map(|open| open.why.as_str()), why);
    }
}

#[test]
fn another_policy_leaves_what_was_counted() {
    let now = Instant::now();
    let mut breaker = Breaker::new(BRAZE);
    for n in 1..FAILURES_TO_OPEN {
        breaker.request_ended(failing(), now);
        breaker.set_policy(BreakerPolicy {
            open_for: OPEN_FOR * n,
            ..BRAZE
        });
    }
    assert_eq!(breaker.view(now), BreakerView::Closed);
    breaker.request_ended(failing(), now);
    assert_eq!(breaker.opened().unwrap().until, now + OPEN_FOR * 4);
}

#[test]
fn where_probes_count_as_requests_one_that_succeeds_closes_it_early() {
    let start = Instant::now();
    let mut breaker = opened_by(BRAZE, start);
    breaker.probe_ended(failing(), start);
    assert!(!breaker.admit(start));
    breaker.probe_ended(HealthSignal::Healthy, start);
    assert!(breaker.admit(start));
}

#[test]
fn where_probes_count_as_requests_they_end_a_row_and_make_one() {
    let now = Instant::now();
    let mut breaker = Breaker::new(BRAZE);
    for _ in 1..FAILURES_TO_OPEN {
        breaker.request_ended(failing(), now);
    }
    breaker.probe_ended(HealthSignal::Healthy, now);
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(breaker.view(now), BreakerView::Closed);
        breaker.probe_ended(failing(), now);
    }
    assert_eq!(breaker.view(now), BreakerView::Open);
    breaker.probe_ended(unauthorized(), now);
    assert_eq!(breaker.refused().unwrap().0.cause, OpenCause::RefusedProbe);
}

#[test]
fn a_restart_goes_on_with_the_count_and_never_waits_longer_than_an_opening_could() {
    let now = Instant::now();
    let day = Duration::from_hours(24);
    for (cause, longest) in [
        (OpenCause::RefusedRequest, LONGEST_PAUSE),
        (OpenCause::Failing, MAX_BACK_OFF),
    ] {
        let mut breaker = Breaker::new(BRAZE);
        breaker.restore((cause, String::new()), (secs(60), secs(10)), 2, now);
        let open = breaker.opened().unwrap();
        assert_eq!((open.until, open.cause), (now + secs(10), cause));
        assert!(now.duration_since(open.since) <= secs(60));
        breaker.restore((cause, String::new()), (secs(60), day), 2, now);
        assert_eq!(breaker.opened().unwrap().until, now + longest);
        breaker.request_ended(unauthorized(), now + longest);
        assert_eq!(breaker.refused().unwrap().1, 3);
    }
}

proptest! {
    #![proptest_config(crate::property::seeded())]

    #[test]
    fn it_never_wedges_and_its_view_foretells_its_admission(steps in prop::collection::vec((0_u64..20_000, 0_u8..6), 0..200), is_braze: bool) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(if is_braze { BRAZE } else { BY_CALL });
        for (step_ms, what) in steps {
            now += Duration::from_millis(step_ms);
            match what {
                0 => breaker.request_ended(HealthSignal::Healthy, now),
                1 => breaker.request_ended(failing(), now),
                2 => breaker.request_ended(HealthSignal::BackOff(secs(90), String::new()), now),
                3 => breaker.abandoned(),
                4 => breaker.probe_ended(failing(), now),
                _ => {}
            }
            let foretold = breaker.view(now);
            let was_closed = breaker.opened().is_none();
            prop_assert_eq!(foretold != BreakerView::Open, breaker.admit(now));
            prop_assert_eq!(was_closed, foretold == BreakerView::Closed);
        }
        prop_assert!(breaker.admit(now + MAX_BACK_OFF));
    }
}
