//! The calls that go on, as this process knows them: what the next webhook of a call needs, where the database does not have it yet or
//! cannot give it back.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::record::Recorded;
use crate::call::{CallId, Status};
use crate::phone::Caller;
use crate::store::StoredCall;

/// More calls than this are not kept; those of which nothing was heard for the longest time go first.
const MOST: usize = 10_000;
/// A call of which nothing is heard for so long is over: Twilio's own limit for a dial.
const QUIET: Duration = Duration::from_hours(4);
/// How long a call that is over is kept while its end is not on disk: Twilio may repeat its last webhooks.
const ENDED: Duration = Duration::from_mins(10);
/// How often calls that are over are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Answers of one call that are kept while they are not on disk, the newest ones: only those are repeated.
const ANSWERS: usize = 8;

/// The calls that go on. Bounded, and forgotten when they end.
#[derive(Debug, Default)]
pub(super) struct LiveCalls {
    calls: HashMap<CallId, LiveCall>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct LiveCall {
    call: StoredCall,
    /// The answers that are not known to be on disk, by their step, oldest first.
    unwritten: VecDeque<(String, String)>,
    /// Its last record is not known to be on disk: what the database holds of it is older.
    is_ahead: bool,
    heard: Instant,
}

impl LiveCalls {
    /// The call has come to this, its record was treated so, and `answer` is what its webhook was answered, by its step.
    pub(super) fn learn(
        &mut self,
        recorded: Recorded,
        call: StoredCall,
        answer: Option<(&str, &str)>,
        now: Instant,
    ) {
        let is_ahead = recorded != Recorded::OnDisk;
        self.sweep(now);
        if !is_ahead && call.status == Status::Ended {
            self.calls.remove(&call.id);
            return;
        }
        let mut unwritten = VecDeque::new();
        if is_ahead {
            let known = self.calls.remove(&call.id);
            unwritten = known.map(|known| known.unwritten).unwrap_or_default();
            unwritten.extend(answer.map(|(step, body)| (step.to_owned(), body.to_owned())));
            while unwritten.len() > ANSWERS {
                unwritten.pop_front();
            }
        }
        let known = LiveCall {
            unwritten,
            is_ahead,
            heard: now,
            call,
        };
        self.calls.insert(known.call.id.clone(), known);
    }

    /// What `step` was answered, where that is not on disk yet.
    pub(super) fn unwritten(&self, call_id: &CallId, step: &str) -> Option<String> {
        let known = self.calls.get(call_id)?;
        let mut answers = known.unwritten.iter();
        answers
            .find(|(of, _)| of == step)
            .map(|(_, body)| body.clone())
    }

    /// The call, where the database holds an older state of it, or none.
    pub(super) fn ahead(&self, call_id: &CallId) -> Option<StoredCall> {
        let known = self.calls.get(call_id).filter(|known| known.is_ahead)?;
        Some(known.call.clone())
    }

    /// The call as it was last seen here.
    pub(super) fn call(&self, call_id: &CallId) -> Option<StoredCall> {
        Some(self.calls.get(call_id)?.call.clone())
    }

    /// When this process last had news of the call.
    pub(super) fn heard(&self, call_id: &CallId) -> Option<Instant> {
        Some(self.calls.get(call_id)?.heard)
    }

    /// Nothing is known of the call any more.
    pub(super) fn forget(&mut self, call_id: &CallId) {
        self.calls.remove(call_id);
    }

    /// Nothing is known of any call of this caller any more.
    pub(super) fn forget_caller(&mut self, caller: &Caller) {
        self.calls
            .retain(|_, known| known.call.personal.caller() != *caller);
    }

