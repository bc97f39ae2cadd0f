//! `/routing/draft` and `/routing/publish`: rules that decide beside those in force, and rules that come into force.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::{FreshAdmin, Operator, Viewer};
use super::super::error::{ApiError, ErrorDocument};
use super::super::listener::RequestId;
use super::fields::{CheckedFields, JsonObject};
use super::page::{Data, List, PageParams, PageRequest, data};
use super::reads::Reads;
use super::settings::not_applied;
use super::trace::steps;
use crate::audit::{CallDecided, DraftDiffers, Event, Kind};
use crate::call::CallId;
use crate::flow::{
    Applied, ConfigRequest, Draft, NewRules, Policies, Publication, ReloadProblem, Reloads,
};
use crate::routing::{
    CallFacts, Course, Decision, DialerId, Reason, RulesetChange, RulesetVersion,
};
use crate::store::{RecordsAsked, StoredRecord};

/// The largest text of rules, with what stands around it.
pub(super) const LARGEST: usize = 512 * 1024;
const REFUSED: &str = "The rules are refused; nothing has changed.";

/// A draft that decides beside the rules in force.
#[derive(Serialize, ToSchema)]
#[schema(as = SavedDraft)]
pub(super) struct SavedDocument {
    /// Names the content of its rule set.
    version: String,
    /// What somebody should look at: `{key, message, hint, line, column}`.
    #[schema(value_type = Vec<Object>)]
    warnings: Vec<ReloadProblem>,
}

/// Saves a draft of the rules: the text of a whole document of `[routing]`, as TOML.
///
/// It decides every call that arrives from now on beside the rules in force, without effect.
#[utoipa::path(
    put,
    path = "/routing/draft",
    request_body(content = String, content_type = "application/toml", description = "At most 512 KiB."),
    responses(
        (status = 200, description = "It decides from now on.", body = Data<SavedDocument>),
        (status = 400, description = "Something is wrong with it; `details.problems` says everything.", body = ErrorDocument),
        (status = 409, description = "The configuration names a draft of its own, or this process was started without a file.", body = ErrorDocument),
    )
)]
pub(super) async fn save(
    Operator(holder): Operator,
    State(reloads): State<Reloads>,
    text: String,
) -> Result<Response, ApiError> {
    let wanted = ConfigRequest::Draft(Some(text));
    let applied = reloads.ask(holder.as_asking(), wanted).await;
    let applied = applied.map_err(|error| not_applied(error, REFUSED))?;
    Ok(data(SavedDocument {
        version: applied.ruleset,
        warnings: applied.warnings,
    }))
}

/// Takes the draft away. Where there is none, nothing happens.
#[utoipa::path(
    delete,
    path = "/routing/draft",
    responses(
        (status = 204, description = "There is none any more."),
        (status = 409, description = "The configuration names a draft of its own, or this process was started without a file.", body = ErrorDocument),
    )
)]
pub(super) async fn remove(
    Operator(holder): Operator,
    State(reloads): State<Reloads>,
) -> Result<Response, ApiError> {
    let by = holder.as_asking();
    let removed = reloads.ask(by, ConfigRequest::Draft(None)).await;
    removed.map_err(|error| not_applied(error, REFUSED))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What somebody who edits the rules begins with.
#[derive(Serialize, ToSchema)]
#[schema(as = RulesText)]
pub(super) struct TextDocument {
    /// `[routing]` as TOML: that of the draft, else what is in force.
    text: String,
    /// The version in force, from which whoever publishes starts.
    #[schema(value_type = String)]
    based_on: RulesetVersion,
    #[schema(value_type = Option<String>)]
    draft: Option<RulesetVersion>,
    changes: Vec<RulesetChange>,
}

/// The text of the draft, or of the rules in force where there is none. It may name callers, so it is written down who reads it.
#[utoipa::path(
    get,
    path = "/routing/draft",
    responses(
        (status = 200, description = "The text, and how the draft differs from what is in force.", body = Data<TextDocument>),
        (status = 409, description = "This process was started without a file, or the file cannot be read.", body = ErrorDocument),
    )
)]
pub(super) async fn text(
    Operator(holder): Operator,
    State(reads): State<Reads>,
    State(policies): State<Policies>,
    State(reloads): State<Reloads>,
    Extension(request_id): Extension<RequestId>,
) -> Result<Response, ApiError> {
    let read = reloads.ask(format!("key {}", holder.name), ConfigRequest::Text);
    let read = read.await.map_err(|error| not_applied(error, REFUSED))?;
    let route = "/routing/draft";
    reads.numbers(true, 0, route, &holder, &request_id).await?;
    let policy = policies.current();
    let draft = policy.draft.as_ref().map(|draft| &draft.rules);
    Ok(data(TextDocument {
        text: read.text,
        based_on: policy.ruleset.version().clone(),
        draft: draft.map(|draft| draft.version().clone()),
        changes: draft.map_or_else(Vec::new, |draft| policy.ruleset.changes_to(draft)),
    }))
}

