//! The state machine of one handoff: an outcome in, the next thing to do out.
//!
//! One retry at the same dialer where it is safe and worth it, then the next dialer of the plan. A request that was sent and whose
//! outcome is unknown is never repeated blindly. When the budget ends before a dialer has confirmed, the call is connected to the
//! dialer being asked: its line rings without the note, and the certainty says so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FailureKind, Outcome};
use crate::deadline::{MIN_RETRY, attempt_share};
use crate::routing::DialerId;

/// A retry is not put off longer than this, whatever the dialer asks for (Zendesk: "not inside a call unless <= 500 ms").
const MAX_RETRY_AFTER: Duration = Duration::from_millis(500);

/// One dialer of the plan, with what governs its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which dialer.
    pub dialer: DialerId,
    /// The longest one request may take.
    pub timeout: Duration,
    /// When a request may be repeated.
    pub repeat: Repeat,
}

/// When a request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Also after a timeout: the dialer recognises the repeat.
    Idempotent,
    /// Only where the request cannot have taken effect.
    UnlessSent,
}

/// Whether the dialer had confirmed when the call was connected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It accepted the handoff.
    Confirmed,
    /// It did not answer in time: its line rings, perhaps without the note.
    Unconfirmed,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the request.
    Send {
        /// To this dialer.
        dialer: DialerId,
        /// 1, or 2 for the one retry.
        attempt: u8,
        /// Wait this long first, because the dialer asked for it.
        after: Duration,
        /// What the request may take.
        timeout: Duration,
    },
    /// Connect the call.
    Connect {
        /// To this dialer.
        dialer: DialerId,
        /// Whether it has confirmed.
        certainty: Certainty,
        /// What the dialer calls the handoff.
        reference: Option<String>,
    },
    /// Every dialer has refused, or there was none.
    GiveUp,
}

/// One handoff under way.
#[derive(Clone, Debug)]
pub struct Run {
    candidates: Vec<Candidate>,
    position: usize,
    attempt: u8,
}

impl Run {
    /// Starts with the first of `candidates`.
    pub fn new(candidates: Vec<Candidate>) -> Self {
        Self {
            candidates,
            position: 0,
            attempt: 0,
        }
    }

    /// The first thing to do, with `remaining` of the budget.
    pub fn start(&mut self, remaining: Duration) -> Next {
        self.ask_current(remaining)
    }

    /// What to do after the request that [`Run::start`] or this function asked for has ended.
    pub fn next(&mut self, outcome: &Outcome, remaining: Duration) -> Next {
        let Some(current) = self.candidates.get(self.position) else {
            return Next::GiveUp;
        };
        match outcome {
            Outcome::Accepted { reference } => Next::Connect {
                dialer: current.dialer.clone(),
                certainty: Certainty::Confirmed,
                reference: reference.clone(),
            },
            Outcome::Refused { .. } => self.next_dialer(remaining),
            Outcome::Retryable { .. } => {
                let after = outcome.retry_after().unwrap_or_default();
                self.retry(after, remaining)
                    .unwrap_or_else(|| self.next_dialer(remaining))
            }
            Outcome::Unknown { failure } => {
                let repeatable = current.repeat == Repeat::Idempotent
                    && failure.kind != FailureKind::Interrupted;
                let retry = if repeatable {
                    self.retry(Duration::ZERO, remaining)
                } else {
                    None
                };
                retry.unwrap_or_else(|| self.next_dialer_or_connect(remaining))
            }
        }
    }

    fn n_following(&self) -> u32 {
        let n = self.candidates.len().saturating_sub(self.position + 1);
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    fn retry(&mut self, after: Duration, remaining: Duration) -> Option<Next> {
        let current = self.candidates.get(self.position)?;
        let timeout = attempt_share(
            remaining.saturating_sub(after),
            current.timeout,
            self.n_following(),
        );
        if self.attempt >= 2 || after > MAX_RETRY_AFTER || timeout < MIN_RETRY {
            return None;
        }
        self.attempt = 2;
        Some(Next::Send {
            dialer: current.dialer.clone(),
            attempt: 2,
            after,
            timeout,
        })
    }

    fn next_dialer(&mut self, remaining: Duration) -> Next {
        self.position += 1;
        self.attempt = 0;
        self.ask_current(remaining)
    }

    /// A dialer that may have accepted is connected where no other is left to ask.
    fn next_dialer_or_connect(&mut self, remaining: Duration) -> Next {
        if self.n_following() > 0 {
            self.next_dialer(remaining)
        } else {
            self.connect_unconfirmed()
        }
    }

    fn ask_current(&mut self, remaining: Duration) -> Next {
        let Some(current) = self.candidates.get(self.position) else {
            return Next::GiveUp;
        };
        let timeout = attempt_share(remaining, current.timeout, self.n_following());
        if timeout.is_zero() {
            return self.connect_unconfirmed();
        }
        self.attempt = 1;
        Next::Send {
            dialer: current.dialer.clone(),
            attempt: 1,
            after: Duration::ZERO,
            timeout,
        }
    }

    fn connect_unconfirmed(&self) -> Next {
        match self.candidates.get(self.position) {
            None => Next::GiveUp,
            Some(current) => Next::Connect {
                dialer: current.dialer.clone(),
                certainty: Certainty::Unconfirmed,
                reference: None,
            },
        }
    }
}
