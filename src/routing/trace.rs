//! The decision chain as data, and as sentences.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use super::class::CallerClass;
use super::condition::age_words;
use super::{
    CallFacts, Condition, Course, DialerId, Lookup, LookupSkipped, LookupUnavailable, Profile,
    Rejection, SkipReason, Source,
};
use crate::lead::{LeadScore, TierName};

/// Why a call went as it went: one code per call, stable in exports.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Reason {
    RuleMatched,
    /// The caller is known, and no rule matched.
    NoRuleMatched,
    /// Braze does not know the caller.
    UnknownCaller,
    /// There was no number to look up.
    LookupSkipped,
    /// Braze did not answer in time, or not usefully.
    LookupUnavailable,
    /// All dialers of the plan are outside their hours.
    Closed,
    /// No dialer of the plan can take the call now.
    NoDialerAvailable,
    /// Every dialer of the plan refused the handoff.
    AllDialersRefused,
    /// Every leg of the plan ended busy, unanswered or failed.
    AllLegsFailed,
}

impl Reason {
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Why a call goes to the default dialer.
    pub(super) fn without_rule(lookup: &Lookup) -> Self {
        match lookup {
            Lookup::Known { .. } => Self::NoRuleMatched,
            Lookup::Unknown { .. } => Self::UnknownCaller,
            Lookup::Skipped { .. } => Self::LookupSkipped,
            Lookup::Unavailable { .. } => Self::LookupUnavailable,
        }
    }

    /// The stable name, as in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// The word by which a routing failure is counted: the reason where it tells of a failure, else `how` the call ended.
    pub fn of_failure(self, how: &'static str) -> &'static str {
        match self {
            Self::NoDialerAvailable | Self::AllDialersRefused | Self::AllLegsFailed => {
                self.as_str()
            }
            Self::RuleMatched
            | Self::NoRuleMatched
            | Self::UnknownCaller
            | Self::LookupSkipped
            | Self::LookupUnavailable
            | Self::Closed => how,
        }
    }
}

/// The decision chain: the recorded steps from facts to plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trace(pub Vec<Step>);

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    Lookup {
        /// How it ended, with age and source.
        lookup: Lookup,
    },
    /// Which class the caller belongs to.
    Tier {
        tier: Option<TierName>,
        /// The lead score it came from, if it came from one.
        score: Option<LeadScore>,
        /// The class as Braze names it, where it does.
        named: Option<String>,
    },
    /// What one rule said of the call.
    Rule {
        name: Arc<str>,
        verdict: RuleVerdict,
    },
    /// No rule matched: the default plan.
    DefaultRule { dialer: DialerId, reason: Reason },
    /// The first of several dialers that are drawn by their weights.
    Drawn { dialer: DialerId },
    /// This dialer goes first: it talked to the caller last.
    Preferred { dialer: DialerId },
    /// A dialer takes its place in the plan.
    Planned {
        dialer: DialerId,
        /// 1 for the first to be asked.
        order: usize,
        /// It limits our requests: its line rings without the note where nobody else takes the call.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        line_only: bool,
    },
    /// A dialer is left out.
    Skipped {
        dialer: DialerId,
        reason: SkipReason,
        /// With the figures, where there are any.
        detail: String,
    },
    /// No dialer is asked: what becomes of the call instead.
    Course { course: Course },
}

/// What a rule said of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum RuleVerdict {
    Matched,
    /// This condition of it does not hold, the first of those.
    NotMatched {
        condition: Arc<Condition>,
    },
}

impl Trace {
    /// The look-up that the decision was made with.
    pub fn lookup(&self) -> Option<&Lookup> {
        self.0.iter().find_map(|step| match step {
            Step::Lookup { lookup } => Some(lookup),
            Step::Tier { .. }
            | Step::Rule { .. }
            | Step::DefaultRule { .. }
            | Step::Drawn { .. }
            | Step::Preferred { .. }
            | Step::Planned { .. }
            | Step::Skipped { .. }
            | Step::Course { .. } => None,
        })
    }
}

