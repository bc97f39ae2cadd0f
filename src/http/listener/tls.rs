//! The certificate we serve with, and its replacement while serving.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 only: without HTTP/2 its denial-of-service problems do not exist here. A replacement is
//! read and checked whole before it takes the place of the old one; a broken one changes nothing.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use utoipa::ToSchema;

pub use acme::{AcmeError, AcmeSettings};
pub use files::CertificateError;

use crate::http::error::chain;
use acme::AcmeCertificates;
use files::{CertificateFiles, Leaf};

mod acme;
mod files;

/// How often certificate files are looked at, and a certificate that is due soon.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The certificate being served, and where the next one comes from.
#[derive(Debug)]
pub struct Certificates {
    source: CertificateSource,
    failure: Mutex<Option<CertificateFailure>>,
}

#[derive(Debug)]
enum CertificateSource {
    Files(CertificateFiles),
    Acme(AcmeCertificates),
}

/// How it stands with the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CertificateState {
    /// `files` or `acme`.
    pub source: &'static str,
    /// The host names it is for; those that are asked for, where there is none yet.
    pub names: Vec<String>,
    /// When it expires; `None` where there is none yet.
    pub expires_at: Option<Timestamp>,
    /// Why the last attempt to replace it failed; `None` once one has succeeded.
    pub failure: Option<CertificateFailure>,
}

impl CertificateState {
    fn of(source: &'static str, leaf: Leaf) -> Self {
        Self {
            source,
            names: leaf.names,
            expires_at: Some(leaf.not_after),
            failure: None,
        }
    }
}

/// An attempt to replace the certificate that failed. The old one is served meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CertificateFailure {
    /// When it failed last.
    pub at: Timestamp,
    /// Why, in words.
    pub message: String,
    /// Failed attempts in a row.
    pub attempts: u32,
}

impl Certificates {
    /// Reads a certificate chain (leaf first) and its key (PKCS#8, PKCS#1 or SEC1), both PEM.
    ///
    /// An expired certificate is served nevertheless at start, when there is nothing better: some callers' carriers
    /// get through, and its [`state`](Self::state) raises the alarm.
    pub fn load(certificate: &Path, private_key: &Path) -> Result<Self, CertificateError> {
        let files = CertificateFiles::load(certificate, private_key)?;
        Ok(Self::of(CertificateSource::Files(files)))
    }

    /// Takes certificates from an authority; [`look_after`](Self::look_after) orders them. Serves the one that is kept, where there is one.
    pub fn from_authority(settings: AcmeSettings) -> Result<Self, AcmeError> {
        let acme = AcmeCertificates::open(settings)?;
        Ok(Self::of(CertificateSource::Acme(acme)))
    }

    fn of(source: CertificateSource) -> Self {
        Self {
            source,
            failure: Mutex::default(),
        }
    }

    /// Reads the files again if they are not the ones last tried. `Ok(true)`: a new certificate is in use. Nothing to do where an authority
    /// gives it.
    pub(super) fn reload_if_changed(&self, now: Timestamp) -> Result<bool, CertificateError> {
        match &self.source {
            CertificateSource::Files(files) => match files.reload_if_changed(now) {
                Ok(false) => Ok(false),
                outcome => self.noted(outcome, now),
            },
            CertificateSource::Acme(_) => Ok(false),
        }
    }

    /// Takes changed files into use, and tells what came of it. Nothing to do where an authority gives the certificate.
    pub fn look_at_files(&self, now: Timestamp) {
        match self.reload_if_changed(now) {
            Ok(true) => tell_new(&self.state()),
            Ok(false) => {}
            Err(error) => tell_failed(&error),
        }
    }

    /// Does what is due: reads changed files, or orders a certificate that has lived long enough. Returns how long to rest until the next
    /// time. May take minutes.
    pub async fn look_after(&self, now: Timestamp) -> Duration {
        let acme = match &self.source {
            CertificateSource::Files(_) => {
                self.look_at_files(now);
                return LOOK_EVERY;
            }
            CertificateSource::Acme(acme) => acme,
        };
        let due = acme.due_in(now);
        if !due.is_zero() {
            return due.min(LOOK_EVERY);
        }
        match self.noted(acme.order().await, now) {
            Ok(()) => {
                tell_new(&self.state());
                Duration::ZERO
            }
            Err(error) => {
                tell_failed(&error);
                let failure = self.failure();
                acme::rest_after(failure.as_ref().map_or(1, |failure| failure.attempts))
            }
        }
    }

    pub fn state(&self) -> CertificateState {
        let (source, leaf, wanted) = match &self.source {
            CertificateSource::Files(files) => ("files", files.leaf(), &[][..]),
            CertificateSource::Acme(acme) => ("acme", acme.leaf(), acme.domains()),
        };
        let names = leaf.as_ref().map(|leaf| leaf.names.clone());
        CertificateState {
            source,
            names: names.unwrap_or_else(|| wanted.to_vec()),
            expires_at: leaf.map(|leaf| leaf.not_after),
            failure: self.failure().clone(),
        }
    }

    /// Accepts handshakes with the certificate of this moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(match &self.source {
            CertificateSource::Files(files) => files.config(),
            CertificateSource::Acme(acme) => acme.config(),
        })
    }

    /// Keeps why an attempt failed, and forgets it after a good one.
    fn noted<T, E: std::error::Error + 'static>(
        &self,
        outcome: Result<T, E>,
        now: Timestamp,
    ) -> Result<T, E> {
        let mut failure = self.failure();
        match &outcome {
            Ok(_) => *failure = None,
            Err(error) => {
                metrics::counter!("switchboard_tls_certificate_failures_total").increment(1);
                *failure = Some(CertificateFailure {
                    at: now,
                    message: chain(error),
                    attempts: failure.as_ref().map_or(0, |failure| failure.attempts) + 1,
                });
            }
        }
        drop(failure);
        outcome
    }

    fn failure(&self) -> MutexGuard<'_, Option<CertificateFailure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a certificate says of itself, in DER; `None` where it is none.
pub fn read_leaf(der: &[u8]) -> Option<CertificateState> {
    Leaf::read(der).map(|leaf| CertificateState::of("peer", leaf))
}

/// The certificate that was kept from the authority. Changes nothing.
pub fn kept(settings: &AcmeSettings) -> Option<CertificateState> {
    acme::kept(settings).map(|leaf| CertificateState::of("acme", leaf))
}

/// Whether a connection was only made to prove that a name is ours.
pub fn is_challenge<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(acme::CHALLENGE)
}

fn tell_new(state: &CertificateState) {
    tracing::info!(
        event = "tls.reloaded",
        names = state.names.join(" "),
        expires_at = state.expires_at.map(|at| at.to_string()),
        "another certificate is in force"
    );
}

fn tell_failed(error: &(dyn std::error::Error + 'static)) {
    tracing::error!(
        event = "tls.refused",
        error = chain(error),
        "there is no new certificate; the old one stays"
    );
}
