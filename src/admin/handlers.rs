//! What each command does.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    AddedEntry, ControlRequest, ListCommand, Progress, Refusal, RefusalCause, RemovedEntry,
    Retried, ShownList,
};
use crate::audit::{Access, Drained, Event, Record};
use crate::braze::Braze;
use crate::flow::{
    Calls, Completeness, ConfigRequest, Drains, ListEntries, ListEntryDocument, ListError,
    MadeKeys, NewListEntry, NewRules, NotApplied, Publication, Reloads, Retries, SupposedCall,
};
use crate::phone::Caller;
use crate::resilience::TriedBy;
use crate::routing::DialerId;
use crate::store::{
    Erased, Part, PruneError, Pruner, RotationState, SecretRotator, Store, StoreError,
};
use crate::twilio::{Edge, RefusedWebhook};

/// Does what is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlHandlers {
    /// The store of this process.
    pub store: Store,
    /// Knows which webhooks were refused.
    pub edge: Edge,
    /// Deletes what is past retention.
    pub pruner: Pruner,
    /// Compares the log with Twilio's list of calls.
    pub completeness: Completeness,
    pub braze: Braze,
    /// Knows the calls that go on, and what decisions are made of.
    pub calls: Calls,
    /// Puts numbers on lists of callers and takes them off.
    pub lists: ListEntries,
    /// Keys that were made while the process runs.
    pub keys: MadeKeys,
    pub retries: Retries,
    /// Has the configuration read again.
    pub reloads: Reloads,
    /// Knows how the dialers are.
    pub drains: Drains,
    /// Changes the installation's secret.
    pub rotator: SecretRotator,
}

/// Who is at the other end of the socket, as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPeer {
    pub uid: u32,
}

impl ControlPeer {
    /// As records name them. Only root is believed who became root.
    pub fn name(self, is_systemd: bool, sudo_user: Option<&str>) -> String {
        if is_systemd {
            return "systemctl".to_owned();
        }
        let is_name = |name: &&str| {
            (1..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match (self.uid, sudo_user.filter(is_name)) {
            (0, Some(name)) => format!("user {name} by sudo"),
            (0, None) => "user root".to_owned(),
            (uid, _) => match user_name(uid) {
                Some(name) => format!("user {name}"),
                None => format!("user {uid}"),
            },
        }
    }
}

/// The name of a user of this machine.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users
        .lines()
        .find(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()))?;
    line.split(':').next().map(ToOwned::to_owned)
}

