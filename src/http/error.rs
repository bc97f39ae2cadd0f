//! What a person or a program hears when a request of the API fails: one type, one shape.
//!
//! The text is for the outside and says what to do; the cause is for the log and never leaves the process.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
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
    fn name_and_status(self) -> (&'static str, StatusCode) {
        match self {
            Self::Validation => ("ValidationError", StatusCode::BAD_REQUEST),
            Self::Authentication => ("AuthenticationError", StatusCode::UNAUTHORIZED),
            Self::Permission => ("PermissionError", StatusCode::FORBIDDEN),
            Self::NotFound => ("NotFoundError", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::Conflict => ("ConflictError", StatusCode::CONFLICT),
            Self::PayloadTooLarge => ("PayloadTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
            Self::RateLimit => ("RateLimitError", StatusCode::TOO_MANY_REQUESTS),
            Self::Integration => ("IntegrationError", StatusCode::BAD_GATEWAY),
            Self::Internal => ("InternalServerError", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Unavailable => ("Unavailable", StatusCode::SERVICE_UNAVAILABLE),
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

/// A failure on its way out of a handler.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    kind: ErrorKind,
    message: Cow<'static, str>,
    details: Map<String, Value>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
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

    /// A failure that is counted, and written down for the source of the request; with the key, where one is known.
    pub(super) fn refused(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        reason: &'static str,
        key: Option<Arc<str>>,
    ) -> Self {
        metrics::counter!("switchboard_auth_failures_total", "reason" => reason).increment(1);
        Self {
            refused: Some(RefusedRequest { reason, key }),
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
            cause: Some(Arc::new(cause)),
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
        (self.kind.name_and_status().1, &self.message)
    }

    /// The answer, which names the request; the cause goes to the log.
    pub(super) fn respond(self, request_id: &str) -> Response {
        let (kind, status) = self.kind.name_and_status();
        if let Some(cause) = &self.cause {
            tracing::error!(
                event = "api.failed",
                error = chain(&**cause),
                kind,
                "a request of the API could not be answered"
            );
        }
        let document = ErrorDocument {
            error: ErrorBody {
                kind,
                message: self.message.into_owned(),
                details: self.details,
                request_id: request_id.to_owned(),
            },
        };
        let mut response = (status, Json(document)).into_response();
        if let Some(refused) = self.refused {
            response = refused.mark(response);
        }
        let headers = response.headers_mut();
        let mut add = |name, value| headers.insert(name, HeaderValue::from_static(value));
        if self.kind == ErrorKind::Authentication {
            add(header::WWW_AUTHENTICATE, "ApiKey realm=\"switchboard\"");
        } else if self.kind == ErrorKind::RateLimit {
            add(header::RETRY_AFTER, "2");
        } else if self.kind == ErrorKind::Unavailable {
            add(header::RETRY_AFTER, "1");
        }
        response
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

/// [`super::api`] turns it into the answer, because only there the request has its name.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (_, status) = self.kind.name_and_status();
        (status, Extension(self), Body::empty()).into_response()
    }
}
