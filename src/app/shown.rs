//! The effective configuration for people: every key with its value and where that comes from. Secrets are not in it, and of files only the name.

use std::path::Path;

use jiff::Timestamp;

use crate::config::{self, Config, ShownValue};
use crate::http::{Setting, SettingsDocument, SettingsKey};

/// What stands for a secret that is set.
const SECRET: &str = "(secret)";

/// What `GET /settings` answers. Of keys that wait for a restart, the values of `started` are in force, and those of the file are pending.
pub(super) fn document(
    config: &Config,
    loaded_at: Timestamp,
    started: &[Setting],
    needs_restart: &[String],
) -> SettingsDocument {
    let mut settings = settings(config);
    for key in needs_restart {
        let before = started.iter().find(|setting| setting.key == *key);
        if let Some(setting) = settings.iter_mut().find(|setting| setting.key == *key) {
            let in_force = before.map_or_else(String::new, |before| before.value.clone());
            setting.pending = Some(std::mem::replace(&mut setting.value, in_force));
        } else if let Some(before) = before {
            settings.push(Setting {
                pending: Some(String::new()),
                line: None,
                ..before.clone()
            });
        }
    }
    let keys = config.auth.keys.iter().map(|key| SettingsKey {
        name: key.name.to_string(),
        role: key.role.as_str(),
    });
    SettingsDocument::new(
        config.ruleset.version().to_string(),
        loaded_at,
        settings,
        keys.collect(),
        needs_restart.to_vec(),
    )
}

/// Every key as the file has it.
pub(super) fn settings(config: &Config) -> Vec<Setting> {
    let settings = config::show(config).into_iter().map(|shown| {
        let line = origin(config, &shown.key);
        let value = match shown.value {
            ShownValue::Secret(_) => SECRET.to_owned(),
            ShownValue::Plain(text) => shown_value(text),
        };
        Setting {
            key: shown.key,
            value,
            source: if line.is_some() { "file" } else { "default" },
            line,
            pending: None,
        }
    });
    settings
        .filter(|setting| !setting.key.starts_with("auth.keys"))
        .collect()
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

/// The name of a file, without the folder it lies in.
pub(super) fn file_name(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

/// The value of a setting; of one that is a path, the name of the file.
pub(super) fn shown_value(value: String) -> String {
    if value.starts_with('/') {
        file_name(Path::new(&value)).display().to_string()
    } else {
        value
    }
}

/// The same text with only the last part of every absolute path in it. A path is a word that begins with a slash.
pub(super) fn without_folders(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let name = word.trim_end_matches('/').rsplit('/').next();
        name.filter(|_| word.starts_with('/')).unwrap_or(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        let context = config::Context::in_directory("/etc/switchboard").without_secrets();
        config::parse(text, &context).unwrap().config
    }

    #[test]
    fn whatever_the_file_sets_is_of_the_file_and_everything_else_is_a_default() {
        let text = include_str!("../../config.example.toml");
        let settings = settings(&read(text));
        assert!(settings.len() > 50);
        for Setting {
            key, source, line, ..
        } in &settings
        {
            let line = line.and_then(|line| text.lines().nth(line - 1));
            let is_of_file = line.is_some_and(|line| !line.starts_with('#'));
            assert_eq!(*source == "file", is_of_file, "{key}: {line:?}");
        }
        let of = |key: &str| settings.iter().find(|setting| setting.key == key).unwrap();
        for tier in ["hot", "warm", "cold"] {
            let tier = of(&format!("routing.tiers.{tier}.min_score"));
            assert_eq!(tier.source, "file", "{tier:?}");
            let line = text.lines().nth(tier.line.unwrap() - 1).unwrap();
            assert_eq!(line, format!("min_score = {}", tier.value));
        }
        let defaults: Vec<&str> = settings
            .iter()
            .filter(|setting| setting.source == "default")
            .map(|setting| setting.key.as_str())
            .collect();
        for key in &defaults {
            let name = key.rsplit('.').next().unwrap();
            let is_set = text
                .lines()
                .any(|line| line.starts_with(&format!("{name} = ")));
            assert!(
                !is_set || name == "base_url",
                "{key} is said to be a default"
            );
        }
    }

    #[test]
    fn of_keys_that_wait_for_a_restart_the_value_in_force_is_shown_and_that_of_the_file_is_pending()
    {
        let text = include_str!("../../config.example.toml");
        let started = settings(&read(text));
        let changed = text
            .replace("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:9090\"")
            .replace("#calls_in_hand = 1024", "calls_in_hand = 7");
        let changed = read(&changed);
        let waits = ["server.listen", "server.calls_in_hand"].map(str::to_owned);
        let shown = document(&changed, Timestamp::UNIX_EPOCH, &started, &waits);
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!(shown["needs_restart"], serde_json::json!(waits));
        let of = |key: &str| {
            let list = shown["settings"].as_array().unwrap();
            list.iter().find(|one| one["key"] == key).unwrap().clone()
        };
        let listen = of("server.listen");
        assert_eq!(listen["value"], "127.0.0.1:8080");
        assert_eq!(listen["pending"], "127.0.0.1:9090");
        let calls = of("server.calls_in_hand");
        assert_eq!(
            (&calls["value"], &calls["pending"]),
            (&"".into(), &"7".into())
        );
        assert!(of("routing.budget")["pending"].is_null());
    }

    #[test]
    fn of_a_path_only_the_name_is_left_and_nothing_else_changes() {
        let check = |text: &str, expected: &str| assert_eq!(without_folders(text), expected);
        check(
            "/etc/switchboard/config.toml:12:3: error: a.b cannot be read from /run/keys/braze: no such file; chmod 0600 /run/keys/braze",
            "config.toml:12:3: error: a.b cannot be read from braze: no such file; chmod 0600 braze",
        );
        check("/var/lib/switchboard/", "switchboard");
        for same in [
            "https://example.com/a/b",
            "a/b and/or c",
            "write { file = \"/path\" }",
            "",
        ] {
            check(same, same);
        }
        assert_eq!(shown_value("/srv/some calls/log.db".to_owned()), "log.db");
        assert_eq!(
            shown_value("Bitte warten /gleich/".to_owned()),
            "Bitte warten /gleich/"
        );
    }
}
