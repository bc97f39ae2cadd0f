//! Patterns of traffic, second by second, and the notifications that they make.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::alerts::counters::CallCounters;
use crate::alerts::counters::tests::{call, instant};
use crate::alerts::policy::AlertRules;
use crate::alerts::signals::{HealthSignals, evaluate};

/// A world of one tracker, looked at every second. The wall clock may be set apart from the monotonic one.
struct Bench {
    rules: AlertRules,
    counters: CallCounters,
    tracker: IncidentTracker,
    signals: HealthSignals,
    second: u64,
    wall_offset: i64,
    n_calls: u64,
    told: Vec<(u64, EventType, Notification)>,
}

impl Bench {
    fn new() -> Self {
        Self::with(AlertRules::default())
    }

    fn with(rules: AlertRules) -> Self {
        Self {
            counters: CallCounters::new(rules.window),
            tracker: IncidentTracker::new(rules.repeat_every),
            rules,
            signals: HealthSignals::default(),
            second: 0,
            wall_offset: 0,
            n_calls: 0,
            told: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        let second = i64::try_from(self.second).unwrap();
        Moment {
            instant: instant(self.second),
            at: Timestamp::from_second(1_790_000_000 + second + self.wall_offset).unwrap(),
        }
    }

    fn call(&mut self, fails: bool) {
        let id = call(self.n_calls);
        self.n_calls += 1;
        let now = instant(self.second);
        self.counters.arrived(&id, now);
        self.counters.answered(&id, true, now);
        if fails {
            self.counters.failed(&id, "last_resort", now);
        }
    }

    fn calls(&mut self, n: u64, failing: u64) {
        (0..n - failing).for_each(|_| self.call(false));
        (0..failing).for_each(|_| self.call(true));
    }

    fn look(&mut self) {
        let now = self.moment();
        let found = evaluate(&self.signals, &self.counters, &self.rules, now);
        let told = self.tracker.evaluate(found, now);
        let second = self.second;
        self.told.extend(
            told.into_iter()
                .map(|(event_type, notification)| (second, event_type, notification)),
        );
    }

    /// Looks at every second up to this one.
    fn until(&mut self, second: u64) {
        while self.second < second {
            self.look();
            self.second += 1;
        }
        self.look();
    }

    fn told(&self) -> Vec<(u64, &'static str, &'static str)> {
        let plain = |(second, event_type, notification): &(u64, EventType, Notification)| {
            (*second, notification.kind.as_str(), event_type.as_str())
        };
        self.told.iter().map(plain).collect()
    }

    /// The process ends, is away for so long, and starts on what it had stored. The monotonic clock begins anew, which the seconds stand for.
    fn restart(&mut self, away: u64) {
        let status: Vec<IncidentStatus> = self
            .tracker
            .open
            .values()
            .map(|it| it.status.clone())
            .collect();
        self.second += away;
        let now = self.moment();
        self.tracker = IncidentTracker::new(self.rules.repeat_every);
        for status in status {
            self.tracker.restore(status, now);
        }
    }
}

const RATE: &str = "routing_failure_rate";

#[test]
fn one_failing_call_in_five_minutes_is_told_once_and_resolved_when_it_has_left_the_window() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.until(1_000);
    assert_eq!(bench.told(), [(0, RATE, "opened"), (360, RATE, "resolved")]);
    let (_, _, opened) = &bench.told[0];
    assert_eq!(
        opened.cause,
        "100 % of the calls of the last 5 min failed (1 of 1); the limit is 5 %"
    );
    assert_eq!(
        (opened.calls, opened.call_ids.as_slice()),
        (1, [call(0)].as_slice())
    );
    assert_eq!(opened.ranked(), [("last_resort", 1)]);
    let (_, _, resolved) = &bench.told[1];
    assert_eq!((resolved.calls, resolved.lasted_ms), (1, Some(360_000)));
}

