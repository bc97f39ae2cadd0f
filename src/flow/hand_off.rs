//! Performs what the pure handoff run asks for, and writes intent and outcome around every request.

use std::time::{Duration, Instant};

use super::record::{Recorded, Recorder};
use super::stopwatch::Stopwatch;
use crate::audit::{Attempt, Event, HandoffIntended, Record};
use crate::call::CallId;
use crate::clock::Clock;
use crate::dialer::{Dialer, Fleet, HandedOff, Note};
use crate::handoff::{Candidate, Certainty, Failure, FailureKind, Next, Outcome, Run};
use crate::routing::{DialerId, Reason};

/// How long an intent may take to reach the disk before the request leaves anyway.
const INTENT_PATIENCE: Duration = Duration::from_millis(100);
/// A request is not sent with less time than this.
const MIN_REQUEST: Duration = Duration::from_millis(10);

/// Tells dialers about calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HandOff {
    clock: Clock,
    fleet: Fleet,
    recorder: Recorder,
}

/// What a handoff came to, and the records that are not written yet.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) result: HandoffResult,
    pub(super) unwritten: Vec<Record>,
    /// How many requests were sent.
    pub(super) n_requests: usize,
    /// The dialers that did not take the call, with the last word of each.
    pub(crate) refusals: Vec<(DialerId, Failure)>,
    /// Whether the call is in the ledger by now.
    pub(super) opening: Opening,
    /// The store failed or was late when the call was opened.
    pub(super) unclaimed: bool,
}

impl Handed {
    fn nobody_yet(opening: Opening, unwritten: Vec<Record>) -> Self {
        Self {
            result: HandoffResult::GiveUp,
            unwritten,
            n_requests: 0,
            refusals: Vec::new(),
            opening,
            unclaimed: false,
        }
    }

    fn connect(self, dialer: DialerId, certainty: Certainty, reference: Option<String>) -> Self {
        Self {
            result: HandoffResult::Connect {
                dialer,
                certainty,
                reference,
            },
            ..self
        }
    }

    fn repeat(self) -> Self {
        Self {
            result: HandoffResult::Repeat,
            ..self
        }
    }
}

