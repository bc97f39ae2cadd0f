//! Records as text, to the spool and back.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::audit::{CallAfter, Event, Kind, Record};
use crate::call::CallId;
use crate::store::callers::PlainPersonal;
use crate::store::error::StoreError;
use crate::store::work::{self, PreparedRecord};

#[derive(Serialize, Deserialize)]
struct SpooledRecord<'r> {
    created_at: i64,
    kind: Cow<'r, str>,
    call_sid: Option<Cow<'r, str>>,
    personal: Option<Box<RawValue>>,
    #[serde(borrow)]
    detail: &'r RawValue,
    /// Where it leaves its call: that is not in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Cow<'r, CallAfter>>,
}

pub(in crate::store) fn write(records: &[PreparedRecord]) -> serde_json::Result<Vec<u8>> {
    let written: serde_json::Result<Vec<_>> = records
        .iter()
        .map(|record| {
            let personal = record.personal.as_ref().map(PlainPersonal::json);
            Ok(SpooledRecord {
                created_at: record.created_at,
                kind: record.kind.as_str().into(),
                call_sid: record.call.as_ref().map(|call| call.as_str().into()),
                personal: personal.transpose()?,
                detail: serde_json::from_str(&record.detail)?,
                after: record.effect.after().map(Cow::Borrowed),
            })
        })
        .collect();
    serde_json::to_vec(&written?)
}

/// The records again, as if they had just been submitted; each says that it was spooled.
pub(in crate::store) fn read(text: &[u8]) -> Result<Vec<PreparedRecord>, StoreError> {
    let read: Vec<SpooledRecord<'_>> =
        serde_json::from_slice(text).map_err(|error| StoreError::Rejected(error.into()))?;
    read.into_iter()
        .map(|read| {
            let record = read.record()?;
            let mut prepared = work::prepare(record)?;
            let spooled = SpooledMark { spooled: true };
            prepared.detail = work::with_fields(read.detail.get(), &spooled)
                .map_err(|error| StoreError::Rejected(error.into()))?;
            Ok(prepared)
        })
        .collect()
}

impl SpooledRecord<'_> {
    fn record(&self) -> Result<Record, StoreError> {
        let unknown = |what: &str| StoreError::Rejected(what.into());
        let unreadable = |error: serde_json::Error| StoreError::Rejected(error.into());
        let kind =
            Kind::from_name(&self.kind).ok_or_else(|| unknown("a kind of a later version"))?;
        let call_id = self.call_sid.as_deref().map(CallId::parse).transpose();
        let personal = self.personal.as_ref();
        let personal = personal.map(|raw| serde_json::from_str(raw.get()));
        Ok(Record {
            at: Timestamp::from_millisecond(self.created_at)
                .map_err(|_| unknown("a time beyond the calendar"))?,
            call_id: call_id.map_err(|_| unknown("no call id"))?,
            personal: personal.transpose().map_err(unreadable)?,
            event: Event::from_detail(kind, self.detail.get()).map_err(unreadable)?,
            after: self.after.clone().map(Cow::into_owned).map(Box::new),
        })
    }
}

/// It was written to the database later than it happened, out of the spool.
#[derive(Serialize)]
struct SpooledMark {
    spooled: bool,
}
