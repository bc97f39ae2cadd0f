//! `/quality`: what came of calls, by what they have in common, and what old scores cost.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::fields::CheckedFields;
use super::metrics::rate;
use super::page::{Data, data};
use super::reads::Reads;
use crate::flow::Calls;
use crate::store::{Dimension, QualityGroup, QualitySums, add_sums};

const HOUR_MS: i64 = 3_600_000;
/// How far back, where nobody says so.
const DEFAULT_MS: i64 = 28 * 24 * HOUR_MS;
/// A rate or a mean of fewer calls says little.
const SAMPLE: i64 = 30;
/// What calls are counted by.
const GROUPINGS: [(&str, Dimension); 6] = [
    ("rule", Dimension::Rule),
    ("dialer", Dimension::Dialer),
    ("tier", Dimension::Tier),
    ("number", Dimension::Number),
    ("hour", Dimension::All),
    ("day", Dimension::All),
];

/// Which calls, and by what.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct QualityParams {
    /// `rule`, where it is absent; `dialer` (that was dialled last), `tier`, `number` (that was called), `hour` (of the week) or `day`.
    #[param(pattern = "^(rule|dialer|tier|number|hour|day)$", example = "rule")]
    by: Option<String>,
    /// Arrived in this hour or later; 28 days before `to` where it is absent.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Arrived before the end of this hour; now where it is absent.
    #[param(format = DateTime)]
    to: Option<String>,
    /// `csv` gives the rows as a table; else `json`.
    #[param(pattern = "^(json|csv)$", example = "json")]
    format: Option<String>,
}

/// What came of calls. A call counts in the hour in which it arrived.
#[derive(Serialize, ToSchema)]
struct Quality {
    by: &'static str,
    /// The beginning of the first hour that is counted.
    from: Timestamp,
    /// The end of the last one.
    to: Timestamp,
    /// Whose days and hours are counted.
    #[schema(example = "Europe/Berlin")]
    zone: String,
    /// Rates of fewer calls are sparse.
    minimum_sample: i64,
    rows: Vec<QualityRow>,
    /// What it cost that scores were not fresh, by why.
    staleness: Vec<OldScores>,
}

/// Calls that have something in common. Rates are 0 to 1, null of no calls; so are means.
#[derive(Default, Serialize, ToSchema)]
struct QualityRow {
    /// The rule, or `(default)`; the dialer, or `last_resort`; the tier; the number, masked; `mon 08` for Mondays from 8 to 9; the day, `2026-11-26`.
    /// Null for none.
    #[schema(example = "hot leads")]
    name: Option<String>,
    /// Of a number: the filter of `/calls` by which its calls are found.
    #[schema(example = "1")]
    called_id: Option<String>,
    /// Of a day: when the first of its hours begins that is counted.
    from: Option<Timestamp>,
    /// Of a day: when the last of them ends.
    to: Option<Timestamp>,
    calls: i64,
    /// Those that are over: seizures.
    ended: i64,
    /// Those that an agent answered.
    answered: i64,
    /// ASR (ITU-T E.425): the share of seizures that were answered.
    answer_seizure_ratio: Option<f64>,
    /// From the agent's answer to the end, of answered calls.
    mean_talk_s: Option<f64>,
    /// From arrival to the agent's answer, of answered calls.
    mean_answer_s: Option<f64>,
    /// Those whose caller left first.
    abandoned: i64,
    /// Their share of seizures.
    abandonment_ratio: Option<f64>,
    /// From arrival until they left.
    mean_abandon_s: Option<f64>,
    /// Fewer calls are over than `minimum_sample`.
    is_sparse: bool,
}

/// Calls that an old score or none decided.
#[derive(Serialize, ToSchema)]
struct OldScores {
    /// `stale`, or why there was no score: `timeout`, `breaker_open`, `server_error` …
    #[schema(example = "stale")]
    cause: String,
    calls: i64,
    /// Those for which a fresh one came later.
    fresh: i64,
    /// Those of them that would have gone elsewhere with it, by the rules of the call.
    elsewhere: i64,
}

