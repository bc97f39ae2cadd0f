//! `/calls/metrics`: the figures of a time, from the roll-ups of its minutes.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::fields::CheckedFields;
use super::page::{Data, data};
use super::reads::Reads;
use crate::call::Disposition;
use crate::store::{Figures, Histogram, InProgress};

const MINUTE_MS: i64 = 60_000;

/// How far back, and in which steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Window {
    name: &'static str,
    minutes: i64,
    step_minutes: i64,
}

impl Window {
    pub(in super::super) const FIVE_MINUTES: Self = Self::new("5m", 5, 1);
    pub(in super::super) const HOUR: Self = Self::new("1h", 60, 1);
    const DAY: Self = Self::new("24h", 24 * 60, 15);
    const WEEK: Self = Self::new("7d", 7 * 24 * 60, 60);
    const ALL: [Self; 4] = [Self::FIVE_MINUTES, Self::HOUR, Self::DAY, Self::WEEK];

    const fn new(name: &'static str, minutes: i64, step_minutes: i64) -> Self {
        Self {
            name,
            minutes,
            step_minutes,
        }
    }
}

/// Which time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct MetricsParams {
    /// How far back: `5m` (the default), `1h`, `24h` or `7d`.
    #[param(schema_with = windows)]
    window: Option<String>,
}

fn windows() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(Window::ALL.map(|window| window.name)))
        .build()
}

/// The figures of a time. A call counts in the minute in which it arrived, whatever becomes of it later.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Metrics {
    /// How far back.
    #[schema(example = "5m")]
    window: &'static str,
    /// The beginning of the first minute that is counted.
    from: Timestamp,
    calls: CallCounts,
    /// The share of successes among successes and routing failures, 0 to 1; null where there is neither. A success was answered by an agent,
    /// and its first answer kept to the budget. Callers who hung up, calls that go on and calls whose end is unknown are neither.
    success_rate: Option<f64>,
    /// The share of routing failures among the same calls: 1 less `success_rate`.
    failure_rate: Option<f64>,
    /// Calls at the dialer that was dialled last, and the requests to it.
    by_dialer: Vec<DialerFigures>,
    /// Calls by tier; null is none.
    by_tier: Vec<TierFigures>,
    /// Calls by the rule that took them.
    rules: Vec<RuleFigures>,
    /// Routing failures by why, the most frequent first; they add up to `calls.failed`.
    by_reason: Vec<ReasonFigures>,
    /// Ended calls by how they count.
    by_outcome: Vec<OutcomeFigures>,
    latency: Latencies,
    cache: CacheFigures,
    /// The same time in steps, oldest first.
    series: Vec<Point>,
}

/// How many calls.
#[derive(Serialize, ToSchema)]
struct CallCounts {
    /// All that arrived.
    total: i64,
    /// In progress now, whenever they arrived.
    active: i64,
    /// Of these, caller and agent can talk.
    talking: i64,
    /// Of these, on hold.
    on_hold: i64,
    /// When the first of those on hold arrived.
    on_hold_since: Option<Timestamp>,
    /// An agent talked to the caller.
    answered: i64,
    /// Routing failures: no dialer reached, or the answer overran the budget.
    failed: i64,
    failed_over: i64,
    held: i64,
    /// The caller left first.
    abandoned: i64,
}

/// The figures of one dialer.
#[derive(Serialize, ToSchema)]
struct DialerFigures {
    dialer: String,
    /// Calls that were dialled there last.
    calls: i64,
    answered: i64,
    /// Routing failures among them.
    failed: i64,
    /// Requests to the dialer.
    handoffs: i64,
    /// Those that were not accepted.
    handoffs_failed: i64,
    /// How long requests took.
    p95_ms: Option<f64>,
}

/// The figures of one tier.
#[derive(Serialize, ToSchema)]
struct TierFigures {
    tier: Option<String>,
    calls: i64,
    answered: i64,
    failed: i64,
}

/// The figures of one rule.
#[derive(Serialize, ToSchema)]
struct RuleFigures {
    /// Its name, or `(default)`.
    rule: String,
    calls: i64,
}

