//! `/logs`: the audit records, and the whole trace of a call.
#![expect(
    unused_qualifications,
    reason = "the description of parameters expands to qualified names"
)]

use axum::extract::{Path, State};
use axum::response::Response;
use utoipa::IntoParams;

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::calls::{CallDocument, search};
use super::fields::CheckedFields;
use super::page::{Data, List, PageParams, PageRequest, data};
use super::reads::Reads;
use super::record::RecordDocument;
use super::reveal::Numbers;
use super::trace::CallTrace;
use crate::audit::{Kind, RecordSeverity};
use crate::call::CallId;
use crate::flow::Policies;
use crate::store::{CallSearch, RecordsAsked};

/// Which records. Without a field, records are not filtered by it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct LogsParams {
    /// Of this call.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "CA0123456789abcdef0123456789abcdef"
    )]
    call_id: Option<String>,
    /// The one with this number.
    #[param(minimum = 1)]
    record: Option<i64>,
    /// Of this kind, such as `call_decided` or `handoff_concluded`.
    #[param(schema_with = kinds)]
    kind: Option<String>,
    /// Of this severity.
    severity: Option<RecordSeverity>,
    /// Made at or after this time, ISO 8601.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Made before this time, ISO 8601.
    #[param(format = DateTime)]
    to: Option<String>,
    /// Searches a caller's number (the records of their 100 newest calls, or of the 100 before `to`), a call id, or the beginning of one.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^(\\+[1-9][0-9]{6,14}|[A-Za-z0-9_-]+)$"
    )]
    q: Option<String>,
}

fn kinds() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(Kind::ALL.iter().map(|kind| kind.as_str())))
        .build()
}

fn records_asked(fields: &mut CheckedFields) -> RecordsAsked {
    RecordsAsked {
        call: fields.read("call_id", |text| {
            CallId::parse(text).map_err(|_| "must be a call id".to_owned())
        }),
        kind: fields.one_of("kind", Kind::ALL, Kind::as_str),
        severity: fields.one_of("severity", RecordSeverity::ALL, RecordSeverity::as_str),
        from: fields.time("from"),
        to: fields.time("to"),
        caller: None,
        id_prefix: None,
        id: fields.read("record", |text| {
            let number = text.parse().ok().filter(|id| *id > 0);
            number.ok_or_else(|| "must be the number of a record".to_owned())
        }),
    }
}

/// Audit records, newest first.
///
/// Filters are tried on 2,000 records at a time: the page may then be short, and its `next_cursor` goes on. Where a caller has more than 100
/// calls, `total_is_exact` is false, and `to` reaches the older ones.
#[utoipa::path(
    get,
    path = "/logs",
    tag = "logs",
    params(LogsParams, PageParams),
    responses((status = 200, description = "A page of audit records.", body = List<RecordDocument>))
)]
pub(super) async fn list(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let asked = records_asked(&mut fields);
    let (search, page) = (fields.read("q", search), PageRequest::read(&mut fields));
    fields.verdict()?;
    let asked = reads.found(asked, search).await?;
    let rows = reads.records(asked, page.part()).await?;
    Ok(page.list(rows, RecordDocument::new))
}

impl Reads {
    /// Which records a search means.
    async fn found(
        &self,
        asked: RecordsAsked,
        search: Option<CallSearch>,
    ) -> Result<RecordsAsked, ApiError> {
        match search {
            None => Ok(asked),
            // A whole id has an index.
            Some(CallSearch::IdPrefix(prefix)) => match CallId::parse(&prefix) {
                Ok(call) if asked.call.is_none() && self.call(&call).await?.is_some() => {
                    Ok(RecordsAsked {
                        call: Some(call),
                        ..asked
                    })
                }
                Ok(_) | Err(_) => Ok(RecordsAsked {
                    id_prefix: Some(prefix),
                    ..asked
                }),
            },
            Some(CallSearch::Caller(caller)) => Ok(RecordsAsked {
                caller: Some(caller),
                ..asked
            }),
        }
    }
}

/// The whole trace of a call: what was known, how it was decided, what was asked outside, what was answered, and where the time went.
#[utoipa::path(
    get,
    path = "/logs/{call_id}",
    tag = "logs",
    params(("call_id" = String, Path, description = "Twilio's CallSid, or the id that the JSON door gave.")),
    responses((status = 200, description = "The trace.", body = Data<CallTrace>))
)]
pub(super) async fn of_call(
    _: Viewer,
    State(reads): State<Reads>,
    State(policies): State<Policies>,
    Path(call_id): Path<String>,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found("There is no such call.");
    let call_id = CallId::parse(&call_id).map_err(|_| unknown())?;
    let records = reads.records_of_call(&call_id).await?;
    let call = reads.call(&call_id).await?;
    if records.is_empty() && call.is_none() {
        return Err(unknown());
    }
    let shown = call.map(|(call, legs)| CallDocument::new(call, legs, Numbers::Masked));
    Ok(data(CallTrace::new(
        call_id,
        shown,
        records,
        policies.current().budget,
    )))
}
