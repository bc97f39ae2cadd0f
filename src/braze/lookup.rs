//! A look-up: cache, then one request, never longer than the caller's share of the budget, and never an error.
//!
//! Requests run in tasks that the app supervises, and not in the future of the leader: a caller who hangs up, or whose
//! share is short, takes neither the followers' answer nor the cache's with them, and every request reports to the
//! breaker. Where nothing starts tasks (a command, a test), the leader sends the request; if it leaves, a follower leads.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::admission::{Admission, BreakerChange, LookupPurpose, LookupStatus};
use super::cache::{CachedProfile, Entry, Freshness, Known, Profiles, Stats};
use super::client::{self, ProbeReport};
use super::push::Push;
use super::request::{BrazeInner, Spawn};
use super::settings::{Active, BrazeSettings, SettingsError};
use super::single_flight::{FlightRole, ProfileAnswer, SingleFlight};
use crate::audit::{self, Exchange, ProfileAction, ServiceState};
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::outbound::Connections;
use crate::phone::{Caller, E164};
use crate::routing::{Lookup, LookupSkipped, LookupUnavailable, Source};

/// How often one look-up starts over because a request was given up by its leader.
const MAX_ATTEMPTS: u32 = 3;
#[derive(Clone, Debug, PartialEq)]
pub struct LookedUp {
    /// The fact the decision uses.
    pub lookup: Lookup,
    /// The API exchange, where this look-up sent the request or waited for it.
    pub exchange: Option<Exchange>,
    /// What Braze calls the caller.
    pub external_id: Option<String>,
}

/// Looks callers up in Braze. Cheap to clone.
#[derive(Clone)]
pub struct Braze(Arc<BrazeInner>);

impl Braze {
    /// Takes connections with redirects off; timeouts are kept here.
    pub fn new(
        settings: BrazeSettings,
        http: Connections,
        clock: Clock,
    ) -> Result<Self, SettingsError> {
        let admission = Admission::new(clock.instant(), &settings);
        let active = Arc::new(ArcSwap::from_pointee(Active::try_new(settings)?));
        Ok(Self(Arc::new(BrazeInner {
            http,
            clock,
            profiles: Profiles::new(&active),
            active,
            requests: Arc::new(SingleFlight::new(admission)),
            spawn: OnceLock::new(),
            secret: OnceLock::new(),
        })))
    }

    /// Asks what Braze knows of a caller. Infallible: whatever goes wrong is part of the answer.
    pub async fn look_up(&self, caller: &Caller, deadline: Deadline) -> LookedUp {
        self.look_up_for(caller, deadline, LookupPurpose::Caller)
            .await
    }

    /// The same for a person at a screen, who takes only what callers leave of the requests that Braze allows.
    pub async fn look_up_for_person(&self, caller: &Caller, deadline: Deadline) -> LookedUp {
        self.look_up_for(caller, deadline, LookupPurpose::Person)
            .await
    }

    async fn look_up_for(
        &self,
        caller: &Caller,
        deadline: Deadline,
        asks: LookupPurpose,
    ) -> LookedUp {
        let asked_at = self.0.clock.instant();
        let looked_up = match number_of(caller) {
            Ok(phone) => self.0.answer(phone, deadline, asked_at, asks).await,
            Err(reason) => LookedUp::without(Lookup::Skipped { reason }, None),
        };
        let took = self.0.since(asked_at);
        metrics::counter!("switchboard_lookup_total", "outcome" => outcome_name(&looked_up.lookup))
            .increment(1);
        metrics::histogram!("switchboard_lookup_seconds").record(took.as_secs_f64());
        looked_up
    }

    /// Has look-ups and refreshes sent in tasks that `spawn` starts.
    pub fn send_in_tasks(&self, spawn: Spawn) {
        // Set once, at start; a second one is not needed.
        drop(self.0.spawn.set(spawn));
    }

    /// Takes a change that Braze reported.
    pub async fn apply_push(&self, push: Push) -> ProfileAction {
        self.0.apply_push(push).await
    }

    /// Forgets a number, also in what is persisted next.
    pub async fn invalidate(&self, phone: &E164) {
        self.0.requests.supersede(phone);
        self.0.profiles.remove(phone).await;
    }

