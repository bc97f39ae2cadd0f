//! `/callers/{id}`: a person who called, by a name that says nothing of the number.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::{Admin, Viewer};
use super::super::error::{ApiError, ErrorKind};
use super::super::keys::{Holder, Role};
use super::super::listener::RequestId;
use super::customers::{Customers, tier_of};
use super::fields::CheckedFields;
use super::page::{Data, data};
use super::reads::Reads;
use super::reveal::{Numbers, Reveal};
use crate::audit::Access;
use crate::flow::{Calls, ListEntries};
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::store::{CallFilter, CallerCalls};

/// A person who called.
#[derive(Serialize, ToSchema)]
#[schema(as = Caller)]
pub(super) struct CallerDocument {
    caller_id: String,
    /// The number, masked unless `reveal=true`.
    #[schema(example = "+**********90")]
    caller: String,
    /// How many calls are kept, up to 1,000; `GET /calls?caller_id=` lists all.
    calls: i64,
    /// Those that an agent answered.
    answered: i64,
    last_call_at: Option<Timestamp>,
    /// The dialer that last answered them.
    last_dialer: Option<String>,
    lists: Vec<CallerListDocument>,
    /// The lead score that Braze said last, as far as it is remembered; and the class by the rules in force.
    #[schema(value_type = Option<f64>)]
    score: Option<LeadScore>,
    #[schema(value_type = Option<String>)]
    tier: Option<TierName>,
    /// When Braze said so; null where nothing is remembered.
    fetched_at: Option<Timestamp>,
}

/// A list that a caller is on.
#[derive(Serialize, ToSchema)]
#[schema(as = ListOfCaller)]
struct CallerListDocument {
    name: String,
    /// The entry that puts them there; null where the configuration names the number.
    entry: Option<String>,
    /// From then on the entry does not count any more.
    until: Option<Timestamp>,
}

impl Reads {
    /// Lets an operator search by more digits of a caller than everybody sees, once that is written down.
    pub(super) async fn search_digits(
        &self,
        filter: &CallFilter,
        holder: &Holder,
        request_id: &RequestId,
    ) -> Result<(), ApiError> {
        let telling = filter.caller.as_ref();
        let Some(digits) = telling.filter(|digits| digits.is_telling()) else {
            return Ok(());
        };
        let Holder { name, .. } = holder.clone().with_role(Role::Operator)?;
        let is_new = self.searches.is_new(&name, digits, self.clock.instant());
        let is_new = is_new.ok_or_else(|| {
            let message = "A key searches for 30 different ends of numbers a minute at most; try again in a minute.";
            ApiError::new(ErrorKind::RateLimit, message)
        })?;
        if is_new {
            let searched = Access::NumbersSearched {
                by: name.to_string(),
                request_id: request_id.to_string(),
            };
            self.record_first(searched).await?;
        }
        Ok(())
    }

    /// Who is meant by an id, and what their calls come to.
    pub(super) async fn caller_of(&self, id: &str) -> Result<(Caller, CallerCalls), ApiError> {
        let mut filter = CallFilter::default();
        let row = filter.set("caller_id", id).ok().and(filter.caller_row);
        let found = self.ask(self.store.caller(row.unwrap_or_default())).await?;
        found.ok_or_else(|| ApiError::not_found("There is no such caller."))
    }
}

/// A caller: calls, lists, and what is remembered of them. Nobody outside is asked.
#[utoipa::path(
    get,
    path = "/callers/{id}",
    operation_id = "caller",
    params(("id" = String, Path, description = "The `caller_id` of a call.", pattern = "^[1-9][0-9]{0,17}$", example = "17"), Reveal),
    responses((status = 200, description = "What is known.", body = Data<CallerDocument>))
)]
pub(super) async fn one(
    Viewer(holder): Viewer,
    State(customers): State<Customers>,
    State(entries): State<ListEntries>,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let reveal = fields.flag("reveal");
    fields.verdict()?;
    let (caller, calls) = reads.caller_of(&id).await?;
    let cached = match caller.number() {
        Some(number) => customers.braze.cached(number).await,
        None => None,
    };
    let cached = cached.filter(|cached| !cached.is_dropped());
    let profile = cached.as_ref().map(|cached| &cached.profile);
    let policy = customers.policies.current();
    let on = entries.lists.of(&caller, reads.clock.now());
    let lists = on.iter().map(|name| {
        let entry = caller
            .number()
            .and_then(|number| entries.lists.entry(name, number));
        CallerListDocument {
            name: name.to_string(),
            until: entry.as_ref().and_then(|entry| entry.until),
            entry: entry.map(|entry| entry.id.to_string()),
        }
    });
    let lists = lists.collect();
    let route = "/callers/{id}";
    let shown = reads
        .numbers(reveal, 1, route, &holder, &request_id)
        .await?;
    Ok(data(CallerDocument {
        caller_id: id,
        caller: match shown {
            Numbers::Masked => caller.masked(),
            Numbers::Full => caller.as_text().to_owned(),
        },
        calls: calls.calls,
        answered: calls.answered,
        last_call_at: calls
            .last_at
            .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        last_dialer: calls.last_dialer,
        lists,
        score: profile.and_then(|profile| profile.score),
        tier: tier_of(&policy.ruleset.tiers, profile),
        fetched_at: cached.as_ref().map(|cached| cached.fetched_at),
    }))
}

/// Erases a person: their key is destroyed, and with it everything that was sealed for them. It is written down who did it. There is no way back.
#[utoipa::path(
    delete,
    path = "/callers/{id}",
    operation_id = "erase_caller",
    params(("id" = String, Path, description = "The `caller_id` of a call.", pattern = "^[1-9][0-9]{0,17}$", example = "17")),
    responses((status = 204, description = "They are erased; what the configuration or files of lists name stays there."))
)]
pub(super) async fn erase(
    Admin(holder): Admin,
    State(customers): State<Customers>,
    State(entries): State<ListEntries>,
    State(calls): State<Calls>,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (caller, _) = reads.caller_of(&id).await?;
    reads
        .record_first(Access::CallerErased {
            by: holder.name.to_string(),
            request_id: request_id.to_string(),
        })
        .await?;
    let forget = async || {
        calls.locks.forget_caller(&caller);
        if let Some(number) = caller.number() {
            customers.braze.invalidate(number).await;
        }
    };
    forget().await;
    let erased = entries.erase(&caller).await;
    // A look-up may have come in between.
    forget().await;
    erased.map_err(ApiError::store)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
