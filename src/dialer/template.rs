//! Body values with placeholders: `Lead {score} ({tier})`.

use super::HandoffPayload;
use super::settings::InvalidSettings;
use crate::phone::{Caller, E164};

/// A value of a body, split at its placeholders once, so that what is put in is never read again.
pub(super) struct Template(Vec<Piece>);

enum Piece {
    Text(String),
    Placeholder(Placeholder),
}

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
pub(super) fn placeholders() -> impl Iterator<Item = &'static str> {
    PLACES.iter().map(|(word, _)| *word)
}

impl Template {
    /// Reads a value. A word in braces has to be a known placeholder; any other brace is a brace.
    pub(super) fn parse(value: &str) -> Result<Self, InvalidSettings> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            match after.split_once('}') {
                Some((word, behind)) if is_word(word) => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Placeholder(place(word)?));
                    rest = behind;
                }
                Some(_) | None => {
                    text.push('{');
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self(pieces))
    }

    /// The value for a call. What is not known is empty.
    pub(super) fn fill(&self, payload: &HandoffPayload) -> String {
        self.render(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Placeholder(Placeholder::Caller) => caller_text(payload).to_owned(),
            Piece::Placeholder(Placeholder::Called) => called_text(payload),
            Piece::Placeholder(place) => place.impersonal(payload),
        })
    }

    /// The value as it may be recorded: numbers masked, and fixed text left out, because it may be a key.
    pub(super) fn fill_shown(&self, payload: &HandoffPayload) -> String {
        self.render(|piece| match piece {
            Piece::Text(_) => "…".to_owned(),
            Piece::Placeholder(Placeholder::Caller) => crate::phone::mask(caller_text(payload)),
            Piece::Placeholder(Placeholder::Called) => crate::phone::mask(&called_text(payload)),
            Piece::Placeholder(place) => place.impersonal(payload),
        })
    }

    fn render(&self, text_of: impl Fn(&Piece) -> String) -> String {
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

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn place(word: &str) -> Result<Placeholder, InvalidSettings> {
    let known = PLACES.iter().find(|(name, _)| *name == word);
    known.map(|(_, place)| *place).ok_or_else(|| {
        let names: Vec<String> = placeholders().map(|n| format!("{{{n}}}")).collect();
        InvalidSettings::new(
            "body",
            format!(
                "{{{word}}} is no placeholder; there are {}",
                names.join(" ")
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::payload;
    use super::*;

    fn fill(value: &str) -> String {
        Template::parse(value).unwrap().fill(&payload())
    }

    #[test]
    fn placeholders_are_filled_once_and_other_braces_stay() {
        assert_eq!(fill("{caller}"), "+4930123450");
        assert_eq!(fill("Lead {score} ({tier})"), "Lead 87 (hot)");
        assert_eq!(fill("{ {} {{score}} {1} }{"), "{ {} {87} {1} }{");
        let mut odd = payload();
        odd.request_id = "{caller}".to_owned();
        let value = Template::parse("{request_id}").unwrap();
        assert_eq!(value.fill(&odd), "{caller}");
    }

    #[test]
    fn what_is_unknown_is_empty() {
        let mut odd = payload();
        odd.caller = Caller::Withheld;
        odd.called = None;
        odd.score = None;
        odd.tier = None;
        let value = Template::parse("{caller}{called}{score}{tier}").unwrap();
        assert_eq!(value.fill(&odd), "");
        assert_eq!(value.fill_shown(&odd), "");
    }

    #[test]
    fn caller_and_called_are_numbers_or_empty_whatever_the_phone_says() {
        let value = Template::parse("[{caller}|{called}]").unwrap();
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
            let shown = value.fill_shown(&odd);
            assert!(
                !shown.contains("alice") && !shown.contains("12345"),
                "{shown}"
            );
        }
    }

    #[test]
    fn the_shown_value_has_no_number_and_no_fixed_text() {
        let value = Template::parse("key-4711 {caller} {called} {tier}").unwrap();
        assert_eq!(value.fill_shown(&payload()), "…+********50…+********99…hot");
    }

    #[test]
    fn an_unknown_placeholder_is_refused_with_the_known_ones() {
        let error = Template::parse("{phone}").err().unwrap().to_string();
        assert!(error.contains("{phone} is no placeholder"), "{error}");
        assert!(error.contains("{caller}"), "{error}");
    }
}
