#![expect(clippy::disallowed_methods, reason = "any instant will do")]

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::audit::{Drained, Event, OpenCause, ServiceState};
use crate::clock::Clock;
use crate::dialer::stand_in::{
    client, dialer_of, dialfire_api, http, http_api, zendesk, zendesk_api,
};
use crate::dialer::{
    Api, Dialer, DialerSettings, Fleet, HealthChange, Probe, ProbeHealth, ProbeTurn,
};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::routing::{Availability, BreakerView, DialerId};
use crate::secret::Secret;

const OPEN_FOR: Duration = Duration::from_secs(15);

fn id() -> DialerId {
    DialerId::new("first")
}

fn named(name: &str, api: Api) -> Dialer {
    let settings = DialerSettings {
        id: DialerId::new(name),
        api,
        ..zendesk("http://localhost").settings().clone()
    };
    Dialer::new(settings, client(), Clock::system(), b"k", b"k").unwrap()
}

fn fleet() -> Fleet {
    Fleet::new(vec![zendesk("http://localhost")])
}

fn accepted() -> Outcome {
    Outcome::Accepted { reference: None }
}

fn unknown(kind: FailureKind) -> Outcome {
    let failure = Failure::of(kind);
    Outcome::Unknown { failure }
}

fn refused(kind: FailureKind, status: u16) -> Outcome {
    let failure = Failure::with_status(kind, status);
    Outcome::Refused { failure }
}

fn probe(availability: Availability) -> Probe {
    Probe {
        health: ProbeHealth::Healthy,
        availability,
        latency: Some(Duration::from_millis(3)),
    }
}

fn failing(kind: FailureKind) -> Probe {
    Probe {
        health: ProbeHealth::Failing {
            failure: Failure::of(kind),
            why: "it hangs".to_owned(),
        },
        availability: Availability::Unknown,
        latency: None,
    }
}

fn breaker(fleet: &Fleet, now: Instant) -> BreakerView {
    fleet.views(now)[0].breaker
}

#[test]
fn a_dialer_that_fails_five_times_is_left_alone_and_announced_once() {
    let (fleet, now) = (fleet(), Instant::now());
    for _ in 0..4 {
        let outcome = unknown(FailureKind::Timeout);
        assert_eq!(fleet.report(&id(), &outcome, now), None);
        assert!(fleet.admit(&id(), now));
    }
    let change = fleet
        .report(&id(), &unknown(FailureKind::Timeout), now)
        .unwrap();
    assert_eq!((change.from, change.to), ("closed", "open"));
    assert_eq!(
        (change.service.as_str(), change.cause.as_str()),
        ("first", "timeout")
    );
    assert!(!fleet.admit(&id(), now));

    let later = now + OPEN_FOR;
    assert_eq!(breaker(&fleet, later), BreakerView::HalfOpen);
    assert!(fleet.admit(&id(), later));
    assert!(!fleet.admit(&id(), later), "one trial at a time");
    let outcome = unknown(FailureKind::Timeout);
    assert_eq!(fleet.report(&id(), &outcome, later), None, "known already");

    let end = later + OPEN_FOR;
    assert!(fleet.admit(&id(), end));
    let change = fleet.report(&id(), &accepted(), end).unwrap();
    assert_eq!((change.from, change.to), ("open", "closed"));
    assert_eq!(breaker(&fleet, end), BreakerView::Closed);
}

#[test]
fn refusals_are_no_sign_of_death() {
    let (fleet, now) = (fleet(), Instant::now());
    for _ in 0..20 {
        for (kind, status) in [(FailureKind::Rejected, 422), (FailureKind::Malformed, 200)] {
            assert_eq!(fleet.report(&id(), &refused(kind, status), now), None);
        }
    }
    assert_eq!(breaker(&fleet, now), BreakerView::Closed);
}

