//! The verbs of `TwiML` that this product speaks, as types that cannot be half-built.
//!
//! Texts are cleaned and cut where a verb is made: what XML cannot carry is dropped, and a whole answer stays far below the 64 KB that
//! Twilio reads.

use std::time::Duration;

use crate::phone::E164;
use crate::routing::Rejection;

/// A spoken text is cut to this many characters.
pub(super) const MAX_SPOKEN: usize = 2_000;

/// A URL or a SIP address is cut to this many characters. A real one is never so long.
pub(super) const MAX_URL: usize = 1_500;

/// The headers of a SIP address, with their separators; Twilio's limit is 1,024.
pub(super) const MAX_SIP_HEADERS: usize = 1_023;

/// An answer to a webhook: its verbs run from first to last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoiceResponse {
    verbs: Vec<Verb>,
}

impl VoiceResponse {
    /// An answer of these verbs. Only `answer` makes them, and none has more than a handful.
    pub(super) fn of(verbs: impl IntoIterator<Item = Verb>) -> Self {
        Self {
            verbs: verbs.into_iter().collect(),
        }
    }

    /// What is done, in order.
    pub fn verbs(&self) -> &[Verb] {
        &self.verbs
    }
}

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    Say(Say),
    Pause(Pause),
    Dial(Dial),
    /// Asks another URL for the next answer.
    Redirect(Redirect),
    Hangup,
    /// Refuses the call without answering it.
    Reject(Rejection),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    pub(super) text: String,
    pub(super) language: String,
}

impl Say {
    /// Speaks `text` in `language`, such as `de-DE`; an empty language is Twilio's default. `None` where there is nothing to say.
    pub fn new(text: &str, language: &str) -> Option<Self> {
        let text = clean(text, MAX_SPOKEN);
        (!text.is_empty()).then(|| Self {
            text,
            language: clean(language, 35),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub(super) seconds: u64,
}

impl Pause {
    /// Silence of 1 to 600 seconds; parts of a second count as a whole one.
    pub fn new(length: Duration) -> Self {
        Self {
            seconds: whole_seconds(length).clamp(1, 600),
        }
    }
}

/// Asks another URL for the next answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub(super) url: String,
}

impl Redirect {
    /// Goes on with the answer of `url`.
    pub fn new(url: &str) -> Self {
        Self {
            url: clean(url, MAX_URL),
        }
    }
}

/// Connects the caller to one line. The caller goes on ringing until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    pub(super) noun: Noun,
    pub(super) timeout_s: u64,
    pub(super) caller_id: Option<E164>,
    pub(super) action: Option<String>,
    /// Stands on the noun: on `<Dial>` itself, Twilio ignores it with a warning.
    pub(super) status_callback: Option<String>,
}

impl Dial {
    /// Rings for 5 to 600 seconds. Twilio adds about 5 seconds of its own.
    pub fn new(noun: Noun, ring_timeout: Duration) -> Self {
        Self {
            noun,
            timeout_s: whole_seconds(ring_timeout).clamp(5, 600),
            caller_id: None,
            action: None,
            status_callback: None,
        }
    }

    /// Shows this number to the one who is called. Without it, Twilio shows the caller's own identity.
    #[must_use]
    pub fn caller_id(mut self, number: Option<E164>) -> Self {
        self.caller_id = number;
        self
    }

    /// Asks this URL what to do when the dial has ended. Verbs after the dial are then never reached.
    #[must_use]
    pub fn action(mut self, url: &str) -> Self {
        self.action = Some(clean(url, MAX_URL));
        self
    }

