//! How much a record matters to whoever looks through many.

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use super::Kind;

/// How much a record matters: a closed list, stable in the API.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Something went wrong and was recovered from.
    Warn,
    /// A caller did not get what they should, or somebody has to act.
    Error,
}

impl Severity {
    /// All, from little to much.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// How much a record of this kind and with this payload matters. The payload is looked at as text: it is JSON without white space, as
/// [`Event::detail_json`](super::Event::detail_json) writes it, and many are looked at in a row.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a kind that nobody gave a severity is as it should be"
)]
pub fn severity(kind: Kind, detail: &str) -> Severity {
    let has = |part: &str| detail.contains(part);
    match kind {
        Kind::CallAnswered
            if has("\"within_budget\":false")
                || has("\"answer\":{\"is\":\"last_resort\"}")
                || has("\"answer\":{\"is\":\"goodbye\"}") =>
        {
            Severity::Error
        }
        Kind::CallAnswered
            if has("\"answer\":{\"is\":\"hold\"}")
                || has("\"certainty\":\"unconfirmed\"")
                || has("\"certainty\":\"unannounced\"") =>
        {
            Severity::Warn
        }
        Kind::CallDecided if has("\"outcome\":\"unavailable\"") => Severity::Warn,
        Kind::HandoffConcluded if !has("\"outcome\":\"accepted\"") => Severity::Warn,
        Kind::DialEnded
            if has("\"disposition\":\"failed\"")
                || has("\"disposition\":\"busy\"")
                || has("\"disposition\":\"no_answer\"") =>
        {
            Severity::Error
        }
        Kind::HealthChanged if has("\"to\":\"open\"") || has("\"to\":\"unavailable\"") => {
            Severity::Warn
        }
        Kind::Accessed if has("\"is\":\"refused\"") => Severity::Warn,
        Kind::WebhookUnusable | Kind::CallReaped => Severity::Warn,
        Kind::ConfigRefused | Kind::IncidentOpened => Severity::Error,
        _ => Severity::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_makes_the_difference() {
        let check = |kind, detail: &str, expected| {
            assert_eq!(severity(kind, detail), expected, "{kind:?} {detail}");
        };
        let answered = Kind::CallAnswered;
        check(
            answered,
            r#"{"answer":{"is":"connect"},"within_budget":true}"#,
            Severity::Info,
        );
        check(
            answered,
            r#"{"answer":{"is":"hold"},"within_budget":true}"#,
            Severity::Warn,
        );
        check(
            answered,
            r#"{"answer":{"is":"connect"},"within_budget":false}"#,
            Severity::Error,
        );
        check(
            answered,
            r#"{"answer":{"is":"goodbye"},"within_budget":true}"#,
            Severity::Error,
        );
        check(
            Kind::HandoffConcluded,
            r#"{"outcome":"accepted"}"#,
            Severity::Info,
        );
        check(
            Kind::HandoffConcluded,
            r#"{"outcome":"refused"}"#,
            Severity::Warn,
        );
        check(Kind::IncidentOpened, "{}", Severity::Error);
        check(Kind::ServiceStarted, "{}", Severity::Info);
    }
}
