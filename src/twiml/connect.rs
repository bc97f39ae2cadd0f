//! Where a call can be connected to.

use serde::{Deserialize, Serialize};

use crate::phone::E164;

/// The voice part of a handoff: where the line of a dialer rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Connect {
    Number(E164),
    /// A SIP address, with its `sip:` or `sips:` prefix and without headers.
    Sip(String),
}

/// The text is neither a phone number nor a SIP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a place to connect a call to: write a phone number like +4930123456 or an address like sip:queue@example.com"
)]
pub struct NotConnect;

impl Connect {
    pub fn parse(text: &str) -> Result<Self, NotConnect> {
        if let Ok(number) = E164::parse(text) {
            return Ok(Self::Number(number));
        }
        let address = text
            .strip_prefix("sip:")
            .or_else(|| text.strip_prefix("sips:"))
            .ok_or(NotConnect)?;
        let (user, host) = address.split_once('@').ok_or(NotConnect)?;
        let plain = address
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '?' | '&'));
        if plain && !user.is_empty() && !host.is_empty() {
            Ok(Self::Sip(text.to_owned()))
        } else {
            Err(NotConnect)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_number_or_a_sip_address_with_user_and_host() {
        for text in ["sip:a@b.example", "sips:a@b.example:5061;transport=tls"] {
            assert_eq!(Connect::parse(text), Ok(Connect::Sip(text.to_owned())));
        }
        assert!(matches!(
            Connect::parse("+493011111111"),
            Ok(Connect::Number(_))
        ));
        let wrong = [
            "sip:@b",
            "sip:a@",
            "sip:a",
            "a@b",
            "sip:a b@c",
            "sip:a<@b",
            "sip:a@b?x=1",
        ];
        for text in wrong {
            assert_eq!(Connect::parse(text), Err(NotConnect), "{text}");
        }
    }
}
