//! `/routing`: the rule set in force, and what would happen to a caller, and why. No side effects.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::super::listener::RequestId;
use super::calls::called;
use super::customers::Customers;
use super::fields::{CheckedFields, JsonObject};
use super::page::{Data, data};
use super::reads::Reads;
use super::trace::steps;
use crate::audit::Access;
use crate::deadline::Deadline;
use crate::flow::{Calls, Policy, SupposedCall};
use crate::lead::{LeadScore, NotLeadScore, TierName};
use crate::phone::Caller;
use crate::routing::{
    self, Conditions, Course, DialerId, Hours, HoursState, Lookup, RuleAction, RulesetVersion,
    Speech,
};

/// The rule set in force: the first rule that matches wins, and after the last comes the default order.
#[derive(Serialize, ToSchema)]
#[schema(as = Rules)]
pub(super) struct RulesDocument {
    /// Names this content, as calls carry it.
    #[schema(value_type = String)]
    version: RulesetVersion,
    /// Highest score first.
    tiers: Vec<TierDocument>,
    /// In the order in which they are tried.
    rules: Vec<RuleDocument>,
    /// The dialers that are asked where no rule matches, in order.
    #[schema(value_type = Vec<String>)]
    default_order: Vec<DialerId>,
    #[schema(value_type = Option<String>)]
    draft: Option<RulesetVersion>,
    hours: Vec<HoursDocument>,
    /// The tests of the file, with what came of them.
    tests: Vec<RuleTestDocument>,
    /// What somebody should look at, a sentence each.
    lint: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OpeningHours)]
struct HoursDocument {
    #[schema(value_type = String)]
    name: Arc<str>,
    /// `is_open`, and `until` where that changes within 370 days.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    state: HoursState,
    #[schema(value_type = Object)]
    week: Hours,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RuleTest)]
struct RuleTestDocument {
    name: String,
    ok: bool,
    /// What came instead, where it fails.
    message: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Tier)]
struct TierDocument {
    #[schema(value_type = String)]
    name: TierName,
    /// The lowest score of the tier.
    #[schema(value_type = f64)]
    min_score: LeadScore,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
struct RuleDocument {
    #[schema(value_type = String)]
    name: Arc<str>,
    /// What a call must have. A condition that is absent does not restrict the rule; a rule without any takes every call.
    #[schema(value_type = Object)]
    when: Conditions,
    /// One of `dialers` (a name, or several with their weights, in the order in which they are asked), `number`, `reject`, `message`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    action: RuleAction,
    /// Whoever talked to the caller last goes first, where that is at most so many seconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer_last_answered_s: Option<u64>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    speech: Speech,
}

/// The rules by which calls are decided now.
#[utoipa::path(
    get,
    path = "/routing/rules",
    responses((status = 200, description = "The rule set in force.", body = Data<RulesDocument>))
)]
pub(super) async fn rules(_: Viewer, State(customers): State<Customers>) -> Response {
    let policy = customers.policies.current();
    data(RulesDocument::of(&policy, customers.clock.now()))
}

impl RulesDocument {
    fn of(policy: &Policy, now: Timestamp) -> Self {
        let ruleset = &policy.ruleset;
        let tests = policy.rule_tests.iter().map(|test| {
            let message = test.failure(ruleset);
            RuleTestDocument {
                name: test.name.clone(),
                ok: message.is_none(),
                message,
            }
        });
        let tiers = ruleset.tiers.iter().map(|tier| TierDocument {
            name: tier.name.clone(),
            min_score: tier.min_score,
        });
        let rules = ruleset.rules.iter().map(|rule| RuleDocument {
            name: rule.name.clone(),
            when: rule.when.clone(),
            action: rule.action.clone(),
            prefer_last_answered_s: rule.prefer_last_answered_s,
            speech: rule.speech.clone(),
        });
        let hours = ruleset.hours.iter().map(|(name, hours)| HoursDocument {
            name: name.clone(),
            state: hours.state(now),
            week: hours.clone(),
        });
        let draft = policy.draft.as_ref().map(|draft| draft.rules.version());
        Self {
            hours: hours.collect(),
            draft: draft.cloned(),
            version: ruleset.version().clone(),
            tiers: tiers.collect(),
            rules: rules.collect(),
            default_order: ruleset.default_order(),
            tests: tests.collect(),
            lint: policy.lint.clone(),
        }
    }
}

/// What is to be explained.
#[derive(Serialize, ToSchema)]
pub(super) struct ExplainRequest {
    /// The caller, as Twilio sends it: `+4930123456`, `sip:user@host`, `anonymous`. May be left out where a score is supposed.
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "+491700000090"
    )]
    from: Option<String>,
    /// The number of ours that is called.
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = "^(\\+[1-9][0-9]{6,14}|sip:[A-Za-z0-9._-]+@[A-Za-z0-9.-]+)$"
    )]
    to: Option<String>,
    /// Supposes that Braze says this lead score.
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    score: Option<f64>,
    /// Asks Braze for the score. Not together with `score`.
    lookup: Option<bool>,
    /// Supposes that the call comes at this time, ISO 8601.
    #[schema(value_type = Option<String>, format = DateTime, min_length = 20, max_length = 64, example = "2026-11-26T12:00:00Z")]
    at: Option<String>,
}

