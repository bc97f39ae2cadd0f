//! What makes personal data unreadable to whoever has the file alone: keys derived from the installation's secret, which lies
//! outside the database.
//!
//! Each caller has a random key of their own, which stands in their row of `callers`, wrapped under the secret; without the row
//! nobody, the owner of the secret included, reads what was sealed. Callers are found by a keyed hash, never by number.
//!
//! A sealed value is `version (1 byte) ‖ caller's row (8 bytes, big-endian) ‖ nonce (12 bytes) ‖ ciphertext and tag`
//! (ChaCha20-Poly1305, RFC 8439). The associated data names what is sealed and for which record. It names its key by the row, and the
//! row names the secret that wraps that key: so another secret changes rows, and no sealed value.
//!
//! While the secret is changed (`rotation.rs`) two are valid: what is written is under the new one, what is read under either.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::call::{PassportKey, PassportKeys};
use crate::phone::{Caller, E164};
use crate::routing::ListKey;
use crate::secret::Secret;

/// Names every derivation, and its version.
const DOMAIN: &[u8] = b"switchboard/vault/v1";
/// What a naming of a key is vouched for as.
const SIGNING_KEY: &str = "signing key";
/// The first byte of what is sealed under a caller's key.
const VERSION: u8 = 1;
const ROW_LEN: usize = 8;
/// Altered rows that are told one by one.
const ALTERED: usize = 1_000;

pub(super) type KeyBytes = [u8; 32];
/// A key under a secret: nonce, ciphertext and tag.
pub(super) type WrappedKey = [u8; NONCE_LEN + 32 + 16];
/// Tells secrets apart, and tells nothing of them.
pub(super) type SecretName = [u8; 8];

/// Who everybody is whose number is not known.
const NOBODY: &[u8] = b"nobody";

/// Stands for a person in the database: a keyed hash of number or address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity(pub(super) [u8; 32]);

/// The keys of an installation. Cheap to clone; shows nothing of itself.
#[derive(Clone)]
pub struct KeyRing {
    shared: Arc<SharedKeys>,
    lasting: Arc<LastingKeys>,
}

struct SharedKeys {
    valid: ArcSwap<ValidSecrets>,
    random: SystemRandom,
    /// Rows that were found not to be what was written.
    altered: Mutex<BTreeSet<(&'static str, i64)>>,
}

/// What follows from each secret that is valid now.
#[derive(Clone)]
struct ValidSecrets {
    current: Arc<DerivedKeys>,
    /// The secret before, as long as something may be under it.
    former: Option<Arc<DerivedKeys>>,
    /// The current one was drawn to take the place of the former: a database need not know it yet.
    is_next: bool,
}

/// Keys that stay when the secret changes, because what was made with them cannot be made again. Each has one use and is kept in the
/// database, wrapped under the secret (`lasting_keys.rs`).
#[derive(Clone, Copy)]
pub(super) struct LastingKeys {
    /// Hashes calls that were forgotten, whose ids are gone.
    pub(super) forgotten_calls: KeyBytes,
    /// Under which callers are known to dialers, for good.
    pub(super) references: KeyBytes,
    /// Hashes numbers of entries of lists; of those that were erased, the numbers are gone.
    pub(super) lists: KeyBytes,
}

struct DerivedKeys {
    secret: zeroize::Zeroizing<Vec<u8>>,
    name: SecretName,
    identities: hmac::Key,
    checks: hmac::Key,
    wraps: KeyBytes,
    profiles: KeyBytes,
    rows: hmac::Key,
    vouches: hmac::Key,
    passports: Option<Arc<PassportKey>>,
}

impl DerivedKeys {
    fn new(secret: &[u8]) -> Self {
        let key = |use_of_it: &[u8]| derive(secret, DOMAIN, &[DOMAIN, use_of_it]);
        let hmac_key = |use_of_it: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, &key(use_of_it));
        let name = key(b"/name");
        Self {
            secret: zeroize::Zeroizing::new(secret.to_vec()),
            name: name.first_chunk().copied().unwrap_or_default(),
            identities: hmac_key(b"/identities"),
            checks: hmac_key(b"/check"),
            wraps: key(b"/wraps"),
            profiles: key(b"/profiles"),
            rows: hmac_key(b"/rows"),
            vouches: hmac_key(b"/vouches"),
            passports: PassportKey::new(&key(b"/passports")).map(Arc::new),
        }
    }

