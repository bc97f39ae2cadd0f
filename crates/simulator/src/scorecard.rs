//! What drills came to, for people and as JSON: what callers heard, how long it took, which incidents told of it, which promises were broken.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::twilio::{CallResult, Outcome};

#[derive(Debug, Serialize)]
pub struct Scorecard {
    pub ok: bool,
    /// The time that was supposed.
    pub at: String,
    pub budget_ms: u128,
    pub drills: Vec<Score>,
}

/// Of one fault.
#[derive(Debug, Default, Serialize)]
pub struct Score {
    pub fault: String,
    pub ok: bool,
    /// What callers heard in the end, and how many.
    pub heard: BTreeMap<String, usize>,
    /// The longest that a call took in phone time, with its talk.
    pub longest_s: u64,
    /// How long the first answers took, in ascending order.
    pub first_answers_ms: Vec<u128>,
    pub incidents: Vec<ToldIncident>,
    /// The promises that were broken, a sentence each.
    pub broken: Vec<String>,
}

/// An incident that opened.
#[derive(Debug, Serialize)]
pub struct ToldIncident {
    pub kind: &'static str,
    pub subject: String,
    pub cause: String,
    /// Messages that were sent of its opening.
    pub told: usize,
    /// Messages that were sent of its end.
    pub told_of_the_end: usize,
    pub resolved: bool,
}

impl Score {
    pub fn new(fault: &str) -> Self {
        Self {
            fault: fault.to_owned(),
            ok: true,
            ..Self::default()
        }
    }

    /// A promise, and what is said where it is not kept.
    pub fn require(&mut self, is_kept: bool, otherwise: &str) {
        self.ok &= is_kept;
        if !is_kept && !self.broken.iter().any(|known| known == otherwise) {
            self.broken.push(otherwise.to_owned());
        }
    }

    /// A call in which `heard` was heard in the end, where the same caller hears `well` on a good day; its first answer was due `within` so long,
    /// and took as many times longer as `times` says.
    pub fn count(
        &mut self,
        call: &CallResult,
        (heard, well): (&str, Option<&String>),
        within: Duration,
        times: u32,
    ) {
        *self.heard.entry(heard.to_owned()).or_default() += 1;
        self.longest_s = self.longest_s.max(call.phone_time.as_secs());
        let is_served = matches!(call.outcome, Outcome::Talked { .. });
        let is_as_ever = well.is_none_or(|well| well == heard);
        let lost = format!("callers heard {heard} and reached nobody");
        self.require(is_served || is_as_ever, &lost);
        let first_answer = call.first_answer / times;
        self.first_answers_ms.push(first_answer.as_millis());
        self.first_answers_ms.sort_unstable();
        self.require(first_answer <= within, "answers came after the budget");
    }

    /// One of the `expected` kinds has to be among those that were found.
    pub fn judge_incidents(&mut self, found: Vec<ToldIncident>, expected: &[&str]) {
        let of_it = |one: &&ToldIncident| expected.contains(&one.kind);
        let mut wanted = found.iter().filter(of_it).peekable();
        if wanted.peek().is_none() {
            self.require(expected.is_empty(), "no incident opened");
        } else {
            // What is over before a message of it could leave is told by that of its end.
            let is_told = wanted.any(|one| one.told + one.told_of_the_end > 0);
            self.require(is_told, "nobody was told of it");
        }
        for ToldIncident {
            kind,
            told,
            told_of_the_end,
            resolved,
            ..
        } in &found
        {
            let open = format!("{kind} was still open after the repair");
            self.require(*resolved, &open);
            let is_told = *told == 0 || *told_of_the_end > 0;
            let untold = format!("nobody was told of the end of {kind}");
            self.require(!resolved || is_told, &untold);
        }
        self.incidents = found;
    }

    fn lines(&self) -> Vec<String> {
        let n = self.first_answers_ms.len();
        let nth = |idx: usize| self.first_answers_ms.get(idx).copied().unwrap_or_default();
        let (half, most) = (nth(n / 2), nth(n.saturating_sub(1)));
        let verdict = if self.ok { "kept" } else { "BROKEN" };
        let fault = &self.fault;
        let heard = self.heard.iter().map(|(what, n)| format!("{n} × {what}"));
        let heard = heard.collect::<Vec<_>>().join(", ");
        let longest_s = self.longest_s;
        let mut lines = vec![
            format!(
                "{fault:<34} {verdict:<6}  {n} calls, answered in {half} ms, at most {most} ms"
            ),
            format!("    heard: {heard}; the longest call took {longest_s} s"),
        ];
        lines.extend(self.incidents.iter().map(|one| {
            let ToldIncident {
                kind,
                subject,
                told,
                ..
            } = one;
            let of = if subject.is_empty() {
                String::new()
            } else {
                format!(" of {subject}")
            };
            let end = if one.resolved {
                "resolved"
            } else {
                "still open"
            };
            format!("    incident {kind}{of}: {told} told, {end}")
        }));
        lines.extend(
            self.broken
                .iter()
                .map(|broken| format!("    BROKEN: {broken}")),
        );
        lines
    }
}

impl Scorecard {
    pub fn new(at: String, budget_ms: u128, drills: Vec<Score>) -> Self {
        Self {
            ok: drills.iter().all(|drill| drill.ok),
            at,
            budget_ms,
            drills,
        }
    }

    /// As people read it.
    pub fn lines(&self) -> Vec<String> {
        let Self { at, budget_ms, .. } = self;
        let first =
            format!("at {at}, with a budget of {budget_ms} ms; everything outside was a stand-in");
        let n_broken = self.drills.iter().filter(|drill| !drill.ok).count();
        let last = format!(
            "{} drills; promises were broken in {n_broken}",
            self.drills.len()
        );
        let drills = self.drills.iter().flat_map(Score::lines);
        std::iter::once(first).chain(drills).chain([last]).collect()
    }
}
