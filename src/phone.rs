//! Phone numbers and caller identities: the one place that reads what a carrier calls "From".
//!
//! Source: Twilio's voice request page and the field reports collected with it. A caller that hides its number arrives as a word, or as
//! digits that spell a word on a keypad and *pass* an E.164 pattern; those must never be looked up.

mod region;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

pub use region::Region;

/// A phone number in E.164 form: `+`, then 7 to 15 digits, the first not zero (ITU-T E.164).
///
/// `Debug` shows the last two digits only; call [`E164::as_str`] where the number itself is meant to leave.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct E164(Box<str>);

/// The text is not a phone number in E.164 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a phone number in E.164 form: write + and 7 to 15 digits, like +4930123456")]
pub struct NotE164;

impl E164 {
    /// Reads a number that is already in E.164 form; nothing is normalised. [`E164::read`] does that.
    pub fn parse(text: &str) -> Result<Self, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?;
        let well_formed = (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(NotE164)
        }
    }

    /// The number with its `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number with all but its last two digits hidden.
    pub fn masked(&self) -> String {
        mask(&self.0)
    }

    /// The number's beginning up to the end of its country code (ITU-T E.164, list of assigned codes): `+49`.
    pub fn country(&self) -> &str {
        /// The second digits, by the first, of the codes of two digits; the world's other codes but 1 and 7 have three.
        const OF_TWO: [&str; 10] = [
            "",
            "",
            "07",
            "0123469",
            "013456789",
            "12345678",
            "0123456",
            "",
            "1246",
            "0123458",
        ];
        let digit = |n: usize| self.0.as_bytes().get(n).copied().unwrap_or_default();
        let of_two = OF_TWO.get(usize::from(digit(1).saturating_sub(b'0')));
        let n_digits = match digit(1) {
            b'1' | b'7' => 1,
            _ if of_two.is_some_and(|second| second.as_bytes().contains(&digit(2))) => 2,
            _ => 3,
        };
        self.0.get(..=n_digits).unwrap_or(&self.0)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E164({})", self.masked())
    }
}

impl<'de> Deserialize<'de> for E164 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Stands in place of a number or address that was erased; no carrier sends it.
pub const ERASED: &str = "[erased]";

/// Hides every character but a leading `+` and the last two: `+*********50`. What was erased is said to be.
pub fn mask(text: &str) -> String {
    if text == ERASED {
        return ERASED.to_owned();
    }
    let n = text.chars().count();
    text.chars()
        .enumerate()
        .map(|(i, c)| {
            if (i == 0 && c == '+') || i + 2 >= n {
                c
            } else {
                '*'
            }
        })
        .collect()
}

/// Who is calling, as far as the carrier says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Caller {
    /// A number in E.164 form.
    Number(E164),
    /// The number is hidden: a keypad sentinel, a word such as `anonymous`, or nothing at all.
    Withheld,
    /// Digits without a country code, a short code or an extension.
    National(String),
    /// A Voice SDK client, without its `client:` prefix.
    Client(String),
    /// A SIP caller. `number` is set where the user part is a number with its country code.
    Sip {
        /// The whole SIP address as received.
        address: String,
        /// The user part in E.164 form, where it is one.
        number: Option<E164>,
    },
    Unreadable(String),
}

/// Digits that spell a word on a phone keypad: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN, UNAVAILABLE.
const KEYPAD_SENTINELS: [&str; 5] = [
    "266696687",
    "7378742833",
    "2562533",
    "8656696",
    "86282452253",
];

/// Words that carriers and SIP gateways put in place of a hidden number.
const WITHHELD_WORDS: [&str; 8] = [
    "anonymous",
    "restricted",
    "unavailable",
    "unknown",
    "private",
    "blocked",
    "withheld",
    "null",
];

