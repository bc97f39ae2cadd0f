//! `switchboard explain`: what would happen to this caller, and why. No side effects.

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;

use super::{Exit, Global, load, output, runtime};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::routing::{
    self, Availability, BreakerView, CallFacts, Decision, DialerId, DialerView, Lookup,
    LookupSkipped, Profile, RulesetVersion, Skipped, Source, Trace,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The caller, as Twilio sends it: +4930123456, sip:user@host, anonymous
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// The number of ours that is called
    #[arg(long)]
    to: Option<String>,
    /// Suppose that Braze says this lead score
    #[arg(long, conflicts_with = "lookup", allow_hyphen_values = true)]
    score: Option<String>,
    /// Ask Braze for the score
    #[arg(long)]
    lookup: bool,
    /// Suppose that the call comes at this time (ISO 8601)
    #[arg(long)]
    at: Option<Timestamp>,
}

/// The `--json` document.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    caller: &'a str,
    called: Option<&'a str>,
    tier: Option<&'a TierName>,
    score: Option<LeadScore>,
    rule: Option<&'a str>,
    reason: &'static str,
    ruleset: &'a RulesetVersion,
    plan: &'a [DialerId],
    skipped: &'a [Skipped],
    trace: Vec<ExplainedStep<'a>>,
}

#[derive(Debug, Serialize)]
struct ExplainedStep<'a> {
    #[serde(flatten)]
    step: &'a routing::Step,
    text: String,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let score = match arguments
        .score
        .as_deref()
        .map(|text| (text, LeadScore::parse(text)))
    {
        Some((text, None)) => {
            output::complain(&format!(
                "--score {text} is not a number; write one like 72"
            ));
            return Ok(Exit::Usage);
        }
        Some((_, score)) => score,
        None => None,
    };
    let caller = Caller::classify(&arguments.from);
    let lookup = if arguments.lookup {
        ask_braze(&loaded.config, &caller)?
    } else {
        supposed(&caller, score)
    };
    if !arguments.lookup && score.is_none() && caller.number().is_some() {
        output::complain(
            "supposing a caller that Braze does not know; --lookup asks Braze, --score N supposes a score",
        );
    }
    let facts = CallFacts {
        at: arguments.at.unwrap_or_else(|| Clock::system().now()),
        lookup,
        dialers: loaded.config.ruleset.dialers.iter().map(willing).collect(),
    };
    let decision = routing::decide(&loaded.config.ruleset, &facts);
    if global.json {
        output::document(&explanation(arguments, &decision))?;
    } else {
        print(&decision);
    }
    Ok(Exit::Done)
}

/// A dialer as it is supposed here: taking calls. A running server knows better.
fn willing(dialer: &DialerId) -> DialerView {
    DialerView {
        dialer: dialer.clone(),
        drained: false,
        breaker: BreakerView::Closed,
        availability: Availability::Unknown,
        callers_first: None,
    }
}

fn supposed(caller: &Caller, score: Option<LeadScore>) -> Lookup {
    match (caller, score) {
        (_, Some(score)) => Lookup::Known {
            profile: Profile {
                score: Some(score),
                tier: None,
            },
            source: Source::Fetched,
            age_ms: 0,
            because: None,
        },
        (
            Caller::Number(_)
            | Caller::Sip {
                number: Some(_), ..
            },
            None,
        ) => Lookup::Unknown {
            source: Source::Fetched,
            age_ms: 0,
        },
        (Caller::Withheld, None) => Lookup::Skipped {
            reason: LookupSkipped::Withheld,
        },
        (Caller::National(_), None) => Lookup::Skipped {
            reason: LookupSkipped::NotE164,
        },
        (Caller::Client(_), None) => Lookup::Skipped {
            reason: LookupSkipped::Client,
        },
        (Caller::Sip { number: None, .. }, None) => Lookup::Skipped {
            reason: LookupSkipped::SipUser,
        },
        (Caller::Unreadable(_), None) => Lookup::Skipped {
            reason: LookupSkipped::Unreadable,
        },
    }
}

fn ask_braze(config: &Config, caller: &Caller) -> anyhow::Result<Lookup> {
    let clock = Clock::system();
    runtime()?.block_on(async {
        let braze = app::braze(config, &clock).context("cannot set up the Braze client")?;
        let deadline = crate::deadline::Deadline::starting(clock.instant(), config.routing.budget);
        Ok(braze.look_up(caller, deadline).await.lookup)
    })
}

fn explanation<'a>(arguments: &'a Arguments, decision: &'a Decision) -> Explanation<'a> {
    Explanation {
        caller: &arguments.from,
        called: arguments.to.as_deref(),
        tier: decision.tier.as_ref(),
        score: decision.score,
        rule: decision.rule.as_deref(),
        reason: decision.reason.as_str(),
        ruleset: &decision.ruleset,
        plan: &decision.plan.dialers,
        skipped: &decision.plan.skipped,
        trace: steps(&decision.trace),
    }
}

fn steps(trace: &Trace) -> Vec<ExplainedStep<'_>> {
    trace
        .0
        .iter()
        .map(|step| ExplainedStep {
            step,
            text: step.sentence(),
        })
        .collect()
}

fn print(decision: &Decision) {
    for sentence in decision.trace.sentences() {
        output::line(&sentence);
    }
    let plan: Vec<&str> = decision.plan.dialers.iter().map(DialerId::as_str).collect();
    let plan = if plan.is_empty() {
        "nobody".to_owned()
    } else {
        plan.join(", then ")
    };
    output::line("");
    output::line(&format!("Plan: {plan}."));
    for skipped in &decision.plan.skipped {
        output::line(&format!("Not {}: {}.", skipped.dialer, skipped.change));
    }
    output::line(&format!("Rule set {}.", decision.ruleset));
}
