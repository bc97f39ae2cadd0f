//! Encryption of what lies in the spool: its records name callers, and the rows that protect them in the database cannot be written yet.

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};

use crate::store::key_ring::{self, CipherError, KeyRing};

/// A key for one spool: made of the installation's secret and the name of the audit log.
pub(in crate::store) struct SpoolCipher {
    key: LessSafeKey,
    mark: [u8; 32],
    key_ring: KeyRing,
}

impl SpoolCipher {
    pub(in crate::store) fn new(key_ring: &KeyRing, log_id: &str) -> Result<Self, CipherError> {
        let derive = |purpose: &[u8]| {
            let info = [purpose, log_id.as_bytes()];
            key_ring::derive(key_ring.secret(), b"switchboard/spool/v1", &info)
        };
        Ok(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(b"key"))?),
            mark: derive(b"mark"),
            key_ring: key_ring.clone(),
        })
    }

    /// The keys of the installation, for what comes out of the spool.
    pub(super) fn key_ring(&self) -> &KeyRing {
        &self.key_ring
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
