//! Records that have reached the disk, as whoever watches commits sees them.

use crate::audit::Kind;
use crate::call::CallId;

/// A record that has reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub id: i64,
    /// What kind of record it is.
    pub kind: Kind,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// With this record the call ended.
    pub ended: Option<EndedCall>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCall {
    pub disposition: String,
    /// The dialer that was dialled last.
    pub dialer: Option<String>,
}