/// A call that would have gone elsewhere by the draft.
#[derive(Serialize, ToSchema)]
#[schema(as = DraftDifference)]
pub(super) struct DifferenceDocument {
    #[schema(value_type = Option<String>)]
    call_id: Option<CallId>,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// By the rules in force; null where the record of that is gone.
    #[schema(nullable)]
    live: Option<DecidedDocument>,
    /// By the draft.
    #[schema(nullable)]
    draft: Option<DecidedDocument>,
}

/// Where a call goes, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = Decided)]
struct DecidedDocument {
    #[schema(value_type = String)]
    ruleset: RulesetVersion,
    /// The rule that matches; null for the default.
    rule: Option<String>,
    reason: Reason,
    /// What becomes of the call: `{is, …}`.
    #[schema(value_type = Object)]
    course: Course,
    /// The dialers to ask, in order.
    #[schema(value_type = Vec<String>)]
    plan: Vec<DialerId>,
    /// The decision chain: each step as data, and `text` as a sentence.
    #[schema(value_type = Vec<Object>)]
    trace: Vec<Value>,
}

/// What came of the draft so far, with a page of the calls that would have gone elsewhere.
#[derive(Serialize, ToSchema)]
#[schema(as = DraftDifferences)]
pub(super) struct DifferencesDocument {
    /// The version of the draft.
    #[schema(value_type = String)]
    version: RulesetVersion,
    /// Since when this process compares it.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Calls that it decided.
    calls: u64,
    /// Those of them that would have gone elsewhere.
    different: u64,
    /// The same as a sentence.
    #[schema(example = "41 of 1203 calls since 2026-12-01 14:02 UTC would have gone elsewhere.")]
    text: String,
    #[serde(flatten)]
    page: List<DifferenceDocument>,
}

/// What the draft would have done otherwise, newest first.
#[utoipa::path(
    get,
    path = "/routing/draft/differences",
    params(PageParams),
    responses(
        (status = 200, description = "The figures, and a page of calls with both explanations.", body = DifferencesDocument),
        (status = 404, description = "There is no draft.", body = ErrorDocument),
    )
)]
pub(super) async fn differences(
    _: Viewer,
    State(reads): State<Reads>,
    State(policies): State<Policies>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let page = PageRequest::read(&mut fields);
    fields.verdict()?;
    let policy = policies.current();
    let draft = policy.draft.as_ref();
    let draft = draft.ok_or_else(|| ApiError::not_found("There is no draft of the rules."))?;
    let wanted = RecordsAsked {
        kind: Some(Kind::DraftDiffers),
        from: Some(draft.since),
        ..RecordsAsked::default()
    };
    let mut rows = reads.records(wanted, page.part()).await?;
    let mut found = Vec::with_capacity(rows.rows.len());
    for record in std::mem::take(&mut rows.rows) {
        found.push(reads.difference(record).await?);
    }
    let page = page.document(&rows, found);
    Ok(axum::Json(DifferencesDocument::new(draft, page)).into_response())
}

impl DifferencesDocument {
    fn new(draft: &Draft, page: List<DifferenceDocument>) -> Self {
        let counts = draft.counts();
        Self {
            version: draft.rules.version().clone(),
            since: draft.since,
            calls: counts.calls,
            different: counts.different,
            text: format!(
                "{} of {} calls since {} UTC would have gone elsewhere.",
                counts.different,
                counts.calls,
                draft.since.strftime("%Y-%m-%d %H:%M")
            ),
            page,
        }
    }
}