/// What came of calls by rule, dialer, tier, called number, hour of the week or day, and what old scores cost.
///
/// Times are whole hours of UTC: `from` is rounded down, `to` up. In a zone that is half an hour off, an hour counts where it begins.
#[utoipa::path(
    get,
    path = "/quality",
    params(QualityParams),
    responses((status = 200, description = "The figures.", content((Data<Quality> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn quality(
    _: Viewer,
    State(reads): State<Reads>,
    State(calls): State<Calls>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let grouping = fields.one_of("by", &GROUPINGS, |(name, _)| name);
    let (from, to) = (fields.time("from"), fields.time("to"));
    let format = fields.one_of("format", &["json", "csv"], |format| format);
    fields.verdict()?;
    let (by, dimension) = grouping.unwrap_or(("rule", Dimension::Rule));
    let hours = whole_hours(from, to, reads.clock.now());
    let zone = calls.loads.zone();
    let groups = reads.ask(reads.store.quality(dimension, hours)).await?;
    let scores = reads.store.quality(Dimension::Score, hours);
    let scores = reads.ask(scores).await?;
    let rows: Vec<QualityRow> = if dimension == Dimension::All {
        by_time(by == "day", groups, &zone)
    } else {
        groups.into_iter().map(named).collect()
    };
    if format == Some("csv") {
        return table(by, &rows).map_err(|_| ApiError::internal());
    }
    let [from, to] = hours.map(|ms| Timestamp::from_millisecond(ms).unwrap_or_default());
    let old = |group: QualityGroup| {
        let ([calls, .., fresh, elsewhere], cause) = (group.sums, group.name);
        OldScores {
            cause,
            calls,
            fresh,
            elsewhere,
        }
    };
    let staleness = scores.into_iter().map(old).collect();
    Ok(data(Quality {
        by,
        from,
        to,
        zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        minimum_sample: SAMPLE,
        rows,
        staleness,
    }))
}

/// From which hour to which, in milliseconds.
fn whole_hours(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> [i64; 2] {
    let down = |ms: i64| ms.div_euclid(HOUR_MS) * HOUR_MS;
    let to = to.map_or(now.as_millisecond() + 1, Timestamp::as_millisecond);
    let to = down(to + HOUR_MS - 1);
    let from = from.map_or(to - DEFAULT_MS, Timestamp::as_millisecond);
    [down(from).min(to), to]
}

fn named(group: QualityGroup) -> QualityRow {
    let name = Some(group.name).filter(|name| !name.is_empty());
    if group.number.is_none() {
        return QualityRow::new(name, group.sums);
    }
    let called_id = name;
    let row = QualityRow::new(group.number, group.sums);
    QualityRow { called_id, ..row }
}

/// The rows of days or hours of the week, from those of hours.
fn by_time(is_by_day: bool, hours: Vec<QualityGroup>, zone: &TimeZone) -> Vec<QualityRow> {
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
    // A weekday's number comes first, so that weeks begin with Monday.
    let form = if is_by_day { "%Y-%m-%d" } else { "%u%a %H" };
    let mut times: BTreeMap<String, (i64, i64, QualitySums)> = BTreeMap::new();
    for group in hours {
        let hour: i64 = group.name.parse().unwrap_or_default();
        let name = at(hour).to_zoned(zone.clone()).strftime(form).to_string();
        let (_, end, sums) = times.entry(name).or_insert((hour, hour, [0; 10]));
        *end = hour + HOUR_MS;
        add_sums(sums, group.sums);
    }
    let row = |(name, (from, to, sums)): (String, (i64, i64, QualitySums))| {
        if is_by_day {
            let (from, to) = (Some(at(from)), Some(at(to)));
            let row = QualityRow::new(Some(name), sums);
            return QualityRow { from, to, ..row };
        }
        let name = name.get(1..).unwrap_or_default().to_lowercase();
        QualityRow::new(Some(name), sums)
    };
    times.into_iter().map(row).collect()
}

impl QualityRow {
    fn new(name: Option<String>, sums: QualitySums) -> Self {
        let [
            calls,
            ended,
            answered,
            timed,
            wait,
            talk,
            abandoned,
            left,
            ..,
        ] = sums;
        Self {
            name,
            calls,
            ended,
            answered,
            answer_seizure_ratio: rate(answered, ended),
            mean_talk_s: mean_s(talk, timed),
            mean_answer_s: mean_s(wait, timed),
            abandoned,
            abandonment_ratio: rate(abandoned, ended),
            mean_abandon_s: mean_s(left, abandoned),
            is_sparse: ended < SAMPLE,
            ..Self::default()
        }
    }
}

/// A mean in seconds, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "2^52 ms are long")]
fn mean_s(sum_ms: i64, n: i64) -> Option<f64> {
    (n > 0).then(|| (sum_ms as f64 / n as f64).round() / 1_000.0)
}

fn table(by: &str, rows: &[QualityRow]) -> csv::Result<Response> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows {
        table.serialize(row)?;
    }
    let table = table
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?;
    let name = format!("attachment; filename=\"quality-{by}.csv\"");
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, table).into_response())
}
