use std::time::Duration;

use super::*;
use crate::audit::Exchange;
use crate::braze::client::RateLimit;
use crate::braze::tests::settings;

fn reply(outcome: Result<(), LookupUnavailable>, remaining: Option<u32>) -> BrazeReply<()> {
    BrazeReply {
        outcome,
        rate: RateLimit {
            limit: Some(250),
            remaining,
            reset: None,
        },
        pause: None,
        exchange: Exchange {
            service: "braze".to_owned(),
            method: "POST".to_owned(),
            url: String::new(),
            status: None,
            error: None,
            elapsed_ms: 0.0,
            request: None,
            response: None,
        },
    }
}

fn admission(requests_per_minute: u32) -> (Admission, Instant) {
    let mut settings = settings("https://rest.example.com");
    settings.requests_per_minute = requests_per_minute;
    let now = Clock::system().instant();
    (Admission::new(now, &settings), now)
}

fn passes(admission: &mut Admission, now: Instant, purpose: LookupPurpose) -> usize {
    (0..1_000)
        .take_while(|_| admission.admit(now, purpose).is_ok())
        .count()
}

#[test]
fn only_retryable_failures_open_it_and_one_trial_follows() {
    let (mut admission, now) = admission(6_000);
    for reason in [LookupUnavailable::Malformed, LookupUnavailable::Rejected] {
        for _ in 0..10 {
            admission.report(now, &reply(Err(reason), None));
        }
    }
    assert_eq!(admission.admit(now, LookupPurpose::Caller), Ok(()));
    for _ in 0..5 {
        admission.report(now, &reply(Err(LookupUnavailable::Timeout), None));
    }
    let refused = Err(LookupUnavailable::BreakerOpen);
    assert_eq!(admission.admit(now, LookupPurpose::Caller), refused);
    let later = now + Duration::from_secs(15);
    assert_eq!(admission.admit(later, LookupPurpose::Caller), Ok(()));
    assert_eq!(admission.admit(later, LookupPurpose::Caller), refused);
    admission.report(later, &reply(Ok(()), None));
    assert_eq!(admission.admit(later, LookupPurpose::Caller), Ok(()));
}

fn probes(
    admission: &mut Admission,
    from: Instant,
    seconds: std::ops::RangeInclusive<u64>,
) -> Vec<u64> {
    seconds
        .filter(|second| admission.take_probe(from + Duration::from_secs(*second)))
        .collect()
}

#[test]
fn a_probe_is_sent_once_a_minute_while_it_is_open_or_after_five_idle_minutes() {
    let (mut admission, now) = admission(200);
    assert_eq!(probes(&mut admission, now, 0..=500), [300, 360, 420, 480]);
    let asked = now + Duration::from_secs(500);
    assert_eq!(admission.admit(asked, LookupPurpose::Caller), Ok(()));
    assert_eq!(probes(&mut admission, asked, 0..=370), [300, 360]);
    let open = asked + Duration::from_secs(370);
    assert_eq!(admission.admit(open, LookupPurpose::Caller), Ok(()));
    for _ in 0..5 {
        admission.report(open, &reply(Err(LookupUnavailable::Timeout), None));
    }
    // Callers who try it in between make no difference.
    assert_eq!(probes(&mut admission, open, 0..=65), [60]);
    let trial = open + Duration::from_secs(66);
    assert_eq!(admission.admit(trial, LookupPurpose::Caller), Ok(()));
    admission.report(trial, &reply(Err(LookupUnavailable::Timeout), None));
    assert_eq!(probes(&mut admission, open, 67..=130), [120]);
    let well = open + Duration::from_secs(130);
    admission.report_probe(well, &reply(Ok(()), None));
    assert_eq!(admission.admit(well, LookupPurpose::Caller), Ok(()));
    assert_eq!(probes(&mut admission, well, 0..=299), [0; 0]);
}

#[test]
fn a_probe_takes_what_callers_leave_and_a_token_with_it() {
    let (mut admission, now) = admission(4);
    let idle = now + IDLE;
    assert!(admission.take_probe(idle));
    assert_eq!(
        passes(&mut admission, idle, LookupPurpose::Caller),
        0,
        "of one in all"
    );
    let (mut admission, now) = self::admission(200);
    let idle = now + IDLE;
    assert!(admission.take_probe(idle));
    admission.report_probe(idle, &reply(Ok(()), Some(8)));
    assert_eq!(
        passes(&mut admission, idle, LookupPurpose::Caller),
        2,
        "it slows down"
    );
}

#[test]
fn a_refused_key_is_tried_by_its_own_schedule_and_callers_hear_why() {
    let (mut admission, now) = admission(200);
    admission.report(now, &reply(Err(LookupUnavailable::Unauthorized), None));
    let refused = Err(LookupUnavailable::Unauthorized);
    assert_eq!(admission.admit(now, LookupPurpose::Caller), refused);
    assert_eq!(probes(&mut admission, now, 0..=31), [30]);
    let second = Duration::from_secs(1);
    admission.report_probe(now + second * 30, &reply(refused, None));
    assert_eq!(probes(&mut admission, now, 31..=90), [90]);
    admission.report_probe(now + second * 90, &reply(Ok(()), None));
    assert_eq!(
        admission.admit(now + second * 90, LookupPurpose::Caller),
        Ok(())
    );
}

#[test]
fn refreshes_leave_half_of_the_bucket_to_callers() {
    let (mut admission, now) = admission(200);
    assert_eq!(passes(&mut admission, now, LookupPurpose::Refresh), 25);
    assert_eq!(passes(&mut admission, now, LookupPurpose::Person), 0);
    assert_eq!(passes(&mut admission, now, LookupPurpose::Caller), 25);
}

