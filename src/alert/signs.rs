//! What is looked at, and what counts as bad: from signs and rules to findings.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::board::{Finding, Symptom, Topic};
use super::tally::{Share, Tally};
use super::{IncidentKind, Traffic};
use crate::routing::DialerId;

/// Free room below which the disk is nearly full: one part in so many, within the bounds below.
const DISK_FREE_PART: u64 = 20;
/// Less is always too little.
const DISK_FREE_LEAST: u64 = 256 * 1024 * 1024;
const DISK_FREE_ENOUGH: u64 = 5 * 1024 * 1024 * 1024;
/// A write-ahead log of this size is not emptied by itself any more.
const WAL_LARGE: u64 = 256 * 1024 * 1024;
/// Below this it is well again.
const WAL_WELL: u64 = 128 * 1024 * 1024;
/// A certificate that ends sooner should have been renewed.
const CERTIFICATE_DAYS: i64 = 14;
/// So many starts in an hour are too many.
const STARTS_PER_HOUR: u32 = 5;

#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The share of routing failures, in percent of the calls of the window, above which an incident opens; 0 to 100.
    /// Default: 5.
    pub failure_percent: f64,
    /// The time that is looked back on; 10 s to 1 d. Default: 5 m.
    pub window: Duration,
    /// Fewer calls in the window open no incident. Default: 1.
    pub min_calls: u64,
    /// How often a reminder is sent while an incident stays open; 1 m to 7 d. Default: 1 h.
    pub repeat_every: Duration,
    /// The share of look-ups at Braze that fail, in percent, above which an incident opens; 0 to 100. Default: 5.
    pub braze_failure_percent: f64,
    /// Fewer look-ups that fail in the window open no incident. Default: 3.
    pub braze_min_failures: u64,
    /// The share of handoffs to one dialer that fail, in percent, above which an incident opens; 0 to 100. Default: 20.
    pub dialer_failure_percent: f64,
    /// Fewer requests to a dialer in the window open no incident. Default: 10.
    pub min_requests: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failure_percent: 5.0,
            window: Duration::from_mins(5),
            min_calls: 1,
            repeat_every: Duration::from_hours(1),
            braze_failure_percent: 5.0,
            braze_min_failures: 3,
            dialer_failure_percent: 20.0,
            min_requests: 10,
        }
    }
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// What we may still write.
    pub free: u64,
    pub total: u64,
}

/// How everything is beside the traffic. `None` where it is not known: then nothing opens and nothing is resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signs {
    /// Every dialer, and why its circuit is open, where it is.
    pub dialers: Vec<(DialerId, Option<String>)>,
    /// Why the database takes no records; the inner `None`: it does.
    pub store: Option<Option<String>>,
    /// Why the audit log does not verify; the inner `None`: it does.
    pub audit: Option<Option<String>>,
    /// What is found of the credentials of each service. What is wrong may be over in a moment, see [`Finding::Quiet`].
    pub credentials: Vec<(String, Finding)>,
    /// The disk of the database.
    pub disk: Option<DiskRoom>,
    /// Size of the write-ahead log, in bytes.
    pub wal_bytes: Option<u64>,
    /// When the certificate that is served ends.
    pub certificate_ends: Option<Timestamp>,
    /// Why there is no new certificate although one is due or was put there; `None` where nothing is wrong.
    pub certificate_refused: Option<String>,
    /// Why the last changed configuration was refused; `None` where it was not.
    pub reload_refused: Option<String>,
    /// Why somebody should have called; the inner `None`: somebody has, or nobody had to.
    pub quiet: Option<Option<String>>,
    /// How often the process started within the last hour.
    pub starts: Option<u32>,
}

impl Signs {
    fn refuses_credentials(&self, service: &str) -> bool {
        self.credentials.iter().any(|(of, finding)| {
            of == service && matches!(finding, Finding::Quiet(_) | Finding::Bad(_))
        })
    }
}

/// What traffic and signs say of every topic.
pub fn findings<'t>(
    signs: &Signs,
    traffic: &'t Traffic,
    rules: &Rules,
    now: Instant,
    at: Timestamp,
) -> Vec<Symptom<'t>> {
    let mut found = rates(traffic, rules, now);
    found.extend(signs.dialers.iter().map(|(dialer, down)| {
        let topic = Topic::of_dialer(IncidentKind::DialerDown, dialer);
        // Refused credentials are an incident of their own.
        let finding = if signs.refuses_credentials(dialer.as_str()) {
            Finding::Unclear
        } else {
            bad_where(down.clone())
        };
        Symptom::plain(topic, finding)
    }));
    found.extend(signs.credentials.iter().map(|(service, finding)| {
        let topic = Topic::of_service(IncidentKind::CredentialsRefused, service);
        Symptom::plain(topic, finding.clone())
    }));
    let mut say = |kind, finding| found.push(Symptom::plain(Topic::of(kind), finding));
    say(
        IncidentKind::AuditStoreFailing,
        known(signs.store.clone(), bad_where),
    );
    say(
        IncidentKind::AuditDamaged,
        known(signs.audit.clone(), bad_where),
    );
    say(IncidentKind::DiskNearlyFull, known(signs.disk, disk));
    say(IncidentKind::WalTooLarge, known(signs.wal_bytes, wal));
    say(
        IncidentKind::CertificateExpiring,
        match &signs.certificate_refused {
            Some(why) => Finding::Bad(format!("there is no new certificate: {why}")),
            None => known(signs.certificate_ends, |ends| certificate(ends, at)),
        },
    );
    say(
        IncidentKind::ConfigReloadRefused,
        bad_where(signs.reload_refused.clone()),
    );
    say(IncidentKind::NoCalls, known(signs.quiet.clone(), bad_where));
    say(IncidentKind::Restarting, known(signs.starts, restarts));
    found
}