    /// What is remembered of a number, fresh or stale; never asks Braze.
    pub async fn cached(&self, phone: &E164) -> Option<CachedProfile> {
        let active = self.0.active.load_full();
        let now = self.0.clock.instant();
        self.0.profiles.cached(phone, now, &active.settings).await
    }

    /// Whether a look-up would ask Braze: the caller has a number, and nothing fresh is remembered of it.
    pub async fn would_ask(&self, caller: &Caller) -> bool {
        let Ok(phone) = number_of(caller) else {
            return false;
        };
        let now = self.0.clock.instant();
        let entry = self.0.profiles.get(phone).await;
        let settings = &self.0.active.load().settings;
        entry.is_none_or(|entry| entry.freshness(now, settings) != Freshness::Fresh)
    }

    /// How the cache has served since the start.
    pub fn stats(&self) -> Stats {
        self.0.profiles.stats()
    }

    /// Takes what an earlier run persisted. Never replaces what this run has learned.
    pub async fn warm(&self, profiles: Vec<CachedProfile>) {
        for profile in profiles {
            self.0.warm(profile).await;
        }
    }

    /// What was fetched, pushed or dropped since the last call, once per number, to be persisted.
    pub fn drain_changed(&self) -> Vec<CachedProfile> {
        self.0.profiles.drain_changed()
    }

    /// Takes new settings. A new key or host closes a breaker that refused credentials had opened, and the same ones are tried at once; another
    /// host or other attributes empty the cache, whose answers were to another question.
    pub fn reconfigure(&self, settings: BrazeSettings) -> Result<(), SettingsError> {
        let next = Active::try_new(settings)?;
        let before = self.0.active.load_full();
        let new_key = next.authenticates_differently(&before);
        let new_question = next.asks_differently(&before);
        let now = self.0.clock.instant();
        self.0
            .requests
            .lock()
            .admission
            .reconfigure(now, &next.settings, new_key);
        self.0.active.store(Arc::new(next));
        if new_question {
            self.0.requests.supersede_all();
            self.0.profiles.clear();
        }
        Ok(())
    }

    /// Tells its credentials from others, under a secret of the installation.
    pub fn fingerprint(&self, secret: &[u8]) -> audit::Fingerprint {
        self.0.active.load().fingerprint(secret)
    }

    /// Takes up what an earlier run left: credentials that were refused are tried when that run would have tried them. `secret` keys the
    /// fingerprint by which the next run will know them.
    pub fn restore(&self, secret: &[u8], left: Option<&ServiceState>) {
        // Set once, at start; a second restore keeps the first.
        let secret = self.0.secret.get_or_init(|| secret.to_vec().into());
        let Some(left) = left else { return };
        let refused = left.standing.open.as_ref().filter(|o| o.cause.is_refused());
        let (now, wall) = (self.0.clock.instant(), self.0.clock.now());
        let admission = &mut self.0.requests.lock().admission;
        match refused {
            Some(open) if open.credentials == self.0.active.load().fingerprint(secret) => {
                admission.restore(open, open.elapsed_and_rest(wall), now);
            }
            _ if left.state != "closed" => admission.restore_closed(refused.is_some()),
            _ => {}
        }
    }

    /// What of the breaker's state has to outlive the process: a failure may be over by then, refused credentials are not.
    pub fn persisted_state(&self) -> audit::PersistedState {
        let secret = self.0.secret.get().map_or(&[][..], |secret| secret);
        let credentials = self.0.active.load().fingerprint(secret);
        let admission = &self.0.requests.lock().admission;
        audit::PersistedState {
            drained: None,
            open: admission.refused_key(&self.0.clock, credentials),
        }
    }

    /// How it stands with Braze, for people.
    pub fn status(&self) -> LookupStatus {
        let now = self.0.clock.instant();
        self.0.requests.lock().admission.status(now)
    }

    /// The breaker's changes since the last call, for the audit record; bounded.
    pub fn take_changes(&self) -> Vec<BreakerChange> {
        self.0.requests.lock().admission.take_changes()
    }

    /// Whether Braze is to be probed now, once a minute where nobody else asks, and when a refused key is to be tried: [`Braze::probe`] has to follow.
    pub fn take_probe(&self) -> bool {
        let now = self.0.clock.instant();
        self.0.requests.lock().admission.take_probe(now)
    }