impl Handed {
    /// Why the call goes where it goes when nobody has taken it: those who were asked refused, or else what was decided.
    pub(super) fn reason_or(&self, decided: Reason) -> Reason {
        if self.n_requests > 0 {
            Reason::AllDialersRefused
        } else {
            decided
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandoffResult {
    /// Connect the call to this dialer.
    Connect {
        dialer: DialerId,
        certainty: Certainty,
        reference: Option<String>,
    },
    GiveUp,
    /// The ledger knows this call: somebody else has answered it.
    Repeat,
}

/// How the first commit of a handoff treats the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The ledger does not know it: the first record opens the call.
    NewCall,
    /// The call is in the ledger.
    KnownCall,
}

impl HandOff {
    /// Hands off to `fleet`, recording with `recorder`.
    pub fn new(clock: Clock, fleet: Fleet, recorder: Recorder) -> Self {
        Self {
            clock,
            fleet,
            recorder,
        }
    }

    /// Asks the dialers of `plan` in order until one takes the call. `unwritten` are the records that come before.
    pub(super) async fn run(
        &self,
        plan: &[DialerId],
        note: &Note,
        stopwatch: &Stopwatch,
        opening: Opening,
        unwritten: Vec<Record>,
    ) -> Handed {
        let candidates = plan.iter().filter_map(|dialer| self.candidate(dialer));
        let mut run = Run::new(candidates.collect());
        let mut handed = Handed::nobody_yet(opening, unwritten);
        let mut next = run.start(stopwatch.remaining());
        loop {
            let (dialer, attempt, after, share) = match next {
                Next::Send {
                    dialer,
                    attempt,
                    after,
                    timeout,
                } => (dialer, attempt, after, timeout),
                Next::Connect {
                    dialer,
                    certainty,
                    reference,
                } => return handed.connect(dialer, certainty, reference),
                Next::GiveUp => return handed,
            };
            let ends_at = stopwatch.now() + after + share;
            if !after.is_zero() {
                self.clock.wait(after).await;
            }
            let intent = self.intent(&note.call_id, &dialer, attempt, share);
            if self.commit_intent(&mut handed, intent, stopwatch).await == Recorded::Repeat {
                return handed.repeat();
            }
            let handed_off = self.ask(&dialer, note, attempt, ends_at).await;
            handed.n_requests += usize::from(!handed_off.exchanges.is_empty());
            if let Some(failure) = handed_off.outcome.failure() {
                handed.refusals.retain(|(who, _)| *who != dialer);
                handed.refusals.push((dialer.clone(), failure));
            }
            next = run.next(&handed_off.outcome, stopwatch.remaining());
            let concluded = self.concluded(note, dialer, attempt, handed_off);
            handed.unwritten.extend(concluded);
        }
    }

    fn candidate(&self, dialer: &DialerId) -> Option<Candidate> {
        let dialer = self.fleet.get(dialer)?;
        Some(Candidate {
            dialer: dialer.id().clone(),
            timeout: dialer.timeout(),
            repeat: dialer.repeat(),
            line_only: self
                .fleet
                .may_not_be_asked(dialer.id(), self.clock.instant()),
        })
    }

    fn intent(&self, call_id: &CallId, dialer: &DialerId, attempt: u8, share: Duration) -> Record {
        let timeout_ms = u64::try_from(share.as_millis()).unwrap_or(u64::MAX);
        let intended = HandoffIntended {
            dialer: dialer.clone(),
            attempt,
            timeout_ms,
        };
        Record::of_call(self.clock.now(), call_id, Event::HandoffIntended(intended))
    }

    /// The intent is on disk before the request leaves; only a store that fails or is late is not waited for.
    async fn commit_intent(
        &self,
        handed: &mut Handed,
        intent: Record,
        stopwatch: &Stopwatch,
    ) -> Recorded {
        let mut records = std::mem::take(&mut handed.unwritten);
        records.push(intent);
        let patience = INTENT_PATIENCE.min(stopwatch.remaining());
        let opening = std::mem::replace(&mut handed.opening, Opening::KnownCall);
        let recorded = self.recorder.record(opening, records, patience).await;
        handed.unclaimed |= opening == Opening::NewCall && recorded == Recorded::Late;
        recorded
    }

    async fn ask(
        &self,
        dialer: &DialerId,
        note: &Note,
        attempt: u8,
        ends_at: Instant,
    ) -> HandedOff {
        let now = self.clock.instant();
        let timeout = ends_at.saturating_duration_since(now);
        if timeout < MIN_REQUEST {
            let failure = Failure::of(FailureKind::NoTime);
            return HandedOff::not_sent(Outcome::Retryable {
                failure,
                retry_after_ms: None,
            });
        }
        let admitted = self
            .fleet
            .get(dialer)
            .filter(|_| self.fleet.admit(dialer, now));
        let Some(dialer) = admitted else {
            let kind = if self.fleet.limits_requests(dialer) {
                FailureKind::RateLimited
            } else {
                FailureKind::BreakerOpen
            };
            return HandedOff::not_sent(Outcome::Refused {
                failure: Failure::of(kind),
            });
        };
        self.send(
            &dialer,
            &Note {
                attempt,
                ..note.clone()
            },
            timeout,
        )
        .await
    }

    async fn send(&self, dialer: &Dialer, note: &Note, timeout: Duration) -> HandedOff {
        let handed_off = dialer.hand_off(note, timeout).await;
        if let Some(failure) = handed_off.outcome.failure() {
            tracing::warn!(event = "handoff.failed", dialer = %dialer.id(), attempt = note.attempt, reason = %failure, "the dialer did not take the call");
        }
        handed_off
    }

    fn concluded(
        &self,
        note: &Note,
        dialer: DialerId,
        attempt: u8,
        handed_off: HandedOff,
    ) -> Vec<Record> {
        let now = self.clock.now();
        let shown = handed_off.shown_outcome(&note.caller);
        let HandedOff { outcome, exchanges } = handed_off;
        let change = match outcome.failure() {
            Some(Failure {
                kind: FailureKind::BreakerOpen | FailureKind::NoTime,
                ..
            }) => None,
            Some(_) | None => self.fleet.report(&dialer, &outcome, self.clock.instant()),
        };
        let attempt = Attempt {
            dialer,
            attempt,
            outcome: shown,
            exchanges,
        };
        let mut records = vec![Record::of_call(
            now,
            &note.call_id,
            Event::HandoffConcluded(Box::new(attempt)),
        )];
        records.extend(change.map(|change| Record::of_service(now, change.into_event())));
        records
    }
}
