//! What is looked at, and what counts as bad: the evaluation of signals and counters by the rules.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::counters::{CallCounters, FailureRate, RollingCounter};
use super::kinds::{IncidentKind, Topic};
use super::policy::AlertRules;
use super::tracker::{Evaluation, Moment, TopicEvaluation};
use crate::resilience::CredentialRefusal;
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
/// A backup is made every night.
const BACKUP_DAYS: i64 = 2;
/// So many starts in an hour are too many.
const STARTS_PER_HOUR: u32 = 5;

/// The room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// What we may still write.
    pub free: u64,
    pub total: u64,
}

/// How everything is beside the calls. `None` where it is not known: then nothing opens and nothing is resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthSignals {
    /// Every dialer, and why its circuit is open, where it is.
    pub dialers: Vec<(DialerId, Option<String>)>,
    /// Why the database takes no records; the inner `None`: it does.
    pub store: Option<Option<String>>,
    /// Why the audit log does not verify; the inner `None`: it does.
    pub audit: Option<Option<String>>,
    /// What is found of the credentials of each service. What is wrong may be over in a moment, see [`Evaluation::Quiet`].
    pub credentials: Vec<(String, Evaluation)>,
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
    /// What is found of the numbers that are called, by number.
    pub silent: Vec<(String, Evaluation)>,
    /// When the last backup was made that is known of.
    pub backup: Option<Timestamp>,
    /// Which calls of a day are missing in the log; the inner `None`: none of the day that was compared last.
    pub missing: Option<Option<String>>,
    /// How often the process started within the last hour.
    pub starts: Option<u32>,
    /// How many callers are on hold, and how long the first of them has waited.
    pub waiting: (usize, Duration),
}

impl HealthSignals {
    fn refuses_credentials(&self, service: &str) -> bool {
        self.credentials.iter().any(|(of, evaluation)| {
            of == service && matches!(evaluation, Evaluation::Quiet(_) | Evaluation::Bad(_))
        })
    }
}

/// Credentials that are refused once may be accepted in a moment: nobody is notified before a further try was refused as well.
pub fn of_credentials(service: &str, refused: Option<&CredentialRefusal>) -> Evaluation {
    let Some(refused) = refused else {
        return Evaluation::Well;
    };
    let CredentialRefusal {
        credential, why, ..
    } = refused;
    let cause = format!("{service} refuses {credential}: {why}");
    if refused.is_confirmed() {
        Evaluation::Bad(cause)
    } else {
        Evaluation::Quiet(cause)
    }
}

/// What counters and signals say of every topic.
pub fn evaluate<'t>(
    signals: &HealthSignals,
    counters: &'t CallCounters,
    rules: &AlertRules,
    now: Moment,
) -> Vec<TopicEvaluation<'t>> {
    let mut found = rates(counters, rules, now.instant);
    found.extend(signals.dialers.iter().map(|(dialer, down)| {
        let topic = Topic::about(IncidentKind::DialerDown, dialer.as_str());
        // CredentialRefusal credentials are an incident of their own.
        let evaluation = if signals.refuses_credentials(dialer.as_str()) {
            Evaluation::Unclear
        } else {
            bad_where(down.clone())
        };
        TopicEvaluation::plain(topic, evaluation)
    }));
    found.extend(signals.credentials.iter().map(|(service, evaluation)| {
        let topic = Topic::about(IncidentKind::CredentialsRefused, service);
        TopicEvaluation::plain(topic, evaluation.clone())
    }));
    found.extend(signals.silent.iter().map(|(number, evaluation)| {
        let topic = Topic::about(IncidentKind::NumberSilent, number);
        TopicEvaluation::plain(topic, evaluation.clone())
    }));
    let mut add =
        |kind, evaluation| found.push(TopicEvaluation::plain(Topic::of(kind), evaluation));
    add(
        IncidentKind::AuditStoreFailing,
        known(signals.store.clone(), bad_where),
    );
    add(
        IncidentKind::AuditDamaged,
        known(signals.audit.clone(), bad_where),
    );
    add(IncidentKind::DiskNearlyFull, known(signals.disk, disk));
    add(IncidentKind::WalTooLarge, known(signals.wal_bytes, wal));
    add(
        IncidentKind::CertificateExpiring,
        match &signals.certificate_refused {
            Some(why) => Evaluation::Bad(format!("there is no new certificate: {why}")),
            None => known(signals.certificate_ends, |ends| certificate(ends, now.at)),
        },
    );
    add(
        IncidentKind::ConfigReloadRefused,
        bad_where(signals.reload_refused.clone()),
    );
    add(
        IncidentKind::NoCalls,
        known(signals.quiet.clone(), bad_where),
    );
    add(
        IncidentKind::BackupOld,
        known(signals.backup, |made| backup(made, now.at)),
    );
    add(
        IncidentKind::CallsMissing,
        known(signals.missing.clone(), bad_where),
    );
    add(IncidentKind::Restarting, known(signals.starts, restarts));
    add(
        IncidentKind::WaitingLong,
        waiting(signals.waiting, rules.waiting_longer_than),
    );
    found
}

