//! Bodies of the API: small, in time, JSON objects; and their fields, read one by one so that each can be told what is wrong with it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::error::{ApiError, ErrorKind};
use crate::twilio::{self, BodyError};

/// The largest body; real ones have a few hundred bytes.
const LIMIT: usize = 16 * 1024;
/// A body is read within this time, or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A body that is a JSON object. What its fields have to be, the handler says.
#[derive(Debug)]
pub(super) struct JsonObject(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        parse(&whole(request.into_body()).await?)
    }
}

/// The whole of a body, bounded in size and time.
pub(super) async fn whole(body: Body) -> Result<Bytes, ApiError> {
    twilio::collect(body, LIMIT, TIMEOUT).await.map_err(refused)
}

fn refused(error: BodyError) -> ApiError {
    match error {
        BodyError::TooLarge => ApiError::new(
            ErrorKind::PayloadTooLarge,
            "The body is larger than 16 KiB; send only the fields that are asked for.",
        )
        .with("limit_bytes", LIMIT),
        BodyError::TimedOut => ApiError::new(
            ErrorKind::Validation,
            "The body did not arrive in time; send it in one piece.",
        ),
        BodyError::Broken => {
            ApiError::new(ErrorKind::Validation, "The body broke off; send it again.")
        }
    }
}

fn parse(body: &[u8]) -> Result<JsonObject, ApiError> {
    const WANTED: &str = "send a JSON object, such as {\"caller\": \"+4930123456\"}";
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(JsonObject(fields)),
        Ok(_) => Err(ApiError::new(
            ErrorKind::Validation,
            format!("The body is JSON, but no object; {WANTED}."),
        )),
        Err(error) => Err(ApiError::new(
            ErrorKind::Validation,
            format!("The body is not valid JSON; {WANTED}."),
        )
        .with("line", error.line())
        .with("column", error.column())),
    }
}

impl JsonObject {
    /// Whether a field is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field that has to be there, as text without white space at its ends. What is wrong with it, in words.
    pub(super) fn text(&self, name: &str, max_chars: usize) -> Result<&str, String> {
        let text = match self.0.get(name) {
            None | Some(Value::Null) => return Err("is missing".to_owned()),
            Some(Value::String(text)) => text.trim(),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err("must be a string".to_owned());
            }
        };
        if text.is_empty() {
            Err("is empty".to_owned())
        } else if text.chars().count() > max_chars {
            Err(format!("is longer than {max_chars} characters"))
        } else if text.contains(char::is_control) {
            Err("contains control characters".to_owned())
        } else {
            Ok(text)
        }
    }
}
