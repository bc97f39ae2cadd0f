//! What a reload can replace: the rules and settings by which calls are answered.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::draft::Draft;
use crate::call::Ringing;
use crate::phone::{Caller, E164};
use crate::routing::{DialerId, MissedTo, RuleTest, RulesInForce, Ruleset, Speech};
use crate::store::StoredCall;
use crate::twiml::answer::{self, CallerIdPolicy, Safe};
use crate::twiml::{CallbackUrls, Connect, VoiceResponse};

/// Everything that the answer to a call depends on, besides the call.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Tiers, rules and the default.
    pub ruleset: RulesInForce,
    /// What they are tested by.
    pub rule_tests: Vec<RuleTest>,
    /// What somebody should look at in them, a sentence each.
    pub lint: Vec<String>,
    /// Decides beside them, without effect.
    pub draft: Option<Arc<Draft>>,
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
    /// Spoken to a caller for whom all dialers are outside their hours; `goodbye_message` where there is none.
    pub closed_message: Option<String>,
    /// Where such a caller is put through to.
    pub closed_number: Option<E164>,
    /// Who is told of callers who reached nobody.
    pub missed_to: Option<MissedTo>,
    /// Which number the dialer sees.
    pub caller_id: CallerIdPolicy,
    pub ringing: Ringing,
    pub urls: CallbackUrls,
    /// Where the default dialer's line is.
    pub default_connect: Option<Connect>,
}

impl Policy {
    /// The same with this draft beside its rules. `known` goes on counting where it is the same one.
    #[must_use]
    pub fn with_draft(
        self,
        draft: Option<Ruleset>,
        known: Option<&Arc<Draft>>,
        now: Timestamp,
    ) -> Self {
        let ruleset = RulesInForce::from(Ruleset::clone(&self.ruleset));
        let draft = draft.map(|draft| {
            let same = known.filter(|known| *known.rules.version() == draft.version());
            same.map_or_else(|| Arc::new(Draft::new(draft, now)), Arc::clone)
        });
        Self {
            ruleset: match &draft {
                Some(draft) => ruleset.asking_also(&draft.rules),
                None => ruleset,
            },
            draft,
            ..self
        }
    }

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

/// What is said to the caller of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoken<'a> {
    pub(super) language: &'a str,
    pub(super) hold: &'a str,
    pub(super) goodbye: &'a str,
    pub(super) closed: &'a str,
}

impl Policy {
    /// What is said by the rule of this name, and else by `[routing]`.
    pub(super) fn spoken(&self, rule: Option<&str>) -> Spoken<'_> {
        let speech = self.ruleset.rule(rule).map(|rule| &rule.speech);
        let own =
            |of: fn(&Speech) -> &Option<String>| speech.and_then(|speech| of(speech).as_deref());
        let goodbye = own(|speech| &speech.goodbye_message);
        Spoken {
            language: own(|speech| &speech.language).unwrap_or(&self.language),
            hold: own(|speech| &speech.hold_message).unwrap_or(&self.hold_message),
            goodbye: goodbye.unwrap_or(&self.goodbye_message),
            closed: goodbye
                .or(self.closed_message.as_deref())
                .unwrap_or(&self.goodbye_message),
        }
    }

    /// The dialers that a call wants, in the order in which it asks them.
    pub fn wanted(&self, call: &StoredCall) -> Vec<DialerId> {
        match call.state.order() {
            [] => self.ruleset.order(call.rule.as_deref()),
            order => order.to_vec(),
        }
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
