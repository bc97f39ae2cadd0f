//! The state machine of one handoff: an outcome in, the next thing to do out.
//!
//! One retry at the same dialer where it is safe and worth it, then the next dialer of the plan. A request that was sent and whose
//! outcome is unknown is never repeated blindly. When the budget ends before a dialer has confirmed, the call is connected to the
//! dialer being asked: its line rings without the note, and the certainty says so. The same happens where no dialer takes the call and one
//! of them refuses this request only, or limits how often it may be asked: its agents may be free all the same.

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
    pub dialer: DialerId,
    /// The longest one request may take.
    pub timeout: Duration,
    /// When a request may be repeated.
    pub repeat: Repeat,
    /// Only its line can ring: it limits how often it may be asked, or has refused this request.
    pub line_only: bool,
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
    Confirmed,
    /// It did not answer in time: its line rings, perhaps without the note.
    Unconfirmed,
    /// It refused the request, or was not asked because it limits our requests, and is otherwise well: its line rings without the note.
    Unannounced,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Send {
        dialer: DialerId,
        /// 1, or 2 for the one retry.
        attempt: u8,
        /// Wait this long first, because the dialer asked for it.
        after: Duration,
        /// What the request may take.
        timeout: Duration,
    },
    Connect {
        dialer: DialerId,
        certainty: Certainty,
        /// What the dialer calls the handoff.
        reference: Option<String>,
    },
    /// Every dialer has refused, or there was none.
    GiveUp,
}

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
        let Some(current) = self.candidates.get_mut(self.position) else {
            return Next::GiveUp;
        };
        let failure = outcome.failure();
        current.line_only = failure.is_some_and(|failure| failure.is_of_one_request());
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
        let following = self.candidates.iter().skip(self.position + 1);
        let n = following.filter(|candidate| !candidate.line_only).count();
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
        let rest = self.candidates.iter().skip(self.position);
        self.position += rest.take_while(|candidate| candidate.line_only).count();
        let Some(current) = self.candidates.get(self.position) else {
            return self.connect_unannounced();
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
        connect(self.candidates.get(self.position), Certainty::Unconfirmed)
    }

    /// Nobody takes the call: the first line of the plan that can ring without the note does.
    fn connect_unannounced(&self) -> Next {
        let line = self.candidates.iter().find(|candidate| candidate.line_only);
        connect(line, Certainty::Unannounced)
    }
}

