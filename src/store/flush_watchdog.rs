//! Looks after what the writer cannot while the disk keeps it: work that waits is spilled when a commit takes too long, and the
//! reserves are made again when there is room.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::reserve::Reserve;
use super::write_queue::WriteQueue;
use crate::clock::Clock;

const EVERY: Duration = Duration::from_millis(20);
/// How often the reserves are looked after.
const UPKEEP: Duration = Duration::from_secs(10);

pub(super) struct FlushWatchdog {
    pub(super) write_queue: Arc<Mutex<WriteQueue>>,
    pub(super) reserve: Reserve,
    pub(super) clock: Clock,
    /// A writer that is busy for longer keeps callers waiting.
    pub(super) patience: Duration,
    /// Closed when the writer has ended.
    pub(super) writer: Receiver<()>,
}

impl FlushWatchdog {
    /// Looks after the queue until the writer has ended.
    pub(super) fn run(self) {
        let mut kept_up = self.clock.instant();
        while matches!(
            self.writer.recv_timeout(EVERY),
            Err(RecvTimeoutError::Timeout)
        ) {
            let now = self.clock.instant();
            let mut write_queue = match self.write_queue.try_lock() {
                Ok(write_queue) => write_queue,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // The writer waits for arrivals, or takes note of a commit.
                Err(TryLockError::WouldBlock) => continue,
            };
            write_queue.relieve(now, self.patience);
            if now.saturating_duration_since(kept_up) >= UPKEEP {
                kept_up = now;
                write_queue.open_spool();
                drop(write_queue);
                self.reserve.restore();
            }
        }
    }
}

impl WriteQueue {
    /// Spills what waits if the writer has been busy for longer than `patience`.
    fn relieve(&mut self, now: Instant, patience: Duration) {
        let Some(since) = self.busy_since else {
            return;
        };
        let busy = now.saturating_duration_since(since);
        if busy < patience {
            return;
        }
        self.poll();
        if self.has_memory() {
            self.failed(format!(
                "a commit takes longer than {} ms",
                patience.as_millis()
            ));
        }
    }
}