#[test]
fn an_empty_bucket_takes_no_trial() {
    let (mut admission, now) = admission(4);
    admission.report(now, &reply(Err(LookupUnavailable::Connect), None));
    assert_eq!(passes(&mut admission, now, LookupPurpose::Caller), 1);
    for _ in 0..4 {
        admission.report(now, &reply(Err(LookupUnavailable::Connect), None));
    }
    let half_open = now + Duration::from_secs(15);
    assert_eq!(passes(&mut admission, half_open, LookupPurpose::Caller), 1);
    admission.abandoned();
    assert_eq!(
        admission.admit(half_open, LookupPurpose::Caller),
        Err(LookupUnavailable::LimiterEmpty)
    );
    assert_eq!(admission.breaker.view(half_open), BreakerView::HalfOpen);
}

#[test]
fn it_goes_slower_while_others_use_up_the_limit() {
    let (mut admission, now) = admission(200);
    admission.report(now, &reply(Ok(()), Some(8)));
    assert_eq!(passes(&mut admission, now, LookupPurpose::Caller), 2);
    admission.report(now, &reply(Ok(()), Some(240)));
    let later = now + Duration::from_mins(1);
    assert_eq!(passes(&mut admission, later, LookupPurpose::Caller), 50);
}

fn changes(admission: &mut Admission) -> Vec<String> {
    let changes = admission.take_changes().into_iter();
    changes
        .map(|BreakerChange { from, to, cause }| format!("{from} to {to}: {cause}"))
        .collect()
}

fn fail(admission: &mut Admission, now: Instant, n: usize) {
    for _ in 0..n {
        admission.report(now, &reply(Err(LookupUnavailable::Timeout), None));
    }
}

#[test]
fn every_change_of_state_is_announced_once_with_its_cause() {
    let (mut admission, now) = admission(6_000);
    fail(&mut admission, now, 5);
    let trial = now + Duration::from_secs(15);
    admission.admit(trial, LookupPurpose::Caller).unwrap();
    fail(&mut admission, trial, 1);
    let second = trial + Duration::from_secs(15);
    admission.admit(second, LookupPurpose::Caller).unwrap();
    let status = admission.status(second);
    assert_eq!(
        (status.why.as_deref(), status.since),
        (Some(TRIAL_DUE), None)
    );
    admission.report(second, &reply(Ok(()), None));
    assert_eq!(
        changes(&mut admission),
        [
            "closed to open: 5 failures in a row",
            "open to half_open: open long enough",
            "half_open to open: the trial failed",
            "open to half_open: open long enough",
            "half_open to closed: it answers again",
        ]
    );
    assert!(changes(&mut admission).is_empty());
}

#[test]
fn a_try_of_a_refused_key_that_does_not_succeed_is_announced() {
    let (mut admission, now) = admission(6_000);
    admission.report(now, &reply(Err(LookupUnavailable::Unauthorized), None));
    let mut due = now + Duration::from_secs(30);
    for (reason, pause) in [
        (LookupUnavailable::Unauthorized, 60),
        (LookupUnavailable::Timeout, 120),
        (LookupUnavailable::Malformed, 240),
    ] {
        assert!(admission.take_probe(due));
        admission.report_probe(due, &reply(Err(reason), None));
        due += Duration::from_secs(pause);
    }
    let refused = admission.status(due).refused.unwrap();
    assert_eq!((refused.count, refused.next_try), (4, due));
    let still = "open to open: the credentials are still refused";
    let refused = "closed to open: the credentials were refused";
    assert_eq!(changes(&mut admission), [refused, still, still, still]);
    let mut settings = settings("https://rest.example.com");
    admission.reconfigure(due, &settings, true);
    settings.open_for *= 2;
    admission.reconfigure(due, &settings, true);
    let closed = "open to closed: the configuration changed";
    assert_eq!(changes(&mut admission), [closed]);
}

#[test]
fn bad_probes_open_it_where_nobody_else_asks_and_say_nothing_new_of_an_open_circuit() {
    let (mut admission, now) = admission(6_000);
    let timeout = || reply(Err(LookupUnavailable::Timeout), None);
    for _ in 0..4 {
        admission.report_probe(now, &timeout());
    }
    admission.report_probe(now, &reply(Err(LookupUnavailable::Malformed), None));
    for _ in 0..5 {
        assert!(!admission.status(now).is_open);
        admission.report_probe(now, &timeout());
    }
    let half_open = now + Duration::from_secs(15);
    admission.report_probe(half_open, &timeout());
    admission.report_probe(half_open, &reply(Err(LookupUnavailable::Malformed), None));
    assert_eq!(admission.status(half_open).breaker, BreakerView::HalfOpen);
    admission.report_probe(
        half_open,
        &reply(Err(LookupUnavailable::Unauthorized), None),
    );
    assert!(admission.status(half_open).refused.is_some());
}

#[test]
fn of_too_many_changes_that_were_not_taken_the_newest_are_kept() {
    let (mut admission, now) = admission(6_000);
    let settings = settings("https://rest.example.com");
    for _ in 0..20 {
        admission.report(now, &reply(Err(LookupUnavailable::Unauthorized), None));
        admission.reconfigure(now, &settings, true);
    }
    let kept = changes(&mut admission);
    assert_eq!(kept.len(), MAX_UNTAKEN);
    let last = "open to closed: the configuration changed";
    assert_eq!(kept.last().map(String::as_str), Some(last));
}

#[test]
fn the_end_of_what_an_earlier_run_left_open_is_announced() {
    let (mut admission, _) = admission(6_000);
    admission.restore_closed(false);
    let announced = "open to closed: the process was started again";
    assert_eq!(changes(&mut admission), [announced]);
}
