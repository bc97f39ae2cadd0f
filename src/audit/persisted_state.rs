//! What of a service's state has to outlive the process: who took it out, and the circuit that is open.
//!
//! Times are wall-clock times, since a monotonic clock means nothing to the next process.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::alerts::Drained;
use crate::resilience::OpenCause;

/// Names what is hashed, and the version of the serialisation.
const DOMAIN: &[u8] = b"switchboard/credentials/v1\n";
/// So many bytes of the keyed hash tell one set of credentials from another, and no more is kept.
const FINGERPRINT_BYTES: usize = 16;

/// What of a service's state has to outlive the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistedState {
    /// Who took it out by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Drained>,
    /// Its circuit, while that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenCircuit>,
}

impl PersistedState {
    /// Nothing to remember: in use, and its circuit closed.
    pub fn is_clean(&self) -> bool {
        self.drained.is_none() && self.open.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCircuit {
    pub cause: OpenCause,
    pub why: String,
    pub since: Timestamp,
    /// When a trial may begin; `None` in old records, in which refused credentials had to be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How often in a row credentials were refused; 0 where something else opened it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u32,
    /// The credentials that were in use.
    pub credentials: Fingerprint,
}

impl OpenCircuit {
    /// For how long it was open at a time, and how long it was to stay so from then on.
    pub fn elapsed_and_rest(&self, wall: Timestamp) -> (Duration, Duration) {
        let lasts = |time| Duration::try_from(time).unwrap_or_default();
        let rest = self.until.map(|until| lasts(until.duration_since(wall)));
        (
            lasts(wall.duration_since(self.since)),
            rest.unwrap_or_default(),
        )
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde wants"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Tells credentials apart without holding them: a keyed hash, of no use to whoever lacks the installation's secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of address and secrets together, in a fixed order, under the installation's secret.
    pub fn of<'a>(key: &[u8], parts: impl IntoIterator<Item = &'a str>) -> Self {
        // HMAC takes a key of any length; an empty one stands for the error that cannot happen.
        let mac = Hmac::<Sha256>::new_from_slice(key).or_else(|_| Hmac::new_from_slice(&[]));
        let Ok(mut mac) = mac else {
            return Self(String::new());
        };
        mac.update(DOMAIN);
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        Self(hex::encode(
            digest.get(..FINGERPRINT_BYTES).unwrap_or_default(),
        ))
    }

    pub fn kept(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last state of a service that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// `braze`, or the dialer's name.
    pub service: String,
    /// Its state, in the word that was announced.
    pub state: String,
    pub cause: String,
    pub standing: PersistedState,
    pub changed_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_credentials_apart_and_shows_none() {
        let of = |key: &[u8], parts: &[&str]| Fingerprint::of(key, parts.iter().copied());
        let one = of(b"key", &["https://api.example", "secret"]);
        assert_eq!(one, of(b"key", &["https://api.example", "secret"]));
        assert_eq!(one.as_str().len(), 32);
        assert!(!format!("{one:?}").contains("secret"));
        for other in [
            of(b"other key", &["https://api.example", "secret"]),
            of(b"key", &["https://api.example", "Secret"]),
            of(b"key", &["https://api.examples", "ecret"]),
            of(b"key", &["https://api.example", "secret", ""]),
            of(b"", &["https://api.example", "secret"]),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(Fingerprint::kept(one.as_str()), one);
    }

    #[test]
    fn a_standing_is_read_as_it_was_written_and_missing_parts_mean_nothing_to_remember() {
        let standing = PersistedState {
            drained: Some(Drained {
                reason: Some("maintenance".to_owned()),
                until: Some(Timestamp::UNIX_EPOCH),
                ..Drained::new("ops", Timestamp::UNIX_EPOCH)
            }),
            open: Some(OpenCircuit {
                cause: OpenCause::RefusedProbe,
                why: "unauthorized (401)".to_owned(),
                since: Timestamp::UNIX_EPOCH,
                until: Some(Timestamp::UNIX_EPOCH),
                refusals: 2,
                credentials: Fingerprint::of(b"key", ["secret"]),
            }),
        };
        let text = serde_json::to_string(&standing).unwrap();
        assert_eq!(
            serde_json::from_str::<PersistedState>(&text).unwrap(),
            standing
        );
        assert!(
            serde_json::from_str::<PersistedState>("{}")
                .unwrap()
                .is_clean()
        );
    }
}