/// Routing failures with one reason.
#[derive(Serialize, ToSchema)]
struct ReasonFigures {
    /// `no_dialer_available`, `all_dialers_refused`, `all_legs_failed`, `over_budget`, or the disposition where none of these is known.
    #[schema(example = "all_dialers_refused")]
    reason: String,
    calls: i64,
}

/// Calls with one disposition.
#[derive(Serialize, ToSchema)]
struct OutcomeFigures {
    #[schema(example = "answered")]
    disposition: String,
    calls: i64,
}

/// Percentiles of the stages.
#[derive(Serialize, ToSchema)]
struct Latencies {
    /// From the arrival of a call to its answer.
    routing: LatencyPercentiles,
    /// Looking the caller up.
    lookup: LatencyPercentiles,
    /// Telling the dialers.
    handoff: LatencyPercentiles,
    /// One commit to the disk.
    commit: LatencyPercentiles,
}

/// In milliseconds; null where there is nothing to measure.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "every name carries its unit")]
#[schema(as = Percentiles)]
pub(in super::super) struct LatencyPercentiles {
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// How look-ups were answered.
#[derive(Serialize, ToSchema)]
struct CacheFigures {
    hit: i64,
    stale: i64,
    miss: i64,
}

/// A step of the time.
#[derive(Serialize, ToSchema)]
struct Point {
    /// Where it begins.
    at: Timestamp,
    calls: i64,
    failed: i64,
    /// Arrival to answer.
    p95_ms: Option<f64>,
}

impl LatencyPercentiles {
    pub(in super::super) fn of(times: Option<&Histogram>) -> Self {
        let of = |percent| times.and_then(|times| times.percentile_ms(percent));
        Self {
            p50_ms: of(50),
            p95_ms: of(95),
            p99_ms: of(99),
        }
    }
}

/// The figures of a time: calls, dialers, tiers, outcomes, latencies, and a series.
#[utoipa::path(
    get,
    path = "/calls/metrics",
    params(MetricsParams),
    responses((status = 200, description = "The figures.", body = Data<Metrics>))
)]
pub(super) async fn metrics(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let window = fields.one_of("window", &Window::ALL, |window| window.name);
    fields.verdict()?;
    let window = window.unwrap_or(Window::FIVE_MINUTES);
    Ok(data(reads.metrics(window).await?))
}

impl Reads {
    /// The figures of a window that ends now.
    pub(in super::super) async fn metrics(&self, window: Window) -> Result<Metrics, ApiError> {
        let (from, steps) = self.steps(window).await?;
        let counts = self.ask(self.store.calls_in_progress_now()).await?;
        Ok(Metrics::new(window, from, &steps, counts))
    }

    /// The sum of a window that ends now.
    pub(in super::super) async fn figures(&self, window: Window) -> Result<Figures, ApiError> {
        let (_, steps) = self.steps(window).await?;
        Ok(sum(&steps))
    }

    async fn steps(&self, window: Window) -> Result<(Timestamp, BTreeMap<i64, Figures>), ApiError> {
        let now = self.clock.now().as_millisecond();
        let this_minute = now.div_euclid(MINUTE_MS) * MINUTE_MS;
        let from = this_minute - window.minutes * MINUTE_MS;
        let to = this_minute + MINUTE_MS;
        let step = window.step_minutes * MINUTE_MS;
        let steps = self.ask(self.store.figures(from, to, step)).await?;
        let from = Timestamp::from_millisecond(from).unwrap_or_default();
        Ok((from, steps))
    }
}

fn sum(steps: &BTreeMap<i64, Figures>) -> Figures {
    let mut all = Figures::default();
    for figures in steps.values() {
        all.add(figures);
    }
    all
}