#[test]
fn the_rule_is_taken_literally() {
    for (calls, failing, opens) in [
        (1_000, 49, false),
        (1_000, 50, false),
        (1_000, 51, true),
        (20, 1, false),
        (19, 1, true),
        (3, 1, true),
        (1, 1, true),
        (5, 0, false),
    ] {
        let mut bench = Bench::new();
        bench.calls(calls, failing);
        bench.look();
        assert_eq!(!bench.told.is_empty(), opens, "{failing} of {calls}");
    }
}

#[test]
fn a_small_sample_opens_nothing_and_resolves_nothing() {
    let mut bench = Bench::with(AlertRules {
        min_calls: 10,
        ..AlertRules::default()
    });
    bench.calls(9, 9);
    bench.until(10);
    assert_eq!(bench.told(), []);
    bench.call(true);
    bench.until(310);
    assert_eq!(bench.told(), [(10, RATE, "opened")]);
    // The first nine have left; the tenth fails on its own.
    bench.second = 312;
    bench.call(true);
    bench.until(500);
    assert_eq!(bench.told(), [(10, RATE, "opened")]);
    bench.until(1_000);
    assert_eq!(bench.told().last(), Some(&(672, RATE, "resolved")));
}

#[test]
fn a_burst_is_one_incident_and_counts_its_calls() {
    let mut bench = Bench::new();
    bench.calls(500, 0);
    bench.until(60);
    bench.calls(300, 300);
    bench.until(61);
    bench.calls(50, 50);
    bench.until(900);
    assert_eq!(
        bench.told(),
        [(60, RATE, "opened"), (421, RATE, "resolved")]
    );
    assert_eq!(bench.told[0].2.calls, 300);
    assert_eq!(bench.told[0].2.call_ids.len(), 300);
    assert_eq!(bench.told[1].2.calls, 350);
    assert_eq!(bench.told[1].2.call_ids.len(), 350);
}

#[test]
fn flapping_around_the_limit_is_one_incident() {
    let mut bench = Bench::with(AlertRules {
        window: Duration::from_secs(10),
        ..AlertRules::default()
    });
    // Bad for 10 s, well for 30 s, again and again: never well for a minute.
    for round in 0..20 {
        bench.until(round * 40);
        bench.call(true);
    }
    bench.until(1_000);
    assert_eq!(bench.told(), [(0, RATE, "opened"), (830, RATE, "resolved")]);
    assert_eq!(bench.told[1].2.calls, 20);
}

#[test]
fn somebody_is_reminded_while_it_stays_open() {
    let mut bench = Bench::new();
    for minute in 0..150 {
        bench.until(minute * 60);
        bench.call(true);
    }
    bench.until(150 * 60 + 400);
    assert_eq!(
        bench.told(),
        [
            (0, RATE, "opened"),
            (3_600, RATE, "reminded"),
            (7_200, RATE, "reminded"),
            (149 * 60 + 360, RATE, "resolved"),
        ]
    );
    let ids: Vec<&str> = bench.told.iter().map(|(_, _, n)| n.id.as_str()).collect();
    assert!(
        ids[1].ends_with("-reminded-1") && ids[2].ends_with("-reminded-2"),
        "{ids:?}"
    );
    assert_eq!(bench.told[1].2.lasted_ms, Some(3_600_000));
}

#[test]
fn a_day_of_failure_of_everything_stays_bounded() {
    let mut bench = Bench::new();
    let dialers = ["a", "b"].map(DialerId::new);
    bench.signals.dialers = dialers
        .iter()
        .map(|d| (d.clone(), Some("503".to_owned())))
        .collect();
    bench.signals.store = Some(Some("disk full".to_owned()));
    let all_down = Topic::of(IncidentKind::AllDialersDown);
    let struck = bench.tracker.open(
        all_down,
        "both".into(),
        &dialers,
        (1, vec![call(0)]),
        bench.moment(),
    );
    assert!(struck.is_some());
    for minute in 0..24 * 60 {
        bench.until(minute * 60);
        bench.call(true);
    }
    for kind in [RATE, "audit_store_failing"] {
        let n = bench.told().iter().filter(|(_, k, _)| *k == kind).count();
        assert!(n <= 24, "{kind}: {n}");
    }
    let single = |(_, k, _): &&(u64, &str, &str)| k.starts_with("dialer_");
    assert_eq!(bench.told().iter().filter(single).count(), 0);
}