    /// Reports every step of the leg to this URL.
    #[must_use]
    pub fn status_callback(mut self, url: &str) -> Self {
        self.status_callback = Some(clean(url, MAX_URL));
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noun {
    Number(E164),
    Sip(SipUri),
}

/// A SIP address with headers for the one who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUri(pub(super) String);

impl SipUri {
    /// Puts headers behind an address. Only `X-…` names are allowed; a header that is not, or that no longer fits into 1,023 characters, is
    /// left out whole. Values lose their control characters, so that none of them can end a SIP header and begin another.
    pub fn new(address: &str, headers: &[(&str, String)]) -> Self {
        let mut uri = clean(address, MAX_URL);
        let mut room = MAX_SIP_HEADERS;
        let mut separator = '?';
        for (name, value) in headers.iter().filter(|(name, _)| is_header_name(name)) {
            let value = percent_encode(value);
            let len = 1 + name.len() + 1 + value.len();
            if len > room {
                continue;
            }
            room -= len;
            uri.extend([separator]);
            uri.extend([name, "=", &value]);
            separator = '&';
        }
        Self(uri)
    }

    /// The address with its headers.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_header_name(name: &str) -> bool {
    name.strip_prefix("X-").is_some_and(|rest| {
        (1..=64).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// Escapes all but the unreserved characters of RFC 3986.
fn percent_encode(text: &str) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied();
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(digit(byte >> 4));
            encoded.extend(digit(byte));
        }
    }
    encoded
}

/// A text as XML can carry it and as a person would have typed it: line breaks are spaces, ends are trimmed, control characters and the
/// other characters that XML 1.0 forbids are gone, and there are at most `max` characters.
fn clean(text: &str, max: usize) -> String {
    let text: String = text
        .chars()
        .map(|c| {
            if matches!(c, '\t' | '\n' | '\r') {
                ' '
            } else {
                c
            }
        })
        .filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'))
        .collect();
    let cut: String = text.trim().chars().take(max).collect();
    cut.trim_end().to_owned()
}

fn whole_seconds(length: Duration) -> u64 {
    length
        .as_secs()
        .saturating_add(u64::from(length.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_twilio_takes() {
        let noun = || Noun::Number(E164::parse("+4930123456").unwrap());
        let cases = [
            (0, 5),
            (4_999, 5),
            (5_001, 6),
            (20_000, 20),
            (u64::MAX, 600),
        ];
        for (ms, seconds) in cases {
            assert_eq!(
                Dial::new(noun(), Duration::from_millis(ms)).timeout_s,
                seconds
            );
        }
        assert_eq!(Dial::new(noun(), Duration::MAX).timeout_s, 600);
        assert_eq!(Pause::new(Duration::ZERO).seconds, 1);
    }

    #[test]
    fn a_text_is_what_xml_can_carry() {
        let say = |text: &str| Say::new(text, "de-DE").map(|say| say.text);
        assert_eq!(
            say("a\u{0}b\u{b}c\u{fffe}\u{7f}\u{85}d").as_deref(),
            Some("abcd")
        );
        assert_eq!(say(" one\r\ntwo\t ").as_deref(), Some("one  two"));
        assert_eq!(say("\u{1}\n "), None);
        assert_eq!(
            say(&"ü".repeat(MAX_SPOKEN + 1)).unwrap().chars().count(),
            MAX_SPOKEN
        );
    }

    #[test]
    fn sip_headers_are_few_and_harmless() {
        let uri = |headers: &[(&str, String)]| SipUri::new("sip:q@pbx.example.com", headers).0;
        let text = |text: &str| text.to_owned();
        assert_eq!(uri(&[]), "sip:q@pbx.example.com");
        assert_eq!(
            uri(&[
                ("From", text("x")),
                ("X-", text("x")),
                ("X-A b", text("x")),
                ("X-Name", text("Jörg\r\nRoute: <sip:evil>?&=+")),
                ("X-Empty", text("")),
            ]),
            "sip:q@pbx.example.com?X-Name=J%C3%B6rgRoute%3A%20%3Csip%3Aevil%3E%3F%26%3D%2B&X-Empty="
        );
        let long = [
            ("X-One", "a".repeat(1_000)),
            ("X-Two", "b".repeat(100)),
            ("X-Three", text("c")),
        ];
        assert_eq!(
            uri(&long),
            format!(
                "sip:q@pbx.example.com?X-One={}&X-Three=c",
                "a".repeat(1_000)
            )
        );
    }
}
