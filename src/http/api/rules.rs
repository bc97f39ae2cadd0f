//! `/routing/rules`: the rule set in force.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Viewer;
use super::page::{Data, data};
use crate::flow::Policies;
use crate::lead::LeadScore;
use crate::routing::RulesInForce;

/// The rule set in force: the first rule that matches wins, and after the last comes the default order.
#[derive(Serialize, ToSchema)]
#[schema(as = Rules)]
pub(super) struct RulesDocument {
    /// Names this content, as calls carry it.
    version: String,
    /// Highest score first.
    tiers: Vec<TierDocument>,
    /// In the order in which they are tried.
    rules: Vec<RuleDocument>,
    /// The dialers that are asked where no rule matches, in order.
    default_order: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Tier)]
struct TierDocument {
    name: String,
    /// The lowest score of the tier.
    #[schema(value_type = f64)]
    min_score: LeadScore,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
struct RuleDocument {
    name: String,
    when: ConditionsDocument,
    /// In the order in which they are asked.
    dialers: Vec<String>,
}

/// What a call must have. A condition that is absent does not restrict the rule; a rule without any takes every call.
#[derive(Serialize, ToSchema)]
#[schema(as = Conditions)]
struct ConditionsDocument {
    /// One of these tiers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tier: Vec<String>,
}

/// The rules by which calls are decided now.
#[utoipa::path(
    get,
    path = "/routing/rules",
    tag = "routing",
    responses((status = 200, description = "The rule set in force.", body = Data<RulesDocument>))
)]
pub(super) async fn rules(_: Viewer, State(policies): State<Policies>) -> Response {
    let policy = policies.current();
    data(RulesDocument::of(&policy.ruleset))
}

impl RulesDocument {
    fn of(ruleset: &RulesInForce) -> Self {
        let tiers = ruleset.tiers.iter().map(|tier| TierDocument {
            name: tier.name.to_string(),
            min_score: tier.min_score,
        });
        let rules = ruleset.rules.iter().map(|rule| RuleDocument {
            name: rule.name.clone(),
            when: ConditionsDocument {
                tier: texts(&rule.tiers),
            },
            dialers: texts(&rule.dialers),
        });
        Self {
            version: ruleset.version().to_string(),
            tiers: tiers.collect(),
            rules: rules.collect(),
            default_order: texts(&ruleset.default_order()),
        }
    }
}

fn texts(names: &[impl ToString]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
