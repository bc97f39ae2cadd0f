//! From events to lines.

use std::io::Write;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::escape::{json_string, plain, write_infallibly};
use super::fields::{FieldValue, Fields};
use crate::clock::Clock;

/// Bytes of a line after which no further field is begun.
const MAX_LINE: usize = 13 * 1024;

/// Keys that every line has; a field of the same name gets a prefix.
const RESERVED: [&str; 3] = ["timestamp", "level", "target"];

/// Keys that come first, wherever they were said.
const LEADING: [&str; 2] = ["event", "message"];

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people at a terminal.
    Text {
        /// Colored levels: for a terminal whose user did not set `NO_COLOR`.
        colors: bool,
    },
}

/// Writes one line per event.
pub(super) struct Lines {
    format: LineFormat,
    clock: Clock,
    writer: NonBlocking,
}

impl Lines {
    pub(super) fn new(format: LineFormat, clock: Clock, writer: NonBlocking) -> Self {
        Self {
            format,
            clock,
            writer,
        }
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Fields::default();
        event.record(&mut said);
        let around = around(event, &context, &said);
        let own = said.iter().filter(|(key, _)| !LEADING.contains(key));
        let rest = around
            .iter()
            .map(|(key, value)| (*key, value))
            .chain(own.map(|(key, value)| (*key, value)));
        let line = match self.format {
            LineFormat::Json => self.json(event, &said, rest),
            LineFormat::Text { colors } => self.text(event, &said, rest, colors),
        };
        // The buffer is lossy and counts what it drops; there is nobody to tell.
        drop(self.writer.clone().write_all(line.as_bytes()));
    }
}

/// The fields of the spans around an event, outermost first, without those that somebody closer says otherwise.
fn around<S>(
    event: &Event<'_>,
    context: &Context<'_, S>,
    said: &Fields,
) -> Vec<(&'static str, FieldValue)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut found: Vec<(&'static str, FieldValue)> = Vec::new();
    for span in context.event_scope(event).into_iter().flatten() {
        let extensions = span.extensions();
        let Some(fields) = extensions.get::<Fields>() else {
            continue;
        };
        let mut ahead: Vec<_> = fields
            .iter()
            .filter(|(key, _)| said.get(key).is_none())
            .filter(|(key, _)| !found.iter().any(|(name, _)| name == key))
            .cloned()
            .collect();
        ahead.append(&mut found);
        found = ahead;
    }
    found
}

impl Lines {
    fn json<'f>(
        &self,
        event: &Event<'_>,
        said: &'f Fields,
        rest: impl Iterator<Item = (&'static str, &'f FieldValue)>,
    ) -> String {
        let metadata = event.metadata();
        let mut line = String::with_capacity(512);
        write_infallibly(
            &mut line,
            format_args!(
                "{{\"timestamp\":\"{:.3}\",\"level\":\"{}\",\"target\":",
                self.clock.now(),
                level_name(*metadata.level())
            ),
        );
        json_string(metadata.target(), &mut line);
        let leading = LEADING
            .into_iter()
            .filter_map(|key| said.get(key).map(|value| (key, value)));
        for (key, value) in leading.chain(rest) {
            if line.len() > MAX_LINE {
                line.push_str(",\"cut\":true");
                break;
            }
            let prefix = if RESERVED.contains(&key) {
                "field."
            } else {
                ""
            };
            write_infallibly(&mut line, format_args!(",\"{prefix}{key}\":"));
            value.write_json(&mut line);
        }
        line.push_str("}\n");
        line
    }

    fn text<'f>(
        &self,
        event: &Event<'_>,
        said: &Fields,
        rest: impl Iterator<Item = (&'static str, &'f FieldValue)>,
        colors: bool,
    ) -> String {
        let metadata = event.metadata();
        let mut line = String::with_capacity(256);
        let (on, off) = if colors {
            (color(*metadata.level()), "\u{1b}[0m")
        } else {
            ("", "")
        };
        write_infallibly(
            &mut line,
            format_args!("{:.3} {on}{:>5}{off} ", self.clock.now(), metadata.level()),
        );
        match said.get("event") {
            Some(FieldValue::Text(name) | FieldValue::Literal(name)) => plain(name, &mut line),
            None => plain(metadata.target(), &mut line),
        }
        if let Some(FieldValue::Text(message) | FieldValue::Literal(message)) = said.get("message")
        {
            line.push_str(": ");
            plain(message, &mut line);
        }
        for (key, value) in rest {
            if line.len() > MAX_LINE {
                line.push_str(" …");
                break;
            }
            write_infallibly(&mut line, format_args!(" {key}="));
            match value {
                FieldValue::Text(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                    json_string(text, &mut line);
                }
                FieldValue::Text(text) | FieldValue::Literal(text) => plain(text, &mut line),
            }
        }
        line.push('\n');
        line
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}
