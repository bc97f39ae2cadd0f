//! What makes personal data unreadable to whoever has the file alone: keys derived from the installation's secret, which lies
//! outside the database.
//!
//! Each caller has a key of their own, derived from the secret and a random salt in their row of `callers`; without the salt
//! nobody, the owner of the secret included, reads what was sealed. Callers are found by a keyed hash, never by number.
//!
//! A sealed value is `version (1 byte) ‖ caller's row (8 bytes, big-endian) ‖ nonce (12 bytes) ‖ ciphertext and tag`
//! (ChaCha20-Poly1305, RFC 8439). The associated data names what is sealed and for which record.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::phone::Caller;

/// Names every derivation, and its version.
const DOMAIN: &[u8] = b"switchboard/vault/v1";
/// The first byte of what is sealed under a caller's key.
const VERSION: u8 = 1;
const ROW_LEN: usize = 8;
/// Altered rows that are told one by one.
const ALTERED: usize = 1_000;

/// The random part of a caller's key.
pub(super) type SaltBytes = [u8; 32];
pub(super) type KeyBytes = [u8; 32];

/// Stands for a person in the database: a keyed hash of number or address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity(pub(super) [u8; 32]);

/// The keys of an installation. Cheap to clone; shows nothing of itself.
#[derive(Clone)]
pub struct KeyRing(Arc<DerivedKeys>);

struct DerivedKeys {
    secret: zeroize::Zeroizing<Vec<u8>>,
    identities: hmac::Key,
    checks: hmac::Key,
    profiles: KeyBytes,
    rows: hmac::Key,
    vouches: hmac::Key,
    random: SystemRandom,
    /// Rows that were found not to be what was written.
    altered: Mutex<BTreeSet<(&'static str, i64)>>,
}

/// Something cannot be sealed or opened. Says no more, so that nothing is learned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be sealed or opened")]
pub(super) struct CipherError;

impl From<ring::error::Unspecified> for CipherError {
    fn from(_: ring::error::Unspecified) -> Self {
        Self
    }
}

/// What is sealed, and of which record: it can be opened as nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose<'a> {
    /// The kind of the record.
    pub(super) kind: &'a str,
    /// The call it belongs to.
    pub(super) call: Option<&'a str>,
    /// When it happened, in milliseconds.
    pub(super) created_at: i64,
}

impl Purpose<'_> {
    fn associated_data(self, caller_row: i64) -> Vec<u8> {
        let call = self.call.unwrap_or_default();
        let mut data = Vec::with_capacity(64 + self.kind.len() + call.len());
        data.extend_from_slice(DOMAIN);
        data.extend_from_slice(&caller_row.to_be_bytes());
        data.extend_from_slice(&self.created_at.to_be_bytes());
        data.extend_from_slice(self.kind.as_bytes());
        data.push(0);
        data.extend_from_slice(call.as_bytes());
        data
    }
}

/// The row of the caller for whom a stored value is sealed, and nonce, ciphertext and tag; `None` where it is no sealed value.
pub(super) fn sealed_for(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (&VERSION, rest) = bytes.split_first()? else {
        return None;
    };
    let (row, sealed) = rest.split_first_chunk::<ROW_LEN>()?;
    Some((i64::from_be_bytes(*row), sealed))
}

/// HKDF-SHA256 (RFC 5869) for one block of 32 bytes: extract, then expand.
pub(super) fn derive(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> KeyBytes {
    let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), secret);
    let mut expansion =
        hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref()));
    for part in info {
        expansion.update(part);
    }
    expansion.update(&[1]);
    array(expansion.sign().as_ref())
}

