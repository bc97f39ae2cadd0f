//! Encryption of what lies in the spool: its records name callers, and the rows that protect them in the database cannot be written yet.

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};

use crate::store::key_ring::{self, CipherError, KeyBytes, KeyRing};

/// A key for one spool: made of a secret of the installation and the name of the audit log.
pub(in crate::store) struct SpoolCipher {
    key: LessSafeKey,
    mark: [u8; 32],
    key_ring: KeyRing,
    log_id: String,
}

fn derive(secret: &[u8], purpose: &[u8], log_id: &str) -> KeyBytes {
    let info = [purpose, log_id.as_bytes()];
    key_ring::derive(secret, b"switchboard/spool/v1", &info)
}

impl SpoolCipher {
    /// Of every secret that is valid, the current one first.
    pub(in crate::store) fn all(
        key_ring: &KeyRing,
        log_id: &str,
    ) -> Result<Vec<Self>, CipherError> {
        let secrets = key_ring.secrets();
        let ciphers = secrets.iter().map(|secret| {
            let mark = derive(secret, b"mark", log_id);
            let key = UnboundKey::new(&AES_256_GCM, &derive(secret, b"key", log_id))?;
            Ok(Self {
                key: LessSafeKey::new(key),
                mark,
                key_ring: key_ring.clone(),
                log_id: log_id.to_owned(),
            })
        });
        ciphers.collect()
    }

    /// The one of the current secret, where this is another.
    pub(super) fn successor(&self) -> Result<Option<Self>, CipherError> {
        if derive(&self.key_ring.secret(), b"mark", &self.log_id) == self.mark {
            return Ok(None);
        }
        Ok(Self::all(&self.key_ring, &self.log_id)?.into_iter().next())
    }

    /// Tells spools of different logs and secrets apart, and tells nothing of either.
    pub(super) fn mark(&self) -> &[u8; 32] {
        &self.mark
    }

    /// Seals `text`, bound to its place: nonce, ciphertext, tag.
    pub(super) fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, CipherError> {
        let mut sealed = Vec::new();
        self.key_ring
            .seal_into(&mut sealed, &self.key, place, text)?;
        Ok(sealed)
    }

    pub(super) fn unseal(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        key_ring::unseal(&self.key, place, sealed)
    }
}
