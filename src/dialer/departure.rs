//! Whether a request may have left.
//!
//! A timeout says nothing about that, and "sent" decides whether a request may be repeated at all. So the body keeps watch: the
//! connection takes it only when it writes the request, and a request that was given up can no longer be taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const LEFT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Watches one request, however often its bytes are offered to a connection.
#[derive(Clone, Default)]
pub(super) struct Departure(Arc<AtomicU8>);

impl Departure {
    /// Wraps the bytes to send; they must not be empty, because an empty body is never asked for.
    pub(super) fn watch(&self, bytes: Bytes) -> Watched {
        Watched {
            bytes: Some(bytes),
            departure: self.clone(),
        }
    }

    /// Ends the watch. True where the request may have left; otherwise it never will.
    pub(super) fn close(&self) -> bool {
        self.0
            .compare_exchange(WAITING, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
    }

    pub(super) fn has_left(&self) -> bool {
        self.0.load(Ordering::SeqCst) == LEFT
    }

    /// Fails where it was given up.
    fn leaves(&self) -> bool {
        let leaves = |state| (state != GIVEN_UP).then_some(LEFT);
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, leaves)
            .is_ok()
    }
}

/// A body that notes when it is taken.
pub(super) struct Watched {
    bytes: Option<Bytes>,
    departure: Departure,
}

/// The request was given up before its body was taken.
#[derive(Debug, thiserror::Error)]
#[error("given up before it was sent")]
pub(super) struct GivenUp;

impl Body for Watched {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(if self.departure.leaves() {
            Ok(Frame::data(bytes))
        } else {
            Err(GivenUp)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |b| b.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_that_was_taken_may_have_left() {
        let departure = Departure::default();
        let body = departure.watch(Bytes::from_static(b"x"));
        assert_eq!(body.size_hint().exact(), Some(1));
        body.collect().await.unwrap();
        assert!(departure.close());
    }

    #[tokio::test]
    async fn a_request_that_was_given_up_never_leaves() {
        let departure = Departure::default();
        let body = departure.watch(Bytes::from_static(b"x"));
        assert!(!departure.close());
        assert!(body.collect().await.is_err());
    }
}
