//! The id that ties a request, its answer and its log lines together.

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};

/// The header that carries it, both ways.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LENGTH: usize = 64;

/// The id of a request, as request extension: given by the client if it is harmless, else drawn by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// The given id if it is 1 to 64 of `[A-Za-z0-9_.-]`: it goes into logs and answers unescaped.
    pub(super) fn given(header: Option<&HeaderValue>) -> Option<Self> {
        let text = header?.to_str().ok()?;
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_sane = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(harmless);
        is_sane.then(|| Self(text.into()))
    }

    /// 128 random bits. Should the system have none to give, the id says so rather than failing the call.
    pub(super) fn drawn() -> Self {
        let mut bits = [0_u8; 16];
        if getrandom::fill(&mut bits).is_err() {
            return Self("no-random-bits".into());
        }
        let mut digits = [0_u8; 32];
        match hex::encode_to_slice(bits, &mut digits) {
            Ok(()) => Self(String::from_utf8_lossy(&digits).into()),
            Err(_) => Self(hex::encode(bits).into()),
        }
    }

    /// As the value of the response header.
    pub(super) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_harmless_id_is_taken_over() {
        let check = |text: &[u8], expected: bool| {
            let header = HeaderValue::from_bytes(text).unwrap();
            assert_eq!(RequestId::given(Some(&header)).is_some(), expected);
        };
        check(b"a", true);
        check(b"call-17_of.A9", true);
        check("x".repeat(64).as_bytes(), true);
        check("x".repeat(65).as_bytes(), false);
        check(b"", false);
        check(b"a b", false);
        check(b"\"}{", false);
        check("\u{e9}".as_bytes(), false);
        assert_eq!(RequestId::given(None), None);
    }

    #[test]
    fn drawn_ids_are_128_bits_and_differ() {
        let (one, other) = (RequestId::drawn(), RequestId::drawn());
        assert_eq!(one.0.len(), 32);
        assert_ne!(one, other);
    }
}
