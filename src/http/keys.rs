//! API keys: who holds which, and what they may do.
//!
//! A key is 256 random bits, so a plain SHA-256 of it is enough to keep (nobody can try them all), and there is nothing to slow down.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;

use super::error::{ApiError, ErrorKind};
pub use crate::audit::Role;
use crate::flow::{KeyDocument, MadeKeys};

/// Where a key is sent.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// What every key begins with, so that people and secret scanners know one when they see it.
const PREFIX: &str = "swb_";

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    pub(super) fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// A hash that was kept.
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(self) -> [u8; 32] {
        self.0
    }

    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// A key that was just drawn; the only time that it is known.
pub struct DrawnKey {
    pub key: String,
    /// What is kept of it, as `switchboard key new` prints it in hexadecimal digits.
    pub hash: KeyHash,
}

impl DrawnKey {
    /// Draws a key. Fails where the system gives no random bytes.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let hash = KeyHash::of(key.as_bytes());
        Ok(Self { key, hash })
    }
}

impl fmt::Debug for DrawnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DrawnKey(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Who holds it; stands in the audit trail.
    pub name: Arc<str>,
    pub role: Role,
    /// What is kept of it.
    pub hash: KeyHash,
}

/// The keys of the configuration, replaceable as a whole, and those that were made while the process runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    configured: Arc<ArcSwap<Vec<ApiKey>>>,
    made: Option<MadeKeys>,
    changed: watch::Sender<()>,
}

impl Keys {
    pub fn new(keys: Vec<ApiKey>) -> Self {
        Self {
            configured: Arc::new(ArcSwap::from_pointee(keys)),
            made: None,
            changed: watch::Sender::new(()),
        }
    }

    #[must_use]
    pub fn with_made(self, made: MadeKeys) -> Self {
        Self {
            changed: made.changed().clone(),
            made: Some(made),
            ..self
        }
    }

    /// Puts other keys of the configuration into force; one that is gone opens nothing from now on.
    pub fn replace(&self, keys: Vec<ApiKey>) {
        self.configured.store(Arc::new(keys));
        self.say_changed();
    }

    /// Somebody lost a right: open streams ask anew.
    pub(super) fn say_changed(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn has_in_file(&self, name: &str) -> bool {
        self.configured.load().iter().any(|key| *key.name == *name)
    }

    /// All keys, those of the configuration first.
    pub(super) fn documents(&self) -> Vec<KeyDocument> {
        let made = self.made.as_ref();
        let of_file = self.configured.load();
        let of_file = of_file.iter().map(|key| KeyDocument {
            id: None,
            name: key.name.to_string(),
            role: key.role,
            by: None,
            created_at: None,
            used_at: made.and_then(|made| made.used_at(&key.hash.0)),
        });
        of_file
            .chain(made.into_iter().flat_map(MadeKeys::documents))
            .collect()
    }

    /// Who holds `key`, which is used.
    pub(super) fn holder(&self, key: &[u8]) -> Option<(Holder, KeyHash)> {
        let hash = KeyHash::of(key);
        let holder = self.holder_of(hash)?;
        self.used(hash);
        Some((holder, hash))
    }

    pub(super) fn used(&self, hash: KeyHash) {
        self.made.iter().for_each(|made| made.used(hash.0));
    }

    /// Who asks, if anybody known does. Nothing is counted.
    pub(super) fn known(&self, headers: &HeaderMap) -> Option<Holder> {
        let mut given = headers.get_all(HEADER).iter();
        let key = given.next().filter(|_| given.next().is_none())?;
        self.holder(key.as_bytes()).map(|(holder, _)| holder)
    }

    /// Who holds the key with this hash. Every key is compared in full, so that the time it takes says nothing.
    pub(super) fn holder_of(&self, hash: KeyHash) -> Option<Holder> {
        let configured = self.configured.load();
        let made = self.made.as_ref().map(MadeKeys::all).unwrap_or_default();
        let of_file = configured
            .iter()
            .map(|key| (&key.name, key.role, key.hash.0));
        let made = made.iter().map(|key| (&key.name, key.role, key.hash));
        let known: Vec<_> = of_file.chain(made).collect();
        let mut found = u64::MAX;
        for (place, (_, _, known)) in (0_u64..).zip(&known) {
            let same: Choice = known.ct_eq(&hash.0);
            found.conditional_assign(&place, same);
        }
        let (name, role, _) = known.get(usize::try_from(found).ok()?)?;
        Some(Holder {
            name: Arc::clone(name),
            role: *role,
        })
    }

    /// Who asks, by the key in the headers.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<Holder, ApiError> {
        if let Some(holder) = self.known(headers) {
            return Ok(holder);
        }
        let kind = ErrorKind::Authentication;
        let (reason, message) = match headers.get_all(HEADER).iter().count() {
            0 => {
                metrics::counter!("switchboard_auth_failures_total", "reason" => "missing")
                    .increment(1);
                let message = "This needs an API key in the header X-API-Key, or a session.";
                return Err(ApiError::new(kind, message));
            }
            1 => ("unknown", "The API key is not known."),
            _ => ("several", "The request has more than one X-API-Key."),
        };
        Err(ApiError::refused(kind, message, reason, None))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The name of the key, or of a person, with their subject at the provider; stands in the audit trail.
    pub(super) name: Arc<str>,
    pub(super) role: Role,
}

impl Holder {
    /// As records of the configuration name who asked for a change.
    pub(super) fn as_asking(&self) -> String {
        if self.name.contains("(oidc ") {
            self.name.to_string()
        } else {
            format!("key {}", self.name)
        }
    }

