//! `/routing/rulesets`: the rule sets that were in force, and what differs between them.

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::fields::CheckedFields;
use super::page::{Data, List, PageParams, PageRequest, data};
use super::reads::Reads;
use crate::routing::{Ruleset, RulesetChange, RulesetVersion};
use crate::store::RulesetPeriod;

/// A rule set, whole.
#[derive(Serialize, ToSchema)]
#[schema(as = Ruleset)]
pub(super) struct RulesetDocument {
    #[schema(value_type = String)]
    version: RulesetVersion,
    /// As its record in the log has it: `tiers`, `rules`, `default_dialer`, `dialers`, `attributes`, `limits`, `hours`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    ruleset: Ruleset,
}

/// What differs between two rule sets.
#[derive(Serialize, ToSchema)]
#[schema(as = RulesetDiff)]
pub(super) struct DiffDocument {
    #[schema(value_type = String)]
    from: RulesetVersion,
    #[schema(value_type = String)]
    to: RulesetVersion,
    /// Empty where the two are the same.
    changes: Vec<RulesetChange>,
}

/// The rule sets that were in force, newest first. One that came into force again stands there again.
#[utoipa::path(
    get,
    path = "/routing/rulesets",
    params(PageParams),
    responses((status = 200, description = "A page of the times during which rule sets were in force.", body = List<RulesetPeriod>))
)]
pub(super) async fn list(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let page = PageRequest::read(&mut fields);
    fields.verdict()?;
    let rows = reads.ask(reads.store.ruleset_periods(page.part())).await?;
    Ok(page.list(rows, |period| period))
}

/// A rule set that is or was in force.
#[utoipa::path(
    get,
    path = "/routing/rulesets/{version}",
    params(("version" = String, Path, description = "The version, 12 hexadecimal digits.")),
    responses((status = 200, description = "The rule set.", body = Data<RulesetDocument>))
)]
pub(super) async fn one(
    _: Viewer,
    State(reads): State<Reads>,
    Path(version): Path<String>,
) -> Result<Response, ApiError> {
    Ok(data(reads.ruleset(&version).await?))
}

/// What differs between two rule sets that are or were in force: by rule, tier, hours and limits, as data and as sentences.
#[utoipa::path(
    get,
    path = "/routing/rulesets/{a}/diff/{b}",
    params(
        ("a" = String, Path, description = "The version to begin with."),
        ("b" = String, Path, description = "The version to compare it with."),
    ),
    responses((status = 200, description = "What is different in the second one.", body = Data<DiffDocument>))
)]
pub(super) async fn diff(
    _: Viewer,
    State(reads): State<Reads>,
    Path((a, b)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (from, to) = (reads.ruleset(&a).await?, reads.ruleset(&b).await?);
    Ok(data(DiffDocument {
        changes: from.ruleset.changes_to(&to.ruleset),
        from: from.version,
        to: to.version,
    }))
}

impl Reads {
    /// The rule set of this version. What cannot be a version is that of none.
    pub(super) async fn ruleset(&self, version: &str) -> Result<RulesetDocument, ApiError> {
        let unknown = || ApiError::not_found("There is no such rule set in the log.");
        let version = RulesetVersion::parse(version).ok_or_else(unknown)?;
        let ruleset = self.ask(self.store.ruleset(version.clone())).await?;
        Ok(RulesetDocument {
            version,
            ruleset: ruleset.ok_or_else(unknown)?,
        })
    }
}