impl Caller {
    /// Reads the `From` of a webhook. Never fails: what is not understood is [`Caller::Unreadable`].
    pub fn classify(from: &str) -> Self {
        let from = from.trim();
        if is_withheld(from) {
            return Self::Withheld;
        }
        if let Ok(number) = E164::parse(from) {
            return Self::Number(number);
        }
        if let Some(name) = strip_prefix_ignoring_case(from, "client:") {
            return if is_withheld(name) {
                Self::Withheld
            } else {
                Self::Client(name.to_owned())
            };
        }
        let sip = strip_prefix_ignoring_case(from, "sip:")
            .or_else(|| strip_prefix_ignoring_case(from, "sips:"));
        if let Some(rest) = sip {
            return Self::classify_sip(from, rest);
        }
        if from
            .trim_start_matches('+')
            .bytes()
            .all(|b| b.is_ascii_digit() || b" -()./".contains(&b))
        {
            return Self::National(from.to_owned());
        }
        Self::Unreadable(from.to_owned())
    }

    fn classify_sip(address: &str, rest: &str) -> Self {
        let (user, host) = rest.split_once('@').unwrap_or(("", rest));
        let user = user.split([';', ':']).next().unwrap_or("");
        let user = user.replace("%2B", "+").replace("%2b", "+");
        if (is_withheld(&user) && !user.is_empty())
            || strip_prefix_ignoring_case(host, "anonymous.invalid").is_some()
        {
            return Self::Withheld;
        }
        Self::Sip {
            address: address.to_owned(),
            number: number_of_sip_user(&user),
        }
    }

    /// The number to look up, if there is one.
    pub fn number(&self) -> Option<&E164> {
        match self {
            Self::Number(number)
            | Self::Sip {
                number: Some(number),
                ..
            } => Some(number),
            Self::Withheld
            | Self::National(_)
            | Self::Client(_)
            | Self::Sip { number: None, .. }
            | Self::Unreadable(_) => None,
        }
    }

    /// The caller as text, as received; empty where withheld. Personal data: never for a log line.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Number(number) => number.as_str(),
            Self::Withheld => "",
            Self::National(text) | Self::Client(text) | Self::Unreadable(text) => text,
            Self::Sip { address, .. } => address,
        }
    }

    /// What may be shown of the caller: the last two characters of a number, otherwise the kind.
    pub fn masked(&self) -> String {
        match self {
            Self::Number(number) => number.masked(),
            Self::Withheld => "withheld".to_owned(),
            Self::National(text) => mask(text),
            Self::Client(_) => "client".to_owned(),
            Self::Sip {
                number: Some(number),
                ..
            } => format!("sip {}", number.masked()),
            Self::Sip { number: None, .. } => "sip".to_owned(),
            Self::Unreadable(text) if text == ERASED => ERASED.to_owned(),
            Self::Unreadable(_) => "unreadable".to_owned(),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.masked())
    }
}

/// A SIP user with a `+`, or 11 to 15 digits: too long to be a national number of any plan that omits its country code.
fn number_of_sip_user(user: &str) -> Option<E164> {
    if user.starts_with('+') {
        return E164::parse(user).ok();
    }
    if (11..=15).contains(&user.len()) {
        E164::parse(&format!("+{user}")).ok()
    } else {
        None
    }
}

