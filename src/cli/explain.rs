//! `switchboard explain`: what would happen to this caller, and why. No side effects.

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::frame::{Exit, Global, errln, load, outln, runtime};
use crate::admin::{self, ControlRequest};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::{SupposedCall, SupposedFacts};
use crate::lead::{LeadScore, NotLeadScore, TierName};
use crate::phone::{Caller, E164};
use crate::routing::{
    self, Course, Decision, DialerId, Lists, Lookup, RulesInForce, RulesetVersion, Skipped,
};

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    /// The caller, as Twilio sends it: +4930123456, sip:user@host, anonymous
    #[arg(long, allow_hyphen_values = true, required_unless_present = "score")]
    from: Option<String>,
    /// The number of ours that is called
    #[arg(long)]
    to: Option<String>,
    /// Suppose that Braze says this lead score
    #[arg(long, conflicts_with = "lookup", allow_hyphen_values = true)]
    score: Option<String>,
    /// Ask Braze for the score
    #[arg(long)]
    lookup: bool,
    /// Suppose that the call comes at this time: 19:00, "tomorrow 19:00", "2026-11-26 19:00" (in the time zone of [routing]), or ISO 8601
    #[arg(long)]
    at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Explanation<'a> {
    caller: Option<&'a str>,
    called: Option<&'a str>,
    tier: Option<&'a TierName>,
    score: Option<LeadScore>,
    rule: Option<&'a str>,
    reason: &'static str,
    /// What becomes of the call: `dialers`, `number`, `reject`, `message`, `closed`.
    course: &'a Course,
    /// Where the rule puts the call through to a number: that number.
    number: Option<&'a str>,
    ruleset: &'a RulesetVersion,
    plan: &'a [DialerId],
    skipped: &'a [Skipped],
    trace: Vec<ExplainedStep<'a>>,
}

#[derive(Debug, Serialize)]
struct ExplainedStep<'a> {
    #[serde(flatten)]
    step: &'a routing::Step,
    text: &'a str,
}

pub(super) fn run(arguments: &ExplainArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let score = arguments.score.as_deref();
    let score = match score.map(|text| (text, LeadScore::parse(text))) {
        Some((text, None)) => {
            errln!("--score {text} is no lead score: it {NotLeadScore}, like 72");
            return Ok(Exit::Usage);
        }
        Some((_, score)) => score,
        None => None,
    };
    let now = Clock::system().now();
    let at = match arguments.at.as_deref() {
        None => now,
        Some(text) => {
            let Some(at) = moment(text, now, &loaded.config.routing.time_zone) else {
                errln!(
                    "--at {text} is no time; write one like 19:00, \"tomorrow 19:00\" or 2026-11-26T19:00:00Z"
                );
                return Ok(Exit::Usage);
            };
            at
        }
    };
    // Where only the score is of interest, nobody in particular calls.
    let caller = Caller::classify(arguments.from.as_deref().unwrap_or("anonymous"));
    let lookup = if arguments.lookup {
        ask_braze(&loaded.config, &caller)?
    } else {
        Lookup::supposed(&caller, score)
    };
    if !arguments.lookup && score.is_none() && caller.number().is_some() {
        errln!(
            "supposing a caller that Braze does not know; --lookup asks Braze, --score N supposes a score"
        );
    }
    let rules: RulesInForce = loaded.config.ruleset.clone().into();
    let facts = supposed(&loaded.config, &rules, arguments, at).with_lookup(at, lookup);
    let decision = routing::decide(&rules, &facts);
    let sentences = decision.sentences(&facts);
    let number = rules.number(decision.rule.as_deref());
    let shown = Explanation {
        number: number.map(E164::as_str),
        ..explanation(arguments, &decision, &sentences)
    };
    let zone = &loaded.config.routing.time_zone;
    global.print(&shown, |shown| {
        let local: Vec<String> = sentences.iter().map(|text| in_zone(text, zone)).collect();
        print(&decision, &local, shown.number, zone);
    })?;
    Ok(Exit::Done)
}

/// What the running server knows of such a call; where none runs, all dialers are supposed to be well and nobody to have called before, which is
/// said.
fn supposed(
    config: &Config,
    rules: &RulesInForce,
    arguments: &ExplainArguments,
    at: Timestamp,
) -> SupposedFacts {
    let request = ControlRequest::Suppose {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        at,
    };
    let asked = admin::ask(&config.storage.path, &request, |_| {});
    let known = asked
        .ok()
        .and_then(|document| serde_json::from_value(document).ok());
    known.unwrap_or_else(|| {
        errln!(
            "no running server was asked: all dialers are supposed to be well and to take calls"
        );
        let call = SupposedCall {
            caller: arguments.from.as_deref().map(Caller::classify),
            called: arguments.to.clone(),
            at,
        };
        let lists = Lists::of_definitions(&config.lists);
        SupposedFacts::alone(rules, &lists, &call)
    })
}

