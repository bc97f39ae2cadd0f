//! `[logging]`: how loud, in what form, and where to.

use std::path::PathBuf;

use super::problem::Fault;
use super::section::{Section, TomlValue};

/// How loud, in what form, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The form of a line. Default: JSON.
    pub format: LogFormat,
    /// The least severe level that is written, or a list like `info,switchboard::braze=debug`. Default: `info`.
    pub level: String,
    /// Where daily files are written, which are kept for 14 days. Default: none; lines go to stderr.
    pub directory: Option<PathBuf>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    Text,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: "info".to_owned(),
            directory: None,
        }
    }
}

impl Logging {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            format: section.or("format", default.format, |value| {
                value.one_of(&[("json", LogFormat::Json), ("text", LogFormat::Text)])
            }),
            level: section.or("level", default.level, level),
            directory: section.optional("directory", TomlValue::path),
        }
    }
}

fn level(value: &TomlValue<'_>) -> Result<String, Fault> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = value.text()?;
    for directive in text.split(',') {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("", directive));
        let is_target = target
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'));
        if !is_target || !LEVELS.contains(&level.trim()) {
            return Err(Fault::new("must be a level").nearest(level.trim(), LEVELS, || {
                "write error, warn, info, debug or trace, or a list like info,switchboard::braze=debug".to_owned()
            }));
        }
    }
    Ok(text)
}
