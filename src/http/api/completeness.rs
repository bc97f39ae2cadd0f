//! `/completeness`: whether every call that Twilio had stands in the log.

use axum::extract::State;
use axum::response::Response;
use utoipa::IntoParams;

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::fields::CheckedFields;
use super::page::{List, PageParams, PageRequest};
use super::reads::Reads;
use crate::audit::{CompletenessFinding, Event, Kind};
use crate::store::{Part, RecordsAsked, Rows, StoredRecord};

/// Which comparison.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct CompletenessParams {
    /// That which the record of this number states; without it, the newest.
    #[param(minimum = 1)]
    record: Option<i64>,
}

/// The findings of a comparison with Twilio's list of calls, by call: the first 1,000. The comparisons themselves, with their counts, are the records of
/// `/logs?kind=completeness_checked`.
#[utoipa::path(
    get,
    path = "/completeness",
    operation_id = "completeness",
    params(CompletenessParams, PageParams),
    responses((status = 200, description = "A page of its findings.", body = List<CompletenessFinding>))
)]
pub(super) async fn findings(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let id = fields.read("record", |text| {
        let number = text.parse().ok().filter(|id| *id > 0);
        number.ok_or_else(|| "must be the number of a record".to_owned())
    });
    let page = PageRequest::<i64>::read(&mut fields);
    fields.verdict()?;
    let asked = RecordsAsked {
        kind: Some(Kind::CompletenessChecked),
        id,
        ..RecordsAsked::default()
    };
    let newest = Part {
        after: None,
        skip: 0,
        size: 1,
    };
    let found = reads.records(asked, newest).await?;
    let found = match found.rows.first().map(StoredRecord::event) {
        Some(Ok(Event::CompletenessChecked(checked))) => checked.findings,
        _ => Vec::new(),
    };
    let part = page.part();
    let first = part.after.unwrap_or(i64::from(part.skip)).max(0);
    let end = first.saturating_add(i64::from(part.size));
    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
    let rows = found
        .into_iter()
        .skip(usize::try_from(first).unwrap_or(usize::MAX));
    let rows = Rows {
        rows: rows.take(part.size as usize).collect(),
        next: (end < total).then_some(end),
        total,
        total_is_exact: true,
    };
    Ok(page.list(rows, |one| one))
}
