//! One drill: an appliance of its own by a copy of the configuration, people who call it while something is broken, and the repair.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use switchboard_simulator::drill::{Breaks, DrillCaller, Outside, heard};
use switchboard_simulator::faults::Fault;
use switchboard_simulator::scorecard::{Score, ToldIncident};
use switchboard_simulator::twilio::CallResult;
use tokio::sync::mpsc;

use super::copy::{bind, copy, line};
use crate::alerts::{EventType, IncidentKind};
use crate::app::{self, Given, Running};
use crate::call::CallId;
use crate::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{Lifecycle, Signals};
use crate::store::{self, IncidentWithMessages, MessageState, Part};

/// What an answer needs from the appliance to Twilio's stand-in and back.
const TRANSIT: Duration = Duration::from_millis(50);
/// Looks whether an incident opened, and whether all are over.
const LOOKS: usize = 40;
/// So many come soon after each other, and more time passes from each of the others to the next.
const EARLY_LOOKS: usize = 6;
/// Longer than from one look of the appliance at its health to the next.
const LOOK_EVERY: Duration = Duration::from_millis(700);

/// One of these incidents has to tell of it; none, where callers alone can tell.
fn told_as(breaks: &Breaks) -> &'static [IncidentKind] {
    use IncidentKind::{
        AllDialersDown, AuditStoreFailing, BrazeFailureRate, CallersWaiting, CredentialsRefused,
        DialerDown, DialerFailureRate,
    };
    match breaks {
        Breaks::Braze(Fault::Status { status: 401, .. }) => &[CredentialsRefused],
        Breaks::Braze(_) => &[BrazeFailureRate],
        Breaks::Dialer(_, Fault::Status { status: 401, .. }) => {
            &[CredentialsRefused, AllDialersDown]
        }
        Breaks::Dialer(..) => &[
            DialerDown,
            DialerFailureRate,
            CallersWaiting,
            AllDialersDown,
        ],
        Breaks::AllDialers | Breaks::MailServer => &[AllDialersDown],
        Breaks::Database => &[AuditStoreFailing],
        Breaks::Nothing
        | Breaks::Line(_)
        | Breaks::Burst
        | Breaks::Forgeries
        | Breaks::Callbacks => &[],
    }
}

/// What all drills have in common.
#[derive(Clone, Copy)]
pub(super) struct Drill<'a> {
    pub(super) config: &'a Config,
    pub(super) callers: &'a [DrillCaller],
    pub(super) folder: &'a Path,
    /// The time at which each begins.
    pub(super) at: Timestamp,
    /// So many times faster is the machine to the appliance.
    pub(super) machine_is_faster: u32,
    /// What each caller hears where nothing is broken; empty where that is to be found out.
    pub(super) well: &'a [String],
}

