//! A certificate from an ACME authority (RFC 8555), proven by TLS-ALPN-01 on the port that is served anyway.
//!
//! One certificate at a time, kept in a directory with the account. It is renewed when two thirds of its life are over. Whatever fails, the
//! certificate in hand stays in use, and the next attempt comes later than the last: an authority shuts out who hammers it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_acme::{
    AccountCache, AcmeConfig, CertCache, EventOk, ResolvesServerCertAcme, is_tls_alpn_challenge,
};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};

use super::files::Leaf;
use crate::files;

/// The protocol of a challenge, which carries no requests.
pub(super) const CHALLENGE: &[u8] = b"acme-tls/1";
/// The longest an order may take, all its requests together.
const ORDER: Duration = Duration::from_mins(5);
/// After the first failed order; then four times as long each time.
const FIRST_REST: Duration = Duration::from_mins(1);
const LONGEST_REST: Duration = Duration::from_hours(6);

/// What is asked of which authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The host names of the certificate; at least one.
    pub domains: Vec<String>,
    /// The mail address that the authority writes to.
    pub contact: String,
    /// The directory of the authority. Default: Let's Encrypt.
    pub directory: String,
    /// Trusted for the directory in place of the system's authorities: PEM. Default: none.
    pub ca: Option<PathBuf>,
    /// Where account and certificate are kept; made with mode 0700. Default: `acme` beside the database.
    pub cache: PathBuf,
}

/// Why there is no certificate, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The directory of the cache, or a file in it, cannot be used.
    #[error("cannot use {}", path.display())]
    Cache { path: PathBuf, source: io::Error },
    /// The file of trusted authorities cannot be read.
    #[error("cannot read certificates from {}", path.display())]
    Authority { path: PathBuf },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// What is kept, or what came, is no certificate with its key.
    #[error("{what} is no certificate with its key")]
    Unusable { what: String },
    /// The authority refused, or could not be asked.
    #[error("{directory} gives no certificate: {why}")]
    Refused { directory: String, why: String },
}

impl AcmeError {
    fn cache(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Cache { path, source }
    }
}

/// The certificate of an authority, or none yet.
#[derive(Debug)]
pub(super) struct AcmeCertificates {
    settings: AcmeSettings,
    resolver: Arc<Resolver>,
    config: Arc<ServerConfig>,
    leaf: ArcSwapOption<Leaf>,
}

impl AcmeCertificates {
    /// Makes the cache, and takes the certificate in it into use where there is one.
    pub(super) fn open(settings: AcmeSettings) -> Result<Self, AcmeError> {
        make_private(&settings.cache)?;
        let resolver = Arc::new(Resolver::default());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec(), CHALLENGE.to_vec()];
        let acme = Self {
            resolver,
            config: Arc::new(config),
            leaf: ArcSwapOption::empty(),
            settings,
        };
        let files = acme.files();
        if let Some(pem) = read(&files.certificate)? {
            // A broken file is replaced by a new certificate; nothing else depends on it.
            if let Err(error) = acme.install(&pem, &files.certificate.display().to_string()) {
                tracing::warn!(event = "tls.acme_cache", error = %error, "the certificate in the cache is left aside");
            }
        }
        client_config(&acme.settings)?;
        Ok(acme)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    pub(super) fn leaf(&self) -> Option<Arc<Leaf>> {
        self.leaf.load_full()
    }

    pub(super) fn domains(&self) -> &[String] {
        &self.settings.domains
    }

