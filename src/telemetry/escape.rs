//! Text that came from strangers, made harmless: no control character, no line break, no direction trick, no end.

use std::fmt::Write;

/// Bytes that one value may take in a line, as written.
const MAX_VALUE: usize = 2 * 1024;

/// Writes characters until there is no more, or no more room.
fn write_capped(text: &str, out: &mut String, write: impl Fn(char, &mut String)) {
    let end = out.len() + MAX_VALUE;
    for c in text.chars() {
        if out.len() >= end {
            out.push('…');
            return;
        }
        write(c, out);
    }
}

/// Whether a character may do something to a terminal or to the reader's idea of a line.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON string, quotes included.
pub(super) fn json_string(text: &str, out: &mut String) {
    out.push('"');
    write_capped(text, out, |c, out| match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // All harmful characters are of the basic plane, so four digits do.
        c if is_harmful(c) => write_infallibly(out, format_args!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    });
    out.push('"');
}

pub(super) fn plain(text: &str, out: &mut String) {
    write_capped(text, out, |c, out| {
        if is_harmful(c) {
            write_infallibly(out, format_args!("{}", c.escape_unicode()));
        } else {
            out.push(c);
        }
    });
}

/// Appends to a string, which cannot fail.
pub(super) fn write_infallibly(out: &mut String, text: std::fmt::Arguments<'_>) {
    if out.write_fmt(text).is_err() {
        out.push('?');
    }
}
