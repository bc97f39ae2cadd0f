//! The state of a call, sealed for the URL at which its next webhook comes: whoever has the installation's secret can go on with the call, and
//! needs nothing else.
//!
//! A passport is `base64url(version (1 byte) ‖ name of the key (4) ‖ nonce (12) ‖ ciphertext and tag)` (ChaCha20-Poly1305, RFC 8439). The
//! associated data names the call, the webhook and its step, so that it is good for no other. The nonce is a keyed hash of what is sealed,
//! so that nothing random is needed, and the same state gives the same passport. No number and no name of a person is in it: dialers,
//! tiers and rules are there as digests of their names, for whoever has the same configuration.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use sha2::{Digest, Sha256};

use super::reports::{Reports, Talk};
use super::state::{CallPhase, Target};
use super::{CallId, CallState, Disposition, Stamp};
use crate::lead::{LeadScore, TierName};
use crate::routing::{DialerId, Reason, Ruleset, RulesetVersion};

/// Passports of this version are made, and those of the one before are read too, once there is one.
const VERSION: u8 = 1;
const OLDEST_READ: u8 = 1;
const DOMAIN: &[u8] = b"switchboard/passport/v1";
const KEY_NAME_LEN: usize = 4;
const TAG_LEN: usize = 16;
/// What is sealed grows by so many bytes.
const OVERHEAD: usize = 1 + KEY_NAME_LEN + NONCE_LEN + TAG_LEN;
/// The longest passport that is read, in characters: more than a URL of ours can hold.
const MAX_TEXT: usize = 1_024;
/// A longer reference of a dialer is left out.
const MAX_REFERENCE: usize = 40;
/// Twilio's longest dial, and ten minutes for clocks and retries; the time on hold comes on top.
const VALID: Duration = Duration::from_mins(4 * 60 + 10);
/// So far may the clock of the machine that made it go ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_mins(2);
/// Stands in a plan for a dialer that is not configured here; nobody is called so.
const STRANGER: &str = "(unknown)";

/// A key under which passports are sealed, and its name. Shows nothing of itself.
pub struct PassportKey {
    name: [u8; KEY_NAME_LEN],
    seal: LessSafeKey,
    nonces: hmac::Key,
}

impl std::fmt::Debug for PassportKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassportKey(…)")
    }
}

impl PassportKey {
    /// The key that follows from these bytes, which follow from the installation's secret and serve nothing else.
    pub fn new(key: &[u8; 32]) -> Option<Self> {
        let part = |use_of_it: &[u8]| {
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), use_of_it);
            mac.as_ref().first_chunk::<32>().copied()
        };
        Some(Self {
            name: part(b"name")?.first_chunk().copied()?,
            seal: LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &part(b"seal")?).ok()?),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, &part(b"nonce")?),
        })
    }
}

/// The keys that are valid: the first seals, all open. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PassportKeys(pub Vec<Arc<PassportKey>>);

/// The webhook that a passport is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassportUse<'a> {
    pub call: &'a CallId,
    /// The last part of its path: `dial` or `hold`.
    pub webhook: &'a str,
    /// Which dial of the call, or which round of holding.
    pub step: u32,
}

impl PassportUse<'_> {
    fn associated_data(&self, version: u8, key: [u8; KEY_NAME_LEN]) -> Vec<u8> {
        let mut data = DOMAIN.to_vec();
        data.push(version);
        data.extend(key);
        for part in [self.call.as_str(), self.webhook] {
            data.extend_from_slice(part.as_bytes());
            data.push(0);
        }
        data.extend(self.step.to_be_bytes());
        data
    }
}

/// A call as it stands when its next webhook is awaited.
#[derive(Clone, Debug, PartialEq)]
pub struct Passport {
    /// The machine that answered; empty where it has no name.
    pub owner: String,
    pub issued_at: Timestamp,
    pub started_at: Timestamp,
    /// Arrival to answer of the first webhook, in milliseconds.
    pub routing_ms: Option<u64>,
    pub reason: Reason,
    pub tier: Option<TierName>,
    pub score: Option<LeadScore>,
    pub rule: Option<String>,
    /// The rule set that decided.
    pub ruleset: RulesetVersion,
    pub failed_over: bool,
    pub held: bool,
    pub state: CallState,
}