fn connect(candidate: Option<&Candidate>, certainty: Certainty) -> Next {
    match candidate {
        None => Next::GiveUp,
        Some(candidate) => Next::Connect {
            dialer: candidate.dialer.clone(),
            certainty,
            reference: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Failure;
    use super::*;

    const AMPLE: Duration = Duration::from_millis(1_950);

    fn run(plan: &[(&str, Repeat)]) -> Run {
        let candidate = |(name, repeat): &(&str, Repeat)| Candidate {
            dialer: DialerId::new(name),
            timeout: Duration::from_millis(700),
            repeat: *repeat,
            line_only: name.starts_with('l'),
        };
        Run::new(plan.iter().map(candidate).collect())
    }

    fn outcome(text: &str) -> Outcome {
        let of = |kind| Failure::of(kind);
        match text {
            "accepted" => Outcome::Accepted {
                reference: Some("r1".to_owned()),
            },
            "401" => Outcome::Refused {
                failure: Failure::with_status(FailureKind::Unauthorized, 401),
            },
            "422" => Outcome::Refused {
                failure: Failure::with_status(FailureKind::Rejected, 422),
            },
            "500" => Outcome::Retryable {
                failure: Failure::with_status(FailureKind::ServerError, 500),
                retry_after_ms: None,
            },
            "429 300" => Outcome::Retryable {
                failure: Failure::with_status(FailureKind::RateLimited, 429),
                retry_after_ms: Some(300),
            },
            "429 1000" => Outcome::Retryable {
                failure: Failure::with_status(FailureKind::RateLimited, 429),
                retry_after_ms: Some(1_000),
            },
            "refused" => Outcome::Retryable {
                failure: of(FailureKind::Connect),
                retry_after_ms: None,
            },
            "408" => Outcome::Retryable {
                failure: Failure::with_status(FailureKind::ServerError, 408),
                retry_after_ms: None,
            },
            "200 error" => Outcome::Refused {
                failure: Failure::with_status(FailureKind::Rejected, 200),
            },
            "302" => Outcome::Refused {
                failure: Failure::with_status(FailureKind::Rejected, 302),
            },
            "timeout" => Outcome::Unknown {
                failure: of(FailureKind::Timeout),
            },
            "reset" => Outcome::Unknown {
                failure: of(FailureKind::Reset),
            },
            other => panic!("no such outcome: {other}"),
        }
    }

    fn word(next: &Next) -> String {
        match next {
            Next::Send {
                dialer, attempt, ..
            } => format!("{dialer}#{attempt}"),
            Next::Connect {
                dialer,
                certainty: Certainty::Confirmed,
                ..
            } => format!("connect {dialer}"),
            Next::Connect {
                dialer,
                certainty: Certainty::Unconfirmed,
                ..
            } => format!("connect {dialer} anyway"),
            Next::Connect {
                dialer,
                certainty: Certainty::Unannounced,
                ..
            } => format!("ring {dialer}"),
            Next::GiveUp => "give up".to_owned(),
        }
    }

    /// Plays `outcomes` against a plan with ample time and compares what the run asked for.
    fn check(plan: &[(&str, Repeat)], outcomes: &[&str], expected: &[&str]) {
        let mut run = run(plan);
        let mut asked = vec![word(&run.start(AMPLE))];
        asked.extend(
            outcomes
                .iter()
                .map(|text| word(&run.next(&outcome(text), AMPLE))),
        );
        assert_eq!(asked, expected, "plan {plan:?}, outcomes {outcomes:?}");
    }

    const A: (&str, Repeat) = ("a", Repeat::Idempotent);
    const B: (&str, Repeat) = ("b", Repeat::Idempotent);
    const H: (&str, Repeat) = ("h", Repeat::UnlessSent);

    #[test]
    fn each_outcome_leads_to_one_next_step() {
        check(&[A, B], &["accepted"], &["a#1", "connect a"]);
        check(
            &[A, B],
            &["500", "500", "accepted"],
            &["a#1", "a#2", "b#1", "connect b"],
        );
        check(&[A, B], &["500", "accepted"], &["a#1", "a#2", "connect a"]);
        check(&[A, B], &["401", "accepted"], &["a#1", "b#1", "connect b"]);
        check(
            &[A, B],
            &["422", "500", "500"],
            &["a#1", "b#1", "b#2", "ring a"],
        );
        check(
            &[A, B],
            &["timeout", "timeout", "accepted"],
            &["a#1", "a#2", "b#1", "connect b"],
        );
        check(
            &[A, B],
            &["429 300", "accepted"],
            &["a#1", "a#2", "connect a"],
        );
        check(
            &[A, B],
            &["429 1000", "accepted"],
            &["a#1", "b#1", "connect b"],
        );
        check(
            &[A],
            &["timeout", "timeout"],
            &["a#1", "a#2", "connect a anyway"],
        );
        check(
            &[H, B],
            &["timeout", "accepted"],
            &["h#1", "b#1", "connect b"],
        );
        check(&[H, B], &["reset", "401"], &["h#1", "b#1", "give up"]);
        check(
            &[H, B],
            &["refused", "500", "accepted"],
            &["h#1", "h#2", "b#1", "connect b"],
        );
        check(&[H], &["timeout"], &["h#1", "connect h anyway"]);
        check(&[], &[], &["give up"]);
    }

    /// Its line is called `l`: it limits how often it may be asked.
    const L: (&str, Repeat) = ("l", Repeat::Idempotent);

    #[test]
    fn where_nobody_takes_the_call_the_line_of_a_dialer_that_refused_only_this_request_rings() {
        for refusal in ["422", "200 error", "429 1000"] {
            check(&[A], &[refusal], &["a#1", "ring a"]);
            check(
                &[A, B],
                &[refusal, "accepted"],
                &["a#1", "b#1", "connect b"],
            );
            check(&[A, B], &[refusal, refusal], &["a#1", "b#1", "ring a"]);
            check(&[A, B], &["401", refusal], &["a#1", "b#1", "ring b"]);
        }
        check(&[A], &["429 300", "429 300"], &["a#1", "a#2", "ring a"]);
        for outage in ["401", "302"] {
            check(&[A], &[outage], &["a#1", "give up"]);
        }
        for outage in ["500", "408", "refused"] {
            check(&[A], &[outage, outage], &["a#1", "a#2", "give up"]);
        }
        // What it says last counts.
        check(&[A], &["429 300", "500"], &["a#1", "a#2", "give up"]);
    }

    #[test]
    fn a_dialer_that_limits_our_requests_is_not_asked_and_its_line_rings_where_nobody_else_takes_the_call()
     {
        check(&[L], &[], &["ring l"]);
        check(&[L, A], &["accepted"], &["a#1", "connect a"]);
        check(&[A, L], &["401"], &["a#1", "ring l"]);
        check(&[L, A, L], &["422"], &["a#1", "ring l"]);
        let mut run = run(&[A, L]);
        let Next::Send { timeout, .. } = run.start(Duration::from_millis(600)) else {
            panic!("must send")
        };
        assert_eq!(timeout, Duration::from_millis(600), "it takes no time");
    }

    #[test]
    fn a_retry_is_made_only_with_100_ms_to_spend() {
        let ms = Duration::from_millis;
        for (plan, left, asked) in [
            (&[A][..], 100, "a#2"),
            (&[A], 99, "give up"),
            (&[A, B], 300, "a#2"),
            (&[A, B], 299, "b#1"),
        ] {
            let mut run = run(plan);
            run.start(AMPLE);
            let next = run.next(&outcome("500"), ms(left));
            assert_eq!(word(&next), asked, "{left} ms");
        }
        let mut run = run(&[A]);
        run.start(AMPLE);
        let next = run.next(&outcome("429 300"), ms(399));
        assert_eq!(word(&next), "ring a", "waiting is taken off first");
    }

    #[test]
    fn with_little_time_left_the_next_dialer_goes_before_a_retry() {
        let ms = Duration::from_millis;
        let mut run = run(&[A, B]);
        let Next::Send { timeout, .. } = run.start(ms(450)) else {
            panic!("must send")
        };
        assert_eq!(timeout, ms(250));
        let next = run.next(&outcome("timeout"), ms(200));
        assert_eq!(
            next,
            Next::Send {
                dialer: DialerId::new("b"),
                attempt: 1,
                after: Duration::ZERO,
                timeout: ms(200)
            }
        );
        assert_eq!(
            word(&run.next(&outcome("timeout"), Duration::ZERO)),
            "connect b anyway"
        );
    }

    #[test]
    fn when_nothing_is_left_the_dialer_being_asked_is_connected() {
        let mut run = run(&[A, B]);
        assert_eq!(word(&run.start(Duration::ZERO)), "connect a anyway");
    }

    proptest::proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn a_run_ends_after_at_most_two_requests_a_dialer(
            n in 0_usize..5,
            outcomes in proptest::collection::vec(0_usize..8, 12),
            spend in proptest::collection::vec(0_u64..700, 12),
        ) {
            let names = ["a", "b", "c", "d", "e"];
            let plan: Vec<_> = names.iter().take(n).map(|name| (*name, Repeat::Idempotent)).collect();
            let kinds = ["accepted", "401", "422", "500", "429 300", "refused", "timeout", "reset"];
            let mut run = run(&plan);
            let mut left = AMPLE;
            let mut sent: Vec<String> = Vec::new();
            let mut next = run.start(left);
            for (kind, spent) in outcomes.iter().zip(spend) {
                let Next::Send { timeout, after, .. } = &next else { break };
                proptest::prop_assert!(*timeout + *after <= left);
                proptest::prop_assert!(!sent.contains(&word(&next)), "{} twice", word(&next));
                sent.push(word(&next));
                left = left.saturating_sub(Duration::from_millis(spent).min(*timeout) + *after);
                next = run.next(&outcome(kinds[*kind]), left);
            }
            let ended = !matches!(next, Next::Send { .. });
            proptest::prop_assert!(ended, "still sending: {next:?}");
            proptest::prop_assert!(n > 0 || next == Next::GiveUp);
        }
    }
}