impl Metrics {
    fn new(
        window: Window,
        from: Timestamp,
        steps: &BTreeMap<i64, Figures>,
        now: InProgress,
    ) -> Self {
        let all = sum(steps);
        let decided = all.succeeded() + all.failed;
        let cache = |name: &str| all.cache.get(name).copied().unwrap_or_default();
        let stage = |name: &str| LatencyPercentiles::of(all.stages.get(name));
        Self {
            window: window.name,
            from,
            calls: CallCounts {
                total: all.calls,
                active: now.active,
                talking: now.talking,
                on_hold: now.on_hold,
                on_hold_since: now.on_hold_since,
                answered: all.ended_as(Disposition::Answered),
                failed: all.failed,
                failed_over: all.failed_over,
                held: all.held,
                abandoned: all.ended_as(Disposition::Abandoned),
            },
            success_rate: rate(all.succeeded(), decided),
            failure_rate: rate(all.failed, decided),
            by_dialer: by_dialer(&all),
            by_tier: by_tier(&all),
            rules: rules(&all),
            by_reason: by_reason(&all),
            by_outcome: by_outcome(&all),
            latency: Latencies {
                routing: stage("routing"),
                lookup: stage("lookup"),
                handoff: stage("handoff"),
                commit: stage("commit"),
            },
            cache: CacheFigures {
                hit: cache("hit"),
                stale: cache("stale"),
                miss: cache("miss"),
            },
            series: series(window, from, steps),
        }
    }
}

fn by_dialer(all: &Figures) -> Vec<DialerFigures> {
    let names: BTreeSet<&String> = all.dialers.keys().chain(all.handoffs.keys()).collect();
    let figures = names.into_iter().map(|dialer| {
        let share = all.dialers.get(dialer).copied().unwrap_or_default();
        let handoffs = all.handoffs.get(dialer);
        DialerFigures {
            dialer: dialer.clone(),
            calls: share.calls,
            answered: share.answered,
            failed: share.failed,
            handoffs: handoffs.map_or(0, |handoffs| handoffs.asked),
            handoffs_failed: handoffs.map_or(0, |handoffs| handoffs.failed),
            p95_ms: handoffs.and_then(|handoffs| handoffs.took.percentile_ms(95)),
        }
    });
    figures.collect()
}

fn by_tier(all: &Figures) -> Vec<TierFigures> {
    let figures = all.tiers.iter().map(|(tier, share)| TierFigures {
        tier: Some(tier.clone()).filter(|tier| !tier.is_empty()),
        calls: share.calls,
        answered: share.answered,
        failed: share.failed,
    });
    figures.collect()
}

fn rules(all: &Figures) -> Vec<RuleFigures> {
    let rules = all.rules.clone().into_iter();
    let figures = rules.map(|(rule, calls)| RuleFigures { rule, calls });
    figures.collect()
}

fn by_reason(all: &Figures) -> Vec<ReasonFigures> {
    let failures = all.failures.clone().into_iter();
    let ranked = failures.map(|(reason, calls)| ReasonFigures { reason, calls });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|figures| std::cmp::Reverse(figures.calls));
    ranked
}

fn by_outcome(all: &Figures) -> Vec<OutcomeFigures> {
    let ended = all.dispositions.clone().into_iter();
    let figures = ended.map(|(disposition, calls)| OutcomeFigures { disposition, calls });
    figures.collect()
}

/// Every step, also those without a call.
fn series(window: Window, from: Timestamp, steps: &BTreeMap<i64, Figures>) -> Vec<Point> {
    let step = window.step_minutes * MINUTE_MS;
    let first = from.as_millisecond().div_euclid(step) * step;
    let n = window.minutes / window.step_minutes + 1;
    let points = (0..n).filter_map(|i| {
        let starts_at = first + i * step;
        let figures = steps.get(&starts_at);
        let times = figures.and_then(|figures| figures.stages.get("routing"));
        Some(Point {
            at: Timestamp::from_millisecond(starts_at).ok()?,
            calls: figures.map_or(0, |figures| figures.calls),
            failed: figures.map_or(0, |figures| figures.failed),
            p95_ms: times.and_then(|times| times.percentile_ms(95)),
        })
    });
    points.collect()
}

/// A share of a whole, to four digits.
pub(in super::super) fn rate(part: i64, whole: i64) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of calls are far below 2^52"
    )]
    let share = part as f64 / whole as f64;
    (whole > 0).then_some((share * 10_000.0).round() / 10_000.0)
}
