//! Encryption of what lies in the spool: its records name callers, and the rows that protect them in the database cannot be written yet.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use crate::store::vault::Vault;

/// A key for one spool: made of the installation's secret and the name of the audit log.
pub(in crate::store) struct Seal {
    key: LessSafeKey,
    mark: [u8; 32],
    vault: Vault,
}

/// It cannot be sealed, or was not sealed with this key, or was changed since.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be sealed or unsealed")]
pub(in crate::store) struct Broken;

impl Seal {
    pub(in crate::store) fn new(vault: &Vault, log_id: &str) -> Result<Self, Broken> {
        let salt = Salt::new(HKDF_SHA256, b"switchboard/spool/v1");
        let secret = salt.extract(vault.secret());
        let derive = |purpose: &[u8]| {
            let info = [purpose, log_id.as_bytes()];
            let mut bytes = [0; 32];
            secret
                .expand(&info, HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut bytes))
                .map_err(|_| Broken)?;
            Ok(bytes)
        };
        let key = UnboundKey::new(&AES_256_GCM, &derive(b"key")?).map_err(|_| Broken)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            mark: derive(b"mark")?,
            vault: vault.clone(),
        })
    }

    /// The keys of the installation, for what comes out of the spool.
    pub(super) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Tells spools of different logs and secrets apart, and tells nothing of either.
    pub(super) fn mark(&self) -> &[u8; 32] {
        &self.mark
    }

    /// Seals `text`, bound to its place: nonce, ciphertext, tag.
    pub(super) fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| Broken)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let mut body = text.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut body,
            )
            .map_err(|_| Broken)?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    pub(super) fn unseal(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Broken)?;
        let mut text = body.to_vec();
        let length = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place),
                &mut text,
            )
            .map_err(|_| Broken)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}
