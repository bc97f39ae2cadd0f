//! A configuration as keys and values: what is different in another one, and what of it is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::shown::shown_value;
use crate::audit::{ConfigChange, ConfigChanged, Event, Fingerprint};
use crate::config::{self, Config, ShownValue};
use crate::files;
use crate::http::Setting;
use crate::store::KeyRing;

/// What a running process cannot change, as keys or the beginnings of keys.
const AT_START_ONLY: [&str; 11] = [
    "server.listen",
    "server.trusted_proxies",
    "server.tls",
    "server.acme",
    "server.docs",
    "server.cors_origins",
    "server.calls_in_hand",
    "storage.path",
    "storage.secret",
    "storage.signing_key",
    "logging",
];
/// How a secret begins in a rendering.
const SECRET: &str = "(secret) ";

/// A configuration as keys and values; of secrets, fingerprints. Two are equal where the configurations are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendering(BTreeMap<String, String>);

impl Rendering {
    /// `secret` keys the fingerprints. The installation's own secret is known by being the one that `key_ring` is made of, so that a rotation
    /// changes nothing here.
    pub(super) fn of(config: &Config, secret: &[u8], key_ring: &KeyRing) -> Self {
        let values = config::show(config).into_iter().map(|shown| {
            let value = match shown.value {
                ShownValue::Plain(text) => text,
                ShownValue::Secret(hidden) => {
                    let is_own = shown.key == "storage.secret" && key_ring.has_secret(&hidden);
                    let hidden = if is_own { "" } else { hidden.expose() };
                    let parts = ["configuration", shown.key.as_str(), hidden];
                    format!("{SECRET}{}", Fingerprint::of(secret, parts).as_str())
                }
            };
            (shown.key, value)
        });
        Self(values.collect())
    }

    /// What is different in `other`, by key.
    pub(super) fn changes_to(&self, other: &Self) -> Vec<ConfigChange> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let changed = keys.into_iter().filter_map(|key| {
            let (from, to) = (self.0.get(key), other.0.get(key));
            let is_secret = [from, to]
                .into_iter()
                .flatten()
                .any(|value| value.starts_with(SECRET));
            let shown = |value: Option<&String>| {
                let value = value.filter(|_| !is_secret);
                value.cloned().map(shown_value)
            };
            (from != to).then(|| ConfigChange {
                key: key.clone(),
                from: shown(from),
                to: shown(to),
                secret: is_secret,
            })
        });
        changed.collect()
    }

    /// Keys that differ in `other` and take effect at a start only.
    pub(super) fn needs_restart(&self, other: &Self) -> Vec<String> {
        let changes = self.changes_to(other).into_iter();
        changes
            .map(|change| change.key)
            .filter(|key| AT_START_ONLY.iter().any(|begin| is_below(key, begin)))
            .collect()
    }

    /// As it would be under the secret of `current`, where `former` is the same configuration under the secret before.
    fn under_current(mut self, former: &Self, current: &Self) -> Self {
        for (key, value) in &mut self.0 {
            if former.0.get(key) == Some(value)
                && let Some(now) = current.0.get(key)
            {
                value.clone_from(now);
            }
        }
        self
    }

    fn record(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    /// What is in force of it in a process that was started with `started`, and with these keys waiting for a restart.
    pub(super) fn in_force(
        &self,
        started: &Self,
        needs_restart: &[String],
    ) -> BTreeMap<String, String> {
        let mut in_force = self.record();
        for key in needs_restart {
            match started.0.get(key) {
                Some(value) => in_force.insert(key.clone(), value.clone()),
                None => in_force.remove(key),
            };
        }
        in_force
    }

    /// The one that was in force last on this database, where that is known.
    fn kept(database: &Path) -> Option<Self> {
        let kept = fs::read(kept_beside(database)).ok()?;
        serde_json::from_slice(&kept).ok().map(Self)
    }

    /// Keeps it for comparison at the next start. The audit log holds it too; without the file, the next start records it whole.
    pub(super) fn write(&self, database: &Path) {
        let path = kept_beside(database);
        let write = || files::replace(&path, files::PRIVATE, &serde_json::to_vec(&self.0)?);
        if let Err(error) = write() {
            tracing::warn!(event = "config.not_kept", error = %error, path = %path.display(), "the next start cannot tell what changed");
        }
    }
}

