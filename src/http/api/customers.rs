//! `/customers/{phone_number}`: what Braze knows of a number, and forgetting it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::{Admin, Viewer};
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::super::listener::RequestId;
use super::fields::{self, CheckedFields};
use super::page::{Data, data};
use super::reads::Reads;
use super::reveal::Reveal;
use crate::audit::Access;
use crate::braze::Braze;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::flow::Policies;
use crate::lead::{LeadScore, TierName, Tiers};
use crate::phone::{Caller, E164};
use crate::routing::{Lookup, LookupUnavailable, Profile, Source};

/// Looks numbers up for people. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Customers {
    pub clock: Clock,
    pub braze: Braze,
    /// Which score is which tier.
    pub policies: Policies,
}

/// What Braze knows of a number.
#[derive(Serialize, ToSchema)]
#[schema(as = Customer)]
pub(super) struct CustomerDocument {
    /// The number, masked: who asks has it.
    #[schema(example = "+**********90")]
    phone: String,
    /// False where Braze has no profile for the number.
    known: bool,
    /// What Braze calls the person; all but the last two characters are hidden unless `reveal=true`.
    #[schema(example = "••••••17")]
    external_id: Option<String>,
    /// The lead score.
    #[schema(value_type = Option<f64>)]
    score: Option<LeadScore>,
    /// The class by the rules in force.
    #[schema(value_type = Option<String>)]
    tier: Option<TierName>,
    /// The class as Braze names it, where it does.
    named_tier: Option<String>,
    /// `fresh` or `stale` from the cache, or `fetched` just now.
    #[schema(value_type = String, example = "fresh")]
    source: Source,
    /// How old the answer is, in milliseconds.
    age_ms: u64,
    /// When Braze said so.
    fetched_at: Option<Timestamp>,
}

/// What Braze knows of a number: from the cache, else asked now. It is written down who asked.
#[utoipa::path(
    get,
    path = "/customers/{phone_number}",
    params(("phone_number" = String, Path, description = "A number with its country code; `00`, spaces and dashes are understood.", pattern = "^\\+[1-9][0-9]{6,14}$", example = "+491700000090"), Reveal),
    responses(
        (status = 200, description = "What is known.", body = Data<CustomerDocument>),
        (status = 429, description = "Braze is asked as often as callers leave room for; try again in a moment.", body = ErrorDocument),
        (status = 502, description = "Braze does not answer as it should; `details.reason` says how.", body = ErrorDocument),
    )
)]
pub(super) async fn one(
    Viewer(holder): Viewer,
    State(customers): State<Customers>,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    Path(phone): Path<String>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let phone = read(&phone)?;
    let reveal = fields.flag("reveal");
    fields.verdict()?;
    let policy = customers.policies.current();
    let deadline = Deadline::starting(customers.clock.instant(), policy.budget);
    let caller = Caller::Number(phone.clone());
    let looked_up = customers.braze.look_up_for_person(&caller, deadline).await;
    let cached = customers.braze.cached(&phone).await;
    let (profile, source, age_ms) = match looked_up.lookup {
        Lookup::Known {
            profile,
            source,
            age_ms,
            ..
        } => (Some(profile), source, age_ms),
        Lookup::Unknown { source, age_ms } => (None, source, age_ms),
        Lookup::Unavailable {
            reason: LookupUnavailable::LimiterEmpty,
        } => {
            let message = "Braze is asked for callers first, and they leave no room now; try again in a moment.";
            return Err(ApiError::new(ErrorKind::RateLimit, message));
        }
        Lookup::Unavailable { reason } => {
            let reason = serde_json::to_value(reason).unwrap_or_default();
            let message = "Braze does not answer, and nothing is remembered of the number; try again in a moment.";
            return Err(ApiError::new(ErrorKind::Integration, message).with("reason", reason));
        }
        Lookup::Skipped { .. } => return Err(no_number()),
    };
    let tiers = &policy.ruleset.tiers;
    let score = profile.as_ref().and_then(|profile| profile.score);
    let named = profile.as_ref().and_then(|profile| profile.tier.clone());
    let tier = tier_of(tiers, profile.as_ref());
    // Nobody sees a person unrecorded.
    let shown = Access::CustomerShown {
        by: holder.name.to_string(),
        phone: phone.masked(),
        revealed: reveal,
        request_id: request_id.to_string(),
    };
    reads.record_first(shown).await?;
    let external_id = looked_up.external_id;
    Ok(data(CustomerDocument {
        phone: phone.masked(),
        known: profile.is_some(),
        external_id: external_id.map(|id| if reveal { id } else { masked(&id) }),
        score,
        tier,
        named_tier: named,
        source,
        age_ms,
        fetched_at: cached
            .filter(|cached| !cached.is_dropped())
            .map(|cached| cached.fetched_at),
    }))
}

/// Forgets what is cached of a number; the next call asks Braze. Forgetting what is not known is no failure. It is written down.
#[utoipa::path(
    delete,
    path = "/customers/{phone_number}",
    params(("phone_number" = String, Path, description = "A number with its country code; `00`, spaces and dashes are understood.", pattern = "^\\+[1-9][0-9]{6,14}$", example = "+491700000090")),
    responses((status = 204, description = "It is forgotten."))
)]
pub(super) async fn forget(
    Admin(holder): Admin,
    State(customers): State<Customers>,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    Path(phone): Path<String>,
) -> Result<Response, ApiError> {
    let phone = read(&phone)?;
    let forgotten = Access::CustomerForgotten {
        by: holder.name.to_string(),
        phone: phone.masked(),
        request_id: request_id.to_string(),
    };
    customers.braze.invalidate(&phone).await;
    let deleted = reads.store.delete_profile(phone).await;
    deleted.map_err(ApiError::store)?;
    reads.record(forgotten).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The class of a profile: as Braze names it, else by its score.
pub(super) fn tier_of(tiers: &Tiers, profile: Option<&Profile>) -> Option<TierName> {
    let named = profile.and_then(|profile| tiers.named(profile.tier.as_deref()?));
    let tier = named.or_else(|| tiers.of_score(profile?.score?));
    tier.map(|tier| tier.name.clone())
}

/// An id with all but its last two characters hidden; a short one is hidden whole.
fn masked(id: &str) -> String {
    let length = id.chars().count();
    let shown = if length > 4 { 2 } else { 0 };
    let hidden = std::iter::repeat_n('•', length - shown);
    hidden.chain(id.chars().skip(length - shown)).collect()
}

fn read(text: &str) -> Result<E164, ApiError> {
    fields::number(text).ok_or_else(no_number)
}

fn no_number() -> ApiError {
    let wrong = "must be a number with its country code, like +4930123456";
    let message = "The path does not name a phone number.";
    ApiError::new(ErrorKind::Validation, message).with("phone_number", wrong)
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn an_id_shows_its_end_and_a_short_one_nothing() {
        let cases = [
            ("customer-00017", "••••••••••••17"),
            ("abcde", "•••de"),
            ("abcd", "••••"),
            ("ä€1234", "••••34"),
            ("", ""),
        ];
        for (id, expected) in cases {
            assert_eq!(masked(id), expected);
        }
    }
}
