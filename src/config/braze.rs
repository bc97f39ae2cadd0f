//! `[braze]`: where lead scores come from, and how long they are believed.

use std::time::Duration;

use super::problem::Fault;
use super::section::{Section, TomlValue};
use super::url;
use crate::braze::BrazeSettings;

/// A look-up never takes longer: 1500 ms.
const MAX_TIMEOUT: Duration = Duration::from_millis(1_500);
/// No look-up can be done faster: 50 ms.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(50);

pub(super) fn read(section: &mut Section<'_>) -> Option<BrazeSettings> {
    const WEEK: Duration = Duration::from_hours(24 * 7);
    const MONTH: Duration = Duration::from_hours(24 * 31);
    let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
    let base_url = section.required("base_url", base_url);
    let api_key = section.required("api_key", TomlValue::token);
    let score_attribute = section.or("score_attribute", "lead_score".to_owned(), TomlValue::text);
    let tier_attribute = section.optional("tier_attribute", TomlValue::text);
    if tier_attribute.as_ref() == Some(&score_attribute) {
        section.error(
            "tier_attribute",
            Fault::new("is the same attribute as score_attribute"),
        );
    }
    Some(BrazeSettings {
        timeout: section.duration("timeout", MAX_TIMEOUT, MIN_TIMEOUT..=MAX_TIMEOUT),
        cache_ttl: section.duration("cache_ttl", hour, second..=WEEK),
        stale_for: section.duration("stale_for", 24 * hour, Duration::ZERO..=MONTH),
        negative_ttl: section.duration(
            "negative_ttl",
            Duration::from_mins(5),
            Duration::ZERO..=WEEK,
        ),
        cache_capacity: section.or("cache_capacity", 100_000, |value| {
            value.integer(1..=100_000_000)
        }),
        requests_per_minute: section.or("requests_per_minute", 200, |value| {
            value.integer(1..=1_000_000)
        }),
        open_for: section.duration("open_for", 15 * second, second..=hour),
        score_attribute,
        attributes: Vec::new(),
        tier_attribute,
        webhook_secret: section.optional("webhook_secret", TomlValue::token),
        // Stands in [server].
        region: None,
        base_url: base_url?,
        api_key: api_key?,
    })
}

fn base_url(value: &TomlValue<'_>) -> Result<String, Fault> {
    let url = value.base_url()?;
    if url::Parts::split(&url)?.host.starts_with("dashboard") {
        value.warn(
            Fault::new("is an address of the Braze dashboard")
                .hint("the REST endpoint starts with rest., like https://rest.fra-01.braze.eu"),
        );
    }
    Ok(url)
}
