//! What a certificate says of itself: the few fields of X.509 that nobody else reads out for us.

use jiff::Timestamp;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `dNSName` of a general name: context-specific, primitive, 2.
const DNS_NAME: u8 = 0x82;
const EXPLICIT_VERSION: u8 = 0xa0;
const EXPLICIT_EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17, the subject's alternative names.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

/// The certificate that is shown to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The host names it is for, as far as they are readable.
    pub(super) names: Vec<String>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Leaf {
    /// Reads a DER certificate; nothing if it is not built as RFC 5280 says.
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (to_be_signed, _) = element(certificate, SEQUENCE)?;
        let rest = match element(to_be_signed, EXPLICIT_VERSION) {
            Some((_version, rest)) => rest,
            None => to_be_signed,
        };
        let (_serial, rest) = element(rest, INTEGER)?;
        let (_algorithm, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, rest) = element(rest, SEQUENCE)?;
        let (not_before, later) = time(validity)?;
        let (not_after, _) = time(later)?;
        Some(Self {
            names: names(rest).unwrap_or_default(),
            not_before: not_before?,
            not_after: not_after?,
        })
    }
}

/// The alternative names, from what follows the validity.
fn names(rest: &[u8]) -> Option<Vec<String>> {
    let (_subject, rest) = element(rest, SEQUENCE)?;
    let (_key, mut rest) = element(rest, SEQUENCE)?;
    // Unique ids may stand between.
    let mut extensions = loop {
        let (tag, content, after) = any(rest)?;
        if tag == EXPLICIT_EXTENSIONS {
            break element(content, SEQUENCE)?.0;
        }
        rest = after;
    };
    loop {
        let (extension, after) = element(extensions, SEQUENCE)?;
        let (id, value) = element(extension, OBJECT_ID)?;
        if id == ALTERNATIVE_NAMES {
            // Whether it is critical may stand before the value.
            let octets =
                element(value, OCTET_STRING).or_else(|| element(any(value)?.2, OCTET_STRING));
            let (mut list, _) = element(octets?.0, SEQUENCE)?;
            let mut names = Vec::new();
            while let Some((tag, name, after)) = any(list) {
                if tag == DNS_NAME {
                    names.extend(std::str::from_utf8(name).ok().map(str::to_owned));
                }
                list = after;
            }
            return Some(names);
        }
        extensions = after;
    }
}

/// The content of the element at the front, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(der)
        .filter(|(found, _, _)| *found == tag)
        .map(|(_, content, rest)| (content, rest))
}

/// Tag and content of the element at the front, and what follows it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        let length = bytes
            .iter()
            .fold(0_usize, |sum, &byte| (sum << 8) | usize::from(byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time of either kind: present, but perhaps not readable.
fn time(der: &[u8]) -> Option<(Option<Timestamp>, &[u8])> {
    if let Some((text, rest)) = element(der, UTC_TIME) {
        // RFC 5280 4.1.2.5.1: two digits from 50 on are of the last century.
        let century = if text.first()? >= &b'5' { "19" } else { "20" };
        return Some((timestamp(century, text), rest));
    }
    let (text, rest) = element(der, GENERALIZED_TIME)?;
    Some((timestamp("", text), rest))
}

/// `YYYYMMDDHHMMSSZ`, with the century in front.
fn timestamp(century: &str, text: &[u8]) -> Option<Timestamp> {
    let digits = format!("{century}{}", std::str::from_utf8(text).ok()?);
    if digits.len() != 15 || !digits.ends_with('Z') {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range);
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(8..10)?,
        part(10..12)?,
        part(12..14)?
    )
    .parse()
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["a.test".to_owned(), "b.test".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2061, 1, 1);
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_times_are_read() {
        let leaf = Leaf::read(&certificate()).unwrap();
        assert_eq!(leaf.names, ["a.test", "b.test"]);
        assert_eq!(leaf.not_before, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(leaf.not_after, "2061-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn anything_that_is_no_certificate_says_nothing() {
        let der = certificate();
        for cut in 0..der.len() {
            assert_eq!(Leaf::read(&der[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Leaf::read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
