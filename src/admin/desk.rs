//! What each command does.

use tokio::sync::mpsc;

use super::{Progress, Refusal, Request};
use crate::store::Store;

/// Does what is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The store of this process.
    pub store: Store,
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
        }
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