fn rates<'t>(
    counters: &'t CallCounters,
    rules: &AlertRules,
    now: Instant,
) -> Vec<TopicEvaluation<'t>> {
    let window = rules.window;
    let rate = |topic, counter: &'t RollingCounter, (what, did), percent, least| {
        let evaluation = rate(counter.rate(now), (what, did), percent, least, window);
        TopicEvaluation {
            topic,
            evaluation,
            counter: Some(counter),
        }
    };
    let of_at_least = |total| FailureRate { total, failed: 0 };
    let mut found = vec![
        rate(
            Topic::of(IncidentKind::RoutingFailureRate),
            &counters.calls,
            ("calls", "failed"),
            rules.failure_percent,
            of_at_least(rules.min_calls),
        ),
        rate(
            Topic::of(IncidentKind::BudgetOverrun),
            &counters.overruns,
            ("calls", "were answered after the budget"),
            rules.failure_percent,
            of_at_least(rules.min_calls),
        ),
        rate(
            Topic::of(IncidentKind::BrazeFailureRate),
            &counters.lookups,
            ("look-ups", "failed"),
            rules.braze_failure_percent,
            FailureRate {
                total: 0,
                failed: rules.braze_min_failures,
            },
        ),
    ];
    found.extend(counters.handoffs.iter().map(|(dialer, counter)| {
        rate(
            Topic::about(IncidentKind::DialerFailureRate, dialer.as_str()),
            counter,
            ("handoffs", "failed"),
            rules.dialer_failure_percent,
            of_at_least(rules.min_requests),
        )
    }));
    let fallbacks = match counters.fallbacks.rate(now).failed {
        0 => Evaluation::Well,
        n => Evaluation::Bad(format!(
            "Twilio called the fallback URL {n} times in the last {}",
            length(window)
        )),
    };
    found.push(TopicEvaluation {
        topic: Topic::of(IncidentKind::OnFallback),
        evaluation: fallbacks,
        counter: Some(&counters.fallbacks),
    });
    let malformed = malformed(&counters.malformed, now, window);
    let topic = Topic::of(IncidentKind::WebhooksMalformed);
    found.push(TopicEvaluation::plain(topic, malformed));
    found
}

/// One may be a slip; from the second on, somebody should look.
fn malformed(counter: &RollingCounter, now: Instant, window: Duration) -> Evaluation {
    let n = counter.rate(now).failed;
    match n {
        0 => return Evaluation::Well,
        1 => return Evaluation::Unclear,
        _ => {}
    }
    let lately = counter.failures().filter(|one| counter.holds(one.at, now));
    let causes: BTreeSet<&str> = lately.map(|one| one.reason.as_str()).collect();
    Evaluation::Bad(format!(
        "{n} signed webhooks of the last {} did not fit together ({})",
        length(window),
        causes.into_iter().collect::<Vec<_>>().join(", ")
    ))
}

