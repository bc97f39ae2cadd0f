//! What a reload can replace: the rules and settings by which calls are answered.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::call::Ringing;
use crate::phone::{Caller, E164};
use crate::routing::RulesInForce;
use crate::twiml::answer::{self, CallerIdPolicy, Safe};
use crate::twiml::{CallbackUrls, Connect, VoiceResponse};

/// Everything that the answer to a call depends on, besides the call.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Tiers, rules and the default.
    pub ruleset: RulesInForce,
    pub budget: Duration,
    /// Dialled when no dialer is left.
    pub last_resort: Option<E164>,
    /// How long a caller waits for a dialer.
    pub max_hold: Duration,
    /// Spoken to a caller who waits.
    pub hold_message: String,
    /// Spoken when not even a last resort is left.
    pub goodbye_message: String,
    /// Language of spoken messages, as BCP 47: `de-DE`.
    pub language: String,
    /// Which number the dialer sees.
    pub caller_id: CallerIdPolicy,
    pub ringing: Ringing,
    pub urls: CallbackUrls,
    /// Where the default dialer's line is.
    pub default_connect: Option<Connect>,
}

impl Policy {
    /// The answer when nothing is known: last-resort number, else the default dialer's line, else goodbye. No I/O in the way.
    pub fn safe_answer(&self, caller: Option<&Caller>, called: Option<&str>) -> VoiceResponse {
        answer::safe(&Safe {
            last_resort: self.last_resort.as_ref(),
            default_connect: self.default_connect.as_ref(),
            caller,
            called,
            caller_id: &self.caller_id,
            ring_timeout: self.ringing.each,
            goodbye: &self.goodbye_message,
            language: &self.language,
        })
    }
}

/// The policy in force, replaceable as a whole. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies(Arc<ArcSwap<Policy>>);

impl Policies {
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(policy)))
    }

    /// The policy in force now.
    pub fn current(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Puts another policy into force; calls in hand finish by the one they started with.
    pub fn replace(&self, policy: Policy) {
        self.0.store(Arc::new(policy));
    }
}
