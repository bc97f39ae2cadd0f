//! A certificate from files, which somebody else replaces.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// Why a certificate cannot be served; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or is not PEM.
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        /// What the system or the PEM reader said.
        source: pem::Error,
    },
    /// A file has nothing of the kind that belongs there.
    #[error("{} holds no {kind}", path.display())]
    Empty {
        path: PathBuf,
        /// What should be in it.
        kind: &'static str,
    },
    /// The certificate cannot be used, or not with this key.
    #[error("the certificate in {} cannot be served with the key in {}", certificate.display(), private_key.display())]
    Unusable {
        certificate: PathBuf,
        private_key: PathBuf,
        /// What is wrong with the pair.
        source: rustls::Error,
    },
    /// The certificate is not valid any more.
    #[error("the certificate in {} expired at {at}", path.display())]
    Expired { path: PathBuf, at: Timestamp },
}

/// The certificate being served, and the files it came from.
#[derive(Debug)]
pub(super) struct CertificateFiles {
    certificate: PathBuf,
    private_key: PathBuf,
    serving: ArcSwap<Serving>,
    /// The state of the files at the last attempt, successful or not. Also keeps two reloads apart.
    tried: Mutex<Option<FileStamp>>,
}

#[derive(Debug)]
struct Serving {
    config: Arc<ServerConfig>,
    leaf: Option<Arc<Leaf>>,
}

impl CertificateFiles {
    pub(super) fn load(certificate: &Path, private_key: &Path) -> Result<Self, CertificateError> {
        let stamp = FileStamp::of(certificate, private_key).ok();
        Ok(Self {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            serving: ArcSwap::from_pointee(read(certificate, private_key)?),
            tried: Mutex::new(stamp),
        })
    }

    /// Reads the files again if they are not the ones last tried. `Ok(true)`: a new certificate is in use.
    ///
    /// A broken replacement is reported once and tried again when a file changes: the two files are rarely replaced
    /// in the same instant.
    pub(super) fn reload_if_changed(&self, now: Timestamp) -> Result<bool, CertificateError> {
        let mut tried = self.tried();
        let stamp = FileStamp::of(&self.certificate, &self.private_key).ok();
        if stamp == *tried {
            return Ok(false);
        }
        *tried = stamp;
        self.replace(now).map(|()| true)
    }

    /// What the certificate in use says of itself, where it is readable.
    pub(super) fn leaf(&self) -> Option<Arc<Leaf>> {
        self.serving.load().leaf.clone()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.serving.load().config.clone()
    }

    fn replace(&self, now: Timestamp) -> Result<(), CertificateError> {
        let replacement = read(&self.certificate, &self.private_key)?;
        if let Some(at) = replacement.leaf.as_ref().map(|leaf| leaf.not_after)
            && at <= now
        {
            return Err(CertificateError::Expired {
                path: self.certificate.clone(),
                at,
            });
        }
        self.serving.store(Arc::new(replacement));
        Ok(())
    }

    fn tried(&self) -> MutexGuard<'_, Option<FileStamp>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells one state of the two files from another without reading them.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp([(SystemTime, u64, u64); 2]);

impl FileStamp {
    fn of(certificate: &Path, private_key: &Path) -> io::Result<Self> {
        let of_one = |path: &Path| {
            let file = std::fs::metadata(path)?;
            Ok::<_, io::Error>((file.modified()?, file.len(), file.ino()))
        };
        Ok(Self([of_one(certificate)?, of_one(private_key)?]))
    }
}

fn read(certificate: &Path, private_key: &Path) -> Result<Serving, CertificateError> {
    let chain = read_chain(certificate)?;
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(|source| {
        let (path, kind) = (private_key.to_owned(), "private key");
        if matches!(source, pem::Error::NoItemsFound) {
            CertificateError::Empty { path, kind }
        } else {
            CertificateError::Unreadable { path, source }
        }
    })?;
    let leaf = chain.first().and_then(|leaf| Leaf::read(leaf));
    let unusable = |source| CertificateError::Unusable {
        certificate: certificate.to_owned(),
        private_key: private_key.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Serving {
        config: Arc::new(config),
        leaf: leaf.map(Arc::new),
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable = |source| CertificateError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if chain.is_empty() {
        return Err(CertificateError::Empty {
            path: path.to_owned(),
            kind: "certificate",
        });
    }
    Ok(chain)
}

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
    use std::error::Error;

    impl CertificateFiles {
        fn expires_at(&self) -> Option<Timestamp> {
            Some(self.leaf()?.not_after)
        }

        fn reload(&self, now: Timestamp) -> Result<(), CertificateError> {
            self.replace(now)
        }
    }

    struct Place {
        _directory: tempfile::TempDir,
        certificate: PathBuf,
        private_key: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                certificate: directory.path().join("fullchain.pem"),
                private_key: directory.path().join("privkey.pem"),
                _directory: directory,
            }
        }

        fn write(&self, certificate: &str, private_key: &str) {
            std::fs::write(&self.certificate, certificate).unwrap();
            std::fs::write(&self.private_key, private_key).unwrap();
        }

        fn load(&self) -> Result<CertificateFiles, CertificateError> {
            CertificateFiles::load(&self.certificate, &self.private_key)
        }
    }

