//! What each command does.

use tokio::sync::mpsc;

use super::{Progress, Refusal, Request};
use crate::store::Store;
use crate::twilio::{Edge, Rejected};

/// Does what is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The store of this process.
    pub store: Store,
    /// Knows which webhooks were refused.
    pub edge: Edge,
}

impl Desk {
    /// Does it and gives the document that the command prints. `progress` may be full or closed: what nobody reads is left out.
    pub(super) async fn perform(
        &self,
        request: Request,
        _progress: &mpsc::Sender<Progress>,
    ) -> Result<serde_json::Value, Refusal> {
        match request {
            Request::Status => self.status().await,
            Request::RejectedWebhooks => Ok(self.rejected_webhooks()),
        }
    }

    /// The last ones that were looked into, oldest first; the last one that could be explained stands first where it is older than these.
    fn rejected_webhooks(&self) -> serde_json::Value {
        let rejected = self.edge.rejected();
        let explained = self.edge.explained().filter(|one| !rejected.contains(one));
        let shown = explained.iter().chain(&rejected).map(shown);
        serde_json::json!({ "rejected": shown.collect::<Vec<_>>() })
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
