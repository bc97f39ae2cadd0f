//! What a connection is busy with, as seen from its bytes and its answers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Written by the stream and the service of one connection, read by its timer. All of them are polled by one task, so
/// the order of the writes is the order of the program.
#[derive(Debug)]
pub(super) struct Progress {
    head_open: AtomicBool,
    heads: AtomicU64,
    length_and_encoding: AtomicBool,
    in_hand: AtomicUsize,
    answered: AtomicU64,
    write_blocked: AtomicBool,
    written: AtomicU64,
    closing: AtomicBool,
}

/// Whom the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaiting {
    /// The client: the rest of a request head, or the first one.
    Head {
        /// Heads that were complete before.
        after: u64,
    },
    /// The client: another request.
    Request {
        /// Requests answered so far.
        after: u64,
    },
    /// The client: to take our bytes.
    Reader {
        /// Writes that went through so far.
        after: u64,
    },
    /// Us.
    Answer,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            // A client that connects owes us a head.
            head_open: AtomicBool::new(true),
            heads: AtomicU64::new(0),
            length_and_encoding: AtomicBool::new(false),
            in_hand: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            write_blocked: AtomicBool::new(false),
            written: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        }
    }
}

impl Progress {
    pub(super) fn awaiting(&self) -> Awaiting {
        if self.write_blocked.load(Relaxed) {
            let after = self.written.load(Relaxed);
            Awaiting::Reader { after }
        } else if self.in_hand.load(Relaxed) > 0 {
            Awaiting::Answer
        } else if self.head_open.load(Relaxed) {
            let after = self.heads.load(Relaxed);
            Awaiting::Head { after }
        } else {
            let after = self.answered.load(Relaxed);
            Awaiting::Request { after }
        }
    }

    #[cfg(test)]
    pub(super) fn heads_for_tests(&self) -> u64 {
        self.heads.load(Relaxed)
    }

    /// From now on every answer is the last of its connection.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Whether the client has yet to send the request it connected for.
    pub(super) fn awaits_first_head(&self) -> bool {
        self.heads.load(Relaxed) == 0
    }

    pub(super) fn head_begun(&self) {
        self.head_open.store(true, Relaxed);
    }

    pub(super) fn head_ended(&self) {
        self.head_open.store(false, Relaxed);
        self.heads.fetch_add(1, Relaxed);
    }

    pub(super) fn found_length_and_encoding(&self) {
        self.length_and_encoding.store(true, Relaxed);
    }

    pub(super) fn has_length_and_encoding(&self) -> bool {
        self.length_and_encoding.load(Relaxed)
    }

    pub(super) fn request_taken(&self) {
        self.in_hand.fetch_add(1, Relaxed);
    }

    pub(super) fn request_answered(&self) {
        self.in_hand.fetch_sub(1, Relaxed);
        self.answered.fetch_add(1, Relaxed);
    }

    pub(super) fn wrote(&self, blocked: bool) {
        self.write_blocked.store(blocked, Relaxed);
        if !blocked {
            self.written.fetch_add(1, Relaxed);
        }
    }

    /// Flushing and closing come after all bytes were written; they may block too, and then go through.
    pub(super) fn flushed(&self, blocked: bool) {
        if blocked != self.write_blocked.load(Relaxed) {
            self.wrote(blocked);
        }
    }
}