    pub(super) fn with_role(self, wanted: Role) -> Result<Self, ApiError> {
        if self.role >= wanted {
            return Ok(self);
        }
        let message = format!(
            "This takes the role {}; {} has the role {}.",
            wanted.as_str(),
            self.name,
            self.role.as_str()
        );
        let key = Some(self.name);
        Err(ApiError::refused(
            ErrorKind::Permission,
            message,
            "role",
            key,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(drawn: &[(&str, Role, &DrawnKey)]) -> Vec<ApiKey> {
        let key = |&(name, role, drawn): &(&str, Role, &DrawnKey)| ApiKey {
            name: name.into(),
            role,
            hash: KeyHash::from_hex(&drawn.hash.to_hex()).unwrap(),
        };
        drawn.iter().map(key).collect()
    }

    fn headers(given: &[&str]) -> HeaderMap {
        let given = given.iter().map(|key| (HEADER, key.parse().unwrap()));
        given.collect()
    }

    #[test]
    fn a_key_has_256_random_bits_and_says_what_it_is() {
        let (one, other) = (DrawnKey::draw().unwrap(), DrawnKey::draw().unwrap());
        assert!(one.key.starts_with("swb_"));
        assert_eq!(one.key.len(), 4 + 43);
        assert_ne!(one.key, other.key);
        assert_eq!(one.hash, KeyHash::of(one.key.as_bytes()));
        assert_eq!(format!("{one:?} {:?}", one.hash), "DrawnKey(…) KeyHash(…)");
    }

    #[test]
    fn a_key_opens_for_its_holder_until_it_is_replaced() {
        let [first, last, foreign] = [(); 3].map(|()| DrawnKey::draw().unwrap());
        let keys_in_force = Keys::new(keys(&[
            ("ops", Role::Admin, &first),
            ("desk", Role::Viewer, &last),
        ]));
        let name = |given: &[&str]| {
            let holder = keys_in_force.authenticate(&headers(given)).ok()?;
            Some(holder.name.to_string())
        };
        assert_eq!(name(&[&first.key]).as_deref(), Some("ops"));
        assert_eq!(name(&[&last.key]).as_deref(), Some("desk"));
        let longer = format!("{}x", first.key);
        let hash = first.hash.to_hex();
        for wrong in ["", &foreign.key, &longer, &first.key[..20], &hash] {
            assert_eq!(name(&[wrong]), None, "{wrong}");
        }
        assert_eq!(name(&[]), None);
        assert_eq!(name(&[&first.key, &first.key]), None);
        keys_in_force.replace(keys(&[("new", Role::Admin, &foreign)]));
        assert_eq!(name(&[&first.key]), None);
        assert_eq!(name(&[&foreign.key]).as_deref(), Some("new"));
        keys_in_force.replace(Vec::new());
        assert_eq!(name(&[&foreign.key]), None);
    }

    #[test]
    fn a_role_may_what_smaller_ones_may_and_not_the_other_way_round() {
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        for (size, role) in roles.into_iter().enumerate() {
            for (needed, wanted) in roles.into_iter().enumerate() {
                let name = "ops".into();
                let is_let_in = Holder { name, role }.with_role(wanted).is_ok();
                assert_eq!(is_let_in, size >= needed, "{role:?} {wanted:?}");
            }
        }
    }
}