#[test]
fn a_restart_in_the_middle_goes_on_where_it_was() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.until(100);
    bench.restart(30);
    bench.until(1_000);
    assert_eq!(bench.told(), [(0, RATE, "opened"), (360, RATE, "resolved")]);
    let resolved = &bench.told[1].2;
    assert_eq!((resolved.calls, resolved.lasted_ms), (1, Some(360_000)));
    assert_eq!(resolved.incident, bench.told[0].2.incident);
}

#[test]
fn a_restart_does_not_forget_when_somebody_was_last_reminded() {
    let mut bench = Bench::new();
    // Somebody is reminded after an hour, and a quarter of an hour later the process starts anew.
    for minute in 0..130 {
        bench.until(minute * 60);
        bench.call(true);
        if minute == 75 {
            bench.restart(20);
        }
    }
    let reminders: Vec<_> = bench
        .told()
        .into_iter()
        .filter(|t| t.2 == "reminded")
        .collect();
    // The next reminder is due an hour after the last word, and not since the incident is older than an hour.
    assert_eq!(
        reminders,
        [(3_600, RATE, "reminded"), (7_200, RATE, "reminded")]
    );
}

#[test]
fn a_clock_that_steps_back_an_hour_changes_nothing() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.until(100);
    bench.wall_offset = -3_600;
    bench.until(200);
    bench.call(true);
    bench.until(1_000);
    assert_eq!(bench.told(), [(0, RATE, "opened"), (560, RATE, "resolved")]);
    assert_eq!(bench.told[1].2.lasted_ms, Some(560_000));
    // And one that steps back while the process is away makes it shorter, not negative.
    let mut bench = Bench::new();
    bench.call(true);
    bench.until(10);
    bench.wall_offset = -3_600;
    bench.restart(5);
    bench.until(1_000);
    assert_eq!(bench.told[1].2.lasted_ms, Some(345_000));
}

#[test]
fn a_dialer_that_is_down_is_told_after_five_seconds_and_not_while_all_are() {
    let mut bench = Bench::new();
    let (a, b) = (DialerId::new("a"), DialerId::new("b"));
    let down = |why: &str| Some(why.to_owned());
    bench.signals.dialers = vec![(a.clone(), down("503")), (b.clone(), None)];
    bench.until(4);
    assert_eq!(bench.told(), []);
    bench.until(20);
    assert_eq!(bench.told(), [(5, "dialer_down", "opened")]);
    assert_eq!(bench.told[0].2.title(), "a is down");

    let topic = Topic::of(IncidentKind::AllDialersDown);
    let now = bench.moment();
    let struck = bench.tracker.open(
        topic,
        "both".into(),
        &[a.clone(), b.clone()],
        (0, vec![]),
        now,
    );
    assert!(struck.is_some());
    bench.signals.dialers = vec![(a.clone(), down("503")), (b.clone(), down("timeout"))];
    bench.until(4_000);
    let told = bench.told();
    assert_eq!(
        &told[1..],
        [(3_620, "all_dialers_down", "reminded")],
        "no word of single ones"
    );

    // The first comes back; the other stays down, and once it had the time for a trial, that is news.
    let now = bench.moment();
    assert_eq!(bench.tracker.recovered(&a, now).len(), 1);
    bench.signals.dialers = vec![(a, None), (b, down("timeout"))];
    bench.until(4_200);
    let told = bench.told();
    assert_eq!(
        &told[2..],
        [
            (4_036, "dialer_down", "opened"),
            (4_061, "dialer_down", "resolved")
        ]
        .map(|(s, k, o)| (s - 1, k, o))
    );
}

#[test]
fn a_dialer_that_comes_and_goes_is_one_incident() {
    let mut bench = Bench::new();
    let a = DialerId::new("a");
    for round in 0..10 {
        bench.signals.dialers = vec![(a.clone(), Some("503".to_owned()))];
        bench.until(round * 60 + 30);
        bench.signals.dialers = vec![(a.clone(), None)];
        bench.until(round * 60 + 60);
    }
    bench.until(1_000);
    assert_eq!(
        bench.told(),
        [
            (5, "dialer_down", "opened"),
            (630, "dialer_down", "resolved")
        ]
    );
}

