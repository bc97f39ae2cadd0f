//! The stored form of an event: its payload as JSON, beside the name of its kind.
//!
//! The bytes written here are the bytes that are hashed, so the shape of a payload is part of the audit log: a field may
//! be added with a default, never renamed.

use serde::{Deserialize, Serialize};

use super::{CallAfter, Event, Kind, ProfileAction, Standing};
use crate::call::{DialReport, Disposition, Found, LegReport, ReportedOutcome};

#[derive(Serialize, Deserialize)]
struct ServiceStarted<V> {
    version: V,
}

#[derive(Serialize, Deserialize)]
struct Nothing {}

#[derive(Serialize, Deserialize)]
struct Reported<R, A> {
    report: R,
    after: A,
}

#[derive(Serialize, Deserialize)]
struct CallReaped<A> {
    found: Found,
    after: A,
}

#[derive(Serialize, Deserialize)]
struct CallEnded<A> {
    outcome: ReportedOutcome,
    talked_s: u32,
    after: A,
}

#[derive(Serialize, Deserialize)]
struct CallCorrected<A> {
    from: Disposition,
    to: Disposition,
    after: A,
}

#[derive(Serialize, Deserialize)]
struct WebhookUnusable<S> {
    path: S,
    reason: S,
}

#[derive(Serialize, Deserialize)]
struct ProfilePushed {
    action: ProfileAction,
}

#[derive(Serialize, Deserialize)]
struct HealthChanged<S> {
    service: S,
    from: S,
    to: S,
    cause: S,
    #[serde(default, skip_serializing_if = "Standing::is_clean")]
    standing: Standing,
}

#[derive(Serialize, Deserialize)]
struct ConfigRefused<S, P> {
    by: S,
    problems: P,
}

#[derive(Serialize, Deserialize)]
struct ClockStepped {
    by_ms: i64,
}

