//! Taking dialers out by hand and putting them back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::record::Recorder;
use crate::alerts::mutes;
use crate::audit::{Drained, Record};
use crate::clock::Clock;
use crate::dialer::{DialerStatus, Fleet, HealthChange};
use crate::routing::{DialerId, DialerView};

/// Takes dialers out and puts them back, and writes down who did it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drains {
    pub clock: Clock,
    pub fleet: Fleet,
    pub recorder: Recorder,
}

/// Why a dialer is taken out, and for how long: at most one of `for` and `until`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeOut {
    /// Why. Everybody who may see dialers reads it.
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200, pattern = "^[ -~]*[!-~][ -~]*$", example = "new firmware")]
    pub reason: Option<String>,
    /// How long; then it comes back by itself.
    #[schema(value_type = String, required = false, pattern = "^[1-9][0-9]{0,2}[mh]$", example = "2h")]
    pub r#for: Option<String>,
    /// When it comes back by itself, in the future.
    #[schema(value_type = String, required = false, format = DateTime, min_length = 20)]
    pub until: Option<Timestamp>,
}

impl Drains {
    /// Takes a dialer out: calls that it has already are not touched, no other reaches it. `None` where there is no such dialer. Fails where reason
    /// or end cannot be, in words.
    pub async fn drain(
        &self,
        dialer: &DialerId,
        out: TakeOut,
        by: &str,
    ) -> Result<Option<DialerStatus>, &'static str> {
        let now = self.clock.now();
        let out = Drained {
            reason: out.reason.map(mutes::checked).transpose()?,
            until: mutes::end(out.r#for.as_deref(), out.until, now)?,
            ..Drained::new(by, now)
        };
        let change = self.fleet.drain(dialer, &out);
        self.changed(change).await;
        Ok(self.status(dialer))
    }

    /// Puts back what was taken out until now.
    pub async fn resume_due(&self) {
        let now = self.clock.now();
        for status in self.statuses() {
            let out = status.drained.as_ref();
            if let Some(out) = out.filter(|out| out.until.is_some_and(|until| until <= now)) {
                let by = format!("the end that {} had set", out.by);
                self.resume(status.dialer.id(), &by).await;
            }
        }
    }

    /// Puts a dialer back. `None` where there is no such dialer.
    pub async fn resume(&self, dialer: &DialerId, by: &str) -> Option<DialerStatus> {
        let change = self.fleet.resume(dialer, by);
        self.changed(change).await;
        self.status(dialer)
    }

    /// How every dialer is, as a decision sees it.
    pub fn views(&self) -> Vec<DialerView> {
        self.fleet.views(self.clock.instant())
    }

    pub fn status(&self, dialer: &DialerId) -> Option<DialerStatus> {
        self.statuses()
            .into_iter()
            .find(|status| status.dialer.id() == dialer)
    }

    /// How every dialer is, in the order of the file.
    pub fn statuses(&self) -> Vec<DialerStatus> {
        self.fleet.statuses(self.clock.instant())
    }

    /// Taking out what is out already is no change.
    async fn changed(&self, change: Option<HealthChange>) {
        let Some(change) = change else { return };
        tracing::info!(
            event = "dialer.changed",
            dialer = change.service,
            from = change.from,
            to = change.to,
            cause = change.cause,
            "a dialer was taken out or put back by hand"
        );
        let event = change.into_event();
        let record = Record::of_service(self.clock.now(), event);
        self.recorder.append_one(record).await;
    }
}
