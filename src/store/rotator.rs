//! The whole of changing the installation's secret: its file and the rows that are under it. Goes on with what an earlier run began.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::error::{StoreError, with_sources};
use super::handle::Store;
use super::rotation::Rotation;
use super::secret_file::SecretFile;
use super::signer::CheckpointSigner;
use crate::clock::Clock;

/// After something stood in the way.
const REST: Duration = Duration::from_secs(5);
/// Who asked, where that is not known any more.
const RESUMED: &str = "an earlier run";

/// What the command tells.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RotationReport {
    pub rotated: bool,
    /// How many rows were looked at.
    pub rows: u64,
    /// The file in which the secret of before is kept.
    pub old: String,
}

/// How far a rotation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationState {
    Idle,
    UnderWay {
        done: u64,
        total: u64,
    },
    Ended(RotationReport),
    /// Nothing was begun.
    Refused(String),
    /// The process stops; the next one goes on.
    Interrupted,
}

/// Why a secret was not changed, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(
        "the installation secret is not kept in a file of its own, so it cannot be replaced here: put it into a file of the user of the service, \
         name that as `secret = {{ file = \"…\" }}` in [storage], restart, and rotate then"
    )]
    NoFile,
    #[error(
        "{path} is the secret of before the last rotation, and old backups are read with it: move it to where they are kept, and rotate then"
    )]
    OldInPlace { path: String },
    #[error("no new secret can be laid beside {path}")]
    Draw {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The rotation is under way, and goes on when it is tried again.
    #[error("the rotation is under way, and the new secret cannot be put in place")]
    Place(#[source] io::Error),
    /// As above.
    #[error("the rotation is not at its end")]
    Store(#[from] StoreError),
}

/// Changes the secret of one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SecretRotator(Arc<RotatorState>);

#[derive(Debug)]
struct RotatorState {
    clock: Clock,
    rotation: Rotation,
    signer: CheckpointSigner,
    file: Option<SecretFile>,
    progress: watch::Sender<RotationState>,
    wanted: Notify,
    by: std::sync::Mutex<String>,
}

impl SecretRotator {
    /// `file` holds the secret; `None` where it is kept elsewhere. `is_alone`: nobody routes calls.
    pub fn new(
        store: Store,
        signer: CheckpointSigner,
        file: Option<SecretFile>,
        is_alone: bool,
    ) -> Self {
        Self(Arc::new(RotatorState {
            clock: store.clock().clone(),
            rotation: Rotation::new(store, is_alone),
            signer,
            file,
            progress: watch::Sender::new(RotationState::Idle),
            wanted: Notify::new(),
            by: std::sync::Mutex::default(),
        }))
    }

    /// Has the running job change the secret, unless it is at that; what is heard begins with how far it is.
    pub fn ask(&self, by: String) -> watch::Receiver<RotationState> {
        let state = &self.0;
        let is_new = state.progress.send_if_modified(|progress| {
            let is_new = !matches!(progress, RotationState::UnderWay { .. });
            if is_new {
                *progress = RotationState::UnderWay { done: 0, total: 0 };
            }
            is_new
        });
        let heard = state.progress.subscribe();
        if is_new {
            *self.by() = by;
            state.wanted.notify_one();
        }
        heard
    }

    fn by(&self) -> std::sync::MutexGuard<'_, String> {
        let by = self.0.by.lock();
        by.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether an earlier run began a rotation and did not end it.
    fn is_unfinished(&self) -> bool {
        self.0.rotation.is_under_way() || self.has_next()
    }

    fn has_next(&self) -> bool {
        let file = self.0.file.as_ref();
        file.is_some_and(|file| !matches!(file.next(), Ok(None)))
    }

    /// Changes the secret, or ends what was begun. May be cut off at any moment and called again.
    pub async fn rotate(
        &self,
        by: &str,
        tell: impl FnMut(u64, u64),
    ) -> Result<RotationReport, RotateError> {
        let state = &self.0;
        let file = state.file.clone().ok_or(RotateError::NoFile)?;
        let old = file.old_path();
        if !self.is_unfinished() && old.exists() {
            return Err(RotateError::OldInPlace {
                path: old.display().to_string(),
            });
        }
        // A rotation without a next secret is that of a backup which was made in the midst of one: its secrets are here already.
        if self.has_next() || !state.rotation.is_under_way() {
            let next = blocking({
                let file = file.clone();
                move || file.draw_next()
            });
            let next = next.await.map_err(|source| RotateError::Draw {
                path: file.path().display().to_string(),
                source,
            })?;
            state.rotation.begin(&next, by).await?;
        }
        let mut rows = 0;
        if state.rotation.is_under_way() {
            state.signer.vouch_again().await?;
            rows = state.rotation.run(tell).await?;
        }
        let placed = blocking(move || file.put_next_in_place());
        placed.await.map_err(RotateError::Place)?;
        tracing::info!(
            event = "secret.rotated",
            rows,
            "the installation's secret is another one; the one before reads old backups only"
        );
        Ok(RotationReport {
            rotated: true,
            rows,
            old: old.display().to_string(),
        })
    }

    /// Until it is done, or refused before anything was begun.
    async fn work(&self, by: &str) {
        let progress = &self.0.progress;
        loop {
            let rotated = self.rotate(by, |done, total| {
                progress.send_replace(RotationState::UnderWay { done, total });
            });
            let error = match rotated.await {
                Ok(report) => {
                    progress.send_replace(RotationState::Ended(report));
                    return;
                }
                Err(error) => with_sources(&error),
            };
            if !self.is_unfinished() {
                progress.send_replace(RotationState::Refused(error));
                return;
            }
            tracing::warn!(
                event = "secret.rotation_waits",
                error,
                "the secret is not changed yet; both are valid, and it is tried again"
            );
            self.0.clock.wait(REST).await;
        }
    }

    /// Changes the secret when asked to; first of all it ends what an earlier run began. May be cut off: what a slice has begun, the writer
    /// ends, and the next start goes on.
    pub async fn run(self) {
        let _interruption = Interruption(&self.0.progress);
        if self.is_unfinished() {
            let begun = RotationState::UnderWay { done: 0, total: 0 };
            self.0.progress.send_replace(begun);
            self.work(RESUMED).await;
        }
        loop {
            self.0.wanted.notified().await;
            let by = self.by().clone();
            self.work(&by).await;
        }
    }
}

/// Tells whoever waits for a rotation that nobody is at it any more.
struct Interruption<'s>(&'s watch::Sender<RotationState>);

impl Drop for Interruption<'_> {
    fn drop(&mut self) {
        self.0.send_replace(RotationState::Interrupted);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
