//! What a check found: the outcome, what it means, and what to do next.

use serde::Serialize;

use crate::cli::frame::{Exit, Global, outln};

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
        let mark = match self.severity {
            FindingSeverity::Ok => "ok     ",
            FindingSeverity::Warning => "warning",
            FindingSeverity::Error => "ERROR  ",
        };
        outln!("{mark} {}: {}", self.check, self.message);
        if let Some(hint) = &self.hint {
            outln!("        {hint}");
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
    let of = |severity| findings.iter().filter(move |one| one.severity == severity);
    let mut errors = of(FindingSeverity::Error).peekable();
    let exit = if errors.peek().is_none() {
        Exit::Done
    } else if errors.all(|finding| finding.is_temporary) {
        Exit::TryAgain
    } else {
        Exit::Failed
    };
    let (errors, warnings) = (
        of(FindingSeverity::Error).count(),
        of(FindingSeverity::Warning).count(),
    );
    let run = DoctorRun {
        ok: exit == Exit::Done,
        findings,
    };
    global.print(&run, |DoctorRun { findings, .. }| {
        findings.iter().for_each(Finding::print);
        let n = findings.len();
        outln!("{n} checks: {errors} errors, {warnings} warnings");
    })?;
    Ok(exit)
}