fn rates<'t>(traffic: &'t Traffic, rules: &Rules, now: Instant) -> Vec<Symptom<'t>> {
    let window = rules.window;
    let rate = |topic, tally: &'t Tally, (what, did), percent, least| {
        let finding = rate(tally.share(now), (what, did), percent, least, window);
        Symptom::counted(topic, finding, tally, now)
    };
    let of_at_least = |total| Share { total, failed: 0 };
    let mut found = vec![
        rate(
            Topic::of(IncidentKind::RoutingFailureRate),
            &traffic.calls,
            ("calls", "failed"),
            rules.failure_percent,
            of_at_least(rules.min_calls),
        ),
        rate(
            Topic::of(IncidentKind::BudgetOverrun),
            &traffic.overruns,
            ("calls", "were answered after the budget"),
            rules.failure_percent,
            of_at_least(rules.min_calls),
        ),
        rate(
            Topic::of(IncidentKind::BrazeFailureRate),
            &traffic.lookups,
            ("look-ups", "failed"),
            rules.braze_failure_percent,
            Share {
                total: 0,
                failed: rules.braze_min_failures,
            },
        ),
    ];
    found.extend(traffic.handoffs.iter().map(|(dialer, tally)| {
        rate(
            Topic::of_dialer(IncidentKind::DialerFailureRate, dialer),
            tally,
            ("handoffs", "failed"),
            rules.dialer_failure_percent,
            of_at_least(rules.min_requests),
        )
    }));
    let n = traffic.fallbacks.share(now).failed;
    let finding = if n == 0 {
        Finding::Well
    } else {
        let cause = format!(
            "Twilio called the fallback URL {n} times in the last {}",
            length(window)
        );
        Finding::Bad(cause)
    };
    found.push(Symptom::counted(
        Topic::of(IncidentKind::OnFallback),
        finding,
        &traffic.fallbacks,
        now,
    ));
    let topic = Topic::of(IncidentKind::WebhooksMalformed);
    found.push(Symptom::plain(
        topic,
        malformed(&traffic.malformed, now, window),
    ));
    found
}

/// One may be a slip; from the second on, somebody should look.
fn malformed(tally: &Tally, now: Instant, window: Duration) -> Finding {
    let n = tally.share(now).failed;
    if n < 2 {
        return if n == 0 {
            Finding::Well
        } else {
            Finding::Unclear
        };
    }
    let lately = tally.failures().filter(|one| tally.holds(one.at, now));
    let causes: BTreeSet<&str> = lately.map(|one| one.reason.as_str()).collect();
    Finding::Bad(format!(
        "{n} signed webhooks of the last {} did not fit together ({})",
        length(window),
        causes.into_iter().collect::<Vec<_>>().join(", ")
    ))
}

fn rate(
    share: Share,
    (what, did): (&str, &str),
    percent: f64,
    least: Share,
    window: Duration,
) -> Finding {
    if !share.exceeds(percent) {
        return Finding::Well;
    }
    if share.total < least.total || share.failed < least.failed {
        return Finding::Unclear;
    }
    Finding::Bad(format!(
        "{} % of the {what} of the last {} {did} ({} of {}); the limit is {percent} %",
        rounded(share.percent()),
        length(window),
        share.failed,
        share.total
    ))
}

