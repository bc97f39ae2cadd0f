//! Where the time of one answer goes.

use std::time::{Duration, Instant};

use crate::audit::Stages;
use crate::call::Stamp;
use crate::clock::Clock;
use crate::deadline::Deadline;

/// How long the record of an answer is waited for when the budget is used up.
const MIN_PATIENCE: Duration = Duration::from_millis(10);

/// Runs from the arrival of a webhook: its deadline and the time its stages took.
#[derive(Clone, Debug)]
pub(super) struct Stopwatch {
    clock: Clock,
    started: Instant,
    budget: Duration,
    stages: Stages,
}

impl Stopwatch {
    pub(super) fn starting(clock: &Clock, budget: Duration) -> Self {
        Self {
            clock: clock.clone(),
            started: clock.instant(),
            budget,
            stages: Stages::default(),
        }
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::starting(self.started, self.budget)
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.instant()
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline().remaining(self.now())
    }

    /// What is left for the record of the answer. Never nothing: a record gets its chance.
    pub(super) fn for_the_record(&self) -> Duration {
        self.deadline().record_share(self.now()).max(MIN_PATIENCE)
    }

    pub(super) fn lookup_took(&mut self, since: Instant) {
        self.stages.lookup_ms = ms(self.now().saturating_duration_since(since));
    }

    pub(super) fn handoff_took(&mut self, since: Instant) {
        self.stages.handoff_ms = ms(self.now().saturating_duration_since(since));
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now().saturating_duration_since(self.started)
    }

    /// The stages so far, with the total up to now.
    pub(super) fn stages(&self) -> Stages {
        Stages {
            total_ms: ms(self.elapsed()),
            ..self.stages
        }
    }

    pub(super) fn within_budget(&self) -> bool {
        self.elapsed() <= self.budget
    }
}

/// Now, on both clocks of the machine.
pub(super) fn stamp(clock: &Clock) -> Stamp {
    Stamp {
        at: clock.now(),
        uptime_ms: u64::try_from(clock.uptime().as_millis()).unwrap_or(u64::MAX),
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