impl Drill<'_> {
    /// Gives the result, and what each caller heard in the first round.
    pub(super) async fn run(
        &self,
        name: &str,
        breaks: &Breaks,
    ) -> anyhow::Result<(Score, Vec<String>)> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder)?;
        let (outside, serve) = bind(self.config).context("cannot bind the stand-ins")?;
        let config = copy(self.config, &outside, &folder)?;
        let lifecycle = Lifecycle::new(Duration::from_secs(5));
        let draining = lifecycle.draining();
        lifecycle.spawn("stand-ins", async move {
            draining.run_until_cancelled(serve).await;
        });
        let system = Clock::system();
        let late_ms = system.now().as_millisecond() - self.at.as_millisecond();
        let late_ms = Arc::new(AtomicI64::new(late_ms));
        let clock = system.skipping(late_ms.clone());
        let clock = clock.slowed(self.machine_is_faster);
        let started = app::start_with(&config, &clock, &lifecycle, Given::default()).await;
        let running = started.context("the copy of the configuration does not start")?;
        let address = format!("http://{}", running.address);
        let world = &outside.world;
        world.connect(&address, config.server.public_url.as_str());
        world.twilio.configure(|twilio| {
            twilio.account_sid.clone_from(&config.twilio.account_sid);
            twilio.own_numbers = self.callers.iter().map(|one| one.to.clone()).collect();
            twilio.machine_is_faster = self.machine_is_faster;
            twilio.late_ms = Some(late_ms.clone());
        });
        for profile in self.callers.iter().filter_map(|one| one.profile.clone()) {
            world.braze.put(profile);
        }
        let skip = async |pause: Duration| {
            let ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            late_ms.fetch_sub(ms, Ordering::SeqCst);
            Clock::system().wait(LOOK_EVERY).await;
        };
        let (calls, is_met) = self.broken(breaks, &outside, &config, &running, skip).await;
        self.repaired(
            &outside,
            &running,
            is_met && !told_as(breaks).is_empty(),
            skip,
        )
        .await;
        let judged = self.judged(name, breaks, &calls, is_met, &running).await;
        lifecycle.stop();
        let (_signals, none) = mpsc::channel(1);
        let none = Signals::from_channel(none);
        lifecycle.run_until_stopped(none).await;
        running.close().await;
        Ok(judged)
    }

    /// Breaks it, lets people call, and waits until an incident tells of it. Gives the calls, and whether the service was asked at all.
    async fn broken(
        &self,
        breaks: &Breaks,
        outside: &Outside,
        config: &Config,
        running: &Running,
        skip: impl AsyncFn(Duration),
    ) -> (Vec<CallResult>, bool) {
        outside.repair();
        outside.begin(breaks);
        let is_database = *breaks == Breaks::Database;
        let lock = is_database.then(|| store::lock(&config.storage.path));
        let calls = outside.calls(breaks, self.callers).await;
        // What the database does not take, it does not show.
        let looks = if is_database { 2 } else { LOOKS };
        for _ in 0..looks {
            skip(Duration::from_secs(5)).await;
            let is_told = |(one, _): &IncidentWithMessages| {
                let status = &one.status;
                status.notified_at.is_some() && told_as(breaks).contains(&status.topic.kind)
            };
            if told_as(breaks).is_empty() || incidents(running).await.iter().any(is_told) {
                break;
            }
        }
        drop(lock);
        (calls, outside.is_met(breaks))
    }

    /// Repairs it, and waits until every incident is over and all messages are sent.
    async fn repaired(
        &self,
        outside: &Outside,
        running: &Running,
        is_one_to_come: bool,
        skip: impl AsyncFn(Duration),
    ) {
        outside.repair();
        let window = self.config.alerts.rules.window;
        // Somebody calls now and then: by that, a service is found to be well.
        for (look, caller) in self.callers.iter().cycle().take(LOOKS).enumerate() {
            let is_early = look < EARLY_LOOKS;
            skip(if is_early {
                Duration::from_secs(10)
            } else {
                window.max(Duration::from_mins(4)) / 4
            })
            .await;
            let incidents = incidents(running).await;
            let is_over = |(one, messages): &IncidentWithMessages| {
                let mut states = messages.iter().map(|message| message.state);
                one.resolved_at.is_some() && states.all(|state| state != MessageState::Waiting)
            };
            let is_early = is_early && incidents.is_empty() && is_one_to_come;
            if !is_early && incidents.iter().all(is_over) {
                break;
            }
            outside.call(caller).await;
        }
    }

    /// What became of it, and which promises were broken.
    async fn judged(
        &self,
        name: &str,
        breaks: &Breaks,
        calls: &[CallResult],
        is_met: bool,
        running: &Running,
    ) -> (Score, Vec<String>) {
        let routing = &self.config.routing;
        let dialers = self.config.dialers.iter();
        let last_resort = routing.last_resort_number.iter();
        let last_resort =
            last_resort.map(|number| (number.as_str().to_owned(), "the last resort".to_owned()));
        let lines = dialers.map(|one| (line(&one.connect), one.id.to_string()));
        let lines: Vec<_> = lines.chain(last_resort).collect();
        let texts = [
            (
                routing.closed_message.as_deref().unwrap_or_default(),
                "closed",
            ),
            (routing.goodbye_message.as_str(), "goodbye"),
        ];
        let words: Vec<String> = calls
            .iter()
            .map(|call| heard(call, &lines, &texts))
            .collect();
        let mut score = Score::new(name);
        for (idx, (call, what)) in calls.iter().zip(&words).enumerate() {
            let well = self.well.get(idx % self.callers.len().max(1));
            let within = routing.budget + TRANSIT;
            score.count(call, (what, well), within, self.machine_is_faster);
            let stored = match CallId::parse(&call.call_sid) {
                Ok(id) => running.store.call(&id).await.ok().flatten(),
                Err(_) => None,
            };
            score.require(stored.is_some(), "calls are not on record");
        }
        let expected = told_as(breaks).iter().filter(|_| is_met);
        let expected: Vec<&str> = expected.map(|kind| kind.as_str()).collect();
        let found = incidents(running).await;
        score.judge_incidents(found.iter().map(told).collect(), &expected);
        let is_calm = *breaks != Breaks::Nothing || score.incidents.is_empty();
        score.require(is_calm, "an incident opened although nothing was broken");
        (score, words.into_iter().take(self.callers.len()).collect())
    }
}

fn told((incident, messages): &IncidentWithMessages) -> ToldIncident {
    let sent = |occasion| {
        let of_it = messages.iter().filter(|one| one.occasion == occasion);
        of_it.filter(|one| one.state == MessageState::Sent).count()
    };
    let status = &incident.status;
    ToldIncident {
        kind: status.topic.kind.as_str(),
        subject: status.topic.subject.clone(),
        cause: status.cause.clone(),
        told: sent(EventType::Opened),
        told_of_the_end: sent(EventType::Resolved),
        resolved: incident.resolved_at.is_some(),
    }
}

/// All incidents, oldest first, but that of a disk which is no stand-in's.
async fn incidents(running: &Running) -> Vec<IncidentWithMessages> {
    let all = Part {
        after: None,
        skip: 0,
        size: 100,
    };
    let found = running.store.incidents(false, all).await;
    let mut found = found.map_or_else(|_| Vec::new(), |found| found.rows);
    found.retain(|(one, _)| one.status.topic.kind != IncidentKind::DiskNearlyFull);
    found.reverse();
    found
}