/// A moment as people write it: `2026-11-26T12:00:00Z`, `2026-11-26 19:00`, `19:00`, `tomorrow 19:00`; without an offset, in `zone`.
/// A moment as people write it, in their zone.
pub(super) fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let today = now.to_zoned(zone.clone()).date();
    let of_day = |date: Date, time: &str| Some(date.to_datetime(time.trim().parse::<Time>().ok()?));
    let civil = match text.split_once([' ', 'T']) {
        None => of_day(today, text),
        Some(("today", time)) => of_day(today, time),
        Some(("tomorrow", time)) => of_day(today.tomorrow().ok()?, time),
        Some((date, time)) => of_day(date.parse().ok()?, time),
    };
    Some(civil?.to_zoned(zone.clone()).ok()?.timestamp())
}

fn ask_braze(config: &Config, caller: &Caller) -> anyhow::Result<Lookup> {
    let clock = Clock::system();
    runtime()?.block_on(async {
        let braze = app::braze(config, &clock).context("cannot set up the Braze client")?;
        let deadline = crate::deadline::Deadline::starting(clock.instant(), config.routing.budget);
        Ok(braze.look_up(caller, deadline).await.lookup)
    })
}

fn explanation<'a>(
    arguments: &'a ExplainArguments,
    decision: &'a Decision,
    sentences: &'a [String],
) -> Explanation<'a> {
    let steps = decision.trace.0.iter().zip(sentences);
    Explanation {
        caller: arguments.from.as_deref(),
        called: arguments.to.as_deref(),
        tier: decision.tier.as_ref(),
        score: decision.score,
        rule: decision.rule.as_deref(),
        reason: decision.reason.as_str(),
        course: &decision.course,
        number: None,
        ruleset: &decision.ruleset,
        plan: &decision.plan.dialers,
        skipped: &decision.plan.skipped,
        trace: steps
            .map(|(step, text)| ExplainedStep { step, text })
            .collect(),
    }
}

/// The sentence with its times as they are read in `zone`.
fn in_zone(sentence: &str, zone: &TimeZone) -> String {
    let local = |word: &str| {
        let time = word.trim_end_matches([' ', ';', '.', ',']);
        let at: Option<Timestamp> = time.parse().ok();
        match at.map(|at| at.to_zoned(zone.clone())) {
            Some(at) => word.replacen(time, &at.strftime("%Y-%m-%d %H:%M %Z").to_string(), 1),
            None => word.to_owned(),
        }
    };
    sentence.split_inclusive(' ').map(local).collect()
}

fn print(decision: &Decision, sentences: &[String], number: Option<&str>, zone: &TimeZone) {
    for sentence in sentences {
        outln!("{sentence}");
    }
    let plan: Vec<&str> = decision.plan.dialers.iter().map(DialerId::as_str).collect();
    outln!("");
    if decision.course == Course::Dialers {
        let plan = if plan.is_empty() {
            "nobody".to_owned()
        } else {
            plan.join(", then ")
        };
        outln!("Plan: {plan}.");
    }
    if let Some(number) = number {
        outln!("Number: {number}.");
    }
    for skipped in &decision.plan.skipped {
        let change = in_zone(&skipped.change, zone);
        outln!("Not {}: {change}.", skipped.dialer);
    }
    outln!("Rule set {}.", decision.ruleset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_zone_of_the_floor() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let said = in_zone(
            "office is open until 2026-12-02T17:00:00Z; at 3 it closes.",
            &zone,
        );
        assert_eq!(
            said,
            "office is open until 2026-12-02 18:00 CET; at 3 it closes."
        );
    }

    #[test]
    fn moments_are_read_as_people_write_them_in_the_zone_of_the_floor() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now: Timestamp = "2026-11-30T22:30:00Z".parse().unwrap();
        for (text, at) in [
            ("19:00", "2026-11-30T18:00:00Z"),
            ("today 07:15", "2026-11-30T06:15:00Z"),
            ("tomorrow 19:00", "2026-12-01T18:00:00Z"),
            ("2026-07-01 19:00", "2026-07-01T17:00:00Z"),
            ("2026-07-01T19:00", "2026-07-01T17:00:00Z"),
            ("2026-07-01T19:00:00Z", "2026-07-01T19:00:00Z"),
            ("2026-07-01T19:00:00+05:00", "2026-07-01T14:00:00Z"),
        ] {
            let read = moment(text, now, &zone).map(|at| at.to_string());
            assert_eq!(read.as_deref(), Some(at), "{text}");
        }
        for text in ["", "yesterday", "25:00", "tomorrow", "2026-13-01 19:00"] {
            assert_eq!(moment(text, now, &zone), None, "{text}");
        }
    }
}