/// Why a passport is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum PassportRefusal {
    #[error("it is no passport")]
    Malformed,
    #[error("it was made by a version that is not read any more, or not yet")]
    Version,
    #[error("it is sealed under another secret")]
    OtherSecret,
    #[error("it was altered, or belongs to another call, webhook or step")]
    Altered,
    #[error("its time is over")]
    Expired,
    #[error("it comes from the future: compare the clocks of the machines")]
    FromTheFuture,
}

impl PassportRefusal {
    /// The stable name, for counters.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl Passport {
    /// Whether it tells more of the call than what is known here: it was answered elsewhere meanwhile, or the last record of it is lost.
    pub fn is_ahead_of(&self, known: &CallState) -> bool {
        let (told, known_progress) = (self.state.progress(), known.progress());
        told > known_progress || (told == known_progress && !self.state.has_course_of(known))
    }

    /// Seals it in at most `room` characters: without its rule and then without the dialer's reference where there is not enough of it.
    /// `None` where it does not fit, or there is no key.
    pub fn seal(
        &self,
        keys: &PassportKeys,
        to: &PassportUse<'_>,
        now: Stamp,
        room: usize,
    ) -> Option<String> {
        let key = keys.0.first()?;
        let without_rule = || Self {
            rule: None,
            ..self.clone()
        };
        let without_reference = || Self {
            state: self.state.clone().without_reference(),
            ..without_rule()
        };
        let fits = |content: &Vec<u8>| ((OVERHEAD + content.len()) * 4).div_ceil(3) <= room;
        let content = Some(self.encode(now))
            .filter(fits)
            .or_else(|| Some(without_rule().encode(now)).filter(fits))
            .or_else(|| Some(without_reference().encode(now)).filter(fits))?;
        let associated = to.associated_data(VERSION, key.name);
        let mut context = hmac::Context::with_key(&key.nonces);
        context.update(&associated);
        context.update(&content);
        let nonce: [u8; NONCE_LEN] = context.sign().as_ref().first_chunk().copied()?;
        let mut sealed = content;
        key.seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated),
                &mut sealed,
            )
            .ok()?;
        let mut bytes = Vec::with_capacity(OVERHEAD + sealed.len());
        bytes.push(VERSION);
        bytes.extend(key.name);
        bytes.extend(nonce);
        bytes.extend(sealed);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens a passport that came with this webhook. `ruleset` tells the names of dialers, tiers and rules; `max_hold` is how long a caller may
    /// wait.
    pub fn open(
        text: &str,
        keys: &PassportKeys,
        to: &PassportUse<'_>,
        ruleset: &Ruleset,
        now: Stamp,
        max_hold: Duration,
    ) -> Result<Self, PassportRefusal> {
        let bytes = (text.len() <= MAX_TEXT)
            .then(|| URL_SAFE_NO_PAD.decode(text).ok())
            .flatten()
            .ok_or(PassportRefusal::Malformed)?;
        let parts = || {
            let (&version, rest) = bytes.split_first()?;
            let (name, rest) = rest.split_first_chunk::<KEY_NAME_LEN>()?;
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
            Some((version, *name, *nonce, sealed))
        };
        let (version, name, nonce, sealed) = parts().ok_or(PassportRefusal::Malformed)?;
        if !(OLDEST_READ..=VERSION).contains(&version) {
            return Err(PassportRefusal::Version);
        }
        let mut known = keys.0.iter();
        let key = known
            .find(|key| key.name == name)
            .ok_or(PassportRefusal::OtherSecret)?;
        let mut content = sealed.to_vec();
        let associated = Aad::from(to.associated_data(version, name));
        let nonce = Nonce::assume_unique_for_key(nonce);
        let content = key.seal.open_in_place(nonce, associated, &mut content);
        let content = content.map_err(|_| PassportRefusal::Altered)?;
        let passport = Self::decode(content, ruleset, now).ok_or(PassportRefusal::Malformed)?;
        let age = now.at.duration_since(passport.issued_at);
        if age.is_negative() && age.unsigned_abs() > CLOCK_SKEW {
            return Err(PassportRefusal::FromTheFuture);
        }
        if age.is_positive() && age.unsigned_abs() > VALID + max_hold {
            return Err(PassportRefusal::Expired);
        }
        Ok(passport)
    }

    fn encode(&self, now: Stamp) -> Vec<u8> {
        let state = &self.state;
        let reference = state.reference().filter(|text| text.len() <= MAX_REFERENCE);
        let reports = &state.reports;
        let flags = [
            self.failed_over,
            self.held,
            self.routing_ms.is_some(),
            self.score.is_some(),
            self.tier.is_some(),
            self.rule.is_some(),
            reference.is_some(),
            reports.closed == Some(Disposition::Closed),
            reports.dialer >= Talk::Began,
            reports.dialer == Talk::Over,
        ];
        let mut out = Packer::default();
        let flags = flags.iter().enumerate();
        out.number(flags.fold(0, |all, (n, set)| all | u64::from(*set) << n));
        out.number(u64::from(state.epoch));
        out.number(u64::try_from(self.issued_at.as_millisecond()).unwrap_or_default());
        let before = self.issued_at.duration_since(self.started_at);
        out.number(u64::try_from(before.as_millis()).unwrap_or_default());
        out.text(&self.owner);
        out.bytes(&digest(self.reason.as_str()));
        out.bytes(&hex::decode(self.ruleset.as_str()).unwrap_or_default());
        if let Some(ms) = self.routing_ms {
            out.number(ms);
        }
        if let Some(score) = self.score {
            out.bytes(&score.value().to_be_bytes());
        }
        let tier = self.tier.as_ref().map(TierName::as_str);
        for name in [tier, self.rule.as_deref()].into_iter().flatten() {
            out.bytes(&digest(name));
        }
        for dialers in [&state.plan, &state.order] {
            out.number(u64::try_from(dialers.len()).unwrap_or_default());
            for dialer in dialers {
                out.bytes(&digest(dialer.as_str()));
            }
        }
        out.number(u64::from(state.step));
        out.number(state.rung_ms);
        let (kind, first, second) = match state.phase {
            CallPhase::Routing | CallPhase::Ended => (0, 0, 0),
            CallPhase::Held { since, round } => {
                let waited = u64::try_from(since.until(now).as_millis()).unwrap_or_default();
                (1, waited, u64::from(round))
            }
            CallPhase::Dialing { target, .. } => match target {
                Target::Dialer { position, ring } => (
                    2,
                    u64::try_from(position).unwrap_or_default(),
                    u64::from(ring),
                ),
                Target::Number { closed } => (3, u64::from(closed), 0),
                Target::LastResort => (4, 0, 0),
            },
        };
        for number in [kind, first, second] {
            out.number(number);
        }
        if let Some(reference) = reference {
            out.text(reference);
        }
        out.0
    }

    fn decode(content: &[u8], ruleset: &Ruleset, now: Stamp) -> Option<Self> {
        let mut content = Unpacker(content);
        let flags = content.number()?;
        let has = |n: u32| flags >> n & 1 == 1;
        let epoch = u32::try_from(content.number()?).ok()?;
        let issued_at = i64::try_from(content.number()?).ok()?;
        let before = i64::try_from(content.number()?).ok()?;
        let started_at = Timestamp::from_millisecond(issued_at.checked_sub(before)?).ok()?;
        let issued_at = Timestamp::from_millisecond(issued_at).ok()?;
        let owner = content.text()?;
        let reason = content.named(Reason::ALL.iter().copied(), |reason| reason.as_str())??;
        let version = RulesetVersion::parse(&hex::encode(content.array::<6>()?))?;
        let routing_ms = if has(2) {
            Some(content.number()?)
        } else {
            None
        };
        let score = if has(3) {
            Some(LeadScore::new(f64::from_be_bytes(*content.array()?))?)
        } else {
            None
        };
        let tiers = ruleset.tiers.iter().map(|tier| &tier.name);
        let tier = if has(4) {
            content.named(tiers, |name| name.as_str())?.cloned()
        } else {
            None
        };
        let rules = ruleset.rules.iter().map(|rule| &*rule.name);
        let rule = if has(5) {
            content.named(rules, |name| name)?.map(ToOwned::to_owned)
        } else {
            None
        };
        let plan = content.dialers(&ruleset.dialers)?;
        let order = content.dialers(&ruleset.dialers)?;
        let step = u32::try_from(content.number()?).ok()?;
        let rung_ms = content.number()?;
        let (kind, first, second) = (content.number()?, content.number()?, content.number()?);
        let dialing = |target| CallPhase::Dialing {
            target,
            bridged: false,
        };
        let phase = match kind {
            1 => CallPhase::Held {
                since: now.before(Duration::from_millis(first), issued_at),
                round: u32::try_from(second).ok()?,
            },
            2 => dialing(Target::Dialer {
                position: usize::try_from(first).ok()?,
                ring: u8::try_from(second).ok()?,
            }),
            3 => dialing(Target::Number { closed: first == 1 }),
            4 => dialing(Target::LastResort),
            _ => return None,
        };
        let reference = if has(6) { Some(content.text()?) } else { None };
        if !content.0.is_empty() {
            return None;
        }
        let talk = match (has(8), has(9)) {
            (_, true) => Talk::Over,
            (true, false) => Talk::Began,
            (false, false) => Talk::None,
        };
        let mut reports = Reports::default();
        reports.dialer = talk;
        reports.closed = has(7).then_some(Disposition::Closed);
        Some(Self {
            owner,
            issued_at,
            started_at,
            routing_ms,
            reason,
            tier,
            score,
            rule,
            ruleset: version,
            failed_over: has(0),
            held: has(1),
            state: CallState {
                plan,
                order,
                step,
                phase,
                reference,
                last_resort: None,
                rung_ms,
                reports,
                epoch,
            },
        })
    }
}

