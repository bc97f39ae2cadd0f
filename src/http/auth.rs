//! Who asks: the extractors by which a handler says whom it serves.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;

use super::error::{ApiError, ErrorKind};
use super::keys::{Holder, Role};
use super::sessions::Sessions;

/// The handler serves everybody who may see.
#[derive(Clone, Debug)]
pub(super) struct Viewer(pub(super) Holder);

/// The handler serves those who run the day, and knows who it is.
#[derive(Clone, Debug)]
pub(super) struct Operator(pub(super) Holder);

/// The handler serves those who may change everything, and knows who it is.
#[derive(Clone, Debug)]
pub(super) struct Admin(pub(super) Holder);

/// As [`Admin`], with a key or a sign-in of the last minutes: a browser that was left open is no admin.
#[derive(Clone, Debug)]
pub(super) struct FreshAdmin(pub(super) Holder);

impl<S> FromRequestParts<S> for FreshAdmin
where
    Sessions: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Admin(holder) = Admin::from_request_parts(parts, state).await?;
        if Sessions::from_ref(state).is_fresh(&parts.headers) {
            return Ok(Self(holder));
        }
        let message = "This takes a sign-in of the last 5 minutes: log in again.";
        Err(ApiError::new(ErrorKind::Permission, message))
    }
}

macro_rules! extract_with_role {
    ($($extractor:ident)*) => {
        $(impl<S> FromRequestParts<S> for $extractor
        where
            Sessions: FromRef<S>,
            S: Send + Sync,
        {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                let holder = Sessions::from_ref(state).asks(parts)?;
                holder.with_role(Role::$extractor).map(Self)
            }
        })*
    };
}

extract_with_role! { Viewer Operator Admin }
