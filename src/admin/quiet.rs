//! Taking dialers out and muting alerts, for commands.

use super::handlers::{ControlHandlers, document};
use super::{DrainCommand, DrainedDialer, MuteCommand, MutesInForce, Refusal};
use crate::audit::Drained;
use crate::routing::{self, DialerId, Intake};

/// Characters of a reason.
const MAX_REASON: usize = 200;

impl ControlHandlers {
    pub(super) async fn drain(
        &self,
        name: &str,
        action: DrainCommand,
        by: &str,
    ) -> Result<serde_json::Value, Refusal> {
        let (id, now) = (DialerId::new(name), self.drains.clock.now());
        let status = match action {
            DrainCommand::Back => self.drains.resume(&id, by).await,
            DrainCommand::Out { reason, until } => {
                if until.is_some_and(|until| until <= now) {
                    return Err(Refusal::request("the end is not in the future"));
                }
                let reason = reason.as_deref().map(checked).transpose()?;
                let out = Drained {
                    reason,
                    until,
                    ..Drained::new(by, now)
                };
                self.drains.drain(&id, out).await
            }
        };
        let Some(status) = status else {
            let known = self.drains.statuses().into_iter();
            let known: Vec<_> = known.map(|one| one.dialer.id().to_string()).collect();
            let known = known.join(", ");
            return Err(Refusal::request(format!(
                "no dialer is named {name:?}; the server has {known}"
            )));
        };
        let mut views = self.drains.views().into_iter();
        let takes_calls = views.any(|view| routing::intake(&view) == Intake::Calls);
        document(&DrainedDialer {
            dialer: name.to_owned(),
            is_last: status.drained.is_some() && !takes_calls,
            drained: status.drained,
        })
    }

    pub(super) async fn mute(
        &self,
        action: MuteCommand,
        by: &str,
    ) -> Result<serde_json::Value, Refusal> {
        let incidents = &self.calls.incidents;
        let refused = |error: crate::alerts::MuteError| Refusal::request(error.to_string());
        match action {
            MuteCommand::List => {}
            MuteCommand::End(id) => incidents.unmute(&id, by).await.map_err(refused)?,
            MuteCommand::Begin(mut new) => {
                new.reason = checked(&new.reason)?;
                let dialer = new.dialer.as_deref().map(DialerId::new);
                if dialer.is_some_and(|dialer| self.drains.status(&dialer).is_none()) {
                    return Err(Refusal::request("the server has no dialer of this name"));
                }
                incidents.mute(new, by).await.map_err(refused)?;
            }
        }
        let mutes = incidents.mutes();
        document(&MutesInForce { mutes })
    }
}

/// A reason as it may stand in the log.
fn checked(reason: &str) -> Result<String, Refusal> {
    let reason = reason.trim();
    let fits = (1..=MAX_REASON).contains(&reason.chars().count());
    if fits && !reason.contains(char::is_control) {
        Ok(reason.to_owned())
    } else {
        let message = format!("a reason has 1 to {MAX_REASON} characters, in one line");
        Err(Refusal::request(message))
    }
}
