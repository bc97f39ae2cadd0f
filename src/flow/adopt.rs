//! Going on with a call by its passport: where this machine has no record of it, cannot read it, or has an older one.

use std::time::Duration;

use super::answering::{Answering, Calls};
use super::locks;
use super::policy::Policy;
use super::stopwatch::stamp;
use crate::audit::{CallAdopted, Event, Record};
use crate::call::{InboundCall, Passport, PassportRefusal, PassportUse, Status};
use crate::store::StoredCall;

/// How long the store may take to give back a call whose caller waits; after that, its passport decides.
pub(super) const LEDGER_PATIENCE: Duration = locks::PATIENCE;

impl Calls {
    /// The call of a webhook as it stands: as the store holds it within `patience`, else as this process remembers it, else by the passport that
    /// came with the webhook. A passport that is ahead of what is known goes before it, but not before the end of a call, or where its caller
    /// was erased.
    pub(super) async fn stored_or_adopted(
        &self,
        answering: &mut Answering,
        call: &InboundCall,
        passport: Option<(PassportUse<'_>, &str)>,
        patience: Duration,
    ) -> Option<StoredCall> {
        let passport = passport.and_then(|(to, text)| self.opened(answering, &to, text));
        let remembered = (answering.is_unclaimed() && passport.is_some())
            .then(|| self.locks.call_in_memory(&call.call_id));
        let stored = match remembered {
            // The store has had its time.
            Some(remembered) => remembered,
            None => self.locks.call_within(&call.call_id, patience).await,
        };
        let Some(passport) = passport else {
            return stored;
        };
        let stays = |stored: &StoredCall| {
            stored.status == Status::Ended
                || stored.personal.is_erased()
                || !passport.is_ahead_of(&stored.state)
        };
        match stored {
            Some(stored) if stays(&stored) => Some(stored),
            stored => Some(self.adopt(answering, call, passport, stored)),
        }
    }

    /// Whether a passport is good for this webhook here.
    pub fn accepts(&self, to: &PassportUse<'_>, text: &str) -> bool {
        self.open(&self.policies.current(), to, text).is_ok()
    }

    fn opened(&self, answering: &Answering, to: &PassportUse<'_>, text: &str) -> Option<Passport> {
        match self.open(&answering.policy, to, text) {
            Ok(passport) => Some(passport),
            Err(refusal) => {
                let reason = refusal.as_str();
                metrics::counter!("switchboard_passports_refused_total", "reason" => reason)
                    .increment(1);
                tracing::warn!(
                    event = "call.passport_refused",
                    reason,
                    "the passport of a call is not accepted: {refusal}"
                );
                None
            }
        }
    }

    fn open(
        &self,
        policy: &Policy,
        to: &PassportUse<'_>,
        text: &str,
    ) -> Result<Passport, PassportRefusal> {
        let (keys, now) = (self.locks.passport_keys(), stamp(&self.clock));
        Passport::open(text, &keys, to, &policy.ruleset, now, policy.max_hold)
    }

    /// Goes on with the call as its passport says, and has that recorded with the answer.
    fn adopt(
        &self,
        answering: &mut Answering,
        call: &InboundCall,
        passport: Passport,
        stored: Option<StoredCall>,
    ) -> StoredCall {
        let now = self.clock.now();
        let state = passport
            .state
            .adopted(answering.policy.last_resort.as_ref());
        let adopted = CallAdopted {
            from: passport.owner,
            epoch: state.epoch(),
            how: answering.adoption,
            was_known: stored.is_some(),
            issued_at: passport.issued_at,
            started_at: passport.started_at,
            reason: passport.reason,
            tier: passport.tier,
            score: passport.score,
            rule: passport.rule,
            ruleset: passport.ruleset,
            state: state.clone(),
        };
        metrics::counter!("switchboard_calls_adopted_total", "how" => adopted.how.as_str())
            .increment(1);
        tracing::warn!(
            event = "call.adopted",
            from = adopted.from,
            epoch = adopted.epoch,
            how = adopted.how.as_str(),
            was_known = adopted.was_known,
            "the call goes on by its passport"
        );
        let known = stored.unwrap_or_else(|| StoredCall {
            id: call.call_id.clone(),
            personal: call.personal(),
            caller_row: None,
            status: state.status(),
            disposition: None,
            reason: adopted.reason,
            tier: adopted.tier.clone(),
            score: adopted.score,
            rule: adopted.rule.clone(),
            ruleset: adopted.ruleset.clone(),
            dialer: None,
            failed_over: false,
            held: false,
            started_at: adopted.started_at,
            answered_at: None,
            ended_at: None,
            routing_ms: passport.routing_ms,
            adopted_from: Some(adopted.from.clone()),
            state: state.clone(),
            updated_at: now,
        });
        let adopted = Event::CallAdopted(Box::new(adopted));
        answering.pending.records.push(Record {
            personal: Some(call.personal()),
            ..Record::of_call(now, &call.call_id, adopted)
        });
        StoredCall {
            status: state.status(),
            reason: passport.reason,
            dialer: state.dialer().cloned(),
            failed_over: known.failed_over || passport.failed_over,
            held: known.held || passport.held,
            state,
            updated_at: now,
            ..known
        }
    }
}