impl Step {
    /// The step as one sentence for people.
    pub(super) fn sentence(&self, facts: &CallFacts, class: &CallerClass) -> String {
        match self {
            Self::Lookup { lookup } => lookup_sentence(lookup),
            Self::Tier {
                tier: None,
                score: None,
                ..
            } => "No score is known, so the caller has no tier.".to_owned(),
            Self::Tier {
                tier: None,
                score: Some(score),
                ..
            } => format!("Score {score} lies below every tier."),
            Self::Tier {
                tier: Some(tier),
                named: Some(named),
                ..
            } => {
                format!("Braze names the tier {named:?}: {tier}.")
            }
            Self::Tier {
                tier: Some(tier),
                score: Some(score),
                ..
            } => format!("Score {score} is tier {tier}."),
            Self::Tier {
                tier: Some(tier), ..
            } => format!("The tier is {tier}."),
            Self::Rule {
                name,
                verdict: RuleVerdict::Matched,
            } => format!("Rule {name:?} matches."),
            Self::Rule {
                name,
                verdict: RuleVerdict::NotMatched { condition },
            } => {
                let why = condition.why_not(name, facts, class);
                format!("Rule {name:?} does not match: {why}.")
            }
            Self::DefaultRule { dialer, reason } => {
                format!(
                    "The default applies ({}): {dialer} first.",
                    reason.as_str().replace('_', " ")
                )
            }
            Self::Drawn { dialer } => {
                format!("By lot, {dialer} goes first of those that share this place.")
            }
            Self::Preferred { dialer } => {
                let history = facts.asked.history.as_ref();
                let last = history.and_then(|history| history.last_answered.as_ref());
                let age = last.map_or_else(String::new, |last| {
                    format!(" {} ago", age_words(last.age_s))
                });
                format!("{dialer} goes first: it talked to this caller{age}.")
            }
            Self::Planned {
                dialer,
                order,
                line_only: false,
            } => format!("{order}. {dialer}"),
            Self::Planned {
                dialer,
                order,
                line_only: true,
            } => format!(
                "{order}. {dialer}, unannounced: it limits our requests, so that its line rings without the note where nobody else takes the call."
            ),
            Self::Skipped {
                dialer,
                reason,
                detail,
            } => {
                let mut text =
                    format!("{dialer} is skipped: {}", reason.as_str().replace('_', " "));
                if !detail.is_empty() {
                    // Writing to a String cannot fail.
                    write!(text, " ({detail})").unwrap_or_default();
                }
                text + "."
            }
            Self::Course { course } => course_sentence(*course).to_owned(),
        }
    }
}

fn course_sentence(course: Course) -> &'static str {
    match course {
        Course::Dialers => "The dialers are asked in this order.",
        Course::Number => "The call is put through to the number of the rule.",
        Course::Reject {
            with: Rejection::Busy,
        } => "The call is refused: the caller hears the busy tone.",
        Course::Reject {
            with: Rejection::Rejected,
        } => "The call is refused: the caller hears that the number is not in service.",
        Course::Message => "The message of the rule is spoken, and the call ends.",
        Course::Closed => {
            "All dialers of the plan are outside their hours, and the caller is told so."
        }
    }
}

fn lookup_sentence(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Known {
            profile: Profile {
                score: Some(score), ..
            },
            source: Source::Supposed,
            ..
        } => format!("Supposed, and not asked of Braze: score {score}."),
        Lookup::Unknown {
            source: Source::Supposed,
            ..
        } => "Supposed, and not asked of Braze: Braze does not know the caller.".to_owned(),
        Lookup::Known {
            profile,
            source,
            age_ms,
            because,
        } => {
            let score = profile.score.map_or_else(
                || "no readable score".to_owned(),
                |score| format!("score {score}"),
            );
            let late = because.map_or_else(String::new, |why| {
                format!(", because {}", unavailable_words(why))
            });
            format!(
                "Braze knows the caller: {score} ({}{late}).",
                source_words(*source, *age_ms)
            )
        }
        Lookup::Unknown { source, age_ms } => {
            format!(
                "Braze does not know the caller ({}).",
                source_words(*source, *age_ms)
            )
        }
        Lookup::Skipped { reason } => format!("No look-up: {}.", skipped_words(*reason)),
        Lookup::Unavailable { reason } => {
            format!("Braze gave no answer: {}.", unavailable_words(*reason))
        }
    }
}

