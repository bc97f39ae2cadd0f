//! What an incident can be about: a closed list, stable in exports.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

/// What an incident is about.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum IncidentKind {
    /// Too many calls reach no dialer in time.
    RoutingFailureRate,
    /// Too many look-ups at Braze fail.
    BrazeFailureRate,
    /// Too many handoffs to one dialer fail.
    DialerFailureRate,
    /// One dialer takes no calls: its circuit is open.
    DialerDown,
    /// A service refuses the credentials that are configured for it.
    CredentialsRefused,
    /// No dialer takes calls: callers are held.
    AllDialersDown,
    /// No dialer of a plan takes calls, though others may: the callers of that rule are held.
    CallersWaiting,
    /// A caller on hold waits longer than `waiting_longer_than`.
    WaitingLong,
    /// Too many answers leave after the budget has ended.
    BudgetOverrun,
    /// The database takes no records.
    AuditStoreFailing,
    /// The audit log does not verify: altered, missing or rolled back.
    AuditDamaged,
    /// The disk of the database has little room left.
    DiskNearlyFull,
    /// The write-ahead log of the database cannot be emptied.
    WalTooLarge,
    /// The certificate that is served ends soon.
    CertificateExpiring,
    /// A changed configuration cannot be used; the old one stays.
    ConfigReloadRefused,
    /// Nobody calls, at an hour at which people usually do.
    NoCalls,
    /// Nobody calls one number, at an hour at which it always gets calls.
    NumberSilent,
    /// The process starts again and again.
    Restarting,
    /// Twilio calls the fallback URL: it cannot use our answers.
    OnFallback,
    /// Signed webhooks come that do not fit together.
    WebhooksMalformed,
    /// The last backup was made days ago.
    BackupOld,
    /// Twilio lists calls that are not in the log.
    CallsMissing,
}

/// How pressing an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum IncidentSeverity {
    /// Callers or records are harmed now.
    Critical,
    Warning,
}

impl IncidentSeverity {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl IncidentKind {
    /// All kinds, in the order of the list.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The stable name, as in the API and in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// In a few words for people, without the dialer it may be about.
    pub fn title(self) -> &'static str {
        match self {
            Self::RoutingFailureRate => "calls fail",
            Self::BrazeFailureRate => "look-ups at Braze fail",
            Self::DialerFailureRate => "handoffs fail",
            Self::DialerDown => "a dialer is down",
            Self::CredentialsRefused => "credentials are refused",
            Self::AllDialersDown => "no dialer takes calls",
            Self::CallersWaiting => "callers wait",
            Self::WaitingLong => "callers wait long",
            Self::BudgetOverrun => "answers are late",
            Self::AuditStoreFailing => "the database takes no records",
            Self::AuditDamaged => "the audit log does not verify",
            Self::DiskNearlyFull => "the disk is nearly full",
            Self::WalTooLarge => "the write-ahead log grows",
            Self::CertificateExpiring => "the certificate ends soon",
            Self::ConfigReloadRefused => "a changed configuration was refused",
            Self::NoCalls => "nobody calls",
            Self::NumberSilent => "a number gets no calls",
            Self::Restarting => "the service starts again and again",
            Self::OnFallback => "Twilio cannot use our answers",
            Self::WebhooksMalformed => "signed webhooks do not fit together",
            Self::BackupOld => "the last backup is old",
            Self::CallsMissing => "calls are missing in the log",
        }
    }

