//! The effective configuration for people: every key with its value and where that comes from. Secrets are not in it, and of files only the name.

use jiff::Timestamp;

use super::names;
use crate::config::{self, Config, ShownValue};
use crate::http::{Setting, SettingsDocument, SettingsKey};

/// What stands for a secret that is set.
const SECRET: &str = "(secret)";

/// What `GET /settings` answers.
pub(super) fn document(config: &Config, loaded_at: Timestamp) -> SettingsDocument {
    let settings = config::show(config).into_iter().map(|shown| {
        let line = origin(config, &shown.key);
        let value = match shown.value {
            ShownValue::Secret(_) => SECRET.to_owned(),
            ShownValue::Plain(text) => names::shown(text),
        };
        Setting {
            key: shown.key,
            value,
            source: if line.is_some() { "file" } else { "default" },
            line,
        }
    });
    let settings = settings.filter(|setting| !setting.key.starts_with("auth.keys"));
    let keys = config.auth.keys.iter().map(|key| SettingsKey {
        name: key.name.clone(),
        role: key.role.as_str(),
    });
    SettingsDocument::new(
        config.ruleset.version().to_string(),
        loaded_at,
        settings.collect(),
        keys.collect(),
    )
}

/// The line that sets a key; of a part of a list or a table, where only the whole is known, that of the whole.
fn origin(config: &Config, key: &str) -> Option<usize> {
    let mut part = key;
    loop {
        if let Some(line) = config.origins.get(part) {
            // A section as such sets nothing.
            return (part == key || key.get(part.len()..)?.starts_with('[')).then_some(*line);
        }
        part = part.get(..part.rfind(['.', '['])?)?;
    }
}