#[test]
fn a_dialer_that_is_not_configured_any_more_is_resolved() {
    let mut bench = Bench::new();
    bench.signals.dialers = vec![(DialerId::new("a"), Some("503".to_owned()))];
    bench.until(10);
    bench.signals.dialers.clear();
    bench.until(100);
    assert_eq!(bench.told().last(), Some(&(70, "dialer_down", "resolved")));
}

#[test]
fn braze_is_told_of_above_five_percent_and_from_three_failures_on_however_few_ask() {
    let mut bench = Bench::new();
    let braze = |bench: &mut Bench, n: u64, failed: Option<&str>| {
        let now = instant(bench.second);
        bench.counters.looked_up(Some(&call(n)), failed, now);
    };
    braze(&mut bench, 0, Some("timeout"));
    // A probe counts as well.
    bench.counters.looked_up(None, Some("timeout"), instant(0));
    bench.until(10);
    assert_eq!(bench.told(), []);
    braze(&mut bench, 1, Some("server_error"));
    bench.until(20);
    assert_eq!(bench.told(), [(10, "braze_failure_rate", "opened")]);
    let (_, _, opened) = &bench.told[0];
    assert_eq!(
        opened.cause,
        "100 % of the look-ups of the last 5 min failed (3 of 3); the limit is 5 %"
    );
    assert_eq!(opened.ranked(), [("timeout", 2), ("server_error", 1)]);

    for (well, told) in [(57, 0), (56, 1)] {
        let mut bench = Bench::new();
        (0..well).for_each(|n| braze(&mut bench, n, None));
        (100..103).for_each(|n| braze(&mut bench, n, Some("timeout")));
        bench.until(10);
        assert_eq!(bench.told().len(), told, "3 of {}", well + 3);
    }
}

#[test]
fn handoffs_have_a_limit_and_a_sample_of_their_own() {
    let mut bench = Bench::new();
    let a = DialerId::new("a");
    for n in 0..9 {
        bench
            .counters
            .handed_off(&a, &call(n), Some("server_error"), instant(0));
    }
    bench.until(10);
    assert_eq!(bench.told(), []);
    bench.counters.handed_off(&a, &call(9), None, instant(10));
    bench.until(20);
    assert_eq!(bench.told(), [(15, "dialer_failure_rate", "opened")]);
    assert_eq!(bench.told[0].2.subject, "a");
}

fn refused(bench: &mut Bench, evaluation: Evaluation) {
    bench.signals.dialers = vec![(DialerId::new("a"), Some("unauthorized (401)".to_owned()))];
    bench.signals.credentials = vec![("a".to_owned(), evaluation)];
}

#[test]
fn refused_credentials_open_in_silence_and_are_told_when_a_further_try_is_refused() {
    let mut bench = Bench::new();
    refused(&mut bench, Evaluation::Quiet("refused".into()));
    bench.until(20);
    assert_eq!(bench.told(), [(0, "credentials_refused", "opened")]);
    assert!(bench.told[0].2.quiet);
    // A restart in between changes nothing.
    bench.restart(10);
    bench.until(10_000);
    assert_eq!(
        bench.told().len(),
        1,
        "nobody is reminded of what was not told"
    );
    refused(&mut bench, Evaluation::Bad("refused twice".into()));
    bench.restart(1);
    bench.until(10_002);
    let (second, event_type, notification) = bench.told[1].clone();
    assert_eq!(
        (second, event_type, notification.quiet),
        (10_001, EventType::Opened, false)
    );
    assert_eq!(notification.incident, bench.told[0].2.incident);
    assert_eq!(
        (notification.cause.as_str(), notification.subject.as_str()),
        ("refused twice", "a")
    );
    assert_eq!(notification.title(), "a refuses our credentials");
    bench.until(10_001 + 3_600);
    assert_eq!(bench.told[2].1, EventType::Reminded);
    refused(&mut bench, Evaluation::Well);
    bench.signals.dialers = vec![(DialerId::new("a"), None)];
    bench.until(13_800);
    assert_eq!(bench.told.len(), 4);
    assert_eq!(
        (bench.told[3].1, bench.told[3].2.quiet),
        (EventType::Resolved, false)
    );
}

