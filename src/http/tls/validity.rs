//! When a certificate expires: the one field of X.509 that nobody else reads out for us.

use jiff::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;

/// `notAfter` of a DER certificate, or nothing if the certificate is not built as RFC 5280 says.
pub(super) fn expires_at(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (to_be_signed, _) = element(certificate, SEQUENCE)?;
    let rest = match element(to_be_signed, EXPLICIT_VERSION) {
        Some((_version, rest)) => rest,
        None => to_be_signed,
    };
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_not_before, rest) = time(validity)?;
    time(rest).map(|(not_after, _)| not_after)?
}

/// The content of the element at the front, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    if first != tag {
        return None;
    }
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
    rest.split_at_checked(length)
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

    #[test]
    fn anything_that_is_no_certificate_has_no_expiry() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        assert!(expires_at(der).is_some());
        for cut in 0..der.len() {
            assert_eq!(expires_at(&der[..cut]), None, "cut at {cut}");
        }
        assert_eq!(expires_at(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
