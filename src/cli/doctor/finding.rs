//! What a check found: the outcome, what it means, and what to do next.

use serde::Serialize;

use super::output;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) severity: Severity,
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
pub(super) enum Severity {
    Ok,
    Warning,
    Error,
}

impl Severity {
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
            severity: Severity::Ok,
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
            severity: Severity::Warning,
            hint: Some(hint.into()),
            ..Self::well(check, message)
        }
    }

    pub(super) fn error(check: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
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

    pub(super) fn print(&self) {
        let mark = self.severity.mark();
        output::line(&format!("{mark} {}: {}", self.check, self.message));
        if let Some(hint) = &self.hint {
            output::line(&format!("        {hint}"));
        }
    }
}