#[test]
fn refused_credentials_that_are_accepted_at_the_next_try_are_told_to_nobody() {
    let mut bench = Bench::new();
    refused(&mut bench, Evaluation::Quiet("refused".into()));
    bench.until(30);
    refused(&mut bench, Evaluation::Well);
    bench.signals.dialers = vec![(DialerId::new("a"), None)];
    bench.until(200);
    assert_eq!(
        bench.told(),
        [
            (0, "credentials_refused", "opened"),
            (30, "credentials_refused", "resolved")
        ]
    );
    assert!(
        bench
            .told
            .iter()
            .all(|(_, _, notification)| notification.quiet)
    );
}

#[test]
fn a_dialer_that_is_down_and_then_refuses_credentials_is_not_resolved_by_that() {
    let mut bench = Bench::new();
    bench.signals.dialers = vec![(DialerId::new("a"), Some("timeout".to_owned()))];
    bench.until(10);
    refused(&mut bench, Evaluation::Bad("refused".into()));
    bench.until(1_000);
    assert_eq!(
        bench.told(),
        [
            (5, "dialer_down", "opened"),
            (10, "credentials_refused", "opened")
        ]
    );
}

/// Makes a sign bad, or well.
type Turn = fn(&mut HealthSignals, bool, Timestamp);

#[test]
fn every_sign_opens_its_incident_and_resolves_it() {
    let at = Bench::new().moment().at;
    let cases: [(&str, Turn); 8] = [
        ("audit_store_failing", |s, bad, _| {
            s.store = Some(bad.then(|| "full".into()));
        }),
        ("audit_damaged", |s, bad, _| {
            s.audit = Some(bad.then(|| "altered".into()));
        }),
        ("disk_nearly_full", |s, bad, _| {
            let free = if bad { 1 } else { 1 << 40 };
            s.disk = Some(crate::alerts::signals::DiskRoom {
                free,
                total: 1 << 41,
            });
        }),
        ("wal_too_large", |s, bad, _| {
            s.wal_bytes = Some(if bad { 1 << 30 } else { 0 });
        }),
        ("certificate_expiring", |s, bad, at| {
            s.certificate_ends =
                Some(at + SignedDuration::from_hours(if bad { 48 } else { 2_400 }));
        }),
        ("config_reload_refused", |s, bad, _| {
            s.reload_refused = bad.then(|| "3:1".into());
        }),
        ("no_calls", |s, bad, _| {
            s.quiet = Some(bad.then(|| "quiet".into()));
        }),
        ("restarting", |s, bad, _| {
            s.starts = Some(if bad { 9 } else { 1 });
        }),
    ];
    for (kind, turn) in cases {
        let mut bench = Bench::new();
        bench.until(5);
        turn(&mut bench.signals, true, at);
        bench.until(10);
        turn(&mut bench.signals, false, at);
        bench.until(100);
        let told: Vec<_> = bench.told().into_iter().map(|(_, k, o)| (k, o)).collect();
        assert_eq!(told, [(kind, "opened"), (kind, "resolved")]);
    }
}

#[test]
fn requests_to_the_fallback_url_open_at_once_and_end_with_the_window() {
    let mut bench = Bench::new();
    bench
        .counters
        .fell_back(Some(&call(1)), "11200", instant(0));
    bench.until(400);
    assert_eq!(
        bench.told(),
        [
            (0, "on_fallback", "opened"),
            (300, "on_fallback", "resolved")
        ]
    );
}

