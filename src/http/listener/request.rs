//! What every request gets: an id that ties it, its answer and its log lines together, and a body that ends in time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// The header that carries the id of a request, both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LENGTH: usize = 64;

/// The id of a request, as request extension: given by the client if it is harmless, else drawn by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// The given id if it is 1 to 64 of `[A-Za-z0-9_.-]`: it goes into logs and answers unescaped.
    pub(super) fn given(header: Option<&HeaderValue>) -> Option<Self> {
        let text = header?.to_str().ok()?;
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_sane = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(harmless);
        is_sane.then(|| Self(text.into()))
    }

    /// 128 random bits. Should the system have none to give, the id says so rather than failing the call.
    pub(super) fn drawn() -> Self {
        let mut bits = [0_u8; 16];
        if getrandom::fill(&mut bits).is_err() {
            return Self("no-random-bits".into());
        }
        Self(hex::encode(bits).into())
    }

    /// As the value of the response header.
    pub(super) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The body of a request did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub(super) struct BodyTimedOut;

/// A body with one deadline for all of it. A timer per read would let a drip go on for ever.
pub(super) struct BoundedBody {
    body: Incoming,
    deadline: Instant,
    /// Made only once there is something to wait for: a webhook's body mostly comes with its head.
    timer: Option<Pin<Box<Sleep>>>,
}

impl BoundedBody {
    pub(super) fn new(body: Incoming, deadline: Instant) -> Self {
        Self {
            body,
            deadline,
            timer: None,
        }
    }
}

impl HttpBody for BoundedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let deadline = this.deadline;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(BodyTimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_harmless_id_is_taken_over() {
        let check = |text: &[u8], expected: bool| {
            let header = HeaderValue::from_bytes(text).unwrap();
            assert_eq!(RequestId::given(Some(&header)).is_some(), expected);
        };
        check(b"a", true);
        check(b"call-17_of.A9", true);
        check("x".repeat(64).as_bytes(), true);
        check("x".repeat(65).as_bytes(), false);
        check(b"", false);
        check(b"a b", false);
        check(b"\"}{", false);
        check("\u{e9}".as_bytes(), false);
        assert_eq!(RequestId::given(None), None);
    }

    #[test]
    fn drawn_ids_are_128_bits_and_differ() {
        let (one, other) = (RequestId::drawn(), RequestId::drawn());
        assert_eq!(one.0.len(), 32);
        assert_ne!(one, other);
    }
}
