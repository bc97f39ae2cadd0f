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
#[schema(as = Severity)]
pub enum RecordSeverity {
    /// As it should be.
    Info,
    /// Something went wrong and was recovered from.
    Warn,
    /// A caller did not get what they should, or somebody has to act.
    Error,
}

impl RecordSeverity {
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
pub fn severity(kind: Kind, detail: &str) -> RecordSeverity {
    let has = |part: &str| detail.contains(part);
    match kind {
        Kind::CallAnswered
            if has("\"within_budget\":false")
                || has("\"answer\":{\"is\":\"last_resort\"}")
                || has("\"answer\":{\"is\":\"goodbye\"}") =>
        {
            RecordSeverity::Error
        }
        Kind::CallAnswered
            if has("\"answer\":{\"is\":\"hold\"}")
                || has("\"certainty\":\"unconfirmed\"")
                || has("\"certainty\":\"unannounced\"") =>
        {
            RecordSeverity::Warn
        }
        Kind::CallDecided if has("\"outcome\":\"unavailable\"") => RecordSeverity::Warn,
        Kind::HandoffConcluded | Kind::MissedAnnounced if !has("\"outcome\":\"accepted\"") => {
            RecordSeverity::Warn
        }
        Kind::DialEnded
            if has("\"disposition\":\"failed\"")
                || has("\"disposition\":\"busy\"")
                || has("\"disposition\":\"no_answer\"") =>
        {
            RecordSeverity::Error
        }
        Kind::HealthChanged if has("\"to\":\"open\"") || has("\"to\":\"unavailable\"") => {
            RecordSeverity::Warn
        }
        Kind::Accessed if has("\"is\":\"refused\"") => RecordSeverity::Warn,
        Kind::WebhookUnusable | Kind::CallReaped | Kind::CallAdopted => RecordSeverity::Warn,
        Kind::ConfigRefused | Kind::IncidentOpened => RecordSeverity::Error,
        Kind::CompletenessChecked if !has("\"missing\":0,") => RecordSeverity::Error,
        _ => RecordSeverity::Info,
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
            RecordSeverity::Info,
        );
        check(
            answered,
            r#"{"answer":{"is":"hold"},"within_budget":true}"#,
            RecordSeverity::Warn,
        );
        check(
            answered,
            r#"{"answer":{"is":"connect"},"within_budget":false}"#,
            RecordSeverity::Error,
        );
        check(
            answered,
            r#"{"answer":{"is":"goodbye"},"within_budget":true}"#,
            RecordSeverity::Error,
        );
        check(
            Kind::HandoffConcluded,
            r#"{"outcome":"accepted"}"#,
            RecordSeverity::Info,
        );
        check(
            Kind::HandoffConcluded,
            r#"{"outcome":"refused"}"#,
            RecordSeverity::Warn,
        );
        check(Kind::IncidentOpened, "{}", RecordSeverity::Error);
        check(Kind::ServiceStarted, "{}", RecordSeverity::Info);
    }
}
