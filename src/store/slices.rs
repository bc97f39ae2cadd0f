//! A slice of the log with its proof, for who has no shell on the machine.

use std::io::{self, Write as _};
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::{Source, StoreError};
use super::handle::Store;
use super::log_reader::LogReader;
use super::verify::{prove, signed_head};
use crate::audit::ShownPersonal;
use crate::phone::Caller;

/// Bytes of a piece on its way to who reads the slice; a few pieces wait at most.
const PIECE: usize = 64 * 1024;

/// Sends what is written to whoever reads.
struct PieceWriter(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// The records of a span of milliseconds with their proof, numbers masked, in pieces; an error is among them where it breaks off. `None` where
    /// nothing is signed yet. It reads the whole log, and gives the permit back at its end.
    pub async fn slice(
        &self,
        made_at: Range<i64>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Option<mpsc::Receiver<io::Result<Bytes>>>, StoreError> {
        let (path, key_ring) = (self.path().to_owned(), self.key_ring().clone());
        let database = path.clone();
        let end = tokio::task::spawn_blocking(move || signed_head(&database));
        let end = end
            .await
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        let Some(end) = end.map_err(|error| StoreError::Unavailable(error.into()))? else {
            return Ok(None);
        };
        let (sender, pieces) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut to = io::BufWriter::with_capacity(PIECE, PieceWriter(sender.clone()));
            let mut write = || {
                let log = LogReader::open(&path, key_ring.clone())?;
                let wanted = log.span(&made_at)?;
                let masked = |text: String| Caller::classify(&text).masked();
                prove(
                    &path,
                    &end,
                    true,
                    |content| {
                        let personal = wanted
                            .contains(&content.id)
                            .then(|| log.personal(content))?;
                        let personal = personal.unwrap_or_default();
                        Some(ShownPersonal {
                            caller: personal.caller.map(masked),
                            called: personal.called.map(masked),
                            answer: None,
                        })
                    },
                    |entry| {
                        serde_json::to_writer(&mut to, entry)?;
                        Ok::<_, Source>(to.write_all(b"\n")?)
                    },
                )?;
                Ok::<_, Source>(to.flush()?)
            };
            if let Err(error) = write() {
                // Whoever reads learns by a body that breaks off.
                sender.blocking_send(Err(io::Error::other(error))).ok();
            }
        });
        Ok(Some(pieces))
    }
}
