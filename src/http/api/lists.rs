//! `/routing/lists`: the lists of callers, and the numbers that are put on them while the program runs.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::{Operator, Viewer};
use super::super::error::ApiError;
use super::super::listener::RequestId;
use super::fields::{self, CheckedFields, JsonObject};
use super::page::{Data, List, PageParams, PageRequest, data, whole};
use super::reads::Reads;
use super::reveal::{Numbers, Reveal};
use crate::flow::{ListDocument, ListEntries, ListEntryDocument, ListError, NewListEntry};

const MAX_NUMBER: usize = 64;
const MAX_WHY: usize = 500;

fn refused(error: ListError) -> ApiError {
    match error {
        ListError::UnknownList => {
            ApiError::not_found("There is no list of this name; GET /routing/lists names them.")
        }
        ListError::UnknownEntry => ApiError::not_found("There is no such entry on the list."),
        ListError::Store(error) => ApiError::store(error),
    }
}

/// The lists of callers that the configuration defines, by name.
#[utoipa::path(
    get,
    path = "/routing/lists",
    operation_id = "lists",
    responses((status = 200, description = "All lists.", body = List<ListDocument>))
)]
pub(super) async fn all(_: Viewer, State(lists): State<ListEntries>) -> Response {
    whole(lists.all())
}

/// The numbers that were put on a list while the program ran, the newest first. Numbers of the configuration are not among them.
#[utoipa::path(
    get,
    path = "/routing/lists/{name}/entries",
    operation_id = "list_entries",
    params(("name" = String, Path, description = "The list's name in the configuration.", example = "vip"), PageParams, Reveal),
    responses((status = 200, description = "The entries.", body = List<ListEntryDocument>))
)]
pub(super) async fn entries(
    Viewer(holder): Viewer,
    State(lists): State<ListEntries>,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    Path(name): Path<String>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let (page, reveal) = (PageRequest::read(&mut fields), fields.flag("reveal"));
    fields.verdict()?;
    let rows = lists.page(&name, page.part()).await.map_err(refused)?;
    let route = "/routing/lists/{name}/entries";
    let numbers = reads
        .numbers(reveal, rows.rows.len(), route, &holder, &request_id)
        .await?;
    let in_full = numbers == Numbers::Full;
    Ok(page.list(rows, |entry| ListEntryDocument::new(entry, in_full)))
}

/// A number for a list.
#[derive(Serialize, ToSchema)]
#[schema(as = NewListEntry)]
pub(super) struct NewEntryRequest {
    /// A number with its country code; `00`, spaces and dashes are understood. Or `caller:` and the `caller_id` of a call, of who is put there without
    /// that anybody sees the number.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^(\\+[1-9][0-9]{6,14}|caller:[1-9][0-9]{0,17})$",
        example = "+491700000090"
    )]
    number: String,
    /// Why it is put there. Everybody who may see calls reads it.
    #[schema(min_length = 1, max_length = 500, pattern = "^[ -~]*[!-~][ -~]*$")]
    why: Option<String>,
    /// From then on it does not count any more, and is deleted: ISO 8601, in the future. Without it, the entry has no end.
    #[schema(value_type = Option<String>, format = DateTime, min_length = 20, max_length = 64, example = "2126-11-26T12:00:00Z")]
    until: Option<String>,
}

/// Puts a number on a list; it counts from the next call on.
///
/// A number that is there already gets the reason and the end of this request: so a block is renewed without a moment in which it is lifted.
#[utoipa::path(
    post,
    path = "/routing/lists/{name}/entries",
    operation_id = "add_list_entry",
    params(("name" = String, Path, description = "The list's name in the configuration.", example = "vip")),
    request_body = NewEntryRequest,
    responses(
        (status = 201, description = "It is on the list.", body = Data<ListEntryDocument>),
        (status = 200, description = "It was on the list, and has another reason and end.", body = Data<ListEntryDocument>),
    )
)]
pub(super) async fn add(
    Operator(holder): Operator,
    State(lists): State<ListEntries>,
    State(reads): State<Reads>,
    Path(name): Path<String>,
    mut body: JsonObject,
) -> Result<Response, ApiError> {
    let id = body
        .text("number", MAX_NUMBER)
        .ok()
        .and_then(|text| text.strip_prefix("caller:"));
    if let Some(id) = id {
        let (caller, _) = reads.caller_of(id).await?;
        body.0.insert("number".to_owned(), caller.as_text().into());
    }
    let new = read(&body, lists.clock.now())?;
    let (entry, is_new) = lists.add(&name, new, &holder.name).await.map_err(refused)?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let entry = ListEntryDocument::new(entry, false);
    Ok((status, data(entry)).into_response())
}

fn read(body: &JsonObject, now: Timestamp) -> Result<NewListEntry, ApiError> {
    let mut fields = CheckedFields::default();
    let number = body.text("number", MAX_NUMBER).and_then(|text| {
        let wrong = "must be a number with its country code, like +4930123456";
        fields::number(text).ok_or_else(|| wrong.to_owned())
    });
    let number = fields.check("number", number);
    let why = body.has("why").then(|| body.text("why", MAX_WHY));
    let why = why.and_then(|why| fields.check("why", why));
    let until = body.has("until").then(|| {
        let until: Option<Timestamp> = body.text("until", 64)?.parse().ok();
        let until = until.filter(|until| *until > now);
        until.ok_or_else(|| "must be a time in the future, like 2126-11-26T12:00:00Z".to_owned())
    });
    let until = until.and_then(|until| fields.check("until", until));
    match (number, fields.is_right()) {
        (Some(number), true) => Ok(NewListEntry {
            number,
            why: why.map(ToOwned::to_owned),
            until,
        }),
        _ => Err(fields.failure("The number cannot be put on the list")),
    }
}

/// Takes an entry off a list.
#[utoipa::path(
    delete,
    path = "/routing/lists/{name}/entries/{id}",
    operation_id = "remove_list_entry",
    params(
        ("name" = String, Path, description = "The list's name in the configuration.", example = "vip"),
        ("id" = String, Path, description = "The entry's id.", example = "9f86d081884c7d65"),
    ),
    responses((status = 204, description = "It is off the list."))
)]
pub(super) async fn remove(
    Operator(holder): Operator,
    State(lists): State<ListEntries>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let removed = lists.remove(&name, &id, &holder.name).await;
    removed.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
