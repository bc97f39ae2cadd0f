//! What is wrong with a text as TOML.

use toml::de::Error;

use super::problem::{Problem, ProblemSeverity, position};

/// How what is said of a key ends that stands twice.
pub(super) const TWICE: &str = "stands here a second time";
const DUPLICATE: &str = "duplicate key";

/// Whether the text cannot be read further. After a key that stands twice it can: the first of them counts.
pub(super) fn is_broken(errors: &[Error]) -> bool {
    errors.iter().any(|error| error.message() != DUPLICATE)
}

/// The errors as problems, at most one per line: what follows in a line is mostly a consequence.
pub(super) fn problems(text: &str, errors: &[Error]) -> Vec<Problem> {
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
        });
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

fn describe(text: &str, error: &Error) -> (String, String) {
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
