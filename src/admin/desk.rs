//! What each command does.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Progress, Refusal, Request};
use crate::braze::Braze;
use crate::flow::Claims;
use crate::phone::Caller;
use crate::store::{PruneError, Pruner, Store};
use crate::twilio::{Edge, Rejected};

/// Does what is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The store of this process.
    pub store: Store,
    /// Knows which webhooks were refused.
    pub edge: Edge,
    /// Deletes what is past retention.
    pub pruner: Pruner,
    /// Remembers profiles of callers.
    pub braze: Braze,
    /// Remembers calls that go on.
    pub claims: Claims,
}

impl Desk {
    /// Does it and gives the document that the command prints. `progress` may be full or closed: what nobody reads is left out.
    pub(super) async fn perform(
        &self,
        request: Request,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<serde_json::Value, Refusal> {
        match request {
            Request::Status => self.status().await,
            Request::RejectedWebhooks => Ok(self.rejected_webhooks()),
            Request::Prune {
                older_than_ms,
                dry_run,
            } => self.prune(older_than_ms, dry_run, progress).await,
            Request::Erase { caller } => self.erase(&caller).await,
            Request::RecordExport { exported } => {
                let recorded = self.store.record_export(exported).await;
                recorded.map_err(|error| Refusal::failed(format!("{error:#}")))?;
                Ok(serde_json::Value::Null)
            }
        }
    }

    async fn erase(&self, caller: &str) -> Result<serde_json::Value, Refusal> {
        let caller = Caller::classify(caller);
        let forget = async || {
            self.claims.forget_caller(&caller);
            if let Some(number) = caller.number() {
                self.braze.invalidate(number).await;
            }
        };
        forget().await;
        let erased = self.store.erase(&caller).await;
        // A look-up may have come in between.
        forget().await;
        match erased.map_err(|error| Refusal::failed(format!("{error:#}")))? {
            Some(erased) => {
                serde_json::to_value(erased).map_err(|error| Refusal::failed(error.to_string()))
            }
            None => Err(Refusal::request(
                "a caller who hides the number is nobody in particular",
            )),
        }
    }

    /// The last ones that were looked into, oldest first; the last one that could be explained stands first where it is older than these.
    fn rejected_webhooks(&self) -> serde_json::Value {
        let rejected = self.edge.rejected();
        let explained = self.edge.explained().filter(|one| !rejected.contains(one));
        let shown = explained.iter().chain(&rejected).map(shown);
        serde_json::json!({ "rejected": shown.collect::<Vec<_>>() })
    }

    async fn prune(
        &self,
        older_than_ms: Option<u64>,
        dry_run: bool,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<serde_json::Value, Refusal> {
        let refused = |error: PruneError| match error {
            PruneError::TooYoung { .. } => Refusal::request(error.to_string()),
            // With what was the matter underneath.
            PruneError::NotSound | PruneError::Store(_) => {
                Refusal::failed(format!("{:#}", anyhow::Error::new(error)))
            }
        };
        let age = older_than_ms.map(Duration::from_millis);
        let age = self.pruner.age(age).map_err(refused)?;
        let expected = self.pruner.preview(age, |_| {}).await.map_err(refused)?;
        let report = if dry_run {
            expected
        } else {
            let total = expected.deleted;
            let tell = |done| {
                if progress.try_send(Progress { done, total }).is_err() {
                    // Who does not read misses a step of the bar.
                }
            };
            self.pruner.run(age, tell).await.map_err(refused)?
        };
        serde_json::to_value(report).map_err(|error| Refusal::failed(error.to_string()))
    }

    async fn status(&self) -> Result<serde_json::Value, Refusal> {
        let counts = self.store.counts().await;
        let counts = counts.map_err(|error| Refusal::failed(format!("{error:#}")))?;
        let health = self.store.health();
        Ok(serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "store": {
                "running": health.running,
                "backlog": health.backlog,
                "failing_since": health.failing_since,
                "last_error": health.last_error,
                "last_commit": health.last_commit,
                "accepted": health.balance.accepted,
                "stored": health.balance.stored,
                "spooled": health.balance.spooled,
                "waiting": health.balance.waiting,
                "lost": health.balance.lost,
                "spool_problem": health.spool_problem,
                "ballast_missing": health.ballast_missing,
                "wal_missing": health.wal_missing,
                "wal_bytes": health.wal_bytes,
                "records": counts.records,
                "active_calls": counts.active_calls,
            },
        }))
    }
}

/// A refused webhook without a value of any field.
fn shown(rejected: &Rejected) -> serde_json::Value {
    let diagnosis = rejected.diagnosis.as_ref();
    serde_json::json!({
        "at": rejected.at,
        "reason": rejected.reason.as_str(),
        "source": rejected.source,
        "path": rejected.path,
        "why": diagnosis.map(ToString::to_string),
        "parameters": diagnosis.map(|diagnosis| &diagnosis.parameters),
    })
}