/// Stands for a name of the configuration.
fn digest(name: &str) -> [u8; 3] {
    let [first, second, third, ..]: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    [first, second, third]
}

#[derive(Default)]
struct Packer(Vec<u8>);

impl Packer {
    /// Seven bits in each byte, the lowest first; the highest bit says that more follow (LEB128).
    fn number(&mut self, mut number: u64) {
        while let Some(rest) = Some(number >> 7).filter(|rest| *rest > 0) {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number = rest;
        }
        self.0.push((number & 0x7f) as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.number(u64::try_from(text.len()).unwrap_or_default());
        self.bytes(text.as_bytes());
    }
}

struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            number |= bits
                .checked_shl(place * 7)
                .filter(|shifted| shifted >> (place * 7) == bits)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        str::from_utf8(text).ok().map(ToOwned::to_owned)
    }

    /// The one that the next digest stands for; the inner `None` where none does, or more than one.
    #[expect(clippy::option_option, reason = "the outer one: the bytes have ended")]
    fn named<T>(
        &mut self,
        known: impl Iterator<Item = T>,
        name_of: impl Fn(&T) -> &str,
    ) -> Option<Option<T>> {
        let wanted = self.array::<3>()?;
        let mut found = known.filter(|one| digest(name_of(one)) == *wanted);
        Some(match (found.next(), found.next()) {
            (Some(one), None) => Some(one),
            (_, Some(_)) | (None, None) => None,
        })
    }

    fn dialers(&mut self, known: &[DialerId]) -> Option<Vec<DialerId>> {
        let n = self.number()?;
        (0..n)
            .map(|_| {
                let found = self.named(known.iter(), |id| id.as_str())?;
                Some(found.cloned().unwrap_or_else(|| DialerId::new(STRANGER)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
