//! The clients of a configuration: Braze, Twilio's REST API and the dialers.

use anyhow::Context;

use super::secret::key_ring;
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

/// The dialers of a configuration, in the order of the file.
pub fn dialers(config: &Config, clock: &Clock) -> anyhow::Result<Vec<Dialer>> {
    dialers_with(config, clock, key_ring(config)?.secret())
}

/// The same, to be tested and not to be given a call: the secret by which callers are known to them is not needed, and not made
/// by whoever runs the test.
pub fn dialers_without_callers(config: &Config, clock: &Clock) -> anyhow::Result<Vec<Dialer>> {
    dialers_with(config, clock, &[])
}

pub(super) fn dialers_with(
    config: &Config,
    clock: &Clock,
    secret: &[u8],
) -> anyhow::Result<Vec<Dialer>> {
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
