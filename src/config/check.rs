//! What `check-config` says of a file.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::context::ConfidentialFile;
use super::{Loaded, Problem, Rejected};

/// Everything that `check-config` says; serializes to `{ok, findings: […]}`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the file would be taken.
    pub ok: bool,
    /// Errors and warnings, in the order of the file.
    pub findings: Vec<Problem>,
    #[serde(skip)]
    path: PathBuf,
    /// The line of each finding.
    #[serde(skip)]
    excerpts: Vec<Option<String>>,
}

/// Reads and checks the file. Nothing is bound, and nothing is opened but the file, its secrets, and the certificates and keys that it names.
pub fn report(path: &Path) -> Report {
    match super::open(path) {
        Ok((file, context)) => {
            let parsed = super::parse(&file.text, &context.opening_files().telling_placeholders());
            Report::new(path, &file.text, parsed)
        }
        Err(rejected) => Report::new(path, "", Err(rejected)),
    }
}

impl Report {
    fn new(path: &Path, text: &str, outcome: Result<Loaded, Rejected>) -> Self {
        let (ok, findings) = match outcome {
            Ok(loaded) => (true, loaded.warnings),
            Err(rejected) => (false, rejected.problems),
        };
        Self {
            ok,
            path: path.to_owned(),
            excerpts: findings
                .iter()
                .map(|found| excerpt_of(text, found))
                .collect(),
            findings,
        }
    }

    /// The problems for people, each with its line of the file and a caret below the column.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (problem, excerpt) in self.findings.iter().zip(&self.excerpts) {
            text.push_str(&problem.render(&self.path));
            text.push('\n');
            text.push_str(excerpt.as_deref().unwrap_or_default());
        }
        text
    }
}

/// The line of a problem, in whichever file it stands; `text` is that of the main one.
fn excerpt_of(text: &str, problem: &Problem) -> Option<String> {
    match &problem.file {
        None => excerpt(text, problem),
        Some(path) => excerpt(&ConfidentialFile::read(path).ok()?.text, problem),
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
    let is_double = problem.message.ends_with(super::problem::TWICE);
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