    fn check_value(&self, log_id: &str) -> [u8; 32] {
        array(hmac::sign(&self.checks, log_id.as_bytes()).as_ref())
    }

    fn identity(&self, who: &[u8]) -> Identity {
        Identity(array(hmac::sign(&self.identities, who).as_ref()))
    }

    fn vouch(&self, what: &str, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.vouches);
        context.update(what.as_bytes());
        context.update(&[0]);
        context.update(bytes);
        hex::encode(context.sign())
    }
}

impl ValidSecrets {
    fn all(&self) -> impl Iterator<Item = &Arc<DerivedKeys>> {
        std::iter::once(&self.current).chain(&self.former)
    }
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

/// What is hashed of a person: the same for a number, however it reached us. `None` where the number is withheld.
pub(super) fn who(caller: &Caller) -> Option<Vec<u8>> {
    match (caller.number(), caller) {
        (Some(number), _) => Some([b"number\0", number.as_str().as_bytes()].concat()),
        (None, Caller::Withheld) => None,
        (None, other) => Some([b"other\0", other.as_text().to_lowercase().as_bytes()].concat()),
    }
}

/// The number in what is hashed of a person, where it is one.
pub(super) fn number_of(who: &[u8]) -> Option<E164> {
    let number = who.strip_prefix(b"number\0")?;
    E164::parse(std::str::from_utf8(number).ok()?).ok()
}

/// The caller in what is hashed of a person; `None` for nobody in particular.
pub(super) fn caller_of(who: &[u8]) -> Option<Caller> {
    let text = who
        .strip_prefix(b"number\0")
        .or_else(|| who.strip_prefix(b"other\0"))?;
    Some(Caller::classify(std::str::from_utf8(text).ok()?))
}

/// The same, of everybody whose number is not known as well.
pub(super) fn who_or_nobody(caller: &Caller) -> Vec<u8> {
    who(caller).unwrap_or_else(|| NOBODY.to_vec())
}

fn who_data(caller_row: i64) -> Vec<u8> {
    [DOMAIN, b"/who\0", caller_row.to_be_bytes().as_slice()].concat()
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
        Self {
            shared: Arc::new(SharedKeys {
                valid: ArcSwap::from_pointee(ValidSecrets {
                    current: Arc::new(DerivedKeys::new(secret)),
                    former: None,
                    is_next: false,
                }),
                random: SystemRandom::new(),
                altered: Mutex::default(),
            }),
            lasting: Arc::new(LastingKeys {
                forgotten_calls: key(b"/forgotten calls"),
                references: key(b"/references"),
                lists: key(b"/lists"),
            }),
        }
    }

    /// The same, where `former` was the secret before this one: needed for a database that is under both.
    #[must_use]
    pub fn after(self, former: &[u8]) -> Self {
        let current = Arc::clone(&self.valid().current);
        let former = DerivedKeys::new(former);
        if former.name != current.name {
            self.shared.valid.store(Arc::new(ValidSecrets {
                current,
                former: Some(Arc::new(former)),
                is_next: false,
            }));
        }
        self
    }

    /// From here on what is written is under `next`, and what is read under either. It must be on the disk already.
    pub fn rotate_to(&self, next: &[u8]) {
        let next = DerivedKeys::new(next);
        let valid = self.valid();
        if next.name != valid.current.name {
            self.shared.valid.store(Arc::new(ValidSecrets {
                current: Arc::new(next),
                former: Some(Arc::clone(&valid.current)),
                is_next: true,
            }));
        }
    }

    /// From here on the current secret alone is valid.
    pub(super) fn end_rotation(&self) {
        self.shared.valid.store(Arc::new(ValidSecrets {
            current: Arc::clone(&self.valid().current),
            former: None,
            is_next: false,
        }));
    }