/// One decimal, where it says something.
fn rounded(percent: f64) -> String {
    let text = format!("{percent:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// A length of time in words: `5 min`, `90 s`, `3 h 20 min`.
pub fn length(duration: Duration) -> String {
    let s = duration.as_secs();
    let (days, hours, minutes) = (s / 86_400, s / 3_600 % 24, s / 60 % 60);
    let two = |n: u64, big: &str, m: u64, small: &str| {
        if m == 0 {
            format!("{n} {big}")
        } else {
            format!("{n} {big} {m} {small}")
        }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => two(minutes, "min", s % 60, "s"),
        (0, _, _) => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

fn bad_where(why: Option<String>) -> Finding {
    why.map_or(Finding::Well, Finding::Bad)
}

fn known<T>(sign: Option<T>, judge: impl FnOnce(T) -> Finding) -> Finding {
    sign.map_or(Finding::Unclear, judge)
}

fn disk(room: DiskRoom) -> Finding {
    let limit = (room.total / DISK_FREE_PART).clamp(DISK_FREE_LEAST, DISK_FREE_ENOUGH);
    if room.free < limit {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let (free, total, limit) = (mib(room.free), mib(room.total), mib(limit));
        Finding::Bad(format!(
            "{free} MiB of {total} MiB are free; less than {limit} MiB is too little"
        ))
    } else if room.free < limit + limit / 5 {
        Finding::Unclear
    } else {
        Finding::Well
    }
}

fn wal(bytes: u64) -> Finding {
    if bytes >= WAL_LARGE {
        Finding::Bad(format!(
            "the write-ahead log has {} MiB: a reader keeps it from being emptied",
            bytes / (1024 * 1024)
        ))
    } else if bytes > WAL_WELL {
        Finding::Unclear
    } else {
        Finding::Well
    }
}

fn certificate(ends: Timestamp, at: Timestamp) -> Finding {
    let left = ends.duration_since(at);
    if left >= SignedDuration::from_hours(24 * CERTIFICATE_DAYS) {
        return Finding::Well;
    }
    let day = ends.strftime("%Y-%m-%d %H:%M UTC");
    Finding::Bad(match Duration::try_from(left) {
        Ok(left) => format!("the certificate ends in {} ({day})", length(left)),
        Err(_) => format!("the certificate ended ({day})"),
    })
}

fn restarts(starts: u32) -> Finding {
    if starts >= STARTS_PER_HOUR {
        Finding::Bad(format!("the process started {starts} times in an hour"))
    } else {
        Finding::Well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_their_two_largest_units() {
        for (s, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_400, "1 d"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(length(Duration::from_secs(s)), text);
        }
    }

    #[test]
    fn a_disk_is_nearly_full_by_its_size() {
        const GIB: u64 = 1024 * 1024 * 1024;
        let is_bad = |free, total| matches!(disk(DiskRoom { free, total }), Finding::Bad(_));
        assert!(is_bad(GIB - 1, 20 * GIB) && !is_bad(GIB + 1, 20 * GIB));
        assert!(is_bad(4 * GIB, 1_000 * GIB) && !is_bad(6 * GIB, 1_000 * GIB));
        assert!(is_bad(200 * 1024 * 1024, GIB) && !is_bad(400 * 1024 * 1024, GIB));
        let unclear = disk(DiskRoom {
            free: GIB + GIB / 10,
            total: 20 * GIB,
        });
        assert_eq!(unclear, Finding::Unclear);
    }

    #[test]
    fn room_and_log_are_judged_by_their_limits() {
        const MIB: u64 = 1024 * 1024;
        let of = |free, total| {
            disk(DiskRoom {
                free: free * MIB,
                total: total * MIB,
            })
        };
        // 5 % of a disk, and at least 256 MiB and at most 5 GiB.
        assert_eq!(
            of(499, 10_000),
            Finding::Bad(
                "499 MiB of 10000 MiB are free; less than 500 MiB is too little".to_owned()
            )
        );
        assert_eq!(of(500, 10_000), Finding::Unclear);
        assert_eq!(of(599, 10_000), Finding::Unclear);
        assert_eq!(of(600, 10_000), Finding::Well);
        assert!(matches!(of(255, 1_000), Finding::Bad(_)));
        assert_eq!(of(256, 1_000), Finding::Unclear);
        assert!(matches!(of(5_119, 1_000_000), Finding::Bad(_)));
        assert_eq!(of(5_120, 1_000_000), Finding::Unclear);
        assert_eq!(wal(128 * MIB), Finding::Well);
        assert_eq!(wal(128 * MIB + 1), Finding::Unclear);
        assert_eq!(wal(256 * MIB - 1), Finding::Unclear);
        assert!(matches!(wal(256 * MIB), Finding::Bad(why) if why.contains("has 256 MiB")));
    }

    #[test]
    fn credentials_are_refused_by_the_service_of_which_it_is_found() {
        let found = |finding| Signs {
            credentials: vec![("dialfire".to_owned(), finding)],
            ..Signs::default()
        };
        let refused = found(Finding::Quiet(String::new()));
        assert!(refused.refuses_credentials("dialfire"));
        assert!(!refused.refuses_credentials("zendesk"));
        assert!(!found(Finding::Well).refuses_credentials("dialfire"));
    }

    #[test]
    fn a_certificate_is_told_of_two_weeks_before_it_ends() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let ends_in = |hours| certificate(at + SignedDuration::from_hours(hours), at);
        assert_eq!(ends_in(14 * 24), Finding::Well);
        assert!(matches!(ends_in(13 * 24), Finding::Bad(why) if why.contains("in 13 d")));
        assert!(matches!(ends_in(-1), Finding::Bad(why) if why.contains("ended")));
    }
}
