//! The clients of a configuration: Braze, Twilio's REST API and the dialers.

use anyhow::Context;

use super::settings;
use crate::braze::Braze;
use crate::clock::Clock;
use crate::config::Config;
use crate::dialer::Dialer;
use crate::twilio::Rest;

/// The Braze client of a configuration.
pub fn braze(config: &Config, clock: &Clock) -> anyhow::Result<Braze> {
    Braze::new(
        config.braze.clone(),
        settings::connections(settings::call_path()?, clock)?,
        clock.clone(),
    )
    .context("cannot use [braze]")
}

/// The client of Twilio's REST API; [`Rest::can_ask`] says whether the configuration lets it ask.
pub fn rest(config: &Config, clock: &Clock) -> anyhow::Result<Rest> {
    let connections = settings::connections(settings::beside_the_call()?, clock)?;
    Rest::new(settings::rest(config), connections, clock.clone()).context("cannot use [twilio]")
}

/// The dialers of a configuration, in the order of the file. By `secret`, callers are known to them; it stays empty where they are tested and
/// given no call.
pub fn dialers(config: &Config, clock: &Clock, secret: &[u8]) -> anyhow::Result<Vec<Dialer>> {
    let make = settings::call_path()?;
    config
        .dialers
        .iter()
        .map(|dialer| {
            Dialer::new(
                dialer.clone(),
                settings::connections(make.clone(), clock)?,
                clock.clone(),
                secret,
            )
            .with_context(|| format!("cannot use [dialers.{}]", dialer.id))
        })
        .collect()
}

pub(super) fn say_whether_calls_can_be_looked_up(rest: &Rest) {
    if let Err(reason) = rest.can_ask() {
        tracing::warn!(
            event = "reap.cannot_ask",
            reason = %reason,
            "calls whose end is not reported cannot be looked up; they are closed as unknown after four hours"
        );
    }
}
