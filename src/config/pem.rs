//! Certificates and keys that the file names: opened and read as a start would, so that what it would fail on is found before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use super::problem::Fault;
use super::section::{Section, TomlValue};

const HOW: &str = "the file must be PEM, with a block that begins -----BEGIN CERTIFICATE-----";
const HOW_KEY: &str = "the file must be PEM, with a block that begins -----BEGIN PRIVATE KEY-----";

/// The certificate of `[server.tls]` and its key can be served together.
pub(super) fn check_pair(section: &Section<'_>, certificate: &Path, private_key: &Path) {
    if !section.reader().context().opens_files {
        return;
    }
    let chain = chain(certificate).map_err(|fault| section.error("certificate", fault));
    let key = key(private_key).map_err(|fault| section.error("private_key", fault));
    let (Ok(chain), Ok(key)) = (chain, key) else {
        return;
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    if let Err(error) = config {
        let fault = Fault::new(format!(
            "in {} cannot be served with the key in {}: {error}",
            certificate.display(),
            private_key.display()
        ));
        section.error(
            "certificate",
            fault.hint("the first certificate of the file must belong to that key"),
        );
    }
}

/// The file of a key that may name authorities, of which it holds one that can be trusted.
pub(super) fn authorities(section: &mut Section<'_>, name: &'static str) -> Option<PathBuf> {
    let file = section.optional(name, TomlValue::path)?;
    if section.reader().context().opens_files {
        let trusted = chain(&file).and_then(|chain| {
            let (n, _) = RootCertStore::empty().add_parsable_certificates(chain);
            let none = || empty(&file, "certificate of an authority", HOW);
            if n == 0 { Err(none()) } else { Ok(()) }
        });
        if let Err(fault) = trusted {
            section.error(name, fault);
        }
    }
    Some(file)
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let chain: Vec<_> = read.map_err(|error| unreadable(file, &error, "certificate", HOW))?;
    if chain.is_empty() {
        return Err(empty(file, "certificate", HOW));
    }
    Ok(chain)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_file(file)
        .map_err(|error| unreadable(file, &error, "private key", HOW_KEY))
}

fn unreadable(file: &Path, error: &pem::Error, what: &'static str, how: &'static str) -> Fault {
    if matches!(error, pem::Error::NoItemsFound) {
        return empty(file, what, how);
    }
    if let pem::Error::Io(error) = error {
        return Fault::new(format!("cannot be read from {}: {error}", file.display()))
            .hint("name the file, and let the user of the service read it");
    }
    Fault::new(format!("cannot be read from {}: {error}", file.display())).hint(how)
}

fn empty(file: &Path, what: &'static str, how: &'static str) -> Fault {
    Fault::new(format!("names {}, which holds no {what}", file.display())).hint(how)
}