fn is_withheld(text: &str) -> bool {
    if text.is_empty()
        || WITHHELD_WORDS
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
    {
        return true;
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    let national = digits.strip_prefix('1').unwrap_or(digits);
    KEYPAD_SENTINELS.contains(&digits) || KEYPAD_SENTINELS.contains(&national)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    if head.eq_ignore_ascii_case(prefix) {
        text.get(prefix.len()..)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_classified_as_the_carriers_really_send_them() {
        let number = |text: &str| Caller::Number(E164::parse(text).unwrap());
        let sip = |address: &str, number: Option<&str>| Caller::Sip {
            address: address.to_owned(),
            number: number.map(|n| E164::parse(n).unwrap()),
        };
        let cases = [
            ("+14155550100", number("+14155550100")),
            (" +4930123456 ", number("+4930123456")),
            ("", Caller::Withheld),
            ("Anonymous", Caller::Withheld),
            ("RESTRICTED", Caller::Withheld),
            ("+266696687", Caller::Withheld),
            ("266696687", Caller::Withheld),
            ("1266696687", Caller::Withheld),
            ("+7378742833", Caller::Withheld),
            ("+2562533", Caller::Withheld),
            ("+8656696", Caller::Withheld),
            ("+86282452253", Caller::Withheld),
            ("client:Anonymous", Caller::Withheld),
            ("client:alice", Caller::Client("alice".to_owned())),
            ("5035551212", Caller::National("5035551212".to_owned())),
            ("07700 900123", Caller::National("07700 900123".to_owned())),
            ("1234", Caller::National("1234".to_owned())),
            ("+0123456789", Caller::National("+0123456789".to_owned())),
            ("+123456", Caller::National("+123456".to_owned())),
            (
                "sip:alice@pbx.example.com",
                sip("sip:alice@pbx.example.com", None),
            ),
            (
                "sip:+14155550100@pbx.example.com:5060;a=b",
                sip(
                    "sip:+14155550100@pbx.example.com:5060;a=b",
                    Some("+14155550100"),
                ),
            ),
            (
                "sip:14155550100;phone-context=x@1.2.3.4",
                sip(
                    "sip:14155550100;phone-context=x@1.2.3.4",
                    Some("+14155550100"),
                ),
            ),
            (
                "sip:1234567890@209.182.172.181",
                sip("sip:1234567890@209.182.172.181", None),
            ),
            ("sip:anonymous@anonymous.invalid", Caller::Withheld),
            ("sip:+266696687@pbx.example.com", Caller::Withheld),
            ("müller", Caller::Unreadable("müller".to_owned())),
        ];
        for (from, expected) in cases {
            let got = Caller::classify(from);
            assert!(
                got == expected,
                "{from:?} was read as {:?} {:?}",
                got,
                got.as_text()
            );
        }
    }

    #[test]
    fn a_caller_is_given_as_received_and_shown_without_what_identifies() {
        let cases = [
            ("+14155550150", "+14155550150", "+*********50"),
            ("anonymous", "", "withheld"),
            ("5035551212", "5035551212", "********12"),
            ("client:alice", "alice", "client"),
            ("sip:alice@a.example", "sip:alice@a.example", "sip"),
            (
                "sip:+14155550150@a.example",
                "sip:+14155550150@a.example",
                "sip +*********50",
            ),
            (ERASED, ERASED, ERASED),
            ("m\u{fc}ller", "m\u{fc}ller", "unreadable"),
        ];
        for (from, text, masked) in cases {
            let caller = Caller::classify(from);
            assert_eq!((caller.as_text(), caller.masked().as_str()), (text, masked));
        }
        assert_eq!(
            (mask("1+234"), mask(ERASED)),
            ("***34".to_owned(), ERASED.to_owned())
        );
    }

    #[test]
    fn a_number_begins_with_the_code_of_its_country() {
        for (number, country) in [
            ("+493012345", "+49"),
            ("+12125550100", "+1"),
            ("+74951234567", "+7"),
            ("+35312345678", "+353"),
            ("+442071234567", "+44"),
            ("+97112345678", "+971"),
            ("+27111234567", "+27"),
            ("+2211234567", "+221"),
            ("+88213001234", "+882"),
            ("+85212345678", "+852"),
        ] {
            assert_eq!(E164::parse(number).unwrap().country(), country);
        }
    }

    #[test]
    fn debug_output_shows_two_digits_at_most() {
        let number = E164::parse("+14155550150").unwrap();
        assert_eq!(format!("{number:?}"), "E164(+*********50)");
        assert_eq!(
            format!("{:?}", Caller::Number(number)),
            "Caller(+*********50)"
        );
        assert_eq!(
            format!("{:?}", Caller::classify("sip:alice@pbx.example.com")),
            "Caller(sip)"
        );
    }
}
