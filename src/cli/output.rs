//! Where a command's words go: results to stdout, everything else to stderr. A reader that stops reading ends the command quietly.

use std::io::{self, Write};

use serde::Serialize;

/// Prints one line of a result.
pub(super) fn line(text: &str) {
    write_line(io::stdout().lock(), text);
}

/// Prints a result of many lines, which ends with its own line break.
pub(super) fn text(text: &str) {
    write_line(io::stdout().lock(), text.trim_end_matches('\n'));
}

/// Prints a result as one JSON document.
pub(super) fn document(document: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(document)?);
    Ok(())
}

/// Prints one line that is not the result.
pub(super) fn complain(text: &str) {
    write_line(io::stderr().lock(), text);
}

fn write_line(mut to: impl Write, text: &str) {
    if writeln!(to, "{text}").and_then(|()| to.flush()).is_err() {
        // Nobody reads any more; the exit code still tells.
    }
}