    /// Whether a refused key is there to be tried now, because somebody asks for it: [`Braze::probe`] has to follow.
    pub fn take_try_now(&self) -> bool {
        let now = self.0.clock.instant();
        self.0.requests.lock().admission.take_try_now(now)
    }

    /// Asks Braze for nobody, whatever breaker and limiter say, and lets them learn from the answer. A success closes the breaker.
    pub async fn probe(&self) -> ProbeReport {
        let inner = &self.0;
        let active = inner.active.load_full();
        let reply = client::probe(&inner.http, &active, &inner.clock).await;
        let now = inner.clock.instant();
        if !active.authenticates_differently(&inner.active.load()) {
            inner.requests.lock().admission.report_probe(now, &reply);
        }
        ProbeReport::of(reply)
    }
}

impl fmt::Debug for Braze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Braze")
            .field("settings", &self.0.active.load().settings)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl LookedUp {
    fn without(lookup: Lookup, exchange: Option<Exchange>) -> Self {
        Self {
            lookup,
            exchange,
            external_id: None,
        }
    }

    fn of_entry(
        entry: &Entry,
        source: Source,
        now: Instant,
        because: Option<LookupUnavailable>,
    ) -> Self {
        let age_ms = u64::try_from(entry.age(now).as_millis()).unwrap_or(u64::MAX);
        let lookup = match &entry.known {
            Known::Profile(profile) => Lookup::Known {
                profile: profile.clone(),
                source,
                age_ms,
                because,
            },
            Known::Nobody | Known::Dropped => Lookup::Unknown { source, age_ms },
        };
        Self {
            lookup,
            exchange: None,
            external_id: entry.external_id.clone(),
        }
    }

    fn fetched(answer: &ProfileAnswer) -> Self {
        let (source, age_ms) = (Source::Fetched, 0);
        let lookup = match &answer.profile {
            Some(profile) => Lookup::Known {
                profile: profile.clone(),
                source,
                age_ms,
                because: None,
            },
            None => Lookup::Unknown { source, age_ms },
        };
        Self {
            lookup,
            exchange: None,
            external_id: answer.external_id.clone(),
        }
    }

    fn with(self, exchange: Option<Exchange>) -> Self {
        Self { exchange, ..self }
    }
}

impl BrazeInner {
    async fn answer(
        self: &Arc<Self>,
        phone: &E164,
        deadline: Deadline,
        now: Instant,
        asks: LookupPurpose,
    ) -> LookedUp {
        let active = self.active.load_full();
        let entry = self.profiles.get(phone).await;
        let freshness = entry
            .as_ref()
            .map_or(Freshness::Spent, |e| e.freshness(now, &active.settings));
        self.profiles.count(freshness);
        match (freshness, entry) {
            (Freshness::Fresh, Some(entry)) => LookedUp::of_entry(&entry, Source::Fresh, now, None),
            (Freshness::Stale, Some(entry)) => {
                let because = self.refresh_behind(phone, now);
                LookedUp::of_entry(&entry, Source::Stale, now, because)
            }
            (Freshness::Spent, _) | (_, None) => {
                let share = deadline.lookup_share(now, active.settings.timeout);
                self.ask(phone, &active, now, share, asks).await
            }
        }
    }

    /// Has a stale entry refreshed. Says why where Braze cannot be asked.
    fn refresh_behind(self: &Arc<Self>, phone: &E164, now: Instant) -> Option<LookupUnavailable> {
        let spawn = self.spawn.get()?;
        match self.requests.join(phone, now, LookupPurpose::Refresh) {
            Ok(FlightRole::Follows(_)) => None,
            Ok(FlightRole::Leads(leader)) => {
                self.send_by(spawn, leader);
                None
            }
            Err(reason) => Some(reason),
        }
    }