    fn sweep(&mut self, now: Instant) {
        let is_due = |swept: Instant| now.saturating_duration_since(swept) >= SWEEP_EVERY;
        if self.calls.len() < MOST && !self.swept.is_none_or(is_due) {
            return;
        }
        self.swept = Some(now);
        self.calls.retain(|_, known| {
            let patience = match known.call.status {
                Status::Ended => ENDED,
                Status::Routing | Status::Held | Status::Dialing | Status::Bridged => QUIET,
            };
            now.saturating_duration_since(known.heard) < patience
        });
        if self.calls.len() >= MOST {
            let mut heard: Vec<Instant> = self.calls.values().map(|known| known.heard).collect();
            let (_, limit, _) = heard.select_nth_unstable(MOST / 10);
            let limit = *limit;
            self.calls.retain(|_, known| known.heard > limit);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
pub(super) mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::audit::Personal;
    use crate::call::{CallState, Disposition};
    use crate::lead::Tiers;
    use crate::routing::{self, CallFacts, DialerId, Lookup, LookupUnavailable, Ruleset};

    const CALLER: &str = "+491700000090";
    const MINUTE: Duration = Duration::from_mins(1);

    fn id(n: usize) -> CallId {
        CallId::parse(&format!("CA{n:032x}")).unwrap()
    }

    pub(crate) fn call(n: usize) -> StoredCall {
        let ruleset = Ruleset::of_rules(Tiers::default(), Vec::new(), &["a"]);
        let lookup = Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        };
        let facts = CallFacts::new(Timestamp::UNIX_EPOCH, lookup, Vec::new());
        let decision = routing::decide(&ruleset.into(), &facts);
        let personal = Personal {
            caller: Some(CALLER.to_owned()),
            ..Personal::default()
        };
        StoredCall::begun(id(n), personal, &decision, Timestamp::UNIX_EPOCH)
    }

    fn ended(n: usize) -> StoredCall {
        let call = call(n);
        let state = call.state.clone().ended(Disposition::Answered);
        StoredCall {
            status: state.status(),
            disposition: state.disposition(),
            state,
            ..call
        }
    }

    fn dialing(n: usize) -> StoredCall {
        let call = call(n);
        let state = CallState::routing(vec![DialerId::new("a")]);
        let state = state.dialing(&DialerId::new("a"), None);
        StoredCall {
            status: state.status(),
            state,
            ..call
        }
    }

    #[test]
    fn a_call_whose_record_is_late_is_ahead_of_the_database_until_a_later_one_is_on_disk() {
        let (mut live, now) = (LiveCalls::default(), Instant::now());
        live.learn(Recorded::Late, call(1), Some(("inbound", "<one/>")), now);
        assert_eq!(live.ahead(&id(1)), Some(call(1)));
        live.learn(Recorded::Late, dialing(1), Some(("dial-1", "<two/>")), now);
        assert_eq!(live.ahead(&id(1)), Some(dialing(1)));
        let said = |live: &LiveCalls, step| live.unwritten(&id(1), step);
        assert_eq!(said(&live, "inbound").as_deref(), Some("<one/>"));
        assert_eq!(said(&live, "dial-1").as_deref(), Some("<two/>"));
        assert_eq!(said(&live, "dial-2"), None);

        live.learn(
            Recorded::OnDisk,
            dialing(1),
            Some(("dial-2", "<three/>")),
            now,
        );
        assert_eq!(live.ahead(&id(1)), None, "records reach the disk in order");
        assert_eq!(said(&live, "dial-1"), None);
        assert_eq!(live.call(&id(1)), Some(dialing(1)));
    }

    #[test]
    fn a_call_that_is_over_is_forgotten_when_its_end_is_on_disk_or_after_ten_minutes() {
        let (mut live, now) = (LiveCalls::default(), Instant::now());
        live.learn(Recorded::OnDisk, call(1), None, now);
        live.learn(Recorded::OnDisk, ended(1), None, now);
        assert_eq!(live.call(&id(1)), None);
        live.learn(
            Recorded::Late,
            ended(2),
            Some(("dial-1", "<Response/>")),
            now,
        );
        live.learn(Recorded::OnDisk, call(3), None, now + 9 * MINUTE);
        assert_eq!(live.ahead(&id(2)), Some(ended(2)));
        live.learn(Recorded::OnDisk, call(3), None, now + 10 * MINUTE);
        assert_eq!(live.ahead(&id(2)), None);
    }

    #[test]
    fn a_call_of_which_nothing_is_heard_is_forgotten_after_four_hours() {
        let (mut live, now) = (LiveCalls::default(), Instant::now());
        live.learn(Recorded::Late, call(1), None, now);
        live.learn(Recorded::OnDisk, call(2), None, now + 239 * MINUTE);
        assert_eq!(live.heard(&id(1)), Some(now));
        live.learn(Recorded::OnDisk, call(2), None, now + 240 * MINUTE);
        assert_eq!(live.heard(&id(1)), None);
    }

    #[test]
    fn the_memory_is_bounded_and_those_longest_silent_go_first() {
        let (mut live, now) = (LiveCalls::default(), Instant::now());
        let later = |n: usize| now + Duration::from_millis(u64::try_from(n).unwrap());
        for n in 0..2 * MOST {
            live.learn(Recorded::Late, call(n), None, later(n));
            assert!(live.calls.len() <= MOST);
        }
        assert_eq!(live.call(&id(0)), None);
        assert_eq!(live.call(&id(2 * MOST - 1)), Some(call(2 * MOST - 1)));
        for n in 0..2 * ANSWERS {
            let step = format!("hold-{n}");
            live.learn(Recorded::Late, call(1), Some((&step, "")), later(n));
        }
        assert_eq!(live.calls[&id(1)].unwritten.len(), ANSWERS);
        assert_eq!(live.unwritten(&id(1), "hold-0"), None);
        assert_eq!(live.unwritten(&id(1), "hold-15").as_deref(), Some(""));
    }

    #[test]
    fn a_caller_who_is_erased_is_not_in_memory_either() {
        let (mut live, now) = (LiveCalls::default(), Instant::now());
        live.learn(Recorded::Late, call(1), Some(("inbound", CALLER)), now);
        live.forget_caller(&Caller::classify("+491700000091"));
        assert_eq!(live.call(&id(1)), Some(call(1)));
        live.forget_caller(&Caller::classify(CALLER));
        assert_eq!(live.call(&id(1)), None);
        assert_eq!(live.unwritten(&id(1), "inbound"), None);
    }
}
