//! Asking for another configuration: whoever wants one (a signal, an administrator's request) asks here, and one task answers all.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use crate::audit::ConfigChange;
use crate::routing::RulesetVersion;

/// Requests that may wait; the configuration is read once for each.
const WAITING: usize = 8;

/// Asks for reloads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reloads(Arc<OnceLock<mpsc::Sender<ReloadRequest>>>);

/// One request, for the task that reads the configuration.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who asks: `SIGHUP`, `systemctl`, `key ` and the name of an API key, or `user ` and the name of a user of this machine.
    pub by: String,
    pub wanted: ConfigRequest,
    /// Takes the answer; nobody may be waiting for it any more.
    pub answer: oneshot::Sender<Result<Applied, NotApplied>>,
}

/// What is to be done with the configuration.
#[derive(Clone, Debug)]
pub enum ConfigRequest {
    /// Its files are read again.
    Reload,
    /// Other rules are written into the file of `[routing]` and come into force.
    Publish(Publication),
    /// This text decides beside the rules in force; `None` takes the draft away.
    Draft(Option<String>),
    /// Nothing is to change; the text is wanted that somebody who edits the rules begins with.
    Text,
}

/// Rules to be published.
#[derive(Clone, Debug)]
pub struct Publication {
    pub rules: NewRules,
    /// The version that they were started from; `None` where whoever publishes does not say.
    pub based_on: Option<RulesetVersion>,
}

#[derive(Clone, Debug)]
pub enum NewRules {
    /// The whole text of the file of `[routing]`.
    Text(String),
    /// A version that was in force before.
    Version(RulesetVersion),
}

/// Why nothing came of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    #[error("it is refused: see what is wrong with it")]
    Refused(RefusedReload),
    /// It does not fit how things stand; in words.
    #[error("{0}")]
    Conflict(String),
    /// The configuration does not allow it; in words.
    #[error("{0}")]
    Forbidden(String),
    /// This process reads no file: a demonstration.
    #[error("this process was started without a configuration file")]
    NoFile,
    /// The process is stopping, or others wait already.
    #[error("the configuration cannot be read again now")]
    Busy,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Reloaded)]
pub struct Applied {
    /// What is different now: `{key, from, to, secret}`; empty where the file says what it said before.
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<ConfigChange>,
    /// Keys whose new value takes effect at the next start.
    pub needs_restart: Vec<String>,
    /// What somebody should look at: `{key, message, hint, line, column}`.
    #[schema(value_type = Vec<Object>)]
    pub warnings: Vec<ReloadProblem>,
    /// The version of the rule set in force; of the draft, where one was saved.
    pub ruleset: String,
    /// The text of the rules, where that was asked for. It may name callers.
    #[serde(skip)]
    pub text: String,
}

/// The configuration was refused; the old one is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedReload {
    pub at: Timestamp,
    pub by: String,
    /// Everything that is wrong; without secrets.
    pub problems: Vec<ReloadProblem>,
}

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadProblem {
    /// The dotted key; empty for the file as a whole.
    pub key: String,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column, counted from 1.
    pub column: Option<usize>,
    /// The name of the file, where it is not the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl ReloadProblem {
    /// One line that begins with the file, in the form that editors can jump to.
    pub fn render(&self, path: &Path) -> String {
        let path = self.file.as_deref().map_or(path, Path::new);
        let mut line = format!("{}:", path.display());
        for position in [self.line, self.column].into_iter().flatten() {
            line = format!("{line}{position}:");
        }
        line = format!("{line} {}", self.message);
        match &self.hint {
            Some(hint) => format!("{line}; {hint}"),
            None => line,
        }
    }
}

impl Reloads {
    /// The end at which requests arrive. Only the first who asks gets it.
    pub fn requests(&self) -> Option<mpsc::Receiver<ReloadRequest>> {
        let (queue, requests) = mpsc::channel(WAITING);
        self.0.set(queue).ok().map(|()| requests)
    }

    /// Asks for another configuration; waits for what came of it.
    pub async fn ask(
        &self,
        by: impl Into<String>,
        wanted: ConfigRequest,
    ) -> Result<Applied, NotApplied> {
        let queue = self.0.get().ok_or(NotApplied::NoFile)?;
        let (answer, answered) = oneshot::channel();
        let request = ReloadRequest {
            by: by.into(),
            wanted,
            answer,
        };
        queue.try_send(request).map_err(|_| NotApplied::Busy)?;
        answered.await.map_err(|_| NotApplied::Busy)?
    }
}
