//! An appliance that runs, and the one path for every reload: a signal and an administrator's request end here. What comes of it is recorded, and
//! told to whoever asked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, watch};

use super::clients::{channels, dialers, oidc, say_whether_calls_can_be_looked_up};
use super::rendering::{InForce, Rendering};
use super::shown::{file_name, without_folders};
use super::{certificates, settings, shown};
use crate::admin::ControlHandlers;
use crate::alerts::{Channels, Incidents};
use crate::audit::{ConfigChanged, Event, Record, RulesetLoaded};
use crate::config::{self, Config, Problem};
use crate::dialer::Fleet;
use crate::flow::{
    Applied, Completeness, ConfigRequest, NotApplied, RefusedReload, ReloadProblem, ReloadRequest,
    record_health,
};
use crate::http::RouterParts;
use crate::http::listener::tls::{CertificateState, Certificates};
use crate::jobs;
use crate::jobs::reconcile::Reconciler;
use crate::jobs::systemd;
use crate::lifecycle::Lifecycle;
use crate::routing::Lists;
use crate::store::{CheckpointSigner, KeyRing, Pruner, SecretRotator, Store};
use crate::twilio::Rest;

#[derive(Clone, Debug)]
pub struct Running {
    pub address: SocketAddr,
    pub store: Store,
    /// The dialers and the state of each.
    pub fleet: Fleet,
    /// Closes calls whose end was never reported.
    pub reconciler: Reconciler,
    pub rest: Rest,
    /// Compares the log with Twilio's list of calls.
    pub completeness: Completeness,
    pub(super) signer: CheckpointSigner,
    /// Deletes what is past retention.
    pub pruner: Pruner,
    pub(super) parts: RouterParts,
    pub(super) key_ring: KeyRing,
    /// The same as they were at the start: fingerprints are made under that secret as long as the process lives.
    pub(super) keys_at_start: KeyRing,
    /// Changes that secret.
    pub(super) rotator: SecretRotator,
    pub(super) channels: Arc<ArcSwap<Channels>>,
    pub(super) in_force: Arc<Mutex<InForce>>,
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl Running {
    /// What commands may ask of this process.
    pub(super) fn control_handlers(&self) -> ControlHandlers {
        ControlHandlers {
            store: self.store.clone(),
            edge: self.parts.edge.clone(),
            pruner: self.pruner.clone(),
            completeness: self.completeness.clone(),
            braze: self.parts.inbound.braze.clone(),
            calls: self.parts.inbound.calls.clone(),
            lists: self.parts.lists.clone(),
            keys: self.parts.made_keys.clone(),
            retries: self.parts.retries.clone(),
            reloads: self.parts.reloads.clone(),
            drains: self.parts.drains.clone(),
            rotator: self.rotator.clone(),
        }
    }

    /// How it stands with the certificate; `None` where this process speaks no TLS.
    pub fn certificate(&self) -> Option<CertificateState> {
        self.certificates.as_ref().map(|of_tls| of_tls.state())
    }

    /// The incidents of this process.
    pub fn incidents(&self) -> &Incidents {
        &self.parts.inbound.calls.incidents
    }

    /// The lists of callers.
    pub fn lists(&self) -> &Lists {
        &self.parts.lists.lists
    }

    /// How many calls got the safe answer because there were too many, since the start.
    pub fn calls_shed(&self) -> u64 {
        self.parts.overload.n_shed()
    }

    /// Says goodbye to the store: the last record, a checkpoint, the file closed.
    pub async fn close(self) {
        let stopped = Record::of_service(self.parts.clock.now(), Event::ServiceStopped {});
        self.parts.recorder.append_one(stopped).await;
        self.parts.inbound.calls.incidents.announce_rest().await;
        self.parts
            .inbound
            .calls
            .incidents
            .persist(&self.store)
            .await;
        jobs::profiles::persist(&self.store, &self.parts.inbound.braze).await;
        self.signer.sign(true).await;
        self.store.close().await;
    }

    /// Reads `path` again for whoever asks, and at SIGHUP, until the process is to stop.
    pub fn serve_reloads(&self, lifecycle: &Lifecycle, path: PathBuf) {
        if let Some(requests) = self.parts.reloads.requests() {
            let running = self.clone();
            // Heard from here on, and not only once the task runs: a signal may have come while everything was started.
            let signals = lifecycle.reloads();
            let reloads = run(lifecycle.clone(), running, requests, signals, path);
            lifecycle.spawn("reload", reloads);
        }
    }

    /// Puts another configuration into force: rules, dialers, secrets and texts. Calls in hand finish by what they started with.
    pub async fn reload(&self, config: &Config, by: &str) -> anyhow::Result<Applied> {
        // One at a time: what changed is told against what was in force before.
        let mut in_force = self.in_force.lock().await;
        let rendering = Rendering::of(config, &self.keys_at_start.secret(), &self.key_ring);
        self.apply(config, by).await?;
        let applied = Applied {
            changes: in_force.loaded.changes_to(&rendering),
            needs_restart: in_force.started.needs_restart(&rendering),
            warnings: Vec::new(),
            ruleset: config.ruleset.version().to_string(),
            text: String::new(),
        };
        let shown = shown::document(
            config,
            self.parts.clock.now(),
            &in_force.started_settings,
            &applied.needs_restart,
        );
        self.parts.settings.replace(shown);
        if !applied.changes.is_empty() {
            let changed = ConfigChanged {
                by: by.to_owned(),
                changes: applied.changes.clone(),
                needs_restart: applied.needs_restart.clone(),
                in_force: rendering.in_force(&in_force.started, &applied.needs_restart),
            };
            let event = Event::ConfigChanged(Box::new(changed));
            let record = Record::of_service(self.parts.clock.now(), event);
            self.parts.recorder.append_one(record).await;
            rendering.write(&in_force.database);
        }
        tracing::info!(
            event = "config.reloaded",
            by,
            changes = applied.changes.len(),
            ruleset = config.ruleset.version().as_str(),
            "the configuration was read again and is in force"
        );
        if !applied.needs_restart.is_empty() {
            tracing::warn!(
                event = "config.needs_restart",
                keys = applied.needs_restart.join(" "),
                "what these keys say takes effect at the next start"
            );
        }
        in_force.loaded = rendering;
        in_force.config = config.clone();
        self.parts.inbound.calls.incidents.reload_refused(None);
        Ok(applied)
    }

    async fn apply(&self, config: &Config, by: &str) -> anyhow::Result<()> {
        let dialers = dialers(
            config,
            &self.parts.clock,
            &self.store.reference_key(),
            &self.keys_at_start.secret(),
        )?;
        let edge = settings::edge(config)?;
        let provider = oidc(config, &self.parts.clock)?;
        let policy = settings::policy(config);
        let channels = channels(config, &self.parts.clock)?;
        self.parts
            .inbound
            .braze
            .reconfigure(settings::braze(config))
            .context("cannot use [braze]")?;
        self.rest
            .reconfigure(settings::rest(config))
            .context("cannot use [twilio]")?;
        say_whether_calls_can_be_looked_up(&self.rest);
        self.reconciler.reconfigure(settings::silence(config));
        self.pruner.set_retention(config.storage.retention);
        let changes = self.fleet.replace(dialers);
        self.parts.edge.replace(edge);
        self.parts
            .profile_push
            .secret
            .store(settings::push_secret(config).map(Arc::new));
        let current = self.parts.policies.current();
        let is_other = current.ruleset.version() != policy.ruleset.version();
        let (draft, now) = (config.draft.clone(), self.parts.clock.now());
        let policy = policy.with_draft(draft, current.draft.as_ref(), now);
        self.parts.lists.lists.define(&config.lists);
        self.parts.policies.replace(policy);
        let zone = config.routing.time_zone.clone();
        self.parts.inbound.calls.loads.set_zone(zone);
        self.read_certificate_again();
        self.parts.keys.replace(config.auth.keys.clone());
        self.parts.sessions.move_to(settings::site(config));
        self.parts.people.replace(provider);
        self.channels.store(Arc::new(channels));
        let incidents = &self.parts.inbound.calls.incidents;
        incidents.reconfigure(settings::alert_policy(config));
        if is_other {
            let loaded = RulesetLoaded::new(config.ruleset.clone(), Some(by));
            let event = Event::RulesetLoaded(Box::new(loaded));
            let record = Record::of_service(self.parts.clock.now(), event);
            self.parts.recorder.append_one(record).await;
        }
        for change in changes {
            record_health(&self.parts.recorder, &self.parts.clock, change).await;
        }
        Ok(())
    }

    /// A certificate that cannot be used is no reason to refuse a configuration: it is told, and the old one stays.
    fn read_certificate_again(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.look_at_files(self.parts.clock.now());
            certificates::report(certificates, &self.parts.inbound.calls.incidents);
        }
    }

