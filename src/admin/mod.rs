//! Local control of a running server: commands that have to write go to the process that holds the database.
//!
//! A unix socket lies beside the database, for the owner of the process and for root. A client sends one line of JSON, a [`ControlRequest`], and gets lines
//! of JSON, each a [`Reply`]: any number of `progress`, then one `done` or `refused`.

mod client;
mod handlers;
mod quiet;
mod server;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::audit::{Drained, Exported};
use crate::flow::{ListDocument, ListEntryDocument, TakeOut};
use crate::phone::E164;
use crate::routing::RulesetVersion;

pub use client::{AskError, ask};
pub use handlers::{ControlHandlers, ControlPeer};
pub use server::{ControlServer, start};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum ControlRequest {
    Reload {
        /// The service manager has it read.
        systemd: bool,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// Write other rules into the file of `[routing]` and bring them into force.
    PublishRules {
        /// The whole text of that file.
        text: Option<String>,
        /// Or a version that was in force before.
        version: Option<RulesetVersion>,
        /// The version that the text was started from.
        based_on: Option<RulesetVersion>,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// What a decision would know of a call that is supposed to come, but for the look-up.
    Suppose {
        /// Who calls, as a carrier writes it; `None` where that is of no interest.
        from: Option<String>,
        /// What is called.
        to: Option<String>,
        at: Timestamp,
    },
    /// Which process this is, and how its store is doing.
    Status,
    /// Which of Twilio's webhooks were refused last, and why.
    RejectedWebhooks,
    Retry {
        /// Of which dialer; `None`: of Braze.
        dialer: Option<String>,
    },
    /// Delete records past retention, or say what would go.
    Prune {
        /// What is older than so many milliseconds; `None`: what the policy says.
        older_than_ms: Option<u64>,
        dry_run: bool,
    },
    /// Compare the log with Twilio's list of calls.
    CheckCompleteness {
        /// The first day, UTC.
        from: Date,
        /// The last, included.
        to: Date,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// Change the installation's secret, or tell how far that is.
    RotateSecret {
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// Write down that records are exported with numbers in the clear.
    RecordExport { exported: Exported },
    /// Show a list of callers, or change its entries.
    List {
        list: String,
        #[serde(flatten)]
        action: ListCommand,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// Take a dialer out, or put it back.
    Drain {
        dialer: String,
        /// Why and how long, as the API reads it; `None`: it is put back.
        out: Option<TakeOut>,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// Have nobody told of some incidents for a while, or show what is muted.
    Mute {
        /// What, as the API reads it.
        new: Option<serde_json::Value>,
        /// The name of a mute that is to be ended.
        end: Option<String>,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// The keys that were made while the process runs.
    Keys {
        /// The name of the one to revoke first.
        revoke: Option<String>,
        /// Who became root to ask, as `sudo` says; believed from root only.
        sudo_user: Option<String>,
    },
    /// Forget a person: a number, or whatever else a carrier calls a caller.
    Erase {
        /// The caller, as a carrier sends it.
        caller: String,
        /// Only say what is known of them.
        #[serde(default)]
        dry_run: bool,
    },
}

/// What is to be done with a list of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum ListCommand {
    Show {
        /// With its numbers in full, which is recorded.
        reveal: bool,
    },
    Add {
        number: E164,
        why: Option<String>,
        /// From then on it does not count any more.
        until: Option<Timestamp>,
    },
    Remove {
        number: E164,
    },
}

/// How it stands with a dialer: what `drain` and `resume` print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedDialer {
    pub dialer: String,
    /// `None`: it is in use.
    pub drained: Option<Drained>,
    /// No dialer takes calls any more: callers are held.
    pub callers_held: bool,
}

/// A list with its entries: what `list show` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownList {
    #[serde(flatten)]
    pub list: ListDocument,
    /// The newest first.
    pub shown: Vec<ListEntryDocument>,
}

/// What `list add` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedEntry {
    pub list: String,
    #[serde(flatten)]
    pub entry: ListEntryDocument,
    /// Whether the number was not on the list before.
    pub new: bool,
}

/// What `list remove` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedEntry {
    pub list: String,
    pub removed: bool,
}

/// How it stands with a service whose refused credentials were to be tried: what `retry` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retried {
    /// `braze`, or the dialer's name.
    pub service: String,
    /// Whether its credentials were refused before.
    pub was_refused: bool,
    /// Whether they are not, or no longer.
    pub ok: bool,
    /// Which, and what the service said, where they still are.
    pub message: Option<String>,
    /// When they are tried again, where they still are.
    pub next_try_at: Option<Timestamp>,
}

/// What comes back, a line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Progress(Progress),
    /// It is done: the document that the command prints with `--json`.
    Done(serde_json::Value),
    Refused(Refusal),
}

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps that are done; the unit is the command's own.
    pub done: u64,
    /// All of them, as far as is known.
    pub total: u64,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What whoever asked can do about it.
    pub cause: RefusalCause,
    /// Why, in words for the person at the terminal.
    pub message: String,
}

/// What whoever asked can do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCause {
    /// Ask otherwise: the request makes no sense to this server.
    Request,
    Busy,
    /// It was tried and failed.
    Failed,
}

impl Refusal {
    /// The request makes no sense.
    pub fn request(message: impl Into<String>) -> Self {
        Self {
            cause: RefusalCause::Request,
            message: message.into(),
        }
    }

    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            cause: RefusalCause::Failed,
            message: message.into(),
        }
    }

    fn busy() -> Self {
        Self {
            cause: RefusalCause::Busy,
            message: "the server is busy with other commands; try again in a moment".to_owned(),
        }
    }
}

/// Where the server of a database listens.
pub fn socket_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".sock");
    path.into()
}