impl Reads {
    /// A call that would have gone elsewhere, with the decision by which it went.
    async fn difference(&self, record: StoredRecord) -> Result<DifferenceDocument, ApiError> {
        let records = match &record.call_id {
            Some(call) => self.records_of_call(call).await?,
            None => Vec::new(),
        };
        let live = records.iter().find_map(|record| match record.event() {
            Ok(Event::CallDecided(decided)) => {
                let CallDecided {
                    decision, facts, ..
                } = *decided;
                Some(DecidedDocument::new(decision, &facts))
            }
            _ => None,
        });
        let draft = match record.event() {
            Ok(Event::DraftDiffers(differs)) => {
                let DraftDiffers {
                    decision, facts, ..
                } = *differs;
                Some(DecidedDocument::new(decision, &facts))
            }
            _ => None,
        };
        Ok(DifferenceDocument {
            call_id: record.call_id,
            at: record.at,
            live,
            draft,
        })
    }
}

impl DecidedDocument {
    fn new(decision: Decision, facts: &CallFacts) -> Self {
        Self {
            trace: steps(&decision, facts),
            ruleset: decision.ruleset,
            rule: decision.rule,
            reason: decision.reason,
            course: decision.course,
            plan: decision.plan.dialers,
        }
    }
}

/// Rules that are to come into force.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishRequest {
    /// The whole text of the file of `[routing]`, as TOML, at most 512 KiB. Either this or `version`.
    text: Option<String>,
    /// A version that was in force before.
    #[schema(pattern = "^[0-9a-f]{12}$")]
    version: Option<String>,
    /// The version that is in force, as whoever publishes knows it.
    #[schema(pattern = "^[0-9a-f]{12}$")]
    based_on: String,
}

/// Writes rules into the file of `[routing]` and brings them into force.
///
/// Takes an admin's key, or a session that began in the last 5 minutes; `[server] edit_rules = true`; and `[routing] file`. The text of before
/// stays beside the file as `….former`.
#[utoipa::path(
    post,
    path = "/routing/publish",
    request_body = PublishRequest,
    responses(
        (status = 200, description = "They are in force.", body = Data<Applied>),
        (status = 400, description = "Something is wrong with them; `details.problems` says everything.", body = ErrorDocument),
        (status = 403, description = "`[server] edit_rules` is not set, or the sign-in is too old.", body = ErrorDocument),
        (status = 409, description = "Other rules are in force than `based_on`, the files on the disk are not those in force, or `[routing] file` is not set.", body = ErrorDocument),
    )
)]
pub(super) async fn publish(
    FreshAdmin(holder): FreshAdmin,
    State(reloads): State<Reloads>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let publication = read(&JsonObject::parse(&body)?)?;
    let by = holder.as_asking();
    let applied = reloads.ask(by, ConfigRequest::Publish(publication)).await;
    applied
        .map(data)
        .map_err(|error| not_applied(error, REFUSED))
}

fn read(body: &JsonObject) -> Result<Publication, ApiError> {
    let mut fields = CheckedFields::default();
    let version = |name: &'static str| {
        let text = body.text(name, 12)?;
        RulesetVersion::parse(text).ok_or_else(|| "must be 12 hexadecimal digits".to_owned())
    };
    let based_on = fields.check("based_on", version("based_on"));
    let rules = match body.0.get("text") {
        Some(Value::String(_)) if body.has("version") => {
            Err("cannot be used together with version".to_owned())
        }
        Some(Value::String(text)) => Ok(NewRules::Text(text.clone())),
        None | Some(Value::Null) if body.has("version") => {
            let version = fields.check("version", version("version"));
            version.map(NewRules::Version).ok_or_else(String::new)
        }
        None | Some(Value::Null) => Err("is missing".to_owned()),
        Some(_) => Err("must be a string".to_owned()),
    };
    let rules = match rules {
        Err(said) if said.is_empty() => None,
        rules => fields.check("text", rules),
    };
    match (rules, based_on) {
        (Some(rules), Some(based_on)) => Ok(Publication {
            rules,
            based_on: Some(based_on),
        }),
        _ => Err(fields.failure("The rules cannot be published")),
    }
}
