//! Who used the API in a way that somebody may have to account for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What somebody may do: each role may what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See.
    Viewer,
    /// Run the day: take dialers out and put them back, try credentials again, change entries of lists.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// One such use. Keys stand here by their names, people who signed in at the provider by name and subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Access {
    /// A key was exchanged for a session, or somebody came from the provider.
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
    /// The session of somebody whom the provider does not know any more, or who has no role any more, was ended.
    SessionEnded { by: String, why: String },
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
