//! A stream that watches the request heads go by.
//!
//! hyper answers a request that states its length twice, by `Content-Length` and by `Transfer-Encoding`, and removes
//! the former on the way, so that no handler can see it. A proxy in front may have read it the other way: the classic
//! way to smuggle a request. So heads are read here too, just enough to see both headers, and to find the next head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::ConnectionProgress;

/// The stream of one connection, reporting to its [`ConnectionProgress`].
pub(super) struct WatchedStream<I> {
    stream: I,
    heads: Heads,
    progress: Arc<ConnectionProgress>,
}

impl<I> WatchedStream<I> {
    pub(super) fn new(stream: I, progress: Arc<ConnectionProgress>) -> Self {
        Self {
            stream,
            heads: Heads::default(),
            progress,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WatchedStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..)
            && !new.is_empty()
        {
            let this = &mut *self;
            this.heads.read(new, &this.progress);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for WatchedStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.wrote(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.progress.flushed(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.progress.flushed(shut.is_pending());
        shut
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Enough of a line to tell the two headers and the value of a length; longer lines are of no interest.
const LINE_START: usize = 64;

/// Where the next byte belongs.
#[derive(Debug, Default)]
struct Heads {
    position: Position,
    line: Vec<u8>,
    fields: HeadFields,
}

#[derive(Debug, Default, Clone, Copy)]
enum Position {
    #[default]
    Head,
    Body {
        left: u64,
    },
    /// After a head with `Transfer-Encoding`: our answer to it closes the connection, so no head follows.
    Last,
}

/// What the head said so far.
#[derive(Debug, Default, Clone, Copy)]
struct HeadFields {
    request_line: bool,
    length: Option<u64>,
    has_length: bool,
    has_encoding: bool,
}

impl Heads {
    fn read(&mut self, mut bytes: &[u8], progress: &ConnectionProgress) {
        while !bytes.is_empty() {
            match self.position {
                Position::Head => bytes = self.read_line(bytes, progress),
                Position::Body { left } => {
                    let taken = usize::try_from(left).map_or(bytes.len(), |n| n.min(bytes.len()));
                    let left = left - taken as u64;
                    self.position = if left == 0 {
                        Position::Head
                    } else {
                        Position::Body { left }
                    };
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
                Position::Last => return,
            }
        }
    }

    /// Reads up to the end of a line; returns what follows it.
    fn read_line<'b>(&mut self, bytes: &'b [u8], progress: &ConnectionProgress) -> &'b [u8] {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let room = LINE_START.saturating_sub(self.line.len());
        self.line.extend(line.iter().take(room));
        if end.is_some() {
            self.line_ended(progress);
        }
        if matches!(self.position, Position::Head)
            && (self.fields.request_line || self.line.iter().any(|&byte| byte != b'\r'))
        {
            progress.head_begun();
        }
        rest.get(1..).unwrap_or_default()
    }

    fn line_ended(&mut self, progress: &ConnectionProgress) {
        let line = std::mem::take(&mut self.line);
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        match (self.fields.request_line, text.is_empty()) {
            // Empty lines before a request are allowed and mean nothing.
            (false, true) => {}
            (false, false) => self.fields.request_line = true,
            (true, false) => self.fields.header(text),
            (true, true) => self.head_ended(progress),
        }
        self.line = line;
        self.line.clear();
    }

    fn head_ended(&mut self, progress: &ConnectionProgress) {
        let fields = std::mem::take(&mut self.fields);
        if fields.has_encoding && fields.has_length {
            progress.found_length_and_encoding();
        }
        self.position = match (fields.has_encoding, fields.length) {
            (true, _) => Position::Last,
            (false, None | Some(0)) => Position::Head,
            (false, Some(left)) => Position::Body { left },
        };
        progress.head_ended();
    }
}

impl HeadFields {
    fn header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.has_length = true;
            // A length that is no number, hyper refuses.
            self.length = std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.get(1..)?.trim().parse().ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Awaiting;
    use super::*;

    /// Feeds the text in pieces of every size and tells the complete heads, whether both headers were found, and
    /// whether a head is unfinished.
    #[track_caller]
    fn check(text: &str, expected: (u64, bool, bool)) {
        for size in 1..=text.len() {
            let progress = ConnectionProgress::default();
            let mut heads = Heads::default();
            for piece in text.as_bytes().chunks(size) {
                heads.read(piece, &progress);
            }
            let complete = progress.heads_for_tests();
            let open = matches!(progress.awaiting(), Awaiting::Head { .. });
            let found = (complete, progress.has_length_and_encoding(), open);
            assert_eq!(found, expected, "{text:?} in pieces of {size}");
        }
    }

    #[test]
    fn heads_are_found_however_they_are_cut() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", (1, false, false));
        check("GET / HTTP/1.1\nHost: a\n\n", (1, false, false));
        check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", (1, false, false));
        check("GET / HTTP/1.1\r\nHost: a\r\n", (0, false, true));
        check("GET / HTTP/1.1\r\n\r\nGET / HT", (1, false, true));
        check("GET / HTTP/1.1\r\n\r\n\r\n", (1, false, false));
    }

    #[test]
    fn a_body_is_not_read_as_a_head() {
        let body = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let length = body.len();
        let post = format!("POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}");
        check(&post, (1, false, false));
        check(&format!("{post}GET / HTTP/1.1\r\n\r\n"), (2, false, false));
        check(&format!("{post}GET"), (1, false, true));
    }

    #[test]
    fn a_length_beside_an_encoding_is_found_in_either_order() {
        let length = "Content-Length: 3\r\n";
        let encoding = "TRANSFER-ENCODING: chunked\r\n";
        let head = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        check(&head(&format!("{length}{encoding}")), (1, true, false));
        check(&head(&format!("{encoding}{length}")), (1, true, false));
        check(&head(encoding), (1, false, false));
        check(&head(length), (1, false, false));
        check(
            &head(&format!("X-Content-Length: 3\r\n{encoding}")),
            (1, false, false),
        );
        let pipelined = format!("{}abc{}", head(length), head(encoding));
        check(&pipelined, (2, false, false));
        let long = format!("X: {}\r\n{length}{encoding}", "y".repeat(200));
        check(&head(&long), (1, true, false));
    }
}
