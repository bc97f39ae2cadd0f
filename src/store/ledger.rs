//! Where every accepted record is: in the database, in the spool, in memory, or in the log lines only. A record that is in none of
//! them was lost silently, and the sum says so.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts records. All clones of the store and its writer share one.
#[derive(Debug, Default)]
pub(super) struct RecordLedger(Mutex<RecordCounts>);

/// Records, by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Accepted since the start of the process, with those that the spool held then.
    pub accepted: u64,
    /// Of these, in the database: counted by how far the log grew.
    pub stored: u64,
    /// Of these, not written on purpose: their call was there already.
    pub repeated: u64,
    /// Of these, in the spool file.
    pub spooled: u64,
    /// Of these, in memory: about to be written, or waiting for a failing disk.
    pub waiting: u64,
    /// Of these, in the log lines only.
    pub lost: u64,
}

impl RecordCounts {
    /// Records that are nowhere. Anything but 0 is a defect.
    pub fn unaccounted(&self) -> i128 {
        let known = [
            self.stored,
            self.repeated,
            self.spooled,
            self.waiting,
            self.lost,
        ];
        i128::from(self.accepted) - known.into_iter().map(i128::from).sum::<i128>()
    }
}

impl RecordLedger {
    pub(super) fn counts(&self) -> RecordCounts {
        *self.lock()
    }

    /// Changes the counts in one step, so that nobody sees a record twice or nowhere.
    pub(super) fn change(&self, change: impl FnOnce(&mut RecordCounts)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, RecordCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
