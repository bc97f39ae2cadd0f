//! What `check-config` says of a file.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::problem::Severity;
use super::{Loaded, Problem, Rejected};

/// One finding of a check, in the form that scripts read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked: the dotted key, `file` for the file as a whole.
    pub check: String,
    pub severity: Severity,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        let check = match problem.key.as_str() {
            "" => "file",
            key => key,
        };
        Self {
            check: check.to_owned(),
            severity: problem.severity,
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            line: problem.line,
            column: problem.column,
        }
    }
}

/// Everything that `check-config` says; serializes to `{ok, findings: […]}`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the file would be taken.
    pub ok: bool,
    /// Errors and warnings, in the order of the file.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    problems: Vec<(Problem, Option<String>)>,
}

/// Reads and checks the file. Nothing is bound, and nothing is opened but the file, its secrets, and the certificates and keys that it names.
pub fn report(path: &Path) -> Report {
    match super::open(path) {
        Ok((file, context)) => {
            let parsed = super::parse(&file.text, &context.opening_files().telling_placeholders());
            Report::new(path, &file.text, parsed)
        }
        Err(problem) => {
            let problems = vec![problem];
            Report::new(path, "", Err(Rejected { problems }))
        }
    }
}

impl Report {
    fn new(path: &Path, text: &str, outcome: Result<Loaded, Rejected>) -> Self {
        let ok = outcome.is_ok();
        let problems = match outcome {
            Ok(loaded) => loaded.warnings,
            Err(rejected) => rejected.problems,
        };
        Self {
            ok,
            findings: problems.iter().map(Finding::from).collect(),
            path: path.to_owned(),
            problems: problems
                .into_iter()
                .map(|problem| {
                    let excerpt = excerpt(text, &problem);
                    (problem, excerpt)
                })
                .collect(),
        }
    }

    /// The problems for people, each with its line of the file and a caret below the column.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (problem, excerpt) in &self.problems {
            text.push_str(&problem.render(&self.path));
            text.push('\n');
            text.push_str(excerpt.as_deref().unwrap_or_default());
        }
        text
    }
}

/// The line of a problem with a caret below its column. What may be a secret is shown as dots.
fn excerpt(text: &str, problem: &Problem) -> Option<String> {
    let (number, column) = (problem.line?, problem.column?);
    let line = text.split('\n').nth(number - 1)?.trim_end_matches('\r');
    let shown = hide_values(line, problem);
    let indent: String = shown
        .chars()
        .chain(std::iter::repeat(' '))
        .take(column - 1)
        .map(|c| if c == '\t' { c } else { ' ' })
        .collect();
    Some(format!("{number:>5} | {shown}\n      | {indent}^\n"))
}

/// Words in the last part of a key whose value may be a secret.
const SECRET_WORDS: [&str; 8] = [
    "token",
    "secret",
    "key",
    "password",
    "hash",
    "header",
    "credential",
    "auth",
];

/// Whether a key of this name stands in the example file: only what has no such name may be a misspelt secret.
fn is_known_key(name: &str) -> bool {
    const EXAMPLE: &str = include_str!("../../config.example.toml");
    EXAMPLE.lines().any(|line| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let key = line.split_once(" = ").map(|(key, _)| key);
        key == Some(name)
    })
}

/// Values are hidden of keys that hold a secret, and of those that nobody knows, which may be a misspelt secret.
fn hide_values(line: &str, problem: &Problem) -> String {
    let is_header = line.trim_start().starts_with('[') && !line.contains(['=', '"', '\'']);
    let column = problem.column.unwrap_or(1);
    let before: String = line.chars().take(column.saturating_sub(1)).collect();
    let name = line.split('=').next().unwrap_or(line).trim();
    let may_be_secret = |text: &str| {
        let text = text.to_ascii_lowercase();
        SECRET_WORDS.iter().any(|word| text.contains(word))
    };
    // The first of two of the same name counts, so the second may hold anything.
    let is_double = problem.message.ends_with(super::syntax::TWICE);
    let is_about_value = !problem.key.is_empty() && before.contains('=');
    let is_known = is_known_key(name) && !is_double;
    let n_pairs = line.matches('=').count();
    let is_open = (is_about_value || is_known)
        && n_pairs == 1
        && !may_be_secret(name)
        && !may_be_secret(&problem.key);
    if is_header || is_open {
        return line.to_owned();
    }
    let start = line.find('=').map_or(0, |idx| idx + 1);
    let (shown, hidden) = line.split_at_checked(start).unwrap_or(("", line));
    let dots = hidden
        .chars()
        .map(|c| if c.is_alphanumeric() { '·' } else { c });
    shown.chars().chain(dots).collect()
}
