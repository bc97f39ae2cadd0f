//! Who used the API in a way that somebody may have to account for.

use serde::{Deserialize, Serialize};

/// One such use. Keys stand here by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Access {
    /// A key was exchanged for a session.
    LoggedIn {
        /// The key.
        by: String,
        /// The address it came from.
        source: String,
    },
    /// Somebody tried, with something that is no key.
    Refused {
        /// The address it came from.
        source: String,
    },
    /// A session was ended by its holder.
    LoggedOut {
        /// The key that the session stood for.
        by: String,
        /// The address it came from.
        source: String,
    },
    /// Numbers of callers were shown in full.
    NumbersRevealed {
        /// The key.
        by: String,
        /// The route that was asked.
        route: String,
        /// How many calls were shown.
        calls: u64,
        /// The request.
        request_id: String,
    },
}
