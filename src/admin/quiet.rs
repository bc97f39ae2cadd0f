//! Taking dialers out and muting alerts, for commands.

use serde_json::Value;

use super::handlers::{ControlHandlers, document};
use super::{DrainedDialer, Refusal};
use crate::flow::TakeOut;
use crate::routing::{self, DialerId, Intake};

impl ControlHandlers {
    pub(super) async fn drain(
        &self,
        dialer: String,
        out: Option<TakeOut>,
        by: &str,
    ) -> Result<Value, Refusal> {
        let (id, drains) = (DialerId::new(&dialer), &self.drains);
        let status = match out {
            None => drains.resume(&id, by).await,
            Some(out) => drains.drain(&id, out, by).await.map_err(Refusal::request)?,
        };
        let drained = status.ok_or_else(|| self.unknown_dialer(&dialer))?.drained;
        let mut views = drains.views().into_iter();
        let callers_held = !views.any(|view| routing::intake(&view) == Intake::Calls);
        document(&DrainedDialer {
            dialer,
            drained,
            callers_held,
        })
    }

    /// What is muted and planned afterwards.
    pub(super) async fn mute(
        &self,
        new: Option<Value>,
        end: Option<String>,
        by: &str,
    ) -> Result<Value, Refusal> {
        let incidents = &self.calls.incidents;
        if let Some(new) = new {
            let new = serde_json::from_value(new);
            let new = new.map_err(|error| Refusal::request(error.to_string()))?;
            incidents.mute(new, by).await.map_err(Refusal::request)?;
        }
        if let Some(id) = end
            && !incidents.unmute(&id, by).await
        {
            return Err(Refusal::request("there is no such mute, or it is over"));
        }
        document(&incidents.mutes())
    }
}