#[test]
fn malformed_webhooks_open_when_they_repeat_and_are_no_failed_calls() {
    let mut bench = Bench::new();
    bench.counters.malformed("field_name", instant(0));
    bench.until(20);
    assert_eq!(bench.told(), []);
    bench.counters.malformed("call_sid_odd", instant(20));
    bench.until(400);
    assert_eq!(
        bench.told(),
        [
            (20, "webhooks_malformed", "opened"),
            (320, "webhooks_malformed", "resolved")
        ]
    );
    let rate = bench.counters.calls_rate(instant(21));
    assert_eq!((rate.failed, rate.total), (0, 0));
}

#[test]
fn of_many_calls_the_first_are_named_and_all_are_counted() {
    let mut bench = Bench::new();
    for second in 0..6 {
        bench.until(second);
        bench.calls(100, 100);
    }
    bench.until(900);
    let (_, _, resolved) = bench.told.last().unwrap();
    assert_eq!(
        (resolved.calls, resolved.call_ids.len()),
        (600, CALLS_NAMED)
    );
    assert_eq!(resolved.call_ids[..2], [call(0), call(1)]);
}

/// Opens what callers tell of: nobody takes the call of this rule, which wants these dialers.
fn struck(bench: &mut Bench, topic: Topic, dialers: &[&str]) {
    let dialers: Vec<DialerId> = dialers.iter().map(|id| DialerId::new(id)).collect();
    let now = bench.moment();
    let affected = (1, vec![call(0)]);
    let told = bench
        .tracker
        .open(topic, String::new(), &dialers, affected, now);
    assert!(told.is_some());
}

#[test]
fn calls_are_added_to_what_is_open_and_only_what_has_changed_is_given() {
    let mut bench = Bench::new();
    let topic = Topic::about(IncidentKind::CallersWaiting, "hot");
    struck(&mut bench, topic.clone(), &["dialfire"]);
    assert_eq!(bench.tracker.take_changed(), []);
    for n in 1..600 {
        bench.tracker.affect(&topic, &call(n));
    }
    bench
        .tracker
        .affect(&Topic::of(IncidentKind::CallersWaiting), &call(600));
    let changed = bench.tracker.take_changed();
    let counts: Vec<_> = changed
        .iter()
        .map(|s| (s.calls, s.call_ids.len()))
        .collect();
    assert_eq!(counts, [(600, CALLS_NAMED)]);
    assert_eq!(bench.tracker.take_changed(), []);
}

#[test]
fn failures_that_are_counted_already_are_no_change() {
    let mut bench = Bench::new();
    bench.calls(1, 1);
    bench.look();
    assert_eq!(bench.tracker.take_changed(), []);
    bench.look();
    assert_eq!(bench.tracker.take_changed(), []);
    bench.calls(1, 1);
    bench.look();
    assert_eq!(bench.tracker.take_changed().len(), 1);
}

#[test]
fn incidents_are_counted_by_kind() {
    let mut bench = Bench::new();
    struck(
        &mut bench,
        Topic::of(IncidentKind::CallersWaiting),
        &["dialfire"],
    );
    struck(
        &mut bench,
        Topic::about(IncidentKind::CallersWaiting, "hot"),
        &["dialfire"],
    );
    let counts = [
        IncidentKind::CallersWaiting,
        IncidentKind::AllDialersDown,
        IncidentKind::DialerDown,
    ]
    .map(|kind| bench.tracker.count_open(kind));
    assert_eq!(counts, [2, 0, 0]);
}

