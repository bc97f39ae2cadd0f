//! Logs: one line per event, readable alone, and never in the way of a call.
//!
//! Lines go into a bounded buffer that a thread of its own empties into standard error or a daily file. If that thread
//! cannot keep up, because the disk is slow or nobody reads our standard error, or cannot write, because the disk is full,
//! lines are dropped and counted: nobody ever waits for a log line.
//!
//! An event's line carries its own fields and those of the spans around it, `request_id` and `call_sid` above all, each
//! key once: what is said closest to the event wins. Whatever a stranger put into a field, a line stays one line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::clock::Clock;
use files::Files;
pub use lines::LineFormat;
use lines::Lines;

mod escape;
mod fields;
mod files;
mod lines;

/// What is logged, how, and where to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How a line is written.
    pub format: LineFormat,
    /// A level, or directives such as `info,switchboard::flow=debug`.
    pub filter: String,
    /// Where daily files are kept; standard error otherwise.
    pub directory: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: LineFormat::Json,
            filter: "info".to_owned(),
            directory: None,
        }
    }
}

/// Lines that may wait to be written. A line is at most about 16 KiB and usually 300 bytes, so they take 2.5 MB.
const LINES_WAITING: usize = 8_192;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be understood.
    #[error("the log level {filter:?} is neither a level nor a list of target=level")]
    Filter {
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The directory cannot be written.
    #[error("cannot write log files in {}", directory.display())]
    Directory {
        directory: PathBuf,
        source: rolling::InitError,
    },
    /// Somebody else has set up logging in this process.
    #[error("logging is set up already")]
    AlreadyStarted(#[source] TryInitError),
}

/// Logging while it runs. Dropping it writes what waits, for a second at most.
#[derive(Debug)]
#[must_use = "dropping it stops logging"]
pub struct Telemetry {
    _writer: WorkerGuard,
    dropped: DroppedLines,
}

/// Counts the lines that were dropped, because nobody took them or because they could not be written.
#[derive(Clone, Debug)]
pub struct DroppedLines {
    buffer: ErrorCounter,
    unwritten: Arc<AtomicU64>,
    told: Arc<AtomicU64>,
}

impl DroppedLines {
    /// Lines dropped since the start.
    pub fn count(&self) -> u64 {
        self.buffer.dropped_lines() as u64 + self.unwritten.load(Relaxed)
    }

    /// Brings the counter `switchboard_log_lines_dropped_total` up to date; to be called whenever metrics are read.
    pub fn publish(&self) {
        let count = self.count();
        let before = self.told.swap(count, Relaxed);
        metrics::counter!("switchboard_log_lines_dropped_total")
            .increment(count.saturating_sub(before));
    }
}

impl Telemetry {
    /// Lines dropped so far, for metrics.
    pub fn dropped_lines(&self) -> DroppedLines {
        self.dropped.clone()
    }
}

/// Sets up logging for the whole process, panics included: the default hook would write to standard error and wait for
/// its reader.
pub fn start(settings: &Settings, clock: Clock) -> Result<Telemetry, TelemetryError> {
    let filter = parse_filter(&settings.filter)?;
    let (writer, telemetry) = match &settings.directory {
        Some(directory) => {
            let files = Files::open(directory, clock.clone());
            detached(files.map_err(|source| TelemetryError::Directory {
                directory: directory.clone(),
                source,
            })?)
        }
        None => detached(io::stderr()),
    };
    subscriber(settings.format, filter, clock, writer)
        .try_init()
        .map_err(TelemetryError::AlreadyStarted)?;
    log_panics();
    Ok(telemetry)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| TelemetryError::Filter {
            filter: filter.to_owned(),
            source,
        })
}

/// Counts the lines that a writer refuses.
struct CountingWriter<W> {
    writer: W,
    unwritten: Arc<AtomicU64>,
}