    /// A valid file replaces what is in force; an invalid one is refused, and the old one stays.
    pub(super) async fn reload_from(
        &self,
        path: &Path,
        by: &str,
    ) -> Result<Applied, RefusedReload> {
        let problems = match self.load(path).await {
            Ok(loaded) => match self.reload(&loaded.config, by).await {
                Ok(applied) => {
                    say_warnings(&loaded.warnings, path);
                    return Ok(Applied {
                        warnings: loaded.warnings.iter().map(problem).collect(),
                        ..applied
                    });
                }
                Err(error) => vec![ReloadProblem {
                    key: String::new(),
                    message: without_folders(&format!("{error:#}")),
                    hint: None,
                    line: None,
                    column: None,
                    file: None,
                }],
            },
            Err(rejected) => errors(&rejected),
        };
        Err(self.refuse(problems, path, by).await)
    }

    async fn refuse(&self, problems: Vec<ReloadProblem>, path: &Path, by: &str) -> RefusedReload {
        metrics::counter!("switchboard_config_reload_failures_total").increment(1);
        let lines: Vec<String> = problems
            .iter()
            .map(|found| found.render(file_name(path)))
            .collect();
        for line in &lines {
            tracing::error!(
                event = "config.refused",
                by,
                problem = line,
                "the new configuration is refused; the old one stays"
            );
        }
        let refused = RefusedReload {
            at: self.parts.clock.now(),
            by: by.to_owned(),
            problems,
        };
        let incidents = &self.parts.inbound.calls.incidents;
        incidents.reload_refused(Some(lines.join("; ")));
        let event = Event::ConfigRefused {
            by: by.to_owned(),
            problems: lines,
        };
        let record = Record::of_service(refused.at, event);
        self.parts.recorder.append_one(record).await;
        refused
    }
}