    async fn ask(
        self: &Arc<Self>,
        phone: &E164,
        active: &Active,
        asked_at: Instant,
        share: Duration,
        asks: LookupPurpose,
    ) -> LookedUp {
        if share.is_zero() {
            let reason = LookupUnavailable::NoBudget;
            return LookedUp::without(Lookup::Unavailable { reason }, None);
        }
        let waiting = self.wait_for_answer(phone, asked_at, share, asks);
        let left = share.saturating_sub(self.since(asked_at));
        let (reason, exchange) = match self.clock.timeout(left, waiting).await {
            Ok(Ok(looked_up)) => return looked_up,
            Ok(Err(failed)) => failed,
            Err(_) => {
                let exchange = client::unanswered(active, phone, share);
                (LookupUnavailable::Timeout, Some(exchange))
            }
        };
        // A push may have come in the meantime.
        let late = self.usable(phone, Some(reason)).await;
        late.unwrap_or_else(|| LookedUp::without(Lookup::Unavailable { reason }, None))
            .with(exchange)
    }

    async fn wait_for_answer(
        self: &Arc<Self>,
        phone: &E164,
        asked_at: Instant,
        share: Duration,
        asks: LookupPurpose,
    ) -> Result<LookedUp, (LookupUnavailable, Option<Exchange>)> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.clock.instant();
            let role = self
                .requests
                .join(phone, now, asks)
                .map_err(|reason| (reason, None))?;
            let follower = match role {
                FlightRole::Follows(follower) => follower,
                FlightRole::Leads(leader) => {
                    // Another request may have ended between our look at the cache and here.
                    if let Some(looked_up) = self.usable(phone, None).await {
                        return Ok(looked_up);
                    }
                    let left = share.saturating_sub(self.since(asked_at));
                    self.send(leader, left).await
                }
            };
            let Some(result) = follower.result().await else {
                continue;
            };
            let exchange = Some(result.exchange.clone());
            let answer = match &result.outcome {
                Ok(answer) => answer,
                Err(reason) => return Err((*reason, exchange)),
            };
            let newer = if follower.is_superseded() {
                self.usable(phone, None).await
            } else {
                None
            };
            return Ok(newer
                .unwrap_or_else(|| LookedUp::fetched(answer))
                .with(exchange));
        }
        Err((LookupUnavailable::Connect, None))
    }

    async fn usable(&self, phone: &E164, because: Option<LookupUnavailable>) -> Option<LookedUp> {
        let entry = self.profiles.get(phone).await?;
        let now = self.clock.instant();
        let source = match entry.freshness(now, &self.active.load().settings) {
            Freshness::Fresh => Source::Fresh,
            Freshness::Stale => Source::Stale,
            Freshness::Spent => return None,
        };
        Some(LookedUp::of_entry(&entry, source, now, because))
    }

    async fn warm(&self, profile: CachedProfile) {
        let known = match (profile.known, profile.is_dropped()) {
            (true, _) => Known::Profile(profile.profile),
            (false, false) => Known::Nobody,
            (false, true) => return,
        };
        let now = self.clock.instant();
        let entry = Entry {
            known,
            external_id: profile.external_id,
            fetched_at: profile.fetched_at,
            changed_at: profile.changed_at,
            entered_at: now,
            age_before: age_of(profile.fetched_at, self.clock.now()),
        };
        if entry.freshness(now, &self.active.load().settings) != Freshness::Spent {
            self.profiles.warm(&profile.phone, entry).await;
        }
    }

    pub(super) fn since(&self, start: Instant) -> Duration {
        self.clock.instant().saturating_duration_since(start)
    }
}

/// The number to ask for, or why there is none.
fn number_of(caller: &Caller) -> Result<&E164, LookupSkipped> {
    match caller {
        Caller::Number(number)
        | Caller::Sip {
            number: Some(number),
            ..
        } => Ok(number),
        Caller::Withheld => Err(LookupSkipped::Withheld),
        Caller::National(_) => Err(LookupSkipped::NotE164),
        Caller::Client(_) => Err(LookupSkipped::Client),
        Caller::Sip { number: None, .. } => Err(LookupSkipped::SipUser),
        Caller::Unreadable(_) => Err(LookupSkipped::Unreadable),
    }
}

fn age_of(fetched_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(fetched_at)).unwrap_or(Duration::ZERO)
}

fn outcome_name(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Known { source, .. } => match source {
            Source::Fresh => "fresh",
            Source::Stale => "stale",
            Source::Fetched | Source::Supposed => "fetched",
        },
        Lookup::Unknown { .. } => "unknown",
        Lookup::Skipped { .. } => "skipped",
        Lookup::Unavailable { reason } => reason.into(),
    }
}
