//! What is wrong with a configuration file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ProblemSeverity {
    Error,
    /// The file is taken; somebody should look.
    Warning,
    /// Nothing is wrong; `rules lint` tells it.
    Information,
}

/// One thing that is wrong with a configuration file. Never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The dotted key, like `routing.budget` or `routing.rules[0].tier`; empty, and `file` for scripts, where the text is no
    /// TOML or cannot be read at all.
    #[serde(rename = "check", serialize_with = "check")]
    pub key: String,
    /// Whether the file is refused for it.
    pub severity: ProblemSeverity,
    /// What is wrong: one sentence without a full stop that reads alone.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line in the file, counted from 1. `None` where there is no line to point at, as for a missing section.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// The file, where it is not the main one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

fn check<S: Serializer>(key: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if key.is_empty() { "file" } else { key })
}

impl Problem {
    /// A problem of the file as a whole.
    pub(super) fn of_file(message: String, hint: Option<String>) -> Self {
        Self {
            severity: ProblemSeverity::Error,
            key: String::new(),
            message,
            hint,
            line: None,
            column: None,
            file: None,
        }
    }

    /// Whether it is about `[routing]`.
    pub fn is_of_rules(&self) -> bool {
        self.key == "routing" || self.key.starts_with("routing.")
    }

    /// Whether the file is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == ProblemSeverity::Error
    }

    /// The problem as one line that starts with the file, in the form that editors can jump to:
    /// `config.toml:12:3: error: routing.budgt is not a known key; did you mean budget?` `path` is the main file.
    pub fn render(&self, path: &Path) -> String {
        let path = self.file.as_deref().unwrap_or(path);
        let gap = if self.line.is_some() { "" } else { " " };
        format!("{}:{gap}{self}", path.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
            if let Some(column) = self.column {
                write!(f, "{column}:")?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}", self.severity, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// What is wrong with a value: the rest of a sentence that starts with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a question for the nearest known word, if there is one, and otherwise the hint given.
    #[must_use]
    pub(super) fn nearest<'w>(
        self,
        word: &str,
        known: impl IntoIterator<Item = &'w str>,
        otherwise: impl FnOnce() -> String,
    ) -> Self {
        let hint =
            nearest(word, known).map_or_else(otherwise, |near| format!("did you mean {near}?"));
        self.hint(hint)
    }
}

/// A configuration file that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Every problem that was found, warnings too, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Rejected {
    /// The file was not read to its end.
    pub fn broken_off(why: &dyn fmt::Display) -> Self {
        let message = format!("the configuration was not read: {why}");
        let hint = Some("try it again".to_owned());
        Self {
            problems: vec![Problem::of_file(message, hint)],
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is refused")?;
        let errors = self.problems.iter().filter(|problem| problem.is_error());
        for (idx, problem) in errors.enumerate() {
            f.write_str(if idx == 0 { ": " } else { " | " })?;
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}

/// Line and column of a byte offset, both counted from 1, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let in_line = before.rsplit('\n').next().unwrap_or(before);
    (line, in_line.chars().count() + 1)
}

/// How what is said of a key ends that stands twice.
pub(super) const TWICE: &str = "stands here a second time";
const DUPLICATE: &str = "duplicate key";

/// Whether the text cannot be read further. After a key that stands twice it can: the first of them counts.
pub(super) fn is_broken(errors: &[toml::de::Error]) -> bool {
    errors.iter().any(|error| error.message() != DUPLICATE)
}

/// The errors as problems, at most one per line: what follows in a line is mostly a consequence.
pub(super) fn problems_of_syntax(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let position = error.span().map(|span| position(text, span.start));
        let line = position.map(|(line, _)| line);
        if line.is_some() && problems.iter().any(|problem| problem.line == line) {
            continue;
        }
        let (key, message) = describe(text, error);
        problems.push(Problem {
            severity: ProblemSeverity::Error,
            key,
            message,
            hint: None,
            line,
            column: position.map(|(_, column)| column),
            file: None,
        });
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

fn describe(text: &str, error: &toml::de::Error) -> (String, String) {
    if error.message() == DUPLICATE {
        let name = error
            .span()
            .and_then(|span| text.get(span))
            .unwrap_or("a key");
        return (name.to_owned(), format!("{name} {TWICE}"));
    }
    (
        String::new(),
        format!("this is not TOML: {}", error.message()),
    )
}

/// The nearest of `known`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let tolerance = match word.chars().count() {
        0..=1 => return None,
        2..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice between `-` and `_` are no difference.
fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["budget", "max_hold", "language", "to"];
        for (word, expected) in [
            ("budgt", Some("budget")),
            ("max-hold", Some("max_hold")),
            ("Language", Some("language")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
