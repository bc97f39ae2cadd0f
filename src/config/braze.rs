//! `[braze]`: where lead scores come from, and how long they are believed.

use std::time::Duration;

use super::url;
use super::{Fault, Secret, Section, Value};

/// A look-up never takes longer: 1500 ms.
pub const MAX_TIMEOUT: Duration = Duration::from_millis(1_500);
/// No look-up can be done faster: 50 ms.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(50);

/// Where lead scores come from, and how long they are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Braze {
    /// The REST endpoint of the Braze instance, like `https://rest.fra-01.braze.eu`.
    pub base_url: String,
    /// The REST API key; needs `users.export.ids`.
    pub api_key: Secret,
    /// How long one look-up may take; 50 ms to 1500 ms. Default: 1500 ms, or what `routing.budget` leaves.
    pub timeout: Duration,
    /// How long an answer counts as fresh. Default: 1 h.
    pub cache_ttl: Duration,
    /// How much longer an answer is used where Braze gives no newer one. Default: 24 h.
    pub stale_for: Duration,
    /// How long it is remembered that Braze does not know a caller. Default: 5 m.
    pub negative_ttl: Duration,
    /// How many callers are remembered. Default: 100,000.
    pub cache_capacity: u64,
    /// How many requests are sent to Braze in a minute. Default: 200.
    pub requests_per_minute: u32,
    /// How long the circuit breaker stays open before it lets one probe pass. Default: 15 s.
    pub open_for: Duration,
    /// The custom attribute that holds the lead score. Default: `lead_score`.
    pub score_attribute: String,
    /// The custom attribute that names a tier; a name wins over the score. Default: none.
    pub tier_attribute: Option<String>,
    /// What Braze sends to `POST /webhooks/braze`. Default: none, which turns that route off.
    pub webhook_secret: Option<Secret>,
}

impl Braze {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        const WEEK: Duration = Duration::from_hours(24 * 7);
        const MONTH: Duration = Duration::from_hours(24 * 31);
        let second = Duration::from_secs(1);
        let base_url = section.required("base_url", base_url);
        let api_key = section.required("api_key", Value::token);
        let timeout = section.or("timeout", MAX_TIMEOUT, |value| {
            value.duration(MIN_TIMEOUT..=MAX_TIMEOUT)
        });
        let cache_ttl = section.or("cache_ttl", Duration::from_hours(1), |value| {
            value.duration(second..=WEEK)
        });
        let stale_for = section.or("stale_for", Duration::from_hours(24), |value| {
            value.duration(Duration::ZERO..=MONTH)
        });
        let negative_ttl = section.or("negative_ttl", Duration::from_mins(5), |value| {
            value.duration(Duration::ZERO..=WEEK)
        });
        let cache_capacity = section.or("cache_capacity", 100_000, |value| {
            value.integer(1..=100_000_000)
        });
        let requests_per_minute = section.or("requests_per_minute", 200, |value| {
            value.integer(1..=1_000_000)
        });
        let open_for = section.or("open_for", Duration::from_secs(15), |value| {
            value.duration(second..=Duration::from_hours(1))
        });
        let score_attribute = section.or("score_attribute", "lead_score".to_owned(), Value::text);
        let tier_attribute = section.optional("tier_attribute", Value::text);
        let webhook_secret = section.optional("webhook_secret", Value::token);
        if tier_attribute.as_ref() == Some(&score_attribute) {
            section.error(
                "tier_attribute",
                Fault::new("is the same attribute as score_attribute"),
            );
        }
        Some(Self {
            base_url: base_url?,
            api_key: api_key?,
            timeout,
            cache_ttl,
            stale_for,
            negative_ttl,
            cache_capacity,
            requests_per_minute,
            open_for,
            score_attribute,
            tier_attribute,
            webhook_secret,
        })
    }
}

fn base_url(value: &Value<'_>) -> Result<String, Fault> {
    let url = value.base_url()?;
    if url::Parts::split(&url)?.host.starts_with("dashboard") {
        value.warn(
            Fault::new("is an address of the Braze dashboard")
                .hint("the REST endpoint starts with rest., like https://rest.fra-01.braze.eu"),
        );
    }
    Ok(url)
}
