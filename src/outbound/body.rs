//! The body of an answer, piece by piece: decoded where it is packed, and no more of it than is allowed.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

/// What a request says in `Accept-Encoding`. Some services and proxies pack their answers unasked.
pub const ACCEPTED_CODINGS: &str = "gzip";

/// The content of an answer as it comes. Neither what is sent nor what it unpacks to may be longer than the limit.
pub struct Content {
    response: Response,
    limit: usize,
    n_received: usize,
    unpacked: Option<MultiGzDecoder<Room>>,
    is_readable: bool,
}

/// Why the content cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the connection broke")]
    Transport(#[source] reqwest::Error),
    /// It is longer than this many bytes.
    #[error("the answer is longer than {} KiB", .0 / 1024)]
    TooLong(usize),
    /// It is packed in a way that was not asked for, or broken.
    #[error("the answer is packed in a way that cannot be read")]
    Packed,
}

impl Content {
    /// The content of `response`, of at most `limit` bytes.
    pub fn of(response: Response, limit: usize) -> Self {
        let codings = response.headers().get_all(CONTENT_ENCODING).iter();
        let codings: Vec<String> = codings
            .map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase())
            .filter(|coding| !coding.is_empty() && coding != "identity")
            .collect();
        let is_gzip = codings == ["gzip"] || codings == ["x-gzip"];
        Self {
            response,
            limit,
            n_received: 0,
            unpacked: is_gzip.then(|| {
                MultiGzDecoder::new(Room {
                    bytes: Vec::new(),
                    left: limit,
                })
            }),
            is_readable: is_gzip || codings.is_empty(),
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Unreadable> {
        if !self.is_readable {
            return Err(Unreadable::Packed);
        }
        let announced = self.response.content_length().unwrap_or(0);
        if usize::try_from(announced).unwrap_or(usize::MAX) > self.limit {
            return Err(Unreadable::TooLong(self.limit));
        }
        loop {
            let Some(chunk) = self.response.chunk().await.map_err(Unreadable::Transport)? else {
                return self.end();
            };
            self.n_received += chunk.len();
            if self.n_received > self.limit {
                return Err(Unreadable::TooLong(self.limit));
            }
            let Some(unpacked) = &mut self.unpacked else {
                return Ok(Some(chunk));
            };
            unpacked
                .write_all(&chunk)
                .map_err(|error| too_long_or_packed(&error, self.limit))?;
            let piece = std::mem::take(&mut unpacked.get_mut().bytes);
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
    }

    pub async fn whole(mut self) -> Result<Vec<u8>, Unreadable> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// What is left in the decoder, which has to be at its end as well.
    fn end(&mut self) -> Result<Option<Bytes>, Unreadable> {
        let Some(mut unpacked) = self.unpacked.take().filter(|_| self.n_received > 0) else {
            return Ok(None);
        };
        let ended = unpacked.try_finish();
        ended.map_err(|error| too_long_or_packed(&error, self.limit))?;
        let piece = std::mem::take(&mut unpacked.get_mut().bytes);
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

fn too_long_or_packed(error: &io::Error, limit: usize) -> Unreadable {
    if error.kind() == io::ErrorKind::StorageFull {
        Unreadable::TooLong(limit)
    } else {
        Unreadable::Packed
    }
}

/// Takes so much and no more.
struct Room {
    bytes: Vec<u8>,
    left: usize,
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or(io::ErrorKind::StorageFull)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