    /// How long the certificate in use will do; zero where there is none, or where it is for other names.
    pub(super) fn due_in(&self, now: Timestamp) -> Duration {
        let Some(leaf) = self.leaf() else {
            return Duration::ZERO;
        };
        let covers = |domain: &String| {
            leaf.names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(domain))
        };
        if !self.settings.domains.iter().all(covers) {
            return Duration::ZERO;
        }
        let life = leaf.not_after.duration_since(leaf.not_before);
        let renew_at = leaf.not_after - life / 3;
        Duration::try_from(renew_at.duration_since(now)).unwrap_or(Duration::ZERO)
    }

    /// Orders a certificate, and takes it into use. Bounded in time.
    pub(super) async fn order(&self) -> Result<(), AcmeError> {
        let refused = |why: String| AcmeError::Refused {
            directory: self.settings.directory.clone(),
            why,
        };
        let contact = format!("mailto:{}", self.settings.contact);
        let client = Arc::new(client_config(&self.settings)?);
        let mut state = AcmeConfig::new_with_client_config(&self.settings.domains, client)
            .contact([contact])
            .directory(&self.settings.directory)
            .cache(self.files())
            .state();
        self.resolver.challenges.store(Some(state.resolver()));
        let ordered = tokio::time::timeout(ORDER, async {
            loop {
                match state.next().await {
                    Some(Ok(EventOk::CertCacheStore)) => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(refused(error.to_string())),
                    None => return Err(refused("the order ended without a word".to_owned())),
                }
            }
        })
        .await;
        self.resolver.challenges.store(None);
        let minutes = ORDER.as_secs() / 60;
        ordered.map_err(|_| refused(format!("no certificate after {minutes} minutes")))??;
        let files = self.files();
        let pem = read(&files.certificate)?.unwrap_or_default();
        self.install(&pem, "what came from the authority")
    }

    fn install(&self, pem: &[u8], what: &str) -> Result<(), AcmeError> {
        let unusable = || AcmeError::Unusable {
            what: what.to_owned(),
        };
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| unusable())?;
        let leaf = chain.first().and_then(|leaf| Leaf::read(leaf));
        let leaf = leaf.ok_or_else(unusable)?;
        let pair = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        self.resolver.serving.store(Some(Arc::new(pair)));
        self.leaf.store(Some(Arc::new(leaf)));
        Ok(())
    }

    fn files(&self) -> AcmeFiles {
        AcmeFiles::new(&self.settings)
    }
}

/// What the certificate in the cache says of itself, where there is one.
pub(super) fn kept(settings: &AcmeSettings) -> Option<Leaf> {
    let files = AcmeFiles::new(settings);
    let pem = fs::read(&files.certificate).ok()?;
    let leaf = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
    Leaf::read(&leaf)
}

/// How long to rest after so many failed orders in a row.
pub(super) fn rest_after(failures: u32) -> Duration {
    let factor = 4_u32.saturating_pow(failures.saturating_sub(1).min(10));
    FIRST_REST.saturating_mul(factor).min(LONGEST_REST)
}

/// Answers challenges while there are any, and everybody else with the certificate in use.
#[derive(Debug, Default)]
struct Resolver {
    challenges: ArcSwapOption<ResolvesServerCertAcme>,
    serving: ArcSwapOption<CertifiedKey>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if is_tls_alpn_challenge(&hello) {
            return self.challenges.load_full()?.resolve(hello);
        }
        self.serving.load_full()
    }
}

/// Whom the directory may be: the given authorities, or those of the system.
fn client_config(settings: &AcmeSettings) -> Result<ClientConfig, AcmeError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let Some(path) = &settings.ca else {
        return Ok(builder.with_platform_verifier()?.with_no_client_auth());
    };
    let unreadable = || AcmeError::Authority { path: path.clone() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
        roots.add(certificate.map_err(|_| unreadable())?)?;
    }
    if roots.is_empty() {
        return Err(unreadable());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn make_private(directory: &Path) -> Result<(), AcmeError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|source| AcmeError::cache(directory, source))
}

/// The files of one authority: its account, and the certificate with its key. Another authority or other names have other files.
#[derive(Clone, Debug)]
struct AcmeFiles {
    account: PathBuf,
    certificate: PathBuf,
}

impl AcmeFiles {
    fn new(settings: &AcmeSettings) -> Self {
        let named = |kind: &str, of: &[&str]| {
            let mut digest = Sha256::new();
            for part in of {
                digest.update(part.as_bytes());
                digest.update([0]);
            }
            let digest = digest.finalize();
            let short = hex::encode(digest.get(..8).unwrap_or_default());
            settings.cache.join(format!("{kind}-{short}.pem"))
        };
        let mut of_certificate = vec![settings.directory.as_str()];
        of_certificate.extend(settings.domains.iter().map(String::as_str));
        Self {
            account: named("account", &[&settings.directory, &settings.contact]),
            certificate: named("certificate", &of_certificate),
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, AcmeError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AcmeError::cache(path, source)),
    }
}

