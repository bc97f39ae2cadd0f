//! Whether a request may have left.
//!
//! A timeout says nothing about that, and "sent" decides whether a request may be repeated at all. So the body sets a flag: the
//! connection takes it only when it writes the request, and a request that was given up can no longer be taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Of one request, however often its bytes are offered to a connection.
#[derive(Clone, Default)]
pub(super) struct SentFlag(Arc<AtomicU8>);

impl SentFlag {
    /// Wraps the bytes to send; they must not be empty, because an empty body is never asked for.
    pub(super) fn wrap(&self, bytes: Bytes) -> FlaggedBody {
        FlaggedBody {
            bytes: Some(bytes),
            sent_flag: self.clone(),
        }
    }

    /// Gives the request up. True where the request may have left; otherwise it never will.
    pub(super) fn close(&self) -> bool {
        self.0
            .compare_exchange(WAITING, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
    }

    pub(super) fn is_sent(&self) -> bool {
        self.0.load(Ordering::SeqCst) == SENT
    }

    /// Fails where it was given up.
    fn set(&self) -> bool {
        let sent = |state| (state != GIVEN_UP).then_some(SENT);
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, sent)
            .is_ok()
    }
}

/// A body that sets the flag when it is taken.
pub(super) struct FlaggedBody {
    bytes: Option<Bytes>,
    sent_flag: SentFlag,
}

/// The request was given up before its body was taken.
#[derive(Debug, thiserror::Error)]
#[error("given up before it was sent")]
pub(super) struct GivenUp;

impl Body for FlaggedBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(if self.sent_flag.set() {
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
        let sent_flag = SentFlag::default();
        let body = sent_flag.wrap(Bytes::from_static(b"x"));
        assert_eq!(body.size_hint().exact(), Some(1));
        body.collect().await.unwrap();
        assert!(sent_flag.close());
    }

    #[tokio::test]
    async fn a_request_that_was_given_up_never_leaves() {
        let sent_flag = SentFlag::default();
        let body = sent_flag.wrap(Bytes::from_static(b"x"));
        assert!(!sent_flag.close());
        assert!(body.collect().await.is_err());
    }
}
