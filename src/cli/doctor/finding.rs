//! What a check found: the outcome, what it means, and what to do next.

use serde::Serialize;

use crate::cli::frame::{Exit, Global};
use crate::cli::output;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    severity: FindingSeverity,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
    /// It may be well a little later, with nothing done.
    #[serde(skip)]
    pub(super) is_temporary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum FindingSeverity {
    Ok,
    Warning,
    Error,
}

impl FindingSeverity {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok     ",
            Self::Warning => "warning",
            Self::Error => "ERROR  ",
        }
    }
}

impl Finding {
    pub(super) fn well(check: &str, message: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            severity: FindingSeverity::Ok,
            message: message.into(),
            hint: None,
            line: None,
            column: None,
            is_temporary: false,
        }
    }

    pub(super) fn warning(
        check: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            severity: FindingSeverity::Warning,
            hint: Some(hint.into()),
            ..Self::well(check, message)
        }
    }

    pub(super) fn error(check: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: FindingSeverity::Error,
            ..Self::warning(check, message, hint)
        }
    }

    /// The same, where it may be well a little later.
    pub(super) fn for_now(self) -> Self {
        Self {
            is_temporary: true,
            ..self
        }
    }

    fn print(&self) {
        let mark = self.severity.mark();
        output::line(&format!("{mark} {}: {}", self.check, self.message));
        if let Some(hint) = &self.hint {
            output::line(&format!("        {hint}"));
        }
    }
}

#[derive(Debug, Serialize)]
struct DoctorRun {
    ok: bool,
    findings: Vec<Finding>,
}

/// Prints the findings, and says how to end: what could only not be asked now is worth another try.
pub(super) fn conclude(findings: Vec<Finding>, global: &Global) -> anyhow::Result<Exit> {
    let errors = || {
        let graver = findings.iter();
        graver.filter(|finding| finding.severity == FindingSeverity::Error)
    };
    let exit = if errors().next().is_none() {
        Exit::Done
    } else if errors().all(|finding| finding.is_temporary) {
        Exit::TryAgain
    } else {
        Exit::Failed
    };
    if global.json {
        output::document(&DoctorRun {
            ok: exit == Exit::Done,
            findings,
        })?;
    } else {
        for finding in &findings {
            finding.print();
        }
        let count = |severity| {
            let found = findings.iter();
            found.filter(|finding| finding.severity == severity).count()
        };
        output::line(&format!(
            "{} checks: {} errors, {} warnings",
            findings.len(),
            count(FindingSeverity::Error),
            count(FindingSeverity::Warning)
        ));
    }
    Ok(exit)
}