#[test]
fn a_dialer_that_recovers_resolves_what_calls_told_of_it_and_nothing_else() {
    let mut bench = Bench::new();
    struck(
        &mut bench,
        Topic::about(IncidentKind::CallersWaiting, "hot"),
        &["dialfire"],
    );
    struck(
        &mut bench,
        Topic::of(IncidentKind::CallersWaiting),
        &["zendesk"],
    );
    let id = DialerId::new("dialfire");
    struck(
        &mut bench,
        Topic::about(IncidentKind::DialerDown, id.as_str()),
        &["dialfire"],
    );
    let now = bench.moment();
    let told = bench.tracker.recovered(&id, now);
    let told: Vec<_> = told
        .iter()
        .map(|(event_type, notification)| {
            (
                *event_type,
                notification.kind,
                notification.subject.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(EventType::Resolved, IncidentKind::CallersWaiting, "hot")]
    );
    assert_eq!(bench.tracker.open.values().count(), 2);
}

#[test]
fn callers_who_have_gone_are_no_incident_after_a_minute_without_a_break() {
    let mut bench = Bench::new();
    struck(
        &mut bench,
        Topic::about(IncidentKind::CallersWaiting, "hot"),
        &["dialfire"],
    );
    struck(
        &mut bench,
        Topic::of(IncidentKind::CallersWaiting),
        &["zendesk"],
    );
    struck(
        &mut bench,
        Topic::of(IncidentKind::AllDialersDown),
        &["dialfire"],
    );
    let nobody_for = |dialer: &'static str| {
        move |dialers: &[DialerId]| dialers.iter().all(|id| id.as_str() == dialer)
    };
    let mut gone = |second: u64, dialer| {
        bench.second = second;
        let now = bench.moment();
        let told = bench.tracker.deserted(nobody_for(dialer), now);
        told.into_iter()
            .map(|(event_type, notification)| (event_type.as_str(), notification.subject))
            .collect::<Vec<_>>()
    };
    for (second, dialer) in [
        (0, "dialfire"),
        (59, "dialfire"),
        (60, "other"),
        (61, "dialfire"),
        (120, "dialfire"),
    ] {
        assert_eq!(gone(second, dialer), [], "{second}");
    }
    assert_eq!(gone(121, "dialfire"), [("resolved", "hot".to_owned())]);
    assert_eq!(bench.tracker.open.values().count(), 2);
}

#[test]
fn another_interval_counts_from_the_next_reminder_on() {
    let mut bench = Bench::new();
    bench.tracker.set_repeat_every(Duration::from_mins(1));
    bench.call(true);
    bench.until(150);
    assert_eq!(
        bench.told(),
        [
            (0, RATE, "opened"),
            (60, RATE, "reminded"),
            (120, RATE, "reminded")
        ]
    );
}

#[test]
fn who_works_on_an_incident_is_not_reminded_and_is_told_of_its_end() {
    let mut bench = Bench::new();
    bench.signals.reload_refused = Some("line 3".to_owned());
    bench.until(3_700);
    let kind = "config_reload_refused";
    assert_eq!(
        bench.told(),
        [(0, kind, "opened"), (3_600, kind, "reminded")]
    );
    let id = bench.told[0].2.incident.clone();
    let by = || Acknowledgement {
        by: "ops".to_owned(),
        at: Timestamp::UNIX_EPOCH,
    };
    let now = bench.moment();
    let told = bench.tracker.acknowledge(&id, by(), now).flatten();
    assert_eq!(told.unwrap().id, format!("{id}-acknowledged"));
    assert_eq!(bench.tracker.acknowledge(&id, by(), now), Some(None));
    assert_eq!(bench.tracker.acknowledge("other", by(), now), None);
    bench.until(20_000);
    // The next process knows it, too.
    bench.restart(10);
    bench.until(30_000);
    assert_eq!(bench.told().len(), 2);
    bench.signals.reload_refused = None;
    bench.until(30_002);
    assert_eq!(bench.told()[2], (30_000, kind, "resolved"));
}

#[test]
fn of_a_dialer_that_was_taken_out_on_purpose_nobody_is_told() {
    let mut bench = Bench::new();
    let a = DialerId::new("a");
    let out = Drained::new("ops", Timestamp::UNIX_EPOCH);
    bench.tracker.set_taken_out([("a".to_owned(), out)].into());
    bench.signals.dialers = vec![(a, Some("503".to_owned()))];
    bench.until(100);
    assert!(
        bench.told.iter().all(|(_, _, told)| told.quiet),
        "{:?}",
        bench.told
    );
    assert_eq!(bench.told[0].2.muted.as_ref().unwrap().by, "ops");
    bench.tracker.set_taken_out([].into());
    bench.until(101);
    let (second, event_type, told) = bench.told.last().unwrap();
    assert_eq!(
        (*second, *event_type, told.quiet),
        (100, EventType::Opened, false)
    );
}
