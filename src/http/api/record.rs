//! One audit record, as the API gives it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::audit::{Kind, RecordSeverity, severity};
use crate::call::CallId;
use crate::phone::Caller;
use crate::store::StoredRecord;

/// One audit record.
#[derive(Serialize, ToSchema)]
#[schema(as = LogRecord)]
pub(in super::super) struct RecordDocument {
    /// Its place in the audit log, from 1, without gaps.
    id: i64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What kind of record it is.
    #[schema(example = "call_decided")]
    kind: &'static str,
    /// How much it matters.
    severity: RecordSeverity,
    /// The call it belongs to.
    #[schema(value_type = Option<String>)]
    call_id: Option<CallId>,
    /// The caller, masked, where the record names one.
    caller: Option<String>,
    /// What happened: a document that depends on the kind. Secrets and personal data are not in it.
    #[schema(value_type = Object)]
    detail: Value,
    /// Its hash in the audit chain, in hexadecimal digits.
    hash: String,
}

impl RecordDocument {
    pub(in super::super) fn new(record: StoredRecord) -> Self {
        let mut detail: Value = serde_json::from_str(&record.detail).unwrap_or(Value::Null);
        if let (Kind::ConfigChanged, Value::Object(fields)) = (record.kind, &mut detail) {
            // The whole configuration with its paths, for the comparison at the next start.
            fields.remove("in_force");
        }
        let caller = record.personal.as_ref().and_then(|p| p.caller.as_deref());
        Self {
            id: record.id,
            at: record.at,
            kind: record.kind.as_str(),
            severity: severity(record.kind, &record.detail),
            caller: caller.map(|caller| Caller::classify(caller).masked()),
            call_id: record.call_id,
            detail,
            hash: hex::encode(record.hash),
        }
    }

    /// A text of its payload; empty where there is none of that name.
    pub(in super::super) fn field(&self, name: &str) -> String {
        let text = self.detail.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    }
}