#[test]
fn refused_credentials_open_at_once_and_are_tried_by_the_probe_that_uses_them() {
    let (fleet, now) = (fleet(), Instant::now());
    assert_eq!(fleet.probe_turn(&id(), now), ProbeTurn::AtItsPace);
    let change = fleet
        .report(&id(), &refused(FailureKind::Unauthorized, 401), now)
        .unwrap();
    assert_eq!(change.to, "open");
    assert_eq!(change.cause, "unauthorized (401)");
    assert_eq!(fleet.probe_turn(&id(), now), ProbeTurn::Pause);
    let told = fleet.statuses(now)[0].refused.clone().unwrap();
    assert_eq!(
        told.credential,
        "e-mail and API token (dialers.first.email, dialers.first.token)"
    );
    assert_eq!(
        (told.count, told.next_try),
        (1, now + Duration::from_secs(30))
    );

    let due = told.next_try;
    assert!(!fleet.admit(&id(), due));
    assert_eq!(fleet.probe_turn(&id(), due), ProbeTurn::Try);
    assert_eq!(
        fleet.probe_turn(&id(), due),
        ProbeTurn::Pause,
        "one request"
    );
    let dialer = fleet.get(&id()).unwrap();
    let still = failing(FailureKind::Unauthorized);
    let change = fleet.report_try(&dialer, &still, None, due).unwrap();
    assert_eq!((change.from, change.to), ("open", "open"));
    let open = change.standing.open.unwrap();
    assert_eq!((open.cause, open.refusals), (OpenCause::RefusedRequest, 2));

    let again = due + Duration::from_mins(1);
    assert_eq!(fleet.probe_turn(&id(), again), ProbeTurn::Try);
    let good = probe(Availability::Available);
    let change = fleet
        .report_try(&dialer, &good, Some("ops"), again)
        .unwrap();
    assert_eq!((change.from, change.to), ("open", "closed"));
    assert_eq!(change.cause, "tried by ops: the probe succeeded");
    assert!(fleet.admit(&id(), again));
}

#[test]
fn refused_credentials_are_tried_at_once_after_a_reload_a_resume_or_a_good_test() {
    let refused_now = || {
        let fleet = fleet();
        let now = Clock::system().instant();
        fleet.report(&id(), &refused(FailureKind::Unauthorized, 403), now);
        fleet
    };
    let turn = |fleet: &Fleet| fleet.probe_turn(&id(), Clock::system().instant());
    let fleet = refused_now();
    assert_eq!(fleet.replace(vec![zendesk("http://localhost")]), []);
    assert_eq!(turn(&fleet), ProbeTurn::Try, "nothing has changed");

    let fleet = refused_now();
    fleet.resume(&id(), "ops");
    assert_eq!(turn(&fleet), ProbeTurn::Try);

    let fleet = refused_now();
    fleet.try_now(&id(), Clock::system().instant());
    assert_eq!(turn(&fleet), ProbeTurn::Try);

    let fleet = refused_now();
    let mut api = zendesk_api("http://localhost");
    api.token = Secret::new("another");
    let other = dialer_of(Api::new(api));
    assert_eq!(fleet.proven(&other, "ops"), None, "other credentials");
    let change = fleet.proven(&zendesk("http://localhost"), "ops").unwrap();
    assert_eq!(
        (change.to, change.cause.as_str()),
        ("closed", "tested by ops")
    );

    let fleet = refused_now();
    let changes = fleet.replace(vec![other]);
    assert_eq!((changes[0].from, changes[0].to), ("open", "closed"));
}

