//! What a person or a program hears when a request of the API fails: one type, one shape.
//!
//! The text is for the outside and says what to do; the cause is for the log and never leaves the process.

use std::borrow::Cow;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::refusals::RefusedRequest;

/// The kinds of failure: a closed list, each with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// 400: the request has to change.
    Validation,
    /// 401: no key, or none that is known.
    Authentication,
    /// 403: the key may not do this.
    Permission,
    NotFound,
    MethodNotAllowed,
    /// 409: it does not fit how things stand.
    Conflict,
    PayloadTooLarge,
    RateLimit,
    /// 502: a service that we depend on does not answer as it should.
    Integration,
    /// 500: a defect of ours.
    Internal,
    Unavailable,
}

impl ErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "ValidationError",
            Self::Authentication => "AuthenticationError",
            Self::Permission => "PermissionError",
            Self::NotFound => "NotFoundError",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::Conflict => "ConflictError",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::RateLimit => "RateLimitError",
            Self::Integration => "IntegrationError",
            Self::Internal => "InternalServerError",
            Self::Unavailable => "Unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Validation => StatusCode::BAD_REQUEST,
            Self::Authentication => StatusCode::UNAUTHORIZED,
            Self::Permission => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimit => StatusCode::TOO_MANY_REQUESTS,
            Self::Integration => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What is sent of a failure.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorDocument {
    error: ErrorBody,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct ErrorBody {
    /// The kind of failure.
    #[serde(rename = "type")]
    #[schema(example = "ValidationError")]
    kind: &'static str,
    /// What went wrong, and what to do.
    message: String,
    /// Fields of the request and what is wrong with each, or figures.
    #[schema(value_type = Object)]
    details: Map<String, Value>,
    /// The request, as in `X-Request-ID` and in the log.
    request_id: String,
}

#[derive(Debug)]
pub(super) struct ApiError {
    kind: ErrorKind,
    message: Cow<'static, str>,
    details: Map<String, Value>,
    cause: Option<Box<dyn Error + Send + Sync>>,
    refused: Option<RefusedRequest>,
}

impl ApiError {
    /// A failure with words for the outside.
    pub(super) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Map::new(),
            cause: None,
            refused: None,
        }
    }

    /// A failure that is counted, and written down for the source of the request.
    pub(super) fn refused(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        refused: RefusedRequest,
    ) -> Self {
        metrics::counter!("switchboard_auth_failures_total", "reason" => refused.reason)
            .increment(1);
        Self {
            refused: Some(refused),
            ..Self::new(kind, message)
        }
    }

    /// Why the request was refused, if it was.
    pub(super) fn refusal(&self) -> Option<&RefusedRequest> {
        self.refused.as_ref()
    }

    /// There is no such thing.
    pub(super) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// More is asked at the same time than is answered.
    pub(super) fn busy() -> Self {
        let message = "Too many requests at the same time; try again in a moment.";
        Self::new(ErrorKind::Unavailable, message)
    }

    /// The framework cannot read the request.
    pub(super) fn unreadable() -> Self {
        let message = "The request cannot be read: check its path and its query.";
        Self::new(ErrorKind::Validation, message)
    }

    /// A defect of ours.
    pub(super) fn internal() -> Self {
        Self::new(ErrorKind::Internal, "The request could not be answered.")
    }

    /// The database does not answer; why stays inside.
    pub(super) fn store(cause: impl Error + Send + Sync + 'static) -> Self {
        let error = Self::new(
            ErrorKind::Unavailable,
            "The database does not answer; try again in a moment.",
        );
        Self {
            cause: Some(Box::new(cause)),
            ..error
        }
    }

    /// Adds a detail: a field of the request and what is wrong with it, or a figure.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Its status and its words, for a page.
    pub(super) fn status_and_message(&self) -> (StatusCode, &str) {
        (self.kind.status(), &self.message)
    }

    /// The answer, which names the request; the cause goes to the log.
    pub(super) fn respond(self, request_id: &str) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(
                event = "api.failed",
                error = chain(cause.as_ref()),
                kind = self.kind.as_str(),
                "a request of the API could not be answered"
            );
        }
        let document = ErrorDocument {
            error: ErrorBody {
                kind: self.kind.as_str(),
                message: self.message.into_owned(),
                details: self.details,
                request_id: request_id.to_owned(),
            },
        };
        let text = serde_json::to_string(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.kind.status();
        if let Some(refused) = self.refused {
            response = refused.mark(response);
        }
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        match self.kind {
            ErrorKind::Authentication => {
                let scheme = HeaderValue::from_static("ApiKey realm=\"switchboard\"");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            ErrorKind::RateLimit => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            ErrorKind::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            ErrorKind::Validation
            | ErrorKind::Permission
            | ErrorKind::NotFound
            | ErrorKind::MethodNotAllowed
            | ErrorKind::Conflict
            | ErrorKind::PayloadTooLarge
            | ErrorKind::Integration
            | ErrorKind::Internal => {}
        }
        response
    }
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A failure on its way out of a handler; [`super::api`] turns it into the answer, because only there the request has its name.
#[derive(Clone)]
pub(super) struct FailedRequest(Arc<Mutex<Option<ApiError>>>);

impl FailedRequest {
    pub(super) fn error(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.kind.status();
        let failed = FailedRequest(Arc::new(Mutex::new(Some(self))));
        response.extensions_mut().insert(failed);
        response
    }
}