    /// What to do about it, in a sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::RoutingFailureRate => {
                "Look at the reasons and at the calls themselves on the dashboard."
            }
            Self::BrazeFailureRate => {
                "Calls go to the default dialer meanwhile. Check Braze's status, the key and the rate limit."
            }
            Self::DialerFailureRate | Self::DialerDown => {
                "Calls go to the next dialer meanwhile. `switchboard test-dialer` says what it refuses."
            }
            Self::CredentialsRefused => {
                "They are tried again by themselves, every five minutes at most. Put valid ones into place and reload, or `switchboard retry` once the service takes them."
            }
            Self::AllDialersDown => {
                "Callers are held, then put through to the last resort. The first dialer that takes a call ends this."
            }
            Self::CallersWaiting => {
                "They are held, then put through to the last resort; everybody else is connected. The first of these dialers that takes a call ends this."
            }
            Self::WaitingLong => {
                "They wait in order, and the first free place is theirs. Look at the limits of the dialers and at how many agents are there."
            }
            Self::BudgetOverrun => {
                "Callers wait too long. Look at the stages of these calls on the dashboard."
            }
            Self::AuditStoreFailing => {
                "Callers are answered, and records wait in memory. Check the disk of the database."
            }
            Self::AuditDamaged => {
                "Keep the database as it is, and run `switchboard audit verify` with the last head that you hold."
            }
            Self::DiskNearlyFull => "Make room, or give the database a larger disk.",
            Self::WalTooLarge => {
                "A program that reads the database holds it open. Find it with `fuser` and end it."
            }
            Self::CertificateExpiring => "Renew it; the files are read again when they change.",
            Self::ConfigReloadRefused => {
                "The old configuration stays in force. `switchboard check-config` names what is wrong."
            }
            Self::NoCalls => {
                "Call the number yourself, and check the webhook URL in Twilio's console."
            }
            Self::NumberSilent => {
                "Call it yourself, and check its webhook URL in Twilio's console and whether its carrier has trouble."
            }
            Self::Restarting => "Look into the journal for what ends the process.",
            Self::OnFallback => {
                "Twilio reached us for the fallback only. Check the webhook URL, the certificate and the signature."
            }
            Self::BackupOld => {
                "Look at `systemctl status switchboard-backup.timer` and at the room on the disk; `switchboard backup` makes one now."
            }
            Self::CallsMissing => {
                "`switchboard audit complete` names them and why; it compares anew, which ends this where nothing is missing."
            }
            Self::WebhooksMalformed => {
                "Their callers get the safe answer. Check the URLs in Twilio's console; where they are right, somebody sends captured webhooks anew."
            }
        }
    }

    pub fn severity(self) -> IncidentSeverity {
        self.terms().0
    }

    /// How long it has to be bad without a break before it opens.
    pub(super) fn patience(self) -> Duration {
        Duration::from_secs(self.terms().1)
    }

    /// How long it has to be well without a break before it is resolved: what comes and goes is one incident.
    pub(super) fn calm(self) -> Duration {
        Duration::from_secs(self.terms().2)
    }

    /// How pressing it is; for how many seconds it has to be bad, and well again.
    fn terms(self) -> (IncidentSeverity, u64, u64) {
        use IncidentSeverity::{Critical, Warning};
        match self {
            Self::RoutingFailureRate | Self::CallersWaiting => (Critical, 0, 60),
            Self::AllDialersDown | Self::AuditDamaged | Self::OnFallback => (Critical, 0, 0),
            // A lock that somebody holds for a moment is no news.
            Self::AuditStoreFailing => (Critical, 2, 30),
            // Time for all dialers to be down, which is an incident of its own.
            Self::WaitingLong => (Warning, 0, 30),
            Self::DialerDown | Self::DialerFailureRate => (Warning, 5, 60),
            Self::BrazeFailureRate
            | Self::CredentialsRefused
            | Self::BudgetOverrun
            | Self::DiskNearlyFull
            | Self::WalTooLarge => (Warning, 0, 60),
            Self::CertificateExpiring
            | Self::ConfigReloadRefused
            | Self::NoCalls
            | Self::NumberSilent
            | Self::Restarting
            | Self::BackupOld
            | Self::CallsMissing
            | Self::WebhooksMalformed => (Warning, 0, 0),
        }
    }

    /// Nobody keeps it from being told that records are not written, or not as they were.
    pub fn may_be_muted(self) -> bool {
        !matches!(self, Self::AuditDamaged | Self::AuditStoreFailing)
    }

    /// Whether calls open it, and not the evaluation of every half second.
    pub(super) fn is_opened_by_calls(self) -> bool {
        matches!(self, Self::AllDialersDown | Self::CallersWaiting)
    }

    /// Whether nobody is notified of it while all dialers are down: that says it already.
    pub(super) fn is_part_of_all_down(self) -> bool {
        matches!(
            self,
            Self::DialerDown | Self::DialerFailureRate | Self::CallersWaiting
        )
    }
}

/// What an incident is about: its kind, and the dialer or the rule where it is about one. Of each, one is open at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    pub kind: IncidentKind,
    /// The name of the dialer, of another service or of the rule, or nothing; of waiting callers, nothing is the default plan.
    pub subject: String,
}

impl Topic {
    /// A kind that there is one of.
    pub fn of(kind: IncidentKind) -> Self {
        Self::about(kind, "")
    }

    /// A kind of which each subject has its own.
    pub fn about(kind: IncidentKind, subject: &str) -> Self {
        Self {
            kind,
            subject: subject.to_owned(),
        }
    }

    /// The dialer it is about, where it is about one. Callers who wait are about people.
    pub fn dialer(&self) -> Option<&str> {
        let is_about = matches!(
            self.kind,
            IncidentKind::DialerDown
                | IncidentKind::DialerFailureRate
                | IncidentKind::CredentialsRefused
        );
        is_about.then_some(self.subject.as_str())
    }

    /// What it is about, in a few words.
    pub fn title(&self) -> String {
        match (self.kind, self.subject.as_str()) {
            (IncidentKind::CallersWaiting, "") => "callers of the default plan wait".to_owned(),
            (IncidentKind::CallersWaiting, rule) => format!("callers of \"{rule}\" wait"),
            (kind, "") => kind.title().to_owned(),
            (IncidentKind::NumberSilent, number) => format!("{number} gets no calls"),
            (IncidentKind::DialerDown, dialer) => format!("{dialer} is down"),
            (IncidentKind::DialerFailureRate, dialer) => format!("handoffs to {dialer} fail"),
            (IncidentKind::CredentialsRefused, service) => {
                format!("{service} refuses our credentials")
            }
            (kind, _) => kind.title().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_of_exports() {
        for &kind in IncidentKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
        }
        for severity in [IncidentSeverity::Critical, IncidentSeverity::Warning] {
            let json = serde_json::to_string(&severity).unwrap();
            assert_eq!(json, format!("\"{}\"", severity.as_str()));
        }
    }

    #[test]
    fn each_kind_has_a_title_of_its_own_and_advice_in_a_sentence() {
        let titles: BTreeSet<_> = IncidentKind::ALL.iter().map(|kind| kind.title()).collect();
        assert_eq!(titles.len(), IncidentKind::ALL.len());
        for kind in IncidentKind::ALL {
            let advice = kind.advice();
            assert!(advice.contains(' ') && advice.ends_with('.'), "{advice}");
        }
        assert_eq!(IncidentKind::NoCalls.title(), "nobody calls");
    }
}