async fn run(
    lifecycle: Lifecycle,
    running: Running,
    mut requests: mpsc::Receiver<ReloadRequest>,
    mut signals: watch::Receiver<u64>,
    path: PathBuf,
) {
    let draining = lifecycle.draining();
    running.restore_draft(&path).await;
    loop {
        let request = tokio::select! {
            () = draining.cancelled() => return,
            request = requests.recv() => request,
            _ = signals.changed() => None,
        };
        systemd::reloading();
        let by = request.as_ref().map_or("SIGHUP", |request| &request.by);
        let wanted = request.as_ref().map(|request| request.wanted.clone());
        let outcome = match wanted.unwrap_or(ConfigRequest::Reload) {
            ConfigRequest::Reload => {
                let reloaded = running.reload_from(&path, by).await;
                reloaded.map_err(NotApplied::Refused)
            }
            ConfigRequest::Publish(publication) => running.publish(&path, publication, by).await,
            ConfigRequest::Draft(text) => running.change_draft(&path, text, by).await,
            ConfigRequest::Text => running.rules_text(&path).await,
        };
        systemd::reloaded();
        if let Some(request) = request {
            // Whoever asked may be gone; the record tells.
            drop(request.answer.send(outcome));
        }
    }
}

/// What somebody should look at in the configuration in force, as log lines: they come at start and with every reload.
pub fn say_warnings(warnings: &[Problem], path: &Path) {
    for warning in warnings {
        tracing::warn!(
            event = "config.warning",
            problem = without_folders(&warning.render(file_name(path))),
            "the configuration is taken; this deserves a look"
        );
    }
}

/// Reads a configuration on a thread of its own: a list may have a million lines, and no call waits for them.
pub(super) async fn read_apart(
    read: impl FnOnce() -> Result<config::Loaded, config::Rejected> + Send + 'static,
) -> Result<config::Loaded, config::Rejected> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(config::Rejected::broken_off(&error)))
}

/// The errors of a configuration that is refused.
pub(super) fn errors(rejected: &config::Rejected) -> Vec<ReloadProblem> {
    let errors = rejected.problems.iter().filter(|found| found.is_error());
    errors.map(problem).collect()
}

pub(super) fn problem(found: &Problem) -> ReloadProblem {
    ReloadProblem {
        key: found.key.clone(),
        message: without_folders(&found.message),
        hint: found.hint.as_deref().map(without_folders),
        line: found.line,
        column: found.column,
        file: found
            .file
            .as_deref()
            .map(|path| file_name(path).display().to_string()),
    }
}