fn kept_beside(database: &Path) -> PathBuf {
    files::beside(database, ".config")
}

/// What a start has to record of the configuration: that it is another one than in force last, or which one it is where that is not known.
/// `former` is what is in force now as it looks under the secret before, where there is one.
pub(super) fn changed_at_start(
    database: &Path,
    rendering: &Rendering,
    former: Option<&Rendering>,
) -> Option<Event> {
    let before = Rendering::kept(database).map(|before| match former {
        Some(former) => before.under_current(former, rendering),
        None => before,
    });
    if before.as_ref() == Some(rendering) {
        return None;
    }
    Some(Event::ConfigChanged(Box::new(ConfigChanged {
        by: "start".to_owned(),
        changes: before.map_or_else(Vec::new, |before| before.changes_to(rendering)),
        needs_restart: Vec::new(),
        in_force: rendering.record(),
    })))
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The configuration that the process was started with, and the last one that it has taken.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) database: PathBuf,
    pub(super) started: Rendering,
    pub(super) started_settings: Vec<Setting>,
    pub(super) loaded: Rendering,
    pub(super) config: Config,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendering(values: &[(&str, &str)]) -> Rendering {
        let owned = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Rendering(owned.collect())
    }

    #[test]
    fn what_is_new_gone_and_different_is_told_by_key() {
        let before = rendering(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = rendering(&[("a", "1"), ("b", "2"), ("d", "1")]);
        let told: Vec<_> = before
            .changes_to(&after)
            .into_iter()
            .map(|change| (change.key, change.from, change.to))
            .collect();
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(
            told,
            [
                ("b".to_owned(), text("1"), text("2")),
                ("c".to_owned(), text("1"), None),
                ("d".to_owned(), None, text("1")),
            ]
        );
    }

    #[test]
    fn of_a_secret_only_the_change_is_told() {
        let before = rendering(&[("k", "(secret) aa")]);
        let after = rendering(&[("k", "(secret) bb")]);
        assert_eq!(
            before.changes_to(&after),
            [ConfigChange {
                key: "k".to_owned(),
                from: None,
                to: None,
                secret: true,
            }]
        );
        assert_eq!(before.changes_to(&before), []);
    }

    #[test]
    fn a_start_tells_what_is_different_since_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("switchboard.db");
        let told = |rendering: &Rendering| match changed_at_start(&database, rendering, None) {
            Some(Event::ConfigChanged(changed)) => Some((changed.changes.len(), changed.in_force)),
            _ => None,
        };
        let first = rendering(&[("a", "1")]);
        assert_eq!(told(&first), Some((0, first.record())), "which one it is");
        first.write(&database);
        assert_eq!(told(&first), None);
        let second = rendering(&[("a", "2")]);
        assert_eq!(told(&second), Some((1, second.record())));
        second.write(&database);
        assert_eq!(told(&second), None);
    }

    #[test]
    fn what_waits_for_a_restart_is_not_in_force() {
        let started = rendering(&[
            ("server.listen", "a"),
            ("logging.level", "info"),
            ("b", "1"),
        ]);
        let read = rendering(&[
            ("server.listen", "c"),
            ("server.calls_in_hand", "9"),
            ("b", "2"),
        ]);
        let waits = started.needs_restart(&read);
        assert_eq!(
            waits,
            ["logging.level", "server.calls_in_hand", "server.listen"]
        );
        let in_force = rendering(&[
            ("server.listen", "a"),
            ("logging.level", "info"),
            ("b", "2"),
        ]);
        assert_eq!(read.in_force(&started, &waits), in_force.record());
    }

    #[test]
    fn keys_below_a_section_need_a_restart_and_namesakes_do_not() {
        let before = rendering(&[]);
        let after = rendering(&[("logging.level", "info"), ("loggings", "1")]);
        assert_eq!(before.needs_restart(&after), ["logging.level"]);
    }
}
