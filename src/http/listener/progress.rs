//! What a connection is busy with, as seen from its bytes and its answers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Written by the stream and the service of one connection, read by its timer. All of them are polled by one task, so
/// the order of the writes is the order of the program.
#[derive(Debug, Default)]
pub(super) struct ConnectionProgress {
    /// No head is awaited. A client that connects owes us one.
    between_heads: AtomicBool,
    heads: AtomicU64,
    length_and_encoding: AtomicBool,
    in_hand: AtomicUsize,
    answered: AtomicU64,
    write_blocked: AtomicBool,
    /// Nothing more can be sent before there is more to tell.
    told_all: AtomicBool,
    debts: AtomicU64,
    owed: AtomicU64,
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
    Request {
        after: u64,
    },
    /// The client: to take our bytes.
    Reader {
        /// Which answer, or which part of one without an end, is being taken.
        debt: u64,
    },
    Answer,
}

impl ConnectionProgress {
    pub(super) fn awaiting(&self) -> Awaiting {
        if self.write_blocked.load(Relaxed) {
            let debt = self.debts.load(Relaxed);
            Awaiting::Reader { debt }
        } else if self.in_hand.load(Relaxed) > 0 {
            Awaiting::Answer
        } else if !self.between_heads.load(Relaxed) {
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
        self.between_heads.store(false, Relaxed);
    }

    pub(super) fn head_ended(&self) {
        self.between_heads.store(true, Relaxed);
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

    /// An answer begins. Where the client has yet to take the one before, both are one debt.
    pub(super) fn answer_begun(&self) {
        if !self.write_blocked.load(Relaxed) {
            self.new_debt();
        }
    }

    /// So many bytes of an answer were handed to be written.
    pub(super) fn handed_over(&self, bytes: u64) {
        self.told_all.store(false, Relaxed);
        self.owed.fetch_add(bytes, Relaxed);
    }

    /// An answer waits for something to tell.
    pub(super) fn has_told_all(&self) {
        self.told_all.store(true, Relaxed);
    }

    /// Bytes of the present debt so far.
    pub(super) fn owed(&self) -> u64 {
        self.owed.load(Relaxed)
    }

    fn new_debt(&self) {
        self.debts.fetch_add(1, Relaxed);
        self.owed.store(0, Relaxed);
    }

    pub(super) fn wrote(&self, blocked: bool) {
        self.write_blocked.store(blocked, Relaxed);
    }

    /// Flushing and closing come after all bytes were written; they may block too, and then go through.
    pub(super) fn flushed(&self, blocked: bool) {
        self.write_blocked.store(blocked, Relaxed);
        if !blocked && self.told_all.swap(false, Relaxed) {
            self.new_debt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_lasts_until_the_client_has_taken_the_whole_answer() {
        let progress = ConnectionProgress::default();
        let debt = || {
            progress.wrote(true);
            progress.awaiting()
        };
        progress.answer_begun();
        progress.handed_over(100);
        let first = debt();
        for _ in 0..3 {
            progress.wrote(false);
            progress.flushed(false);
            progress.handed_over(100);
            assert_eq!(debt(), first, "taking a part of it begins nothing anew");
        }
        assert_eq!(progress.owed(), 400);
        progress.answer_begun();
        assert_eq!(debt(), first, "the next answer waits behind the first");
        progress.flushed(false);
        progress.answer_begun();
        assert_ne!(debt(), first);
        assert_eq!(progress.owed(), 0);
    }

    #[test]
    fn an_answer_without_end_begins_a_debt_whenever_the_client_has_taken_all_there_was() {
        let progress = ConnectionProgress::default();
        progress.answer_begun();
        progress.handed_over(100);
        progress.wrote(true);
        let first = progress.awaiting();
        progress.has_told_all();
        progress.flushed(true);
        assert_eq!(
            progress.awaiting(),
            first,
            "there is still something to take"
        );
        progress.flushed(false);
        progress.wrote(true);
        assert_ne!(progress.awaiting(), first);
    }
}
