//! Reading a request body without trusting its sender: bounded in size and in time.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than allowed, by its own declaration or in fact.
    #[error("the body is too large")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection broke, or the transfer coding is wrong.
    #[error("the body broke off")]
    Broken,
}

/// Reads a whole body of at most `limit` bytes within `within`. A declared length above the limit is refused before anything is read.
pub async fn collect<B>(body: B, limit: usize, within: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let declared = body.size_hint().lower();
    if usize::try_from(declared).map_or(true, |declared| declared > limit) {
        return Err(BodyError::TooLarge);
    }
    let collected = Limited::new(body, limit).collect();
    match tokio::time::timeout(within, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Frame, SizeHint};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(2);

    /// Sends its chunks, declares no length, and then ends or hangs.
    struct Chunks {
        left: Vec<Bytes>,
        hangs: bool,
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left.is_empty() {
                return if self.hangs {
                    Poll::Pending
                } else {
                    Poll::Ready(None)
                };
            }
            Poll::Ready(Some(Ok(Frame::data(self.left.remove(0)))))
        }
    }

    fn chunks(chunks: &[&'static [u8]], hangs: bool) -> Chunks {
        Chunks {
            left: chunks.iter().map(|c| Bytes::from_static(c)).collect(),
            hangs,
        }
    }

    /// Says how long it is, and sends nothing.
    struct Declared(u64);

    impl Body for Declared {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_up_to_its_limit_in_size_and_time() {
        let read = collect(chunks(&[b"ab", b"", b"cd", b"e"], false), 5, WITHIN).await;
        assert_eq!(read.unwrap(), "abcde");
        let one = collect(chunks(&[b"abcde"], false), 5, WITHIN).await;
        assert_eq!(one.unwrap(), "abcde");
        let none = collect(chunks(&[], false), 5, WITHIN).await;
        assert_eq!(none.unwrap(), "");
        let long = collect(chunks(&[b"abc", b"def"], true), 5, WITHIN).await;
        assert_eq!(long, Err(BodyError::TooLarge));
        let slow = collect(chunks(&[b"abc"], true), 5, WITHIN).await;
        assert_eq!(slow, Err(BodyError::TimedOut));
        let too_large = collect(Declared(6), 5, WITHIN).await;
        assert_eq!(too_large, Err(BodyError::TooLarge));
        let never_sent = collect(Declared(5), 5, WITHIN).await;
        assert_eq!(never_sent, Err(BodyError::TimedOut));
    }
}
