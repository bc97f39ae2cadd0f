//! `/keys`: who may use the API by a key; making keys and revoking them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::{Admin, FreshAdmin, Viewer};
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::super::keys::{DrawnKey, Keys, Role};
use super::fields::JsonObject;
use super::page::{Data, List, data, whole};
use crate::audit::{KeyAction, KeyChanged};
use crate::flow::{KeyDocument, MadeKeys};

/// A key to make.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRequest {
    /// Who holds it; stands in the audit trail, and no other key has it.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"
    )]
    name: String,
    /// What it may do, at most what its maker may.
    role: Role,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownKey {
    name: String,
    role: Role,
    /// The key itself, shown only now.
    key: String,
}

/// All keys: those of the configuration, and those that were made while the program ran.
#[utoipa::path(
    get,
    path = "/keys",
    operation_id = "keys",
    responses((status = 200, description = "All keys.", body = List<KeyDocument>))
)]
pub(super) async fn all(_: Viewer, State(keys): State<Keys>) -> Response {
    whole(keys.documents())
}

/// Makes a key. The answer holds it, once: it is kept nowhere. A session has to be at most 5 minutes old.
#[utoipa::path(
    post,
    path = "/keys",
    operation_id = "make_key",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key.", body = Data<ShownKey>),
        (status = 409, description = "Another key has this name, or there are 200 already.", body = ErrorDocument),
    )
)]
pub(super) async fn make(
    FreshAdmin(holder): FreshAdmin,
    State(keys): State<Keys>,
    State(made): State<MadeKeys>,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let wrong = |what: String| {
        let message = "The key cannot be made: send a name and a role, and nothing else.";
        ApiError::new(ErrorKind::Validation, message).with("body", what)
    };
    let asked = serde_json::from_value(Value::Object(body.0));
    let KeyRequest { name, role } = asked.map_err(|error| wrong(error.to_string()))?;
    let is_other = |c: char| !c.is_ascii_alphanumeric();
    let is_odd = |c: char| is_other(c) && !" ._-".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with(is_other) || name.contains(is_odd) {
        let what = "name must be 1 to 64 letters, digits, blanks, points and lines";
        return Err(wrong(what.to_owned()));
    }
    let holder = holder.with_role(role)?;
    let drawn = DrawnKey::draw().map_err(|_| ApiError::internal())?;
    let key = KeyChanged {
        name: name.clone(),
        role,
        change: KeyAction::Made,
        by: holder.name.to_string(),
        hash: drawn.hash.to_hex(),
    };
    let is_made = !keys.has_in_file(&name) && {
        let made = made.make(key, drawn.hash.bytes()).await;
        made.map_err(ApiError::store)?
    };
    if !is_made {
        let message = "Another key has this name, or there are 200: take another, or revoke one.";
        return Err(ApiError::new(ErrorKind::Conflict, message));
    }
    let key = drawn.key;
    Ok((StatusCode::CREATED, data(ShownKey { name, role, key })).into_response())
}

/// Revokes a key: it opens nothing any more, its sessions and event streams end. Keys of the configuration are revoked there.
#[utoipa::path(
    delete,
    path = "/keys/{id}",
    operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's id, or its name.", example = "9f86d081884c7d65")),
    responses((status = 204, description = "It is revoked."))
)]
pub(super) async fn revoke(
    Admin(holder): Admin,
    State(made): State<MadeKeys>,
    Path(wanted): Path<String>,
) -> Result<Response, ApiError> {
    let revoked = made.revoke(&wanted, &holder.name).await;
    if revoked.map_err(ApiError::store)? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let message = "There is no such key that was made here; those of the configuration end there.";
    Err(ApiError::not_found(message))
}