#[test]
fn where_no_probe_uses_the_credentials_the_next_call_tries_them() {
    let mut api = http_api("http://localhost");
    api.health_url = Some("http://elsewhere/health".to_owned());
    let (fleet, now) = (Fleet::new(vec![dialer_of(Api::new(api))]), Instant::now());
    // Who is not told the credentials cannot refuse them: it is not well.
    let shut_out = failing(FailureKind::Unauthorized);
    assert_eq!(fleet.report_probe(&id(), &shut_out, now), None);
    fleet.report(&id(), &refused(FailureKind::Unauthorized, 401), now);
    let due = now + Duration::from_secs(30);
    assert_eq!(fleet.probe_turn(&id(), due), ProbeTurn::Pause);
    assert_eq!(breaker(&fleet, due), BreakerView::HalfOpen);
    assert!(fleet.admit(&id(), due));
    assert!(fleet.report(&id(), &accepted(), due).is_some());
    assert_eq!(breaker(&fleet, due), BreakerView::Closed);
}

fn asking_for_patience(kind: FailureKind, status: u16, seconds: u64) -> Outcome {
    Outcome::Retryable {
        failure: Failure::with_status(kind, status),
        retry_after_ms: Some(seconds * 1_000),
    }
}

#[test]
fn a_single_failure_takes_a_dialer_out_only_if_it_asks_for_long() {
    let (fleet, now) = (fleet(), Instant::now());
    let short = asking_for_patience(FailureKind::ServerError, 503, 1);
    assert_eq!(fleet.report(&id(), &short, now), None);
    let none = asking_for_patience(FailureKind::RateLimited, 429, 0);
    assert_eq!(fleet.report(&id(), &none, now), None);
    let long = asking_for_patience(FailureKind::ServerError, 503, 3_600);
    assert!(fleet.report(&id(), &long, now).is_some());
    assert!(!fleet.admit(&id(), now + OPEN_FOR));
    assert!(fleet.admit(&id(), now + Duration::from_mins(1)));
}

#[test]
fn a_wish_to_be_left_alone_is_kept() {
    let (fleet, now) = (fleet(), Instant::now());
    let outcome = asking_for_patience(FailureKind::RateLimited, 429, 10);
    assert!(fleet.report(&id(), &outcome, now).is_some());
    assert!(!fleet.admit(&id(), now + Duration::from_secs(9)));
    assert!(fleet.admit(&id(), now + Duration::from_secs(10)));
}

#[test]
fn availability_is_what_the_last_probe_said_for_as_long_as_probes_come() {
    let (fleet, now) = (fleet(), Instant::now());
    let nobody = Availability::Unavailable {
        why: "0 agents online, 1 needed".to_owned(),
    };
    let change = fleet
        .report_probe(&id(), &probe(nobody.clone()), now)
        .unwrap();
    assert_eq!((change.from, change.to), ("closed", "unavailable"));
    assert_eq!(change.cause, "0 agents online, 1 needed");
    assert_eq!(fleet.views(now)[0].availability, nobody);
    assert_eq!(fleet.report_probe(&id(), &probe(nobody.clone()), now), None);
    let long_after = now + Duration::from_secs(61);
    assert_eq!(
        fleet.views(long_after)[0].availability,
        Availability::Unknown
    );
    let change = fleet
        .report_probe(&id(), &probe(Availability::Available), now)
        .unwrap();
    assert_eq!((change.from, change.to), ("unavailable", "closed"));
}

#[test]
fn probes_open_and_close_too() {
    let (fleet, now) = (fleet(), Instant::now());
    let mut changes = Vec::new();
    for _ in 0..6 {
        changes.extend(fleet.report_probe(&id(), &failing(FailureKind::Timeout), now));
    }
    for _ in 0..3 {
        let good = probe(Availability::Available);
        changes.extend(fleet.report_probe(&id(), &good, now));
    }
    let seen: Vec<_> = changes
        .iter()
        .map(|c| (c.from, c.to, c.cause.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("closed", "open", "it hangs"),
            ("open", "closed", "the probe succeeded")
        ]
    );
}