impl Event {
    /// The payload as a JSON object.
    pub fn detail_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::ServiceStarted { version } => serde_json::to_string(&ServiceStarted { version }),
            Self::ServiceStopped => serde_json::to_string(&Nothing {}),
            Self::RulesetLoaded(ruleset) => serde_json::to_string(ruleset),
            Self::CallDecided(decided) => serde_json::to_string(decided),
            Self::HandoffIntended(intended) => serde_json::to_string(intended),
            Self::HandoffConcluded(attempt) => serde_json::to_string(attempt),
            Self::CallAnswered(answered) => serde_json::to_string(answered),
            Self::DialEnded { report, after } => serde_json::to_string(&Reported { report, after }),
            Self::LegReported { report, after } => {
                serde_json::to_string(&Reported { report, after })
            }
            Self::CallReaped { found, after } => serde_json::to_string(&CallReaped {
                found: *found,
                after,
            }),
            Self::CallEnded {
                outcome,
                talked_s,
                after,
            } => serde_json::to_string(&CallEnded {
                outcome: *outcome,
                talked_s: *talked_s,
                after,
            }),
            Self::CallCorrected { from, to, after } => serde_json::to_string(&CallCorrected {
                from: *from,
                to: *to,
                after,
            }),
            Self::WebhookUnusable { path, reason } => {
                serde_json::to_string(&WebhookUnusable { path, reason })
            }
            Self::ProfilePushed { action } => {
                serde_json::to_string(&ProfilePushed { action: *action })
            }
            Self::HealthChanged {
                service,
                from,
                to,
                cause,
                standing,
            } => serde_json::to_string(&HealthChanged {
                service,
                from,
                to,
                cause,
                standing: standing.clone(),
            }),
            Self::ConfigChanged(changed) => serde_json::to_string(changed),
            Self::ConfigRefused { by, problems } => {
                serde_json::to_string(&ConfigRefused { by, problems })
            }
            Self::IncidentOpened(notice)
            | Self::IncidentReminded(notice)
            | Self::IncidentResolved(notice) => serde_json::to_string(notice),
            Self::AlertTested(tested) => serde_json::to_string(tested),
            Self::DaySummed(summary) => serde_json::to_string(summary),
            Self::SigningKeyNamed(named) => serde_json::to_string(named),
            Self::Pruned(pruned) => serde_json::to_string(pruned),
            Self::RollbackAccepted(accepted) => serde_json::to_string(accepted),
            Self::Restored(restored) => serde_json::to_string(restored),
            Self::CallerErased(erased) => serde_json::to_string(erased),
            Self::Exported(exported) => serde_json::to_string(exported),
            Self::ClockStepped { by_ms } => serde_json::to_string(&ClockStepped { by_ms: *by_ms }),
            Self::Accessed(access) => serde_json::to_string(access),
        }
    }

    pub fn from_detail(kind: Kind, detail: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::ServiceStarted => {
                let ServiceStarted { version } = serde_json::from_str(detail)?;
                Self::ServiceStarted { version }
            }
            Kind::ServiceStopped => {
                let Nothing {} = serde_json::from_str(detail)?;
                Self::ServiceStopped
            }
            Kind::RulesetLoaded => Self::RulesetLoaded(serde_json::from_str(detail)?),
            Kind::CallDecided => Self::CallDecided(serde_json::from_str(detail)?),
            Kind::HandoffIntended => Self::HandoffIntended(serde_json::from_str(detail)?),
            Kind::HandoffConcluded => Self::HandoffConcluded(serde_json::from_str(detail)?),
            Kind::CallAnswered => Self::CallAnswered(serde_json::from_str(detail)?),
            Kind::DialEnded => {
                let Reported::<DialReport, Box<CallAfter>> { report, after } =
                    serde_json::from_str(detail)?;
                Self::DialEnded { report, after }
            }
            Kind::LegReported => {
                let Reported::<LegReport, Box<CallAfter>> { report, after } =
                    serde_json::from_str(detail)?;
                Self::LegReported { report, after }
            }
            Kind::CallReaped => {
                let CallReaped::<Box<CallAfter>> { found, after } = serde_json::from_str(detail)?;
                Self::CallReaped { found, after }
            }
            Kind::CallEnded => {
                let CallEnded::<Box<CallAfter>> {
                    outcome,
                    talked_s,
                    after,
                } = serde_json::from_str(detail)?;
                Self::CallEnded {
                    outcome,
                    talked_s,
                    after,
                }
            }
            Kind::CallCorrected => {
                let CallCorrected::<Box<CallAfter>> { from, to, after } =
                    serde_json::from_str(detail)?;
                Self::CallCorrected { from, to, after }
            }
            Kind::WebhookUnusable => {
                let WebhookUnusable { path, reason } = serde_json::from_str(detail)?;
                Self::WebhookUnusable { path, reason }
            }
            Kind::ProfilePushed => {
                let ProfilePushed { action } = serde_json::from_str(detail)?;
                Self::ProfilePushed { action }
            }
            Kind::HealthChanged => {
                let HealthChanged {
                    service,
                    from,
                    to,
                    cause,
                    standing,
                } = serde_json::from_str(detail)?;
                Self::HealthChanged {
                    service,
                    from,
                    to,
                    cause,
                    standing,
                }
            }
            Kind::ConfigChanged => Self::ConfigChanged(serde_json::from_str(detail)?),
            Kind::ConfigRefused => {
                let ConfigRefused::<String, Vec<String>> { by, problems } =
                    serde_json::from_str(detail)?;
                Self::ConfigRefused { by, problems }
            }
            Kind::IncidentOpened => Self::IncidentOpened(serde_json::from_str(detail)?),
            Kind::IncidentReminded => Self::IncidentReminded(serde_json::from_str(detail)?),
            Kind::IncidentResolved => Self::IncidentResolved(serde_json::from_str(detail)?),
            Kind::AlertTested => Self::AlertTested(serde_json::from_str(detail)?),
            Kind::DaySummed => Self::DaySummed(serde_json::from_str(detail)?),
            Kind::SigningKeyNamed => Self::SigningKeyNamed(serde_json::from_str(detail)?),
            Kind::Pruned => Self::Pruned(serde_json::from_str(detail)?),
            Kind::RollbackAccepted => Self::RollbackAccepted(serde_json::from_str(detail)?),
            Kind::Restored => Self::Restored(serde_json::from_str(detail)?),
            Kind::CallerErased => Self::CallerErased(serde_json::from_str(detail)?),
            Kind::Exported => Self::Exported(serde_json::from_str(detail)?),
            Kind::ClockStepped => {
                let ClockStepped { by_ms } = serde_json::from_str(detail)?;
                Self::ClockStepped { by_ms }
            }
            Kind::Accessed => Self::Accessed(serde_json::from_str(detail)?),
        })
    }
}

impl Kind {
    /// The kind of that stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