impl<W: Write> Write for CountingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    // A line is handed over as a whole.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.writer.write_all(line);
        if written.is_err() {
            self.unwritten.fetch_add(1, Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Puts the buffer and the thread in front of a writer that may block.
fn detached<W: Write + Send + 'static>(writer: W) -> (NonBlocking, Telemetry) {
    let unwritten = Arc::default();
    let writer = CountingWriter {
        writer,
        unwritten: Arc::clone(&unwritten),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING)
        .thread_name("log-writer")
        .finish(writer);
    let telemetry = Telemetry {
        _writer: guard,
        dropped: DroppedLines {
            buffer: writer.error_counter(),
            unwritten,
            told: Arc::default(),
        },
    };
    (writer, telemetry)
}

fn subscriber(
    format: LineFormat,
    filter: EnvFilter,
    clock: Clock,
    writer: NonBlocking,
) -> impl Subscriber + Send + Sync {
    Registry::default()
        .with(filter)
        .with(Lines::new(format, clock, writer))
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("without a message");
        metrics::counter!("switchboard_panics_total").increment(1);
        tracing::error!(
            event = "panic",
            place,
            panic = message,
            "A thread panicked."
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::Read;
    use std::sync::Mutex;
    use std::time::Duration;
    use tracing::{debug, error, info, info_span};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LineFormat, filter: &str, say: impl FnOnce()) -> String {
        let page = Page::default();
        let (writer, telemetry) = detached(page.clone());
        let clock = Clock::manual("2026-11-23T14:06:33.5Z".parse().unwrap());
        let filter = parse_filter(filter).unwrap();
        tracing::subscriber::with_default(subscriber(format, filter, clock, writer), say);
        drop(telemetry);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn json(say: impl FnOnce()) -> Vec<Value> {
        logged(LineFormat::Json, "debug", say)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    #[test]
    fn a_line_has_the_fields_of_the_contract_at_the_top() {
        let line = logged(LineFormat::Json, "info", || {
            let request = info_span!(
                "request",
                request_id = "r1",
                call_sid = tracing::field::Empty
            );
            request.record("call_sid", "CA1");
            let _entered = request.entered();
            info!(target: "switchboard::flow", event = "call.routed", dialer = "berlin", duration_ms = 12_u64, ok = true, "Routed.");
        });
        assert_eq!(
            line,
            concat!(
                r#"{"timestamp":"2026-11-23T14:06:33.500Z","level":"info","target":"switchboard::flow","event":"call.routed","#,
                r#""message":"Routed.","request_id":"r1","call_sid":"CA1","dialer":"berlin","duration_ms":12,"ok":true}"#,
                "\n"
            )
        );
    }

    #[test]
    fn each_key_appears_once_and_the_closest_wins() {
        let lines = logged(LineFormat::Json, "info", || {
            let _request = info_span!("request", request_id = "r1", dialer = "outer").entered();
            let _handoff = info_span!("handoff", dialer = "inner", leg = 1).entered();
            info!(leg = 2, level = "mine", "Said.");
        });
        assert_eq!(lines.matches("\"dialer\"").count(), 1, "{lines}");
        assert_eq!(lines.matches("\"leg\"").count(), 1, "{lines}");
        assert_eq!(lines.matches("\"level\"").count(), 1, "{lines}");
        let line: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(line["dialer"], "inner");
        assert_eq!(line["leg"], 2);
        assert_eq!(line["level"], "info");
        assert_eq!(line["field.level"], "mine");
    }

    #[test]
    fn a_value_recorded_twice_is_told_as_it_is_now() {
        let lines = json(|| {
            let span = info_span!("request", call_sid = "CA1");
            span.record("call_sid", "CA2");
            let _entered = span.entered();
            info!("Said.");
        });
        assert_eq!(lines[0]["call_sid"], "CA2");
    }

    #[test]
    fn nothing_in_a_value_breaks_the_line() {
        let nasty = "a\r\nb\u{1b}[31m\0\"\\\u{7f}\u{9b}\u{2028}\u{202e}é";
        let lines = json(|| {
            let _span = info_span!("request", request_id = nasty).entered();
            error!(caller = nasty, shown = ?nasty, "{nasty}");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["caller"], nasty);
        assert_eq!(lines[0]["request_id"], nasty);
        assert_eq!(lines[0]["message"], nasty);
        for format in [LineFormat::Json, LineFormat::Text { colors: false }] {
            let text = logged(format, "info", || {
                let _span = info_span!("request", request_id = nasty).entered();
                error!(caller = nasty, shown = ?nasty, "{nasty}");
            });
            let text = text.strip_suffix('\n').unwrap();
            let harmful = |c: char| c.is_control() || ['\u{2028}', '\u{202e}'].contains(&c);
            assert!(!text.chars().any(harmful), "{text:?}");
        }
    }

    #[test]
    fn long_values_and_long_lines_are_cut() {
        let long = "é".repeat(100_000);
        let many = || {
            let _a = info_span!("a", a = %long, b = %long, c = %long, d = %long).entered();
            let _b = info_span!("b", e = %long, f = %long, g = %long, h = %long).entered();
            info!(i = %long, j = %long, k = %long, l = %"\0".repeat(9_000), event = "x", "{long}");
        };
        let line = logged(LineFormat::Json, "info", many);
        assert!(line.len() < 17 * 1024, "{}", line.len());
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["event"], "x");
        assert!(line["message"].as_str().unwrap().ends_with('…'));
        let text = logged(LineFormat::Text { colors: false }, "info", many);
        assert!(text.len() < 17 * 1024, "{}", text.len());
    }

    #[test]
    fn numbers_that_json_lacks_are_null_or_text() {
        let lines = json(|| {
            info!(
                nan = f64::NAN,
                half = 0.5,
                wide = u128::MAX,
                low = i64::MIN,
                "Counted."
            );
        });
        assert_eq!(lines[0]["nan"], Value::Null);
        assert_eq!(lines[0]["half"], 0.5);
        assert_eq!(lines[0]["wide"], u128::MAX.to_string());
        assert_eq!(lines[0]["low"], i64::MIN);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let lines = json(|| {
            let cause = io::Error::new(io::ErrorKind::TimedOut, "no answer in 2 s");
            let error = TelemetryError::Directory {
                directory: "/var/log/x".into(),
                source: rolling::RollingFileAppender::builder()
                    .build("/dev/null/x")
                    .unwrap_err(),
            };
            error!(error = &cause as &(dyn std::error::Error + 'static), "One.");
            error!(error = &error as &(dyn std::error::Error + 'static), "Two.");
        });
        assert_eq!(lines[0]["error"], "no answer in 2 s");
        let two = lines[1]["error"].as_str().unwrap();
        assert!(
            two.starts_with("cannot write log files in /var/log/x: "),
            "{two}"
        );
    }

    #[test]
    fn a_bad_directory_is_named() {
        let settings = Settings {
            directory: Some("/dev/null/logs".into()),
            ..Settings::default()
        };
        let error = start(&settings, Clock::system()).unwrap_err();
        assert!(error.to_string().contains("/dev/null/logs"), "{error}");
    }

    #[test]
    fn text_is_for_people() {
        let say = || {
            let _request = info_span!("request", request_id = "r1").entered();
            info!(target: "switchboard::flow", event = "call.routed", dialer = "berlin 1", "Routed.");
        };
        assert_eq!(
            logged(LineFormat::Text { colors: false }, "info", say),
            "2026-11-23T14:06:33.500Z  INFO call.routed: Routed. request_id=r1 dialer=\"berlin 1\"\n"
        );
        let colored = logged(LineFormat::Text { colors: true }, "info", say);
        assert!(colored.contains("\u{1b}[32m INFO\u{1b}[0m"), "{colored:?}");
    }

    #[test]
    fn the_filter_is_followed_and_a_wrong_one_is_named() {
        let said = logged(LineFormat::Json, "warn,switchboard::loud=debug", || {
            info!("unheard");
            debug!(target: "switchboard::loud", "heard");
        });
        assert_eq!(said.lines().count(), 1);
        let error = parse_filter("info,a=shout").unwrap_err();
        assert!(error.to_string().contains("info,a=shout"), "{error}");
    }

    #[test]
    fn a_reader_that_stopped_reading_blocks_nobody() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let (writer, telemetry) = detached(pipe);
        let dropped = telemetry.dropped_lines();
        let filter = parse_filter("info").unwrap();
        let subscriber = subscriber(LineFormat::Json, filter, Clock::system(), writer);
        let clock = Clock::system();
        let started = clock.instant();
        tracing::subscriber::with_default(subscriber, || {
            // A pipe holds 64 KiB, the buffer 8,192 lines.
            for n in 0..LINES_WAITING + 4_000 {
                info!(n, "{}", "x".repeat(100));
            }
        });
        let took = clock.instant() - started;
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(dropped.count() > 1_000, "{}", dropped.count());
        dropped.publish();
        let mut first = [0; 10];
        reader.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"{\"timestam");
        drop(reader);
        drop(telemetry);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_hold_nobody_up() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let (writer, telemetry) = detached(full.unwrap());
        let dropped = telemetry.dropped_lines();
        let filter = parse_filter("info").unwrap();
        let subscriber = subscriber(LineFormat::Json, filter, Clock::system(), writer);
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..100 {
                info!(n, "Said.");
            }
        });
        drop(telemetry);
        assert_eq!(dropped.count(), 100);
    }
}