impl ControlHandlers {
    /// Does it and gives the document that the command prints. `progress` may be full or closed: what nobody reads is left out.
    pub(super) async fn perform(
        &self,
        request: ControlRequest,
        peer: &ControlPeer,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<serde_json::Value, Refusal> {
        match request {
            ControlRequest::Status => self.status().await,
            ControlRequest::Reload { systemd, sudo_user } => {
                let by = peer.name(systemd, sudo_user.as_deref());
                self.configure(by, ConfigRequest::Reload).await
            }
            ControlRequest::PublishRules {
                text,
                version,
                based_on,
                sudo_user,
            } => {
                let rules = text.map(NewRules::Text).or(version.map(NewRules::Version));
                let rules = rules.ok_or_else(|| Refusal::request("there is nothing to publish"))?;
                let publication = Publication { rules, based_on };
                let by = peer.name(false, sudo_user.as_deref());
                self.configure(by, ConfigRequest::Publish(publication))
                    .await
            }
            ControlRequest::Suppose { from, to, at } => {
                let call = SupposedCall {
                    caller: from.as_deref().map(Caller::classify),
                    called: to,
                    at,
                };
                let supposed = self.calls.suppose(&call).await;
                serde_json::to_value(supposed).map_err(|error| Refusal::failed(error.to_string()))
            }
            ControlRequest::RejectedWebhooks => Ok(self.rejected_webhooks()),
            ControlRequest::Prune {
                older_than_ms,
                dry_run,
            } => self.prune(older_than_ms, dry_run, progress).await,
            ControlRequest::Erase { caller, dry_run } => self.erase(&caller, dry_run).await,
            ControlRequest::Retry { dialer } => self.retry(dialer).await,
            ControlRequest::List {
                list,
                action,
                sudo_user,
            } => {
                let by = peer.name(false, sudo_user.as_deref());
                self.list(&list, action, &by).await
            }
            ControlRequest::Drain {
                dialer,
                out,
                sudo_user,
            } => {
                let by = peer.name(false, sudo_user.as_deref());
                self.drain(dialer, out, &by).await
            }
            ControlRequest::Mute {
                new,
                end,
                sudo_user,
            } => {
                let by = peer.name(false, sudo_user.as_deref());
                self.mute(new, end, &by).await
            }
            ControlRequest::Keys { revoke, sudo_user } => {
                let by = peer.name(false, sudo_user.as_deref());
                self.keys(revoke.as_deref(), &by).await
            }
            ControlRequest::CheckCompleteness {
                from,
                to,
                sudo_user,
            } => {
                let by = peer.name(false, sudo_user.as_deref());
                let report = self.completeness.check_days((from, to), &by).await;
                let failed = |error| format!("{:#}", anyhow::Error::new(error));
                document(&report.map_err(|error| Refusal::failed(failed(error)))?)
            }
            ControlRequest::RotateSecret { sudo_user } => {
                let by = peer.name(false, sudo_user.as_deref());
                self.rotate(by, progress).await
            }
            ControlRequest::RecordExport { exported } => {
                let recorded = self.store.record_export(exported).await;
                recorded.map_err(|error| Refusal::failed(format!("{error:#}")))?;
                Ok(serde_json::Value::Null)
            }
        }
    }

    /// What came of it, whether the configuration was taken or not.
    async fn configure(
        &self,
        by: String,
        wanted: ConfigRequest,
    ) -> Result<serde_json::Value, Refusal> {
        let document = match self.reloads.ask(by, wanted).await {
            Ok(applied) => serde_json::json!({
                "ok": true,
                "changes": applied.changes,
                "needs_restart": applied.needs_restart,
                "warnings": applied.warnings,
                "ruleset": applied.ruleset,
                "problems": [],
            }),
            Err(NotApplied::Refused(refused)) => serde_json::json!({
                "ok": false,
                "changes": [],
                "needs_restart": [],
                "warnings": [],
                "problems": refused.problems,
            }),
            Err(error) => return Err(Refusal::failed(error.to_string())),
        };
        Ok(document)
    }

    async fn erase(&self, caller: &str, dry_run: bool) -> Result<serde_json::Value, Refusal> {
        let caller = Caller::classify(caller);
        if dry_run {
            return told(self.lists.known_of(&caller).await);
        }
        let forget = async || {
            self.calls.locks.forget_caller(&caller);
            if let Some(number) = caller.number() {
                self.braze.invalidate(number).await;
            }
        };
        forget().await;
        let erased = self.lists.erase(&caller).await;
        // A look-up may have come in between.
        forget().await;
        told(erased)
    }

    async fn keys(&self, revoke: Option<&str>, by: &str) -> Result<serde_json::Value, Refusal> {
        if let Some(wanted) = revoke {
            let revoked = self.keys.revoke(wanted, by).await;
            if !revoked.map_err(|error| Refusal::failed(error.to_string()))? {
                let message = format!(
                    "{wanted} is no key that was made while the server ran; take one of the configuration out of it, and reload"
                );
                return Err(Refusal::request(message));
            }
        }
        document(&self.keys.documents())
    }

    async fn list(
        &self,
        list: &str,
        action: ListCommand,
        by: &str,
    ) -> Result<serde_json::Value, Refusal> {
        let lists = &self.lists;
        let refused = |error: ListError| match error {
            ListError::UnknownList => {
                let known: Vec<_> = lists.all().into_iter().map(|list| list.name).collect();
                let known = match known.as_slice() {
                    [] => "it has none".to_owned(),
                    known => format!("it has {}", known.join(", ")),
                };
                Refusal::request(format!("the server has no list {list:?}; {known}"))
            }
            ListError::UnknownEntry => Refusal::failed(format!(
                "the number is no entry of {list}; what the configuration names is changed there"
            )),
            ListError::Store(error) => Refusal::failed(format!("{error:#}")),
        };
        match action {
            ListCommand::Show { reveal } => {
                let all = Part {
                    after: None,
                    skip: 0,
                    size: u32::MAX,
                };
                let page = lists.page(list, all).await.map_err(refused)?;
                if reveal {
                    self.record_reveal(by, page.rows.len()).await?;
                }
                let shown = page.rows.into_iter();
                let shown: Vec<_> = shown
                    .map(|entry| ListEntryDocument::new(entry, reveal))
                    .collect();
                let mut known = lists.all().into_iter();
                let known = known.find(|known| known.name == list);
                let list = known.ok_or_else(|| refused(ListError::UnknownList))?;
                document(&ShownList { list, shown })
            }
            ListCommand::Add { number, why, until } => {
                let new = NewListEntry { number, why, until };
                let (entry, is_new) = lists.add(list, new, by).await.map_err(refused)?;
                document(&AddedEntry {
                    list: list.to_owned(),
                    entry: ListEntryDocument::new(entry, false),
                    new: is_new,
                })
            }
            ListCommand::Remove { number } => {
                let removed = lists.remove_number(list, &number, by).await;
                removed.map_err(refused)?;
                document(&RemovedEntry {
                    list: list.to_owned(),
                    removed: true,
                })
            }
        }
    }

    /// Nobody sees numbers unrecorded.
    async fn record_reveal(&self, by: &str, entries: usize) -> Result<(), Refusal> {
        let revealed = Event::Accessed(Access::NumbersRevealed {
            by: by.to_owned(),
            route: "switchboard list show".to_owned(),
            calls: entries as u64,
            request_id: String::new(),
        });
        let record = Record::of_service(self.lists.clock.now(), revealed);
        let recorded = self.store.append(vec![record]).await;
        recorded
            .map(drop)
            .map_err(|error| Refusal::failed(format!("{error:#}")))
    }

    pub(super) fn unknown_dialer(&self, name: &str) -> Refusal {
        let known = self.retries.fleet.dialers();
        let known: Vec<_> = known.iter().map(|known| known.id().as_str()).collect();
        Refusal::request(format!(
            "no dialer is named {name:?}; the server has {}",
            known.join(", ")
        ))
    }

    async fn retry(&self, dialer: Option<String>) -> Result<serde_json::Value, Refusal> {
        const BY: &str = "the command line";
        let retries = &self.retries;
        let (service, before, after) = match dialer {
            None => {
                let before = self.braze.status().refused;
                ("braze".to_owned(), before, retries.braze(BY).await.refused)
            }
            Some(name) => {
                let id = DialerId::new(&name);
                let statuses = retries.fleet.statuses(retries.clock.instant());
                let before = statuses.into_iter().find(|one| *one.dialer.id() == id);
                let after = retries.dialer(&id, BY).await;
                let (Some(before), Some(after)) = (before, after) else {
                    return Err(self.unknown_dialer(&name));
                };
                (name, before.refused, after.refused)
            }
        };
        let shown = Retried {
            service,
            was_refused: before.is_some(),
            ok: after.is_none(),
            message: after.as_ref().map(|refused| {
                let next = match refused.tried_by {
                    TriedBy::Probe => "",
                    TriedBy::Request => "; the next call tries it",
                };
                format!("{}: {}{next}", refused.credential, refused.why)
            }),
            next_try_at: after.map(|refused| retries.clock.time_of(refused.next_try)),
        };
        serde_json::to_value(shown).map_err(|error| Refusal::failed(error.to_string()))
    }

    /// The last ones that were looked into, oldest first; the last one that could be explained stands first where it is older than these.
    fn rejected_webhooks(&self) -> serde_json::Value {
        let rejected = self.edge.rejected();
        let explained = self.edge.explained().filter(|one| !rejected.contains(one));
        let shown = explained.iter().chain(&rejected).map(shown);
        serde_json::json!({ "rejected": shown.collect::<Vec<_>>() })
    }

    async fn prune(
        &self,
        older_than_ms: Option<u64>,
        dry_run: bool,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<serde_json::Value, Refusal> {
        let refused = |error: PruneError| match error {
            PruneError::TooYoung { .. } => Refusal::request(error.to_string()),
            // With what was the matter underneath.
            PruneError::NotSound | PruneError::Store(_) => {
                Refusal::failed(format!("{:#}", anyhow::Error::new(error)))
            }
        };
        let age = older_than_ms.map(Duration::from_millis);
        let age = self.pruner.age(age).map_err(refused)?;
        let expected = self.pruner.preview(age, |_| {}).await.map_err(refused)?;
        let report = if dry_run {
            expected
        } else {
            let total = expected.deleted;
            let tell = |done| {
                if progress.try_send(Progress { done, total }).is_err() {
                    // Who does not read misses a step of the bar.
                }
            };
            self.pruner.run(age, tell).await.map_err(refused)?
        };
        serde_json::to_value(report).map_err(|error| Refusal::failed(error.to_string()))
    }

    /// Waits for the end of the rotation, which goes on without whoever asked.
    async fn rotate(
        &self,
        by: String,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<serde_json::Value, Refusal> {
        let mut heard = self.rotator.ask(by);
        loop {
            let state = heard.borrow_and_update().clone();
            match state {
                RotationState::UnderWay { done, total } => {
                    if progress.try_send(Progress { done, total }).is_err() {
                        // Who does not read misses a step of the bar.
                    }
                }
                RotationState::Ended(report) => {
                    return serde_json::to_value(report)
                        .map_err(|error| Refusal::failed(error.to_string()));
                }
                RotationState::Refused(why) => return Err(Refusal::request(why)),
                RotationState::Interrupted => {
                    return Err(Refusal {
                        cause: RefusalCause::Busy,
                        message: "the server is stopping; a rotation that is under way goes on at its next start".to_owned(),
                    });
                }
                RotationState::Idle => {}
            }
            if heard.changed().await.is_err() {
                return Err(Refusal::failed("the server is stopping"));
            }
        }
    }

    async fn status(&self) -> Result<serde_json::Value, Refusal> {
        let counts = self.store.counts().await;
        let counts = counts.map_err(|error| Refusal::failed(format!("{error:#}")))?;
        let health = self.store.health();
        let mut ok = false;
        let dialers = self.drains.statuses().into_iter().map(|status| {
            let out = |out: Drained| format!("{} since {}", out.cause(), out.since);
            let why = status
                .drained
                .map(out)
                .or(status.open_for.map(|(_, why)| why));
            ok |= why.is_none();
            serde_json::json!({ "dialer": status.dialer.id(), "why": why })
        });
        let dialers: Vec<_> = dialers.collect();
        Ok(serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "ok": ok && health.failing_since.is_none(),
            "dialers": dialers,
            "store": {
                "running": health.running,
                "backlog": health.backlog,
                "failing_since": health.failing_since,
                "last_error": health.last_error,
                "last_commit": health.last_commit,
                "accepted": health.counts.accepted,
                "stored": health.counts.stored,
                "spooled": health.counts.spooled,
                "waiting": health.counts.waiting,
                "lost": health.counts.lost,
                "spool_problem": health.spool_problem,
                "ballast_missing": health.reserve_missing,
                "wal_missing": health.wal_missing,
                "wal_bytes": health.wal_bytes,
                "records": counts.records,
                "active_calls": counts.active_calls,
            },
        }))
    }
}

/// A refused webhook without a value of any field.
fn shown(rejected: &RefusedWebhook) -> serde_json::Value {
    let diagnosis = rejected.diagnosis.as_ref();
    serde_json::json!({
        "at": rejected.at,
        "reason": rejected.reason.as_str(),
        "source": rejected.source,
        "path": rejected.path,
        "why": diagnosis.map(ToString::to_string),
        "parameters": diagnosis.map(|diagnosis| &diagnosis.parameters),
    })
}

pub(super) fn document(printed: &impl Serialize) -> Result<serde_json::Value, Refusal> {
    serde_json::to_value(printed).map_err(|error| Refusal::failed(error.to_string()))
}

/// The document of an erasure.
fn told(erased: Result<Option<Erased>, StoreError>) -> Result<serde_json::Value, Refusal> {
    match erased.map_err(|error| Refusal::failed(format!("{error:#}")))? {
        Some(erased) => {
            serde_json::to_value(erased).map_err(|error| Refusal::failed(error.to_string()))
        }
        None => Err(Refusal::request(
            "a caller who hides the number is nobody in particular",
        )),
    }
}