/// Whole or not at all, for its owner only.
async fn write(path: &Path, content: &[u8]) -> Result<(), AcmeError> {
    let (to, content) = (path.to_owned(), content.to_owned());
    let write = move || files::replace(&to, files::PRIVATE, &content);
    let written = tokio::task::spawn_blocking(write).await;
    let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|source| AcmeError::cache(path, source))
}

/// A certificate is ordered when one is due, so none is offered from here.
#[async_trait]
impl CertCache for AcmeFiles {
    type EC = AcmeError;

    async fn load_cert(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, AcmeError> {
        Ok(None)
    }

    async fn store_cert(&self, _: &[String], _: &str, pem: &[u8]) -> Result<(), AcmeError> {
        write(&self.certificate, pem).await
    }
}

#[async_trait]
impl AccountCache for AcmeFiles {
    type EA = AcmeError;

    async fn load_account(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, AcmeError> {
        read(&self.account)
    }

    async fn store_account(&self, _: &[String], _: &str, key: &[u8]) -> Result<(), AcmeError> {
        write(&self.account, key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn settings(cache: &Path) -> AcmeSettings {
        AcmeSettings {
            domains: vec!["calls.test".to_owned()],
            contact: "ops@calls.test".to_owned(),
            directory: "https://127.0.0.1:1/dir".to_owned(),
            ca: None,
            cache: cache.to_owned(),
        }
    }

    fn pem(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap();
        format!("{}\n{}", key.serialize_pem(), certificate.pem())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_kept_certificate_is_served_at_once_and_renewed_after_two_thirds_of_its_life() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("acme");
        let acme = AcmeCertificates::open(settings(&cache)).unwrap();
        assert!(acme.leaf().is_none());
        assert_eq!(acme.due_in(at("2026-01-01T00:00:00Z")), Duration::ZERO);
        let mode = fs::metadata(&cache).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        let files = acme.files();
        write(&files.certificate, pem("calls.test").as_bytes())
            .await
            .unwrap();
        let mode = fs::metadata(&files.certificate)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let acme = AcmeCertificates::open(settings(&cache)).unwrap();
        assert_eq!(acme.leaf().unwrap().names, ["calls.test"]);
        let left = acme.due_in(at("2026-02-01T00:00:00Z"));
        assert_eq!(left, Duration::from_hours(24 * 29), "on the 2nd of March");
        assert_eq!(acme.due_in(at("2026-03-03T00:00:00Z")), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_certificate_for_other_names_or_of_another_authority_is_not_enough() {
        let directory = tempfile::tempdir().unwrap();
        let acme = AcmeCertificates::open(settings(directory.path())).unwrap();
        acme.install(pem("other.test").as_bytes(), "it").unwrap();
        assert_eq!(acme.due_in(at("2026-01-02T00:00:00Z")), Duration::ZERO);
        let other = AcmeSettings {
            directory: "https://127.0.0.1:2/dir".to_owned(),
            ..settings(directory.path())
        };
        assert_ne!(AcmeFiles::new(&other).certificate, acme.files().certificate);
        assert_ne!(AcmeFiles::new(&other).account, acme.files().account);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_asked_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let acme = AcmeCertificates::open(settings(directory.path())).unwrap();
        let error = acme.order().await.unwrap_err().to_string();
        assert!(
            error.contains("https://127.0.0.1:1/dir gives no certificate"),
            "{error}"
        );
        let junk = directory.path().join("ca.pem");
        fs::write(&junk, "junk").unwrap();
        let settings = AcmeSettings {
            ca: Some(junk),
            ..settings(directory.path())
        };
        let error = AcmeCertificates::open(settings).unwrap_err();
        assert!(matches!(error, AcmeError::Authority { .. }), "{error}");
    }

    #[test]
    fn every_failure_makes_the_rest_longer() {
        let minutes = |n| rest_after(n).as_secs() / 60;
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 90].map(minutes),
            [1, 4, 16, 64, 256, 360, 360]
        );
    }
}
