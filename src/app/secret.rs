//! The secret of this installation and the key that signs its audit log: configured, or in files beside the database, made at the first start and
//! readable by their owner only.
//!
//! Callers' data in the database cannot be read without the secret, so a new one is never made where there is such data already.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use zeroize::Zeroizing;

use crate::audit::{LogSigningKey, PublicKey};
use crate::config::Config;
use crate::files::{self, beside};
use crate::store::secret_file::{self, SecretFile};
use crate::store::{self, KeyRing, OpenError};

const OTHERS: u32 = 0o007;
/// More than any secret is long, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Why there is no secret to work with. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not where it should be, and data was sealed with it.
    #[error(
        "callers' data in {database} is sealed, and the installation secret is not in {path}: put the file back, or name it as `[storage] secret`; \
         a new secret is not made, since no caller's data could be read with it"
    )]
    Missing { path: PathBuf, database: PathBuf },
    /// There is nothing in it.
    #[error(
        "the installation secret in {place} is empty: put the secret back that the database was made with"
    )]
    Empty {
        /// The file or the configuration key.
        place: String,
    },
    #[error(
        "everybody on this machine can read the installation secret in {path} (mode {mode:03o}): chmod 0600 {path}"
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// The file cannot be read or made.
    #[error("cannot use the installation secret in {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not known whether there is sealed data.
    #[error("cannot open the database {path}", path = .path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
}

/// The keys of this installation; makes its secret where nothing needs the one of before.
pub fn key_ring(config: &Config) -> Result<KeyRing, SecretError> {
    key_ring_or(config, |path| {
        drawn_once(path).map_err(|error| SecretError::File {
            path: path.to_owned(),
            source: io::Error::other(error),
        })
    })
}

/// The keys of this installation, for a command that only reads: makes nothing. Where there is no secret and nothing is sealed, any
/// keys will do.
pub fn key_ring_of_existing(config: &Config) -> Result<KeyRing, SecretError> {
    key_ring_or(config, |_| Ok(String::new()))
}

/// The keys of the secret that lies beside a database, for a command without a configuration; `None` where there is none to read.
pub fn key_ring_beside(database: &Path) -> Option<KeyRing> {
    let text = files::read(&beside(database, ".secret"), LONGEST).ok()??;
    let text = String::from_utf8(text).ok()?;
    let key_ring = KeyRing::new(not_empty(&text, String::new).ok()?.as_bytes());
    if let Ok(Some(next)) = SecretFile::new(beside(database, ".secret")).next() {
        key_ring.rotate_to(next.as_bytes());
    }
    Some(key_ring)
}

/// The file that holds the secret; `None` where it is kept in none that could be replaced.
pub fn secret_file(config: &Config) -> Option<SecretFile> {
    let storage = &config.storage;
    let path = match &storage.secret {
        None => Some(beside(&storage.path, ".secret")),
        Some(_) => storage.secret_file.clone(),
    };
    path.map(SecretFile::new)
}

fn key_ring_or(
    config: &Config,
    absent: impl FnOnce(&Path) -> Result<String, SecretError>,
) -> Result<KeyRing, SecretError> {
    let file = secret_file(config);
    // The next one first: it may take the place of the other meanwhile.
    let next = other_secret(file.as_ref(), SecretFile::next)?;
    let secret = match &config.storage.secret {
        Some(secret) => not_empty(secret.expose(), || "`[storage] secret`".to_owned())?,
        None => kept_beside(&config.storage.path, absent)?,
    };
    let key_ring = KeyRing::new(secret.as_bytes());
    if let Some(next) = next {
        key_ring.rotate_to(next.as_bytes());
        return Ok(key_ring);
    }
    Ok(match other_secret(file.as_ref(), SecretFile::old)? {
        Some(old) => key_ring.after(old.as_bytes()),
        None => key_ring,
    })
}

/// One of the secrets that may lie beside the present one.
fn other_secret(
    file: Option<&SecretFile>,
    read: fn(&SecretFile) -> io::Result<Option<Zeroizing<String>>>,
) -> Result<Option<Zeroizing<String>>, SecretError> {
    let Some(file) = file else { return Ok(None) };
    read(file).map_err(|source| SecretError::File {
        path: file.path().to_owned(),
        source,
    })
}

fn kept_beside(
    database: &Path,
    absent: impl FnOnce(&Path) -> Result<String, SecretError>,
) -> Result<String, SecretError> {
    let path = beside(database, ".secret");
    let file_error = |source| SecretError::File {
        path: path.clone(),
        source,
    };
    match fs::metadata(&path) {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            if mode & OTHERS != 0 {
                return Err(SecretError::Exposed { path, mode });
            }
            let text = fs::read_to_string(&path).map_err(file_error)?;
            not_empty(&text, || path.display().to_string())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let sealed = store::is_sealed(database).map_err(|source| SecretError::Database {
                path: database.to_owned(),
                source,
            })?;
            if sealed {
                return Err(SecretError::Missing {
                    path,
                    database: database.to_owned(),
                });
            }
            absent(&path)
        }
        Err(error) => Err(file_error(error)),
    }
}

fn not_empty(text: &str, place: impl FnOnce() -> String) -> Result<String, SecretError> {
    match text.trim() {
        "" => Err(SecretError::Empty { place: place() }),
        text => Ok(text.to_owned()),
    }
}

/// Where the public half of the key lies for whoever verifies.
pub fn public_key_path(database: &Path) -> PathBuf {
    beside(database, ".signing.pub")
}

/// The key that signs the audit log, configured or in a file beside the database, and one that may have signed before a key was configured.
pub fn signing_keys(
    config: &Config,
    log_id: &str,
) -> anyhow::Result<(LogSigningKey, Vec<LogSigningKey>)> {
    let path = beside(&config.storage.path, ".signing");
    if let Some(secret) = &config.storage.signing_key {
        let key = LogSigningKey::read(log_id, secret.expose()).context("storage.signing_key")?;
        let former = fs::read_to_string(&path).ok();
        let former = former.and_then(|text| LogSigningKey::read(log_id, &text).ok());
        return Ok((key, former.into_iter().collect()));
    }
    let text = drawn_once(&path)?;
    let key = LogSigningKey::read(log_id, &text).with_context(|| path.display().to_string())?;
    Ok((key, Vec::new()))
}

/// Lays the public half beside the database, where it is not. A disk that does not take it is no reason not to answer calls.
pub(super) fn publish_key(config: &Config, key: &PublicKey) {
    let path = public_key_path(&config.storage.path);
    let line = format!("{}\n", key.to_line());
    if fs::read_to_string(&path).is_ok_and(|found| found == line) {
        return;
    }
    tracing::info!(
        event = "audit.key",
        public_key = line.trim(),
        "this key signs the audit log; keep its public half where this machine cannot change it"
    );
    if let Err(error) = files::replace(&path, files::PUBLIC, line.as_bytes()) {
        tracing::warn!(event = "audit.key_not_laid_out", path = %path.display(), error = %error, "the public key could not be written beside the database");
    }
}

/// The secret that the file holds; a new one is drawn where there is no file, readable by its owner only.
fn drawn_once(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let secret = secret_file::draw().context("the system gives no random bytes")?;
    let written = files::create(path, files::PRIVATE)
        .and_then(|mut file| writeln!(file, "{}", *secret).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok((*secret).clone())
}