impl KeyRing {
    /// The keys that follow from the installation's secret.
    pub fn new(secret: &[u8]) -> Self {
        let key = |use_of_it: &[u8]| derive(secret, DOMAIN, &[DOMAIN, use_of_it]);
        let hmac_key = |use_of_it: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, &key(use_of_it));
        Self(Arc::new(DerivedKeys {
            secret: zeroize::Zeroizing::new(secret.to_vec()),
            identities: hmac_key(b"/identities"),
            checks: hmac_key(b"/check"),
            profiles: key(b"/profiles"),
            rows: hmac_key(b"/rows"),
            vouches: hmac_key(b"/vouches"),
            random: SystemRandom::new(),
            altered: Mutex::default(),
        }))
    }

    /// The secret itself, for keys of other parts.
    pub fn secret(&self) -> &[u8] {
        &self.0.secret
    }

    /// Tells whether a database was sealed under this secret: kept in it, and of no other use.
    pub(super) fn check_value(&self, log_id: &str) -> [u8; 32] {
        array(hmac::sign(&self.0.checks, log_id.as_bytes()).as_ref())
    }

    /// Begins the MAC of a row.
    pub(super) fn row_context(&self) -> hmac::Context {
        hmac::Context::with_key(&self.0.rows)
    }

    pub(super) fn row_mac(context: hmac::Context) -> [u8; 32] {
        array(context.sign().as_ref())
    }

    /// Vouches for what this installation has made, in hexadecimal: `what` says what kind of thing it is.
    pub(super) fn vouch(&self, what: &str, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0.vouches);
        context.update(what.as_bytes());
        context.update(&[0]);
        context.update(bytes);
        hex::encode(context.sign())
    }

    /// That the secret vouches for a key that signs the log, as a line.
    pub(super) fn vouch_for_key(&self, line: &str) -> String {
        self.vouch("signing key", line.as_bytes())
    }

    /// Notes a row that is not what was written, and tells of it once.
    pub(super) fn tell_altered(&self, table: &'static str, row: i64) {
        let mut altered = self
            .0
            .altered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if altered.len() < ALTERED && altered.insert((table, row)) {
            tracing::error!(
                event = "store.projection_altered",
                table,
                row,
                "a row of the database is not the one that was written: it is not used"
            );
        }
    }

    /// How many rows were found that are not what was written, and the first of them.
    pub(super) fn altered(&self) -> Option<(usize, &'static str, i64)> {
        let altered = self
            .0
            .altered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (table, row) = altered.first()?;
        Some((altered.len(), table, *row))
    }

    /// The person behind a caller: the same for a number, however it reached us. `None` where the number is withheld.
    pub(super) fn identity(&self, caller: &Caller) -> Option<Identity> {
        let mut context = hmac::Context::with_key(&self.0.identities);
        match (caller.number(), caller) {
            (Some(number), _) => {
                context.update(b"number\0");
                context.update(number.as_str().as_bytes());
            }
            (None, Caller::Withheld) => return None,
            (None, other) => {
                context.update(b"other\0");
                context.update(other.as_text().to_lowercase().as_bytes());
            }
        }
        Some(Identity(array(context.sign().as_ref())))
    }

    /// Stands for a call that was forgotten: 128 bits, by which nobody finds its id without the secret.
    pub(super) fn call_hash(&self, call: &str) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.0.identities);
        context.update(b"call\0");
        context.update(call.as_bytes());
        let whole = array(context.sign().as_ref());
        let mut hash = [0; 16];
        for (byte, of_whole) in hash.iter_mut().zip(whole) {
            *byte = of_whole;
        }
        hash
    }

    /// Stands for everybody whose number is not known.
    pub(super) fn nobody(&self) -> Identity {
        Identity(array(hmac::sign(&self.0.identities, b"nobody").as_ref()))
    }

    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], CipherError> {
        let mut bytes = [0; N];
        self.0.random.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The key of a caller.
    pub(super) fn caller_key(&self, salt: &SaltBytes) -> KeyBytes {
        derive(&self.0.secret, salt, &[DOMAIN, b"/caller"])
    }

    /// Seals under a caller's key.
    pub(super) fn seal(
        &self,
        key: &KeyBytes,
        caller_row: i64,
        purpose: Purpose<'_>,
        clear: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        let mut sealed = Vec::with_capacity(1 + ROW_LEN + NONCE_LEN + clear.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&caller_row.to_be_bytes());
        let associated_data = purpose.associated_data(caller_row);
        self.seal_into(&mut sealed, &cipher(key)?, &associated_data, clear)?;
        Ok(sealed)
    }

    /// Opens what [`sealed_for`] found sealed.
    pub(super) fn open(
        key: &KeyBytes,
        caller_row: i64,
        purpose: Purpose<'_>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        unseal(&cipher(key)?, &purpose.associated_data(caller_row), sealed)
    }

    /// Seals what is kept of a profile. It goes with its row, so that it needs no key of its own.
    pub(super) fn seal_profile(
        &self,
        identity: Identity,
        clear: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        let mut sealed = Vec::with_capacity(NONCE_LEN + clear.len() + 16);
        self.seal_into(&mut sealed, &cipher(&self.0.profiles)?, &identity.0, clear)?;
        Ok(sealed)
    }

    /// Opens what is kept of a profile.
    pub(super) fn open_profile(
        &self,
        identity: Identity,
        sealed: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        unseal(&cipher(&self.0.profiles)?, &identity.0, sealed)
    }

    /// Appends nonce, ciphertext and tag.
    pub(super) fn seal_into(
        &self,
        sealed: &mut Vec<u8>,
        key: &LessSafeKey,
        associated_data: &[u8],
        clear: &[u8],
    ) -> Result<(), CipherError> {
        let nonce: [u8; NONCE_LEN] = self.random()?;
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(clear);
        let text = sealed.get_mut(start..).unwrap_or_default();
        let tag = key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated_data),
            text,
        )?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Opens what [`KeyRing::seal_into`] appended.
pub(super) fn unseal(
    key: &LessSafeKey,
    associated_data: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, CipherError> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(CipherError)?;
    let mut text = ciphertext.to_vec();
    let n = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(associated_data),
            &mut text,
        )?
        .len();
    text.truncate(n);
    Ok(text)
}

fn cipher(key: &KeyBytes) -> Result<LessSafeKey, CipherError> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?))
}

fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyRing(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose<'_> = Purpose {
        kind: "call_decided",
        call: Some("CA1"),
        created_at: 5,
    };

    #[test]
    fn what_is_sealed_opens_with_the_same_key_for_the_same_purpose_only() {
        let key_ring = KeyRing::new(b"secret");
        let key = key_ring.caller_key(&[7; 32]);
        let bytes = key_ring.seal(&key, 9, PURPOSE, b"+4930123456").unwrap();
        assert_eq!(bytes.len(), 1 + 8 + 12 + 11 + 16);
        let (row, sealed) = sealed_for(&bytes).unwrap();
        assert_eq!(row, 9);
        let open = |key_ring: &KeyRing, salt: u8, row, purpose| {
            KeyRing::open(&key_ring.caller_key(&[salt; 32]), row, purpose, sealed)
        };
        assert_eq!(open(&key_ring, 7, 9, PURPOSE).unwrap(), b"+4930123456");
        let others = [
            Purpose {
                kind: "call_answered",
                ..PURPOSE
            },
            Purpose {
                call: Some("CA2"),
                ..PURPOSE
            },
            Purpose {
                call: None,
                ..PURPOSE
            },
            Purpose {
                created_at: 6,
                ..PURPOSE
            },
        ];
        for other in others {
            assert_eq!(open(&key_ring, 7, 9, other), Err(CipherError), "{other:?}");
        }
        assert_eq!(open(&key_ring, 8, 9, PURPOSE), Err(CipherError));
        assert_eq!(open(&key_ring, 7, 8, PURPOSE), Err(CipherError));
        assert_eq!(
            open(&KeyRing::new(b"Secret"), 7, 9, PURPOSE),
            Err(CipherError)
        );
    }

    #[test]
    fn every_byte_of_a_sealed_value_counts_and_no_two_are_the_same() {
        let key_ring = KeyRing::new(b"secret");
        let key = key_ring.caller_key(&[7; 32]);
        let bytes = key_ring.seal(&key, 9, PURPOSE, b"text").unwrap();
        assert_ne!(bytes, key_ring.seal(&key, 9, PURPOSE, b"text").unwrap());
        for n in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[n] ^= 1;
            let opened = match sealed_for(&changed) {
                Some((caller_row, sealed)) => KeyRing::open(&key, caller_row, PURPOSE, sealed),
                None => Err(CipherError),
            };
            assert_eq!(opened, Err(CipherError), "byte {n}");
            let cut = &bytes[..n];
            if let Some((caller_row, sealed)) = sealed_for(cut) {
                assert_eq!(
                    KeyRing::open(&key, caller_row, PURPOSE, sealed),
                    Err(CipherError)
                );
            }
        }
        for unsealed in [&b"{\"caller\":1}"[..], b""] {
            assert!(sealed_for(unsealed).is_none(), "{unsealed:?}");
        }
    }

    #[test]
    fn a_person_is_the_same_however_the_number_arrives_and_another_under_another_secret() {
        let key_ring = KeyRing::new(b"secret");
        let of = |key_ring: &KeyRing, from: &str| key_ring.identity(&Caller::classify(from));
        let number = of(&key_ring, "+4915112345650");
        assert!(number.is_some());
        assert_eq!(number, of(&key_ring, "sip:+4915112345650@pbx.example.com"));
        assert_eq!(
            of(&key_ring, "sip:Alice@pbx.example.com"),
            of(&key_ring, "sip:alice@pbx.example.com")
        );
        for other in ["+4915112345651", "client:alice", "015112345650"] {
            assert_ne!(number, of(&key_ring, other), "{other}");
        }
        assert_eq!(of(&key_ring, "anonymous"), None);
        assert_ne!(number, of(&KeyRing::new(b"Secret"), "+4915112345650"));
        assert_ne!(number, Some(key_ring.nobody()));
    }

    #[test]
    fn keys_are_derived_by_hkdf_as_others_know_it() {
        use ring::hkdf::{HKDF_SHA256, Salt};
        let info = [DOMAIN, b"/caller"];
        let prk = Salt::new(HKDF_SHA256, &[7; 32]).extract(b"secret");
        let mut expected = [0; 32];
        prk.expand(&info, HKDF_SHA256)
            .unwrap()
            .fill(&mut expected)
            .unwrap();
        assert_eq!(KeyRing::new(b"secret").caller_key(&[7; 32]), expected);
        assert_ne!(KeyRing::new(b"Secret").caller_key(&[7; 32]), expected);
    }

    #[test]
    fn a_profile_opens_for_its_own_person_only() {
        let key_ring = KeyRing::new(b"secret");
        let (one, other) = (Identity([1; 32]), Identity([2; 32]));
        let sealed = key_ring.seal_profile(one, b"customer-1").unwrap();
        assert_eq!(key_ring.open_profile(one, &sealed).unwrap(), b"customer-1");
        assert_eq!(key_ring.open_profile(other, &sealed), Err(CipherError));
    }
}