fn rate(
    rate: FailureRate,
    (what, did): (&str, &str),
    percent: f64,
    least: FailureRate,
    window: Duration,
) -> Evaluation {
    if !rate.exceeds(percent) {
        return Evaluation::Well;
    }
    if rate.total < least.total || rate.failed < least.failed {
        return Evaluation::Unclear;
    }
    Evaluation::Bad(format!(
        "{} % of the {what} of the last {} {did} ({} of {}); the limit is {percent} %",
        rounded(rate.percent()),
        length(window),
        rate.failed,
        rate.total
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

fn bad_where(why: Option<String>) -> Evaluation {
    why.map_or(Evaluation::Well, Evaluation::Bad)
}

fn known<T>(signal: Option<T>, evaluate: impl FnOnce(T) -> Evaluation) -> Evaluation {
    signal.map_or(Evaluation::Unclear, evaluate)
}

fn disk(room: DiskRoom) -> Evaluation {
    let limit = (room.total / DISK_FREE_PART).clamp(DISK_FREE_LEAST, DISK_FREE_ENOUGH);
    if room.free < limit {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let (free, total, limit) = (mib(room.free), mib(room.total), mib(limit));
        Evaluation::Bad(format!(
            "{free} MiB of {total} MiB are free; less than {limit} MiB is too little"
        ))
    } else if room.free < limit + limit / 5 {
        Evaluation::Unclear
    } else {
        Evaluation::Well
    }
}

fn wal(bytes: u64) -> Evaluation {
    if bytes >= WAL_LARGE {
        Evaluation::Bad(format!(
            "the write-ahead log has {} MiB: a reader keeps it from being emptied",
            bytes / (1024 * 1024)
        ))
    } else if bytes > WAL_WELL {
        Evaluation::Unclear
    } else {
        Evaluation::Well
    }
}

fn certificate(ends: Timestamp, at: Timestamp) -> Evaluation {
    let left = ends.duration_since(at);
    if left >= SignedDuration::from_hours(24 * CERTIFICATE_DAYS) {
        return Evaluation::Well;
    }
    let day = ends.strftime("%Y-%m-%d %H:%M UTC");
    Evaluation::Bad(match Duration::try_from(left) {
        Ok(left) => format!("the certificate ends in {} ({day})", length(left)),
        Err(_) => format!("the certificate ended ({day})"),
    })
}

fn backup(made: Timestamp, at: Timestamp) -> Evaluation {
    let age = at.duration_since(made);
    if age <= SignedDuration::from_hours(24 * BACKUP_DAYS) {
        return Evaluation::Well;
    }
    let day = made.strftime("%Y-%m-%d %H:%M UTC");
    let age = length(Duration::try_from(age).unwrap_or_default());
    Evaluation::Bad(format!("the last backup was made {age} ago ({day})"))
}

fn waiting((n, longest): (usize, Duration), limit: Option<Duration>) -> Evaluation {
    match (n, limit) {
        (1, Some(limit)) if longest > limit => {
            Evaluation::Bad(format!("a caller waits for {}", length(longest)))
        }
        (_, Some(limit)) if longest > limit => Evaluation::Bad(format!(
            "{n} callers wait, the first of them for {}",
            length(longest)
        )),
        (_, Some(_) | None) => Evaluation::Well,
    }
}

fn restarts(starts: u32) -> Evaluation {
    if starts >= STARTS_PER_HOUR {
        Evaluation::Bad(format!("the process started {starts} times in an hour"))
    } else {
        Evaluation::Well
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
        let is_bad = |free, total| matches!(disk(DiskRoom { free, total }), Evaluation::Bad(_));
        assert!(is_bad(GIB - 1, 20 * GIB) && !is_bad(GIB + 1, 20 * GIB));
        assert!(is_bad(4 * GIB, 1_000 * GIB) && !is_bad(6 * GIB, 1_000 * GIB));
        assert!(is_bad(200 * 1024 * 1024, GIB) && !is_bad(400 * 1024 * 1024, GIB));
        let unclear = disk(DiskRoom {
            free: GIB + GIB / 10,
            total: 20 * GIB,
        });
        assert_eq!(unclear, Evaluation::Unclear);
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
            Evaluation::Bad(
                "499 MiB of 10000 MiB are free; less than 500 MiB is too little".to_owned()
            )
        );
        assert_eq!(of(500, 10_000), Evaluation::Unclear);
        assert_eq!(of(599, 10_000), Evaluation::Unclear);
        assert_eq!(of(600, 10_000), Evaluation::Well);
        assert!(matches!(of(255, 1_000), Evaluation::Bad(_)));
        assert_eq!(of(256, 1_000), Evaluation::Unclear);
        assert!(matches!(of(5_119, 1_000_000), Evaluation::Bad(_)));
        assert_eq!(of(5_120, 1_000_000), Evaluation::Unclear);
        assert_eq!(wal(128 * MIB), Evaluation::Well);
        assert_eq!(wal(128 * MIB + 1), Evaluation::Unclear);
        assert_eq!(wal(256 * MIB - 1), Evaluation::Unclear);
        assert!(matches!(wal(256 * MIB), Evaluation::Bad(why) if why.contains("has 256 MiB")));
    }

    #[test]
    fn credentials_are_refused_by_the_service_of_which_it_is_found() {
        let found = |evaluation| HealthSignals {
            credentials: vec![("dialfire".to_owned(), evaluation)],
            ..HealthSignals::default()
        };
        let refused = found(Evaluation::Quiet(String::new()));
        assert!(refused.refuses_credentials("dialfire"));
        assert!(!refused.refuses_credentials("zendesk"));
        assert!(!found(Evaluation::Well).refuses_credentials("dialfire"));
    }

    #[test]
    fn a_backup_is_old_after_two_days() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let made = |hours| backup(at - SignedDuration::from_hours(hours), at);
        assert_eq!(made(48), Evaluation::Well);
        assert!(matches!(made(49), Evaluation::Bad(why) if why.contains("2 d 1 h ago")));
    }

    #[test]
    fn callers_who_wait_long_are_told_of_where_somebody_wants_to_know() {
        let s = Duration::from_secs;
        let limit = Some(s(60));
        assert_eq!(waiting((3, s(90)), None), Evaluation::Well);
        assert_eq!(waiting((3, s(60)), limit), Evaluation::Well);
        let bad = |why: &str| Evaluation::Bad(why.to_owned());
        let one = bad("a caller waits for 1 min 1 s");
        assert_eq!(waiting((1, s(61)), limit), one);
        let several = bad("3 callers wait, the first of them for 1 min 30 s");
        assert_eq!(waiting((3, s(90)), limit), several);
    }

    #[test]
    fn a_certificate_is_told_of_two_weeks_before_it_ends() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let ends_in = |hours| certificate(at + SignedDuration::from_hours(hours), at);
        assert_eq!(ends_in(14 * 24), Evaluation::Well);
        assert!(matches!(ends_in(13 * 24), Evaluation::Bad(why) if why.contains("in 13 d")));
        assert!(matches!(ends_in(-1), Evaluation::Bad(why) if why.contains("ended")));
    }
}
