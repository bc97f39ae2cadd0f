//! The key that signs the audit log: configured, or in a file beside the database, made at the first start.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::settings;
use crate::audit::{LogSigningKey, PublicKey};
use crate::config::Config;
use crate::files::{self, beside};

/// Where the public half of the key lies for whoever verifies.
pub fn public_key_path(database: &Path) -> PathBuf {
    beside(database, ".signing.pub")
}

/// The key that signs, and one that may have signed before a key was configured.
pub fn keys(config: &Config, log_id: &str) -> anyhow::Result<(LogSigningKey, Vec<LogSigningKey>)> {
    let path = beside(&config.storage.path, ".signing");
    if let Some(secret) = &config.storage.signing_key {
        let key = LogSigningKey::read(log_id, secret.expose()).context("storage.signing_key")?;
        let former = fs::read_to_string(&path).ok();
        let former = former.and_then(|text| LogSigningKey::read(log_id, &text).ok());
        return Ok((key, former.into_iter().collect()));
    }
    let text = settings::drawn_once(&path)?;
    let key = LogSigningKey::read(log_id, &text).with_context(|| path.display().to_string())?;
    Ok((key, Vec::new()))
}

/// Lays the public half beside the database, where it is not. A disk that does not take it is no reason not to answer calls.
pub(super) fn publish(config: &Config, key: &PublicKey) {
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