    /// Whether two secrets are valid.
    pub(super) fn is_rotating(&self) -> bool {
        self.valid().former.is_some()
    }

    fn valid(&self) -> Arc<ValidSecrets> {
        self.shared.valid.load_full()
    }

    /// Whether a database with these check values is under secrets that are known here. Where it is under the current one alone, the former
    /// is not valid any more.
    pub(super) fn settle(&self, kept: &[[u8; 32]], log_id: &str) -> bool {
        let valid = self.valid();
        let has = |keys: &Arc<DerivedKeys>| kept.contains(&keys.check_value(log_id));
        let n = valid.all().filter(|keys| has(keys)).count();
        if kept.is_empty() {
            return true;
        }
        let is_known = n == kept.len() && (valid.is_next || has(&valid.current));
        if is_known && n == 1 && has(&valid.current) {
            self.end_rotation();
        }
        is_known
    }

    /// Whether a database with these check values is under the secret before this one.
    pub(super) fn is_former(&self, kept: &[[u8; 32]], log_id: &str) -> bool {
        let former = self.valid().former.clone();
        former.is_some_and(|former| kept.contains(&former.check_value(log_id)))
    }

    /// The secret itself, for keys of other parts.
    pub fn secret(&self) -> zeroize::Zeroizing<Vec<u8>> {
        self.valid().current.secret.clone()
    }

