//! Who used the API in a way that somebody may have to account for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One such use. Keys stand here by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Access {
    /// A key was exchanged for a session.
    LoggedIn {
        by: String,
        /// The address it came from.
        source: String,
    },
    /// Somebody was refused, once or many times: with something that is no key, or with one that may not do what was asked.
    Refused {
        /// The address it came from, or the network where several of it did (IPv4 /24, IPv6 /48).
        source: String,
        times: u64,
        /// How often for which reason.
        reasons: BTreeMap<String, u64>,
        /// The known keys among them; at most ten.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<String>,
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
        by: String,
        /// The route that was asked.
        route: String,
        /// How many calls were shown.
        calls: u64,
        request_id: String,
    },
    /// Calls were searched for by more digits of a caller's number than its masked form shows.
    NumbersSearched { by: String, request_id: String },
    /// A person was erased.
    CallerErased { by: String, request_id: String },
    /// What Braze knows of a number was shown.
    CustomerShown {
        by: String,
        phone: String,
        /// Whether what Braze calls the person was shown in full.
        revealed: bool,
        request_id: String,
    },
    /// What is remembered of a number was dropped by hand.
    CustomerForgotten {
        by: String,
        phone: String,
        request_id: String,
    },
}