#[test]
fn a_404_of_a_health_url_counts_but_not_one_of_an_api() {
    let now = Instant::now();
    let check = |dialer: Dialer, expected: BreakerView| {
        let fleet = Fleet::new(vec![dialer]);
        for _ in 0..5 {
            fleet.report_probe(&id(), &failing(FailureKind::Rejected), now);
        }
        assert_eq!(breaker(&fleet, now), expected);
    };
    check(http("http://localhost"), BreakerView::Open);
    check(zendesk("http://localhost"), BreakerView::Closed);
}

#[test]
fn a_drained_dialer_takes_nothing_until_it_is_put_back() {
    let (fleet, now) = (fleet(), Instant::now());
    let change = fleet
        .drain(&id(), &Drained::new("ops", Timestamp::UNIX_EPOCH))
        .unwrap();
    assert_eq!((change.from, change.to), ("closed", "drained"));
    assert_eq!(change.cause, "taken out by ops");
    assert!(fleet.views(now)[0].drained);
    assert!(!fleet.admit(&id(), now));
    assert_eq!(
        fleet.drain(&id(), &Drained::new("other", Timestamp::UNIX_EPOCH)),
        None
    );
    fleet.replace(vec![zendesk("http://localhost")]);
    let status = &fleet.statuses(now)[0];
    assert_eq!(status.drained.as_ref().unwrap().by, "ops");
    assert!(fleet.resume(&id(), "ops").is_some());
    assert!(fleet.admit(&id(), now));
}

#[test]
fn a_reload_takes_the_new_order_and_keeps_what_is_known() {
    let now = Instant::now();
    let base = "http://localhost";
    let a = || named("a", Api::new(dialfire_api(base)));
    let b = || named("b", Api::new(zendesk_api(base)));
    let c = || named("c", Api::new(http_api(base)));
    let fleet = Fleet::new(vec![a(), b()]);
    for _ in 0..5 {
        fleet.report(&DialerId::new("a"), &unknown(FailureKind::Reset), now);
    }
    let seen = fleet.clone();
    fleet.replace(vec![c(), a()]);
    let views: Vec<_> = seen
        .views(now)
        .into_iter()
        .map(|v| (v.dialer.to_string(), v.breaker))
        .collect();
    assert_eq!(
        views,
        [
            ("c".to_owned(), BreakerView::Closed),
            ("a".to_owned(), BreakerView::Open)
        ]
    );
    assert!(fleet.get(&DialerId::new("b")).is_none());
    assert!(!fleet.admit(&DialerId::new("b"), now));
    let other_kind = named("a", Api::new(http_api(base)));
    let changes = fleet.replace(vec![other_kind]);
    assert_eq!((changes[0].from, changes[0].to), ("open", "closed"));
}

#[test]
fn no_secret_is_shown() {
    for dialer in crate::dialer::stand_in::all_kinds("http://localhost") {
        let text = format!("{dialer:?} {:?} {:?}", dialer.settings(), fleet());
        crate::dialer::stand_in::assert_clean(&text);
    }
}

fn wall() -> Timestamp {
    Clock::system().now()
}

/// What the store keeps of a change.
fn kept(change: HealthChange) -> Vec<ServiceState> {
    let Event::HealthChanged {
        service,
        to,
        cause,
        standing,
        ..
    } = change.into_event()
    else {
        panic!("another event");
    };
    vec![ServiceState {
        service,
        state: to,
        cause,
        standing,
        changed_at: wall(),
    }]
}

fn with_token(token: &str) -> Fleet {
    let mut api = zendesk_api("http://localhost");
    api.token = Secret::new(token);
    Fleet::new(vec![dialer_of(Api::new(api))])
}

