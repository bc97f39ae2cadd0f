//! Drafts of the rules, and rules that are published: written into the file of `[routing]` and in force by the path of every reload.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::running::{Running, errors, problem, read_apart};
use super::settings;
use crate::audit::{DraftChanged, Event, Personal, Record};
use crate::config::{self, Config, Loaded, Rejected};
use crate::files;
use crate::flow::{Applied, NewRules, NotApplied, Policy, Publication, RefusedReload};
use crate::routing::{Ruleset, RulesetVersion};

/// The name by which problems of a draft that is in the database are told.
const DRAFT: &str = "draft";
/// How long the record of a draft may take.
const PATIENCE: Duration = Duration::from_secs(2);

const NO_FILE: &str = "No file holds the rules alone, so none can be written: move [routing] and all below it into a file that the service may write, \
    write file = \"/var/lib/switchboard/routing.toml\" into [routing] of the configuration in its place, and run: switchboard reload.";
const NOT_ALLOWED: &str = "This server writes no rules: put them into the file of [routing] by hand and run: switchboard reload. To let admins publish \
    them, write edit_rules = true into [server] of the configuration and run the same.";
const ON_DISK: &str = "The configuration on the disk is not the one in force, somebody has edited it: have it read with switchboard reload, and start \
    from what is in force then.";
const OF_FILE: &str = "The configuration names a draft of its own, [routing] draft: change that file and run switchboard reload, or take the key out.";

impl Running {
    /// The configuration on the disk, with the draft that is in the database where it names none itself.
    pub(super) async fn load(&self, path: &Path) -> Result<Loaded, Rejected> {
        let file = path.to_owned();
        let mut loaded = read_apart(move || config::load(&file)).await?;
        if loaded.config.routing.draft.is_none() {
            loaded.config.draft = self.saved_draft(path).await;
        }
        Ok(loaded)
    }

    /// A draft that no longer fits what is in force decides nothing.
    async fn saved_draft(&self, path: &Path) -> Option<Ruleset> {
        let text = self.store.draft().await.unwrap_or_else(|error| {
            tracing::warn!(event = "draft.unread", error = %error, "the saved draft of the rules cannot be read");
            None
        })?;
        match with_rules(path, Path::new(DRAFT), &text).await {
            Ok(loaded) => Some(loaded.config.ruleset),
            Err(rejected) => {
                tracing::warn!(event = "draft.refused", error = %rejected, "the saved draft of the rules does not fit the configuration any more");
                None
            }
        }
    }

    /// Takes up the draft of before.
    pub(super) async fn restore_draft(&self, path: &Path) {
        let mut in_force = self.in_force.lock().await;
        if in_force.config.routing.draft.is_none()
            && let Some(draft) = self.saved_draft(path).await
        {
            in_force.config.draft = Some(draft);
            self.put_draft(&in_force.config);
        }
    }

    fn put_draft(&self, config: &Config) {
        if let Err(error) = self
            .parts
            .inbound
            .braze
            .reconfigure(settings::braze(config))
        {
            tracing::error!(event = "draft.unasked", error = %error, "Braze is not asked for what the draft wants to know");
        }
        let current = self.parts.policies.current();
        let (draft, now) = (config.draft.clone(), self.parts.clock.now());
        let policy = Policy::clone(&current).with_draft(draft, current.draft.as_ref(), now);
        self.parts.policies.replace(policy);
    }

    /// Saves another draft, or takes it away.
    pub(super) async fn change_draft(
        &self,
        path: &Path,
        text: Option<String>,
        by: &str,
    ) -> Result<Applied, NotApplied> {
        let mut in_force = self.in_force.lock().await;
        if in_force.config.routing.draft.is_some() {
            return Err(NotApplied::Conflict(OF_FILE.to_owned()));
        }
        let mut applied = Applied::default();
        let mut draft = None;
        if let Some(text) = &text {
            let loaded = with_rules(path, Path::new(DRAFT), text).await;
            let loaded = loaded.map_err(|rejected| self.refused(&rejected, by))?;
            let of_draft = |found: &&config::Problem| found.file.is_some();
            applied.warnings = loaded
                .warnings
                .iter()
                .filter(of_draft)
                .map(problem)
                .collect();
            applied.ruleset = loaded.config.ruleset.version().to_string();
            draft = Some(loaded.config.ruleset);
        }
        let changed = DraftChanged {
            by: by.to_owned(),
            version: draft.as_ref().map(Ruleset::version),
        };
        let record = Record {
            personal: text.map(|text| Personal {
                body: Some(text),
                ..Personal::default()
            }),
            ..Record::of_service(self.parts.clock.now(), Event::DraftChanged(changed))
        };
        self.parts.recorder.append(vec![record], PATIENCE).await;
        in_force.config.draft = draft;
        self.put_draft(&in_force.config);
        Ok(applied)
    }

