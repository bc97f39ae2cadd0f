//! One API request and its answer, as recorded: without secrets and without personal data.

use serde::{Deserialize, Serialize, Serializer};

/// One API request to Braze or a dialer and what came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// `braze`, or the dialer's name.
    pub service: String,
    pub method: String,
    /// URL without userinfo and query; ids that identify a person are masked.
    pub url: String,
    /// HTTP status; `None` where no answer came.
    pub status: Option<u16>,
    /// Why no usable answer came, in words, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in milliseconds; recorded to the microsecond.
    #[serde(serialize_with = "to_the_microsecond")]
    pub elapsed_ms: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<serde_json::Value>,
    /// The answer, redacted and cut to what is loggable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<serde_json::Value>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn to_the_microsecond<S: Serializer>(ms: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((ms * 1_000.0).round() / 1_000.0)
}