    fn issue(not_after: i32) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["calls.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(not_after, 6, 1);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_certificate_tells_when_it_expires() {
        let files = Place::new();
        for (year, expected) in [
            (2031, "2031-06-01T00:00:00Z"),
            (2061, "2061-06-01T00:00:00Z"),
        ] {
            let (certificate, key) = issue(year);
            files.write(&certificate, &key);
            let loaded = files.load().unwrap();
            assert_eq!(loaded.expires_at(), Some(expected.parse().unwrap()));
        }
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let files = Place::new();
        let (certificate, key) = issue(2031);
        files.write(&certificate, &key);
        let serving = files.load().unwrap();
        assert!(!serving.reload_if_changed(now()).unwrap());
        let (certificate, key) = issue(2032);
        files.write(&certificate, &key);
        assert!(serving.reload_if_changed(now()).unwrap());
        assert!(!serving.reload_if_changed(now()).unwrap());
        let expected = "2032-06-01T00:00:00Z".parse().unwrap();
        assert_eq!(serving.expires_at(), Some(expected));
    }

    #[test]
    fn a_broken_replacement_is_said_in_words_and_the_old_one_stays() {
        let files = Place::new();
        let (certificate, key) = issue(2031);
        files.write(&certificate, &key);
        let serving = files.load().unwrap();
        let before = serving.expires_at();
        let (other, other_key) = issue(2032);
        let expired = issue(2020);
        let cases = [
            ("junk", key.as_str(), "holds no certificate"),
            (certificate.as_str(), "junk", "holds no private key"),
            (&certificate, &other_key, "cannot be served with the key"),
            (&expired.0, &expired.1, "expired at 2020-06-01T00:00:00Z"),
            (
                "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
                &key,
                "cannot read",
            ),
        ];
        for (certificate, key, expected) in cases {
            files.write(certificate, key);
            let error = serving.reload(now()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains(".pem"), "{error}");
            assert_eq!(serving.expires_at(), before);
        }
        std::fs::remove_file(&files.certificate).unwrap();
        let error = serving.reload_if_changed(now()).unwrap_err();
        assert!(error.source().is_some(), "{error}");
        assert!(!serving.reload_if_changed(now()).unwrap(), "told once");
        files.write(&other, &other_key);
        assert!(serving.reload_if_changed(now()).unwrap());
    }

    #[test]
    fn an_expired_certificate_is_served_when_there_is_nothing_better() {
        let files = Place::new();
        let (certificate, key) = issue(2020);
        files.write(&certificate, &key);
        assert!(files.load().unwrap().expires_at().unwrap() < now());
    }

    fn with_two_names() -> Vec<u8> {
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
        let leaf = Leaf::read(&with_two_names()).unwrap();
        assert_eq!(leaf.names, ["a.test", "b.test"]);
        assert_eq!(leaf.not_before, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(leaf.not_after, "2061-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn anything_that_is_no_certificate_says_nothing() {
        let der = with_two_names();
        for cut in 0..der.len() {
            assert_eq!(Leaf::read(&der[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Leaf::read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