    pub(super) async fn rules_text(&self, path: &Path) -> Result<Applied, NotApplied> {
        let routing = self.in_force.lock().await.config.routing.clone();
        let unread = |error: &dyn Display| NotApplied::Conflict(format!("Unreadable: {error}."));
        let saved = match &routing.draft {
            None => self.store.draft().await.map_err(|error| unread(&error))?,
            Some(_) => None,
        };
        let apart = routing.draft.or(routing.file);
        let read = |file: &Path| fs::read_to_string(file).map_err(|error| unread(&error));
        let text = match (saved, apart) {
            (Some(text), _) => text,
            (None, Some(file)) => read(&file)?,
            (None, None) => config::rules_alone(&read(path)?).map_err(|error| unread(&error))?,
        };
        Ok(Applied {
            text,
            ..Applied::default()
        })
    }

    fn refused(&self, rejected: &Rejected, by: &str) -> NotApplied {
        NotApplied::Refused(RefusedReload {
            at: self.parts.clock.now(),
            by: by.to_owned(),
            problems: errors(rejected),
        })
    }

    /// Writes other rules into the file of `[routing]`, and has them read. Nothing is written where anything is wrong with them, or where
    /// something else changed in between.
    pub(super) async fn publish(
        &self,
        path: &Path,
        publication: Publication,
        by: &str,
    ) -> Result<Applied, NotApplied> {
        let config = self.in_force.lock().await.config.clone();
        if !config.server.edit_rules {
            return Err(NotApplied::Forbidden(NOT_ALLOWED.to_owned()));
        }
        let Some(file) = &config.routing.file else {
            return Err(NotApplied::Conflict(NO_FILE.to_owned()));
        };
        let now = config.ruleset.version();
        if let Some(based_on) = publication.based_on.filter(|based_on| *based_on != now) {
            let why = format!(
                "The rules in force are {now}, and these were started from {based_on}: see what changed with switchboard rules diff {based_on} {now}, and start from {now}."
            );
            return Err(NotApplied::Conflict(why));
        }
        let main = path.to_owned();
        let on_disk = read_apart(move || config::load(&main)).await;
        let is_on_disk = on_disk.is_ok_and(|loaded| loaded.config.digest == config.digest);
        if !is_on_disk {
            return Err(NotApplied::Conflict(ON_DISK.to_owned()));
        }
        let unwritable = |error: std::io::Error| {
            NotApplied::Conflict(format!("The file of [routing] cannot be written: {error}."))
        };
        let present = fs::read_to_string(file).map_err(unwritable)?;
        let text = match publication.rules {
            NewRules::Text(text) => text,
            NewRules::Version(version) => {
                self.text_of(path, &config, &present, &version, by).await?
            }
        };
        let checked = with_rules(path, file, &text).await;
        checked.map_err(|rejected| self.refused(&rejected, by))?;
        let mode = fs::metadata(file).map_err(unwritable)?.permissions().mode() & 0o777;
        let write = |to: &Path, text: &str| files::replace(to, mode, text.as_bytes());
        write(&former(file), &present).map_err(unwritable)?;
        write(file, &text).map_err(unwritable)?;
        match self.reload_from(path, by).await {
            Ok(applied) => Ok(applied),
            Err(refused) => {
                match write(file, &present) {
                    // With what was in force again, the incident of the refusal ends.
                    Ok(()) => drop(self.reload_from(path, by).await),
                    Err(error) => {
                        tracing::error!(event = "rules.not_put_back", error = %error, "the rules that are refused stay in the file; those of before lie beside it");
                    }
                }
                Err(NotApplied::Refused(refused))
            }
        }
    }

    /// The text of a version that was in force before: the one that lies beside the file, or the present one with its rules.
    async fn text_of(
        &self,
        path: &Path,
        config: &Config,
        present: &str,
        version: &RulesetVersion,
        by: &str,
    ) -> Result<String, NotApplied> {
        let conflict = |why: String| NotApplied::Conflict(why);
        let found = self.store.ruleset(version.clone()).await;
        let found = found.map_err(|error| conflict(format!("The log cannot be read: {error}.")))?;
        let Some(wanted) = found else {
            return Err(conflict(format!("The log holds no rule set {version}.")));
        };
        let file = config.routing.file.as_deref().unwrap_or(path);
        let kept = fs::read_to_string(former(file)).ok();
        let is_it = |loaded: &Loaded| wanted.is_like(&loaded.config.ruleset);
        if let Some(kept) = kept
            && with_rules(path, file, &kept)
                .await
                .is_ok_and(|loaded| is_it(&loaded))
        {
            return Ok(kept);
        }
        let text = config::with_ruleset(present, &config.ruleset, &wanted).map_err(|error| {
            conflict(format!("The file of [routing] cannot be edited: {error}."))
        })?;
        let loaded = with_rules(path, file, &text).await;
        if !is_it(&loaded.map_err(|rejected| self.refused(&rejected, by))?) {
            let why = format!(
                "Rule set {version} cannot be written again as it was, because what it took from other files (the days of a calendar) is different now: see switchboard rules show {version}."
            );
            return Err(conflict(why));
        }
        Ok(text)
    }
}

/// The configuration on the disk with this text as that of the file of `[routing]`.
async fn with_rules(path: &Path, name: &Path, text: &str) -> Result<Loaded, Rejected> {
    let (path, name, text) = (path.to_owned(), name.to_owned(), text.to_owned());
    read_apart(move || config::load_with_rules(&path, &name, &text)).await
}

/// Where the text of before lies.
fn former(file: &Path) -> PathBuf {
    files::beside(file, ".former")
}
