//! Body values with placeholders: `Lead {score} ({tier})`.

use super::attempt::HandoffPayload;
use crate::outbound::{TemplatePiece, template_pieces};
use crate::phone::{Caller, E164};

/// A value of a body.
pub(super) struct BodyTemplate(Vec<TemplatePiece<Placeholder>>);

#[derive(Clone, Copy)]
enum Placeholder {
    Caller,
    Called,
    Score,
    Tier,
    CallSid,
    RequestId,
}

const PLACES: [(&str, Placeholder); 6] = [
    ("caller", Placeholder::Caller),
    ("called", Placeholder::Called),
    ("score", Placeholder::Score),
    ("tier", Placeholder::Tier),
    ("call_sid", Placeholder::CallSid),
    ("request_id", Placeholder::RequestId),
];

/// What the values of a body may hold, each between braces.
pub(super) fn placeholders() -> [&'static str; 6] {
    PLACES.map(|(word, _)| word)
}

impl BodyTemplate {
    /// Reads a value. Braces that hold no placeholder are text.
    pub(super) fn parse(value: &str) -> Self {
        Self(template_pieces(value, place))
    }

    /// The value for a call. What is not known is empty.
    pub(super) fn fill(&self, payload: &HandoffPayload) -> String {
        self.render(|piece| match piece {
            TemplatePiece::Text(text) => text.clone(),
            TemplatePiece::Placeholder(Placeholder::Caller) => caller_text(payload).to_owned(),
            TemplatePiece::Placeholder(Placeholder::Called) => called_text(payload),
            TemplatePiece::Placeholder(place) => place.impersonal(payload),
        })
    }

    /// The value as it may be recorded: numbers masked, and fixed text left out, because it may be a key.
    pub(super) fn fill_redacted(&self, payload: &HandoffPayload) -> String {
        self.render(|piece| match piece {
            TemplatePiece::Text(_) => "…".to_owned(),
            TemplatePiece::Placeholder(Placeholder::Caller) => {
                crate::phone::mask(caller_text(payload))
            }
            TemplatePiece::Placeholder(Placeholder::Called) => {
                crate::phone::mask(&called_text(payload))
            }
            TemplatePiece::Placeholder(place) => place.impersonal(payload),
        })
    }

    fn render(&self, text_of: impl Fn(&TemplatePiece<Placeholder>) -> String) -> String {
        self.0.iter().map(text_of).collect()
    }
}

impl Placeholder {
    fn impersonal(self, payload: &HandoffPayload) -> String {
        match self {
            Self::Score => payload.score.map(|s| s.to_string()).unwrap_or_default(),
            Self::Tier => payload
                .tier
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            Self::CallSid => payload.call_id.to_string(),
            Self::RequestId => payload.request_id.clone(),
            Self::Caller | Self::Called => String::new(),
        }
    }
}

/// The caller's number; empty where there is none. What a phone sends in its place is free text, and no dialer expects that.
fn caller_text(payload: &HandoffPayload) -> &str {
    payload.caller.number().map_or("", E164::as_str)
}

/// The same for the number of ours that was called.
fn called_text(payload: &HandoffPayload) -> String {
    let called = payload.called.as_deref().map(Caller::classify);
    let number = called.as_ref().and_then(Caller::number);
    number.map_or_else(String::new, |number| number.as_str().to_owned())
}

fn place(word: &str) -> Option<Placeholder> {
    let known = PLACES.iter().find(|(name, _)| *name == word);
    known.map(|(_, place)| *place)
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::payload;
    use super::*;

    fn fill(value: &str) -> String {
        BodyTemplate::parse(value).fill(&payload())
    }

    #[test]
    fn placeholders_are_filled_once_and_other_braces_stay() {
        assert_eq!(fill("{caller}"), "+4930123450");
        assert_eq!(fill("Lead {score} ({tier})"), "Lead 87 (hot)");
        assert_eq!(
            fill("{ {} {{score}} {1} {phone} }{"),
            "{ {} {87} {1} {phone} }{"
        );
        let mut odd = payload();
        odd.request_id = "{caller}".to_owned();
        let value = BodyTemplate::parse("{request_id}");
        assert_eq!(value.fill(&odd), "{caller}");
    }

    #[test]
    fn what_is_unknown_is_empty() {
        let mut odd = payload();
        odd.caller = Caller::Withheld;
        odd.called = None;
        odd.score = None;
        odd.tier = None;
        let value = BodyTemplate::parse("{caller}{called}{score}{tier}");
        assert_eq!(value.fill(&odd), "");
        assert_eq!(value.fill_redacted(&odd), "");
    }

    #[test]
    fn caller_and_called_are_numbers_or_empty_whatever_the_phone_says() {
        let value = BodyTemplate::parse("[{caller}|{called}]");
        for (text, number) in [
            ("+4930123450", "+4930123450"),
            ("sip:+4930123450@pbx.example.com", "+4930123450"),
            ("sip:alice@pbx.example.com", ""),
            ("client:alice", ""),
            ("030 123450", ""),
            ("12345", ""),
            ("anonymous", ""),
            ("x\r\nX-Injected: 1\u{0}\u{7}", ""),
            ("\",\"phone\":\"+1", ""),
        ] {
            let mut odd = payload();
            odd.caller = Caller::classify(text);
            odd.called = Some(text.to_owned());
            assert_eq!(value.fill(&odd), format!("[{number}|{number}]"), "{text:?}");
            let shown = value.fill_redacted(&odd);
            assert!(
                !shown.contains("alice") && !shown.contains("12345"),
                "{shown}"
            );
        }
    }

    #[test]
    fn the_shown_value_has_no_number_and_no_fixed_text() {
        let value = BodyTemplate::parse("key-4711 {caller} {called} {tier}");
        assert_eq!(
            value.fill_redacted(&payload()),
            "…+********50…+********99…hot"
        );
    }
}