#[test]
fn a_restart_keeps_an_open_circuit_open_for_the_rest_of_its_time() {
    let (before, now) = (fleet(), Instant::now());
    let outcome = asking_for_patience(FailureKind::RateLimited, 429, 40);
    let left = kept(before.report(&id(), &outcome, now).unwrap());
    let open = left[0].standing.open.as_ref().unwrap();
    assert_eq!(open.cause, OpenCause::RateLimited);
    // (how much later the next run begins, what of the 40 s is left)
    for (gone, rest) in [(0, 40), (30, 10), (40, 0), (4_000, 0)] {
        let fleet = fleet();
        let restarted = now + Duration::from_secs(1_000);
        let wall = wall() + Duration::from_secs(gone);
        assert_eq!(fleet.restore(&left, restarted, wall), []);
        // The two clocks are read one after the other.
        let slack = Duration::from_millis(500);
        let end = restarted + Duration::from_secs(rest);
        if rest > 0 {
            let before = restarted + (Duration::from_secs(rest).saturating_sub(slack));
            assert_eq!(breaker(&fleet, before), BreakerView::Open, "{gone}");
        }
        assert_eq!(
            breaker(&fleet, end + slack),
            BreakerView::HalfOpen,
            "{gone}"
        );
        assert!(fleet.admit(&id(), end + slack), "a trial");
        assert!(!fleet.admit(&id(), end + slack), "one at a time");
        let change = fleet.report(&id(), &accepted(), end + slack).unwrap();
        assert_eq!((change.from, change.to), ("open", "closed"));
        assert!(change.standing.is_clean());
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_open_for_good() {
    let (before, now) = (fleet(), Instant::now());
    let outcome = asking_for_patience(FailureKind::RateLimited, 429, 40);
    let left = kept(before.report(&id(), &outcome, now).unwrap());
    let fleet = fleet();
    let yesterday = wall() - Duration::from_hours(24);
    fleet.restore(&left, now, yesterday);
    assert_eq!(breaker(&fleet, now), BreakerView::Open);
    let later = now + Duration::from_mins(1);
    assert_eq!(breaker(&fleet, later), BreakerView::HalfOpen);
}

#[test]
fn a_restart_changes_nothing_about_refused_credentials_unless_they_are_others() {
    let now = Instant::now();
    let before = with_token("old");
    let outcome = refused(FailureKind::Unauthorized, 401);
    before.report(&id(), &outcome, now);
    let due = now + Duration::from_secs(30);
    assert_eq!(before.probe_turn(&id(), due), ProbeTurn::Try);
    let dialer = before.get(&id()).unwrap();
    let still = failing(FailureKind::Unauthorized);
    let left = kept(before.report_try(&dialer, &still, None, due).unwrap());
    let text = format!("{:?}", left[0].standing);
    assert!(!text.contains("old"), "{text}");
    let next_try = left[0].standing.open.as_ref().unwrap().until.unwrap();

    let same = with_token("old");
    let wall = next_try - Duration::from_secs(10);
    assert_eq!(same.restore(&left, now, wall), []);
    let told = same.statuses(now)[0].refused.clone().unwrap();
    assert_eq!(
        (told.count, told.next_try),
        (2, now + Duration::from_secs(10))
    );
    assert_eq!(same.probe_turn(&id(), now), ProbeTurn::Pause);
    assert_eq!(same.probe_turn(&id(), told.next_try), ProbeTurn::Try);

    let other = with_token("new");
    let changes = other.restore(&left, now, wall);
    assert_eq!((changes[0].from, changes[0].to), ("open", "closed"));
    assert_eq!(changes[0].cause, "its credentials changed");
    assert!(changes[0].standing.is_clean());
    assert!(other.admit(&id(), now));

    // A wall clock that was set back does not put the try off for long.
    let same = with_token("old");
    same.restore(&left, now, wall - Duration::from_hours(24));
    let next_try = same.statuses(now)[0].refused.clone().unwrap().next_try;
    assert_eq!(next_try, now + Duration::from_mins(5));
}

#[test]
fn credentials_that_are_refused_while_it_is_open_or_out_are_told_too() {
    let (fleet, now) = (fleet(), Instant::now());
    for _ in 0..5 {
        fleet.report(&id(), &unknown(FailureKind::Timeout), now);
    }
    let outcome = refused(FailureKind::Unauthorized, 401);
    let change = fleet.report(&id(), &outcome, now).unwrap();
    assert_eq!((change.from, change.to), ("open", "open"));
    let open = change.standing.open.unwrap();
    assert_eq!((open.cause, open.refusals), (OpenCause::RefusedRequest, 1));
    assert_eq!(fleet.report(&id(), &outcome, now), None);
    let out = fleet.drain(&id(), &Drained::new("ops", wall())).unwrap();
    assert!(out.standing.drained.is_some() && out.standing.open.is_some());
    let dialer = fleet.get(&id()).unwrap();
    let change = fleet.proven(&dialer, "ops").unwrap();
    assert_eq!((change.from, change.to), ("drained", "drained"));
    assert!(change.standing.open.is_none());
}

#[test]
fn after_a_restart_a_drained_dialer_stays_out_and_availability_is_asked_anew() {
    let now = Instant::now();
    let at = wall();
    let left = kept(fleet().drain(&id(), &Drained::new("ops", at)).unwrap());
    let restarted = fleet();
    assert_eq!(restarted.restore(&left, now, wall()), []);
    let drained = restarted.statuses(now)[0].drained.clone().unwrap();
    assert_eq!((drained.by.as_str(), drained.since), ("ops", at));
    assert!(!restarted.admit(&id(), now));

    let nobody = probe(Availability::Unavailable {
        why: "0 agents online".to_owned(),
    });
    let left = kept(fleet().report_probe(&id(), &nobody, now).unwrap());
    let changes = fleet().restore(&left, now, wall());
    assert_eq!((changes[0].from, changes[0].to), ("unavailable", "closed"));
    assert_eq!(changes[0].cause, "the process was started again");
}

#[test]
fn a_429_leaves_the_line_and_a_503_that_wants_peace_does_not() {
    let now = Instant::now();
    for (kind, status, line_only) in [
        (FailureKind::RateLimited, 429, true),
        (FailureKind::ServerError, 503, false),
    ] {
        let fleet = fleet();
        let outcome = asking_for_patience(kind, status, 40);
        fleet.report(&id(), &outcome, now).unwrap();
        let at = |secs| now + Duration::from_secs(secs);
        for (after, breaker, is_asked) in [
            (0, BreakerView::Open, false),
            (41, BreakerView::HalfOpen, true),
        ] {
            let view = &fleet.views(at(after))[0];
            assert_eq!(
                (view.breaker, view.line_only),
                (breaker, line_only),
                "{status}"
            );
            assert_eq!(fleet.limits_requests(&id()), line_only);
            let may_not = line_only && !is_asked;
            assert_eq!(
                fleet.may_not_be_asked(&id(), at(after)),
                may_not,
                "{status}"
            );
        }
        // The trial decides.
        assert!(fleet.admit(&id(), at(41)));
        let failed = Outcome::Retryable {
            failure: Failure::with_status(FailureKind::ServerError, 503),
            retry_after_ms: None,
        };
        fleet.report(&id(), &failed, at(41));
        assert!(!fleet.views(at(41))[0].line_only, "it fails");
    }
}

#[test]
fn a_refusal_of_one_request_says_that_the_dialer_is_alive() {
    let (fleet, now) = (fleet(), Instant::now());
    let too_early = Outcome::Retryable {
        failure: Failure::with_status(FailureKind::ServerError, 425),
        retry_after_ms: None,
    };
    let refused = Outcome::Refused {
        failure: Failure::with_status(FailureKind::Rejected, 422),
    };
    // Each by itself: what is alive in between would hide what counts as a failure.
    for outcome in [too_early, refused] {
        for _ in 0..10 {
            assert_eq!(fleet.report(&id(), &outcome, now), None);
        }
    }
    assert_eq!(fleet.views(now)[0].breaker, BreakerView::Closed);
}
