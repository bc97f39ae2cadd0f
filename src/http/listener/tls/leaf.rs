//! What a certificate says of itself.

use jiff::Timestamp;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

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
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names = alternatives
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| {
                if let GeneralName::DNSName(name) = name {
                    Some((*name).to_owned())
                } else {
                    None
                }
            });
        let time = |time: ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let validity = certificate.validity();
        Some(Self {
            names: names.collect(),
            not_before: time(validity.not_before)?,
            not_after: time(validity.not_after)?,
        })
    }
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