/// What would happen, and why: as `switchboard explain --json` prints it.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation)]
pub(super) struct ExplanationDocument {
    /// The caller, masked; null where none was named.
    caller: Option<String>,
    #[schema(value_type = Option<String>)]
    tier: Option<TierName>,
    #[schema(value_type = Option<f64>)]
    score: Option<LeadScore>,
    /// The rule that matches; null for the default.
    rule: Option<String>,
    reason: routing::Reason,
    /// What becomes of the call: `{is: dialers|number|reject|message|closed}`.
    #[schema(value_type = Object)]
    course: Course,
    /// Where the rule puts the call through to a number: that number.
    number: Option<String>,
    #[schema(value_type = String)]
    ruleset: RulesetVersion,
    /// The dialers that would be asked, in order.
    #[schema(value_type = Vec<String>)]
    plan: Vec<DialerId>,
    /// The dialers left out, each with the smallest change that would put it into the plan.
    #[schema(value_type = Vec<Object>)]
    skipped: Value,
    /// The decision chain: each step as data, and `text` as a sentence.
    #[schema(value_type = Vec<Object>)]
    trace: Vec<Value>,
}

/// What is supposed of the call.
struct Supposed {
    /// Somebody who hides the number, where only the score is of interest.
    caller: Caller,
    is_named: bool,
    called: Option<String>,
    score: Option<LeadScore>,
    lookup: bool,
    at: Option<Timestamp>,
}

/// What would happen to this caller now, and why: by the rules in force and the dialers as they are. No side effects.
#[utoipa::path(
    post,
    path = "/routing/explain",
    request_body = ExplainRequest,
    responses((status = 200, description = "The decision and its chain.", body = Data<ExplanationDocument>))
)]
pub(super) async fn explain(
    Viewer(holder): Viewer,
    State(customers): State<Customers>,
    State(reads): State<Reads>,
    State(calls): State<Calls>,
    Extension(request_id): Extension<RequestId>,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let supposed = read(&body)?;
    let policy = customers.policies.current();
    let now = customers.clock.instant();
    let lookup = if supposed.lookup {
        let shown = Access::CustomerShown {
            by: holder.name.to_string(),
            phone: supposed.caller.masked(),
            revealed: false,
            request_id: request_id.to_string(),
        };
        reads.record(shown).await?;
        let deadline = Deadline::starting(now, policy.budget);
        let braze = &customers.braze;
        let looked_up = braze.look_up_for_person(&supposed.caller, deadline).await;
        looked_up.lookup
    } else {
        Lookup::supposed(&supposed.caller, supposed.score)
    };
    let at = supposed.at.unwrap_or_else(|| customers.clock.now());
    let call = SupposedCall {
        caller: supposed.is_named.then(|| supposed.caller.clone()),
        called: supposed.called,
        at,
    };
    let facts = calls.suppose(&call).await.with_lookup(at, lookup);
    let decision = routing::decide(&policy.ruleset, &facts);
    let trace = steps(&decision, &facts);
    let number = policy.ruleset.number(decision.rule.as_deref());
    Ok(data(ExplanationDocument {
        number: number.map(|number| number.as_str().to_owned()),
        caller: supposed.is_named.then(|| supposed.caller.masked()),
        tier: decision.tier,
        score: decision.score,
        rule: decision.rule,
        reason: decision.reason,
        course: decision.course,
        ruleset: decision.ruleset,
        plan: decision.plan.dialers,
        skipped: serde_json::to_value(&decision.plan.skipped).unwrap_or_default(),
        trace,
    }))
}

fn read(body: &JsonObject) -> Result<Supposed, ApiError> {
    let mut fields = CheckedFields::default();
    let is_named = body.has("from");
    let from = if is_named {
        body.text("from", 256)
    } else {
        Ok("anonymous")
    };
    let from = from.and_then(|from| {
        let is_one_word = from.bytes().all(|byte| byte.is_ascii_graphic());
        is_one_word
            .then_some(from)
            .ok_or_else(|| "must be a number like +4930123456, without spaces".to_owned())
    });
    let from = fields.check("from", from);
    let to = body
        .has("to")
        .then(|| body.text("to", 256).and_then(called));
    let to = to.and_then(|to| fields.check("to", to));
    let score = body.0.get("score").filter(|score| !score.is_null());
    let score = score.and_then(|score| {
        let score = score.as_f64().and_then(LeadScore::new);
        fields.check("score", score.ok_or_else(|| NotLeadScore.to_string()))
    });
    let lookup = match body.0.get("lookup") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(true)) if score.is_some() => {
            Err("cannot be used together with score".to_owned())
        }
        Some(Value::Bool(lookup)) => Ok(*lookup),
        Some(_) => Err("must be true or false".to_owned()),
    };
    let lookup = fields.check("lookup", lookup);
    let at = body.has("at").then(|| {
        let parsed = body.text("at", 64).map(str::parse);
        parsed?.map_err(|_| "must be a time like 2026-11-26T12:00:00Z".to_owned())
    });
    let at = at.and_then(|at| fields.check("at", at));
    match (from, lookup, fields.is_right()) {
        (Some(from), Some(lookup), true) => Ok(Supposed {
            caller: Caller::classify(from),
            is_named,
            called: to.map(ToOwned::to_owned),
            score,
            lookup,
            at,
        }),
        _ => Err(fields.failure("The call cannot be explained")),
    }
}