fn source_words(source: Source, age_ms: u64) -> String {
    let age_s = age_ms / 1_000;
    match source {
        Source::Fresh => format!("from the cache, {age_s} s old"),
        Source::Stale => format!("from the cache, stale, {age_s} s old"),
        Source::Fetched => "just fetched".to_owned(),
        Source::Supposed => "supposed".to_owned(),
    }
}

fn skipped_words(reason: LookupSkipped) -> &'static str {
    match reason {
        LookupSkipped::Withheld => "the caller hides the number",
        LookupSkipped::NotE164 => "the number has no country code",
        LookupSkipped::Client => "the caller is an app user",
        LookupSkipped::SipUser => "the caller is a SIP user without a number",
        LookupSkipped::Unreadable => "the caller cannot be read as a number",
        LookupSkipped::NotNeeded => "the rules decide without it",
    }
}

fn unavailable_words(reason: LookupUnavailable) -> &'static str {
    match reason {
        LookupUnavailable::Timeout => "no answer in time",
        LookupUnavailable::RateLimited => "Braze limits our requests",
        LookupUnavailable::LimiterEmpty => "our own request limit is used up",
        LookupUnavailable::BreakerOpen => "the circuit breaker is open",
        LookupUnavailable::Unauthorized => "Braze refused the API key",
        LookupUnavailable::Rejected => "Braze refused the request",
        LookupUnavailable::ServerError => "Braze failed",
        LookupUnavailable::Connect => "no connection",
        LookupUnavailable::Malformed => "the answer could not be read",
        LookupUnavailable::NoBudget => "nothing of the budget was left",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_look_up_is_told_with_its_age_and_every_reason_in_words_of_its_own() {
        let told = |lookup: Lookup| lookup_sentence(&lookup);
        let unknown = |source, age_ms| told(Lookup::Unknown { source, age_ms });
        assert_eq!(
            unknown(Source::Fresh, 61_999),
            "Braze does not know the caller (from the cache, 61 s old)."
        );
        assert_eq!(
            unknown(Source::Stale, 3_600_000),
            "Braze does not know the caller (from the cache, stale, 3600 s old)."
        );
        let skipped = [
            LookupSkipped::Withheld,
            LookupSkipped::NotE164,
            LookupSkipped::Client,
            LookupSkipped::SipUser,
            LookupSkipped::Unreadable,
            LookupSkipped::NotNeeded,
        ]
        .map(|reason| told(Lookup::Skipped { reason }));
        assert_eq!(skipped[0], "No look-up: the caller hides the number.");
        let unavailable = [
            LookupUnavailable::Timeout,
            LookupUnavailable::RateLimited,
            LookupUnavailable::LimiterEmpty,
            LookupUnavailable::BreakerOpen,
            LookupUnavailable::Unauthorized,
            LookupUnavailable::Rejected,
            LookupUnavailable::ServerError,
            LookupUnavailable::Connect,
            LookupUnavailable::Malformed,
            LookupUnavailable::NoBudget,
        ]
        .map(|reason| told(Lookup::Unavailable { reason }));
        assert_eq!(unavailable[0], "Braze gave no answer: no answer in time.");
        let all: BTreeSet<&String> = skipped.iter().chain(&unavailable).collect();
        assert_eq!(all.len(), 16);
    }

    #[test]
    fn a_failure_is_counted_by_its_reason_and_else_by_how_the_call_ended() {
        assert_eq!(
            Reason::NoDialerAvailable.of_failure("busy"),
            "no_dialer_available"
        );
        assert_eq!(Reason::AllLegsFailed.of_failure("busy"), "all_legs_failed");
        assert_eq!(Reason::RuleMatched.of_failure("busy"), "busy");
        assert_eq!(
            serde_json::json!(Reason::RuleMatched),
            Reason::RuleMatched.as_str()
        );
    }
}