    /// The secret before, where that is known.
    pub fn former_secret(&self) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let former = self.valid().former.clone();
        former.map(|former| former.secret.clone())
    }

    /// Whether this is a secret that is valid.
    pub fn has_secret(&self, secret: &Secret) -> bool {
        let name = DerivedKeys::new(secret.expose().trim().as_bytes()).name;
        self.valid().all().any(|keys| keys.name == name)
    }

    /// Every secret that is valid, the current one first.
    pub(super) fn secrets(&self) -> Vec<zeroize::Zeroizing<Vec<u8>>> {
        let valid = self.valid();
        valid.all().map(|keys| keys.secret.clone()).collect()
    }

    /// A number that follows from who calls and from `name`, the same one also after the secret was changed.
    pub(super) fn hash_of(&self, who: &[u8], name: &str) -> u32 {
        let mut context =
            hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.lasting.references));
        for part in [b"share\0".as_slice(), name.as_bytes(), b"\0", who] {
            context.update(part);
        }
        let hash = context.sign();
        hash.as_ref()
            .first_chunk()
            .copied()
            .map(u32::from_be_bytes)
            .unwrap_or_default()
    }

    pub(super) fn lasting(&self) -> &LastingKeys {
        &self.lasting
    }

    /// Under which the state of calls is sealed for callback URLs.
    pub(super) fn passport_keys(&self) -> PassportKeys {
        let valid = self.valid();
        PassportKeys(
            valid
                .all()
                .filter_map(|keys| keys.passports.clone())
                .collect(),
        )
    }

    /// Under which numbers of entries of lists are hashed.
    pub(super) fn list_key(&self) -> ListKey {
        ListKey::new(&self.lasting.lists)
    }

    /// The same, with the lasting keys that a database keeps.
    pub(super) fn with_lasting(&self, lasting: LastingKeys) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            lasting: Arc::new(lasting),
        }
    }

    /// Tells whether a database was sealed under the current secret: kept in it, and of no other use.
    pub(super) fn check_value(&self, log_id: &str) -> [u8; 32] {
        self.valid().current.check_value(log_id)
    }

    /// Begins the MAC of a row, under every secret that is valid, the current one first.
    pub(super) fn row_contexts(&self) -> Vec<hmac::Context> {
        let valid = self.valid();
        let contexts = valid.all().map(|keys| hmac::Context::with_key(&keys.rows));
        contexts.collect()
    }

    /// Begins it under the current one.
    pub(super) fn row_context(&self) -> hmac::Context {
        hmac::Context::with_key(&self.valid().current.rows)
    }

    pub(super) fn row_mac(context: hmac::Context) -> [u8; 32] {
        array(context.sign().as_ref())
    }

    /// Vouches for what this installation has made, in hexadecimal: `what` says what kind of thing it is.
    pub(super) fn vouch(&self, what: &str, bytes: &[u8]) -> String {
        self.valid().current.vouch(what, bytes)
    }

    /// Whether it vouched for that, under a secret that is valid.
    pub(super) fn has_vouched(&self, what: &str, bytes: &[u8], said: &str) -> bool {
        self.valid()
            .all()
            .any(|keys| keys.vouch(what, bytes) == said)
    }

    /// That the secret vouches for a key that signs the log, as a line.
    pub(super) fn vouch_for_key(&self, line: &str) -> String {
        self.vouch(SIGNING_KEY, line.as_bytes())
    }

    pub(super) fn has_vouched_for_key(&self, line: &str, said: Option<&str>) -> bool {
        said.is_some_and(|said| self.has_vouched(SIGNING_KEY, line.as_bytes(), said))
    }

    /// Notes a row that is not what was written, and tells of it once.
    pub(super) fn tell_altered(&self, table: &'static str, row: i64) {
        let mut altered = self
            .shared
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
            .shared
            .altered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (table, row) = altered.first()?;
        Some((altered.len(), table, *row))
    }

    /// The person behind a caller, under the current secret; `None` where the number is withheld.
    #[cfg(test)]
    pub(super) fn identity(&self, caller: &Caller) -> Option<Identity> {
        Some(self.identity_of(&who(caller)?))
    }

    /// A person under the current secret.
    pub(super) fn identity_of(&self, who: &[u8]) -> Identity {
        self.valid().current.identity(who)
    }

    /// A person under every secret that is valid, the current one first.
    pub(super) fn identities_of(&self, who: &[u8]) -> Vec<Identity> {
        let valid = self.valid();
        valid.all().map(|keys| keys.identity(who)).collect()
    }

    /// Stands for a call that was forgotten: 128 bits, by which nobody finds its id without the key.
    pub(super) fn call_hash(&self, call: &str) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.lasting.forgotten_calls);
        let whole = array(hmac::sign(&key, call.as_bytes()).as_ref());
        whole.first_chunk().copied().unwrap_or_default()
    }

    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], CipherError> {
        let mut bytes = [0; N];
        self.shared.random.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Wraps a key under the current secret, for one purpose; gives the name of the secret, too.
    pub(super) fn wrap(
        &self,
        key: &KeyBytes,
        purpose: &[u8],
    ) -> Result<(SecretName, WrappedKey), CipherError> {
        let current = Arc::clone(&self.valid().current);
        let mut wrapped = Vec::new();
        let data = [DOMAIN, b"/wrapped\0", purpose].concat();
        self.seal_into(&mut wrapped, &cipher(&current.wraps)?, &data, key)?;
        let wrapped = wrapped.try_into().map_err(|_| CipherError)?;
        Ok((current.name, wrapped))
    }

    /// Unwraps a key, if the secret is valid that has wrapped it.
    pub(super) fn unwrap(
        &self,
        by: &[u8],
        wrapped: &[u8],
        purpose: &[u8],
    ) -> Result<KeyBytes, CipherError> {
        let valid = self.valid();
        let keys = valid.all().find(|keys| keys.name == *by);
        let keys = keys.ok_or(CipherError)?;
        let data = [DOMAIN, b"/wrapped\0", purpose].concat();
        let key = unseal(&cipher(&keys.wraps)?, &data, wrapped)?;
        key.try_into().map_err(|_| CipherError)
    }

    /// The name of the current secret.
    pub(super) fn name(&self) -> SecretName {
        self.valid().current.name
    }

    /// Seals what is hashed of a caller under that caller's key, so that it can be hashed under another secret.
    pub(super) fn seal_who(
        &self,
        key: &KeyBytes,
        caller_row: i64,
        who: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        let mut sealed = Vec::with_capacity(NONCE_LEN + who.len() + 16);
        self.seal_into(&mut sealed, &cipher(key)?, &who_data(caller_row), who)?;
        Ok(sealed)
    }

    pub(super) fn open_who(
        key: &KeyBytes,
        caller_row: i64,
        sealed: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        unseal(&cipher(key)?, &who_data(caller_row), sealed)
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
        let key = cipher(&self.valid().current.profiles)?;
        self.seal_into(&mut sealed, &key, &identity.0, clear)?;
        Ok(sealed)
    }

    /// Opens what is kept of a profile.
    pub(super) fn open_profile(
        &self,
        identity: Identity,
        sealed: &[u8],
    ) -> Result<Vec<u8>, CipherError> {
        let valid = self.valid();
        let mut opened = valid
            .all()
            .map(|keys| unseal(&cipher(&keys.profiles)?, &identity.0, sealed));
        opened.find(Result::is_ok).unwrap_or(Err(CipherError))
    }

    /// Whether it opens under the current secret.
    pub(super) fn opens_profile_now(&self, identity: &[u8], sealed: &[u8]) -> bool {
        let profiles = self.valid().current.profiles;
        cipher(&profiles).is_ok_and(|key| unseal(&key, identity, sealed).is_ok())
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
        let key = [7; 32];
        let bytes = key_ring.seal(&key, 9, PURPOSE, b"+4930123456").unwrap();
        assert_eq!(bytes.len(), 1 + 8 + 12 + 11 + 16);
        let (row, sealed) = sealed_for(&bytes).unwrap();
        assert_eq!(row, 9);
        let open = |key: u8, row, purpose| KeyRing::open(&[key; 32], row, purpose, sealed);
        assert_eq!(open(7, 9, PURPOSE).unwrap(), b"+4930123456");
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
            assert_eq!(open(7, 9, other), Err(CipherError), "{other:?}");
        }
        assert_eq!(open(8, 9, PURPOSE), Err(CipherError));
        assert_eq!(open(7, 8, PURPOSE), Err(CipherError));
    }

    #[test]
    fn a_wrapped_key_takes_its_secret_and_its_purpose() {
        let key_ring = KeyRing::new(b"secret");
        let (by, wrapped) = key_ring.wrap(&[7; 32], b"one").unwrap();
        assert_eq!(key_ring.unwrap(&by, &wrapped, b"one").unwrap(), [7; 32]);
        assert_eq!(key_ring.unwrap(&by, &wrapped, b"two"), Err(CipherError));
        let other = KeyRing::new(b"Secret");
        assert_eq!(other.unwrap(&by, &wrapped, b"one"), Err(CipherError));
        let by_other = other.name();
        assert_eq!(other.unwrap(&by_other, &wrapped, b"one"), Err(CipherError));
        key_ring.rotate_to(b"Secret");
        assert_eq!(key_ring.unwrap(&by, &wrapped, b"one").unwrap(), [7; 32]);
        assert_eq!(key_ring.wrap(&[7; 32], b"one").unwrap().0, by_other);
        key_ring.end_rotation();
        assert_eq!(key_ring.unwrap(&by, &wrapped, b"one"), Err(CipherError));
    }

    #[test]
    fn every_byte_of_a_sealed_value_counts_and_no_two_are_the_same() {
        let key_ring = KeyRing::new(b"secret");
        let key = [7; 32];
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
        assert_ne!(number, Some(key_ring.identity_of(NOBODY)));
    }

    #[test]
    fn keys_are_derived_by_hkdf_as_others_know_it() {
        use ring::hkdf::{HKDF_SHA256, Salt};
        let info = [DOMAIN, b"/wraps".as_slice()];
        let prk = Salt::new(HKDF_SHA256, &[7; 32]).extract(b"secret");
        let mut expected = [0; 32];
        prk.expand(&info, HKDF_SHA256)
            .unwrap()
            .fill(&mut expected)
            .unwrap();
        assert_eq!(derive(b"secret", &[7; 32], &info), expected);
        assert_ne!(derive(b"Secret", &[7; 32], &info), expected);
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
