//! The composition root: from a configuration to a running appliance. Nobody but the command line and the tests imports this.

mod certificates;
mod clients;
pub mod metrics;
mod publish;
mod rendering;
mod running;
mod secret;
mod settings;
mod shown;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::admin;
pub use certificates::certificate_of_files;
use clients::say_whether_calls_can_be_looked_up;
pub use clients::{braze, dialers, examining_client, mailer, rest};
use rendering::{InForce, Rendering, changed_at_start};
pub use running::{Running, say_warnings};
pub use settings::{edge, public_names};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::alerts::{self, CallObserver, Delivery, Incidents};
use crate::audit::{Event, Record, RulesetLoaded, ServiceState};
use crate::braze::Braze;
use crate::clock::Clock;
use crate::config::Config;
use crate::dialer::{Fleet, HealthChange};
use crate::flow::{
    Calls, Canary, Completeness, DialerLoads, Drafts, Drains, FreshScores, IdempotencyLocks,
    Inbound, ListEntries, MadeKeys, MissedCalls, Policies, Reconciliation, Recorder, Reloads,
    Retries, Waiting, record_health,
};
use crate::http::keys::Keys;
use crate::http::listener::{BoundListener, Limits};
use crate::http::{
    CONFIRM_EVERY, Customers, EventSources, Events, Overload, People, ProfilePush, Reads,
    RefusalLog, RouterParts, Sessions, ShownSettings, router,
};
use crate::jobs;
use crate::jobs::reconcile::Reconciler;
use crate::lifecycle::Lifecycle;
use crate::store::{
    self, CheckpointSigner, KeyRing, OpenError, Pruner, SecretRotator, Store, StoreError,
};
use crate::twilio::Edge;

pub use secret::{
    SecretError, key_ring, key_ring_beside, key_ring_of_existing, public_key_path, secret_file,
    signing_keys,
};

/// Why the appliance does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error("cannot open the database {path}", path = .path.display())]
    Store {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
    /// The installation's secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The port cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The socket that the process was given is open to more than the configuration allows.
    #[error(
        "the service manager's socket listens on {given}, but [server] listen = {configured}: {why}; set the same address in both"
    )]
    Exposed {
        given: SocketAddr,
        configured: SocketAddr,
        /// What only a loopback address may have.
        why: &'static str,
    },
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// What a process gets from whoever starts it.
#[derive(Debug, Default)]
pub struct Given {
    pub metrics: Option<PrometheusHandle>,
    /// A socket that listens already; `None`: the address of the configuration is bound.
    pub listener: Option<TcpListener>,
    /// Where the configuration came from, to be read again on request.
    pub file: Option<PathBuf>,
    pub demo: Option<crate::http::DemoDoor>,
    /// How often a test has the provider asked what people may do.
    pub confirm_every: Option<SignedDuration>,
}

/// As [`start_with`], on an address of its own.
pub async fn start(
    config: &Config,
    clock: &Clock,
    lifecycle: &Lifecycle,
    metrics: Option<PrometheusHandle>,
) -> Result<Running, StartError> {
    let given = Given {
        metrics,
        ..Given::default()
    };
    start_with(config, clock, lifecycle, given).await
}

/// Opens the store, binds the port and starts everything. Returns when calls can come.
pub async fn start_with(
    config: &Config,
    clock: &Clock,
    lifecycle: &Lifecycle,
    given: Given,
) -> Result<Running, StartError> {
    let Given {
        metrics,
        listener,
        file,
        demo,
        confirm_every,
    } = given;
    let confirm_every = confirm_every.unwrap_or(CONFIRM_EVERY);
    let asking = jobs::systemd::extend_start(lifecycle, "opening the database");
    let key_ring = key_ring(config)?;
    let before = key_ring.former_secret();
    let store = open_store(store_options(config, clock, key_ring.clone()))?;
    jobs::prune::note_silence(&store, clock).await;
    let signer = signer(config, &store).await?;
    drop(asking);
    let (server, address) = listen(config, listener).await?;
    let tls = certificates::of(config)?.map(Arc::new);

    let braze = braze(config, clock)?;
    braze
        .warm(jobs::profiles::stored(&store, config.braze.cache_capacity).await)
        .await;
    // Fingerprints are made under the secret of the start, as long as the process lives.
    let keys_at_start = KeyRing::new(&key_ring.secret());
    let secrets = StartSecrets {
        current: keys_at_start.secret(),
        before,
    };
    let reference_key = store.reference_key();
    let dialers = dialers(config, clock, &reference_key, &secrets.current)?;
    let fleet = Fleet::new(dialers);
    let changes = restore(clock, &secrets, &store, &braze, &fleet).await;
    let mut parts = parts(config, clock, lifecycle, &store, &braze, &fleet, metrics)?;
    parts.settings = parts.settings.with_certificates(tls.clone());
    parts.demo = demo;
    parts.lists.restore().await;
    let channels = Arc::new(ArcSwap::from_pointee(clients::channels(config, clock)?));
    say_whether_calls_can_be_looked_up(&parts.retries.rest);

    jobs::interrupted::start(lifecycle, &store, clock).await;
    jobs::held::restore(&store, &parts.inbound.calls).await;
    let rendering = Rendering::of(config, &secrets.current, &key_ring);
    let former = secrets
        .before
        .map(|former| Rendering::of(config, &former, &key_ring));
    write_first_records(config, clock, &store, &rendering, former.as_ref()).await?;
    for change in changes {
        record_health(&parts.recorder, clock, change).await;
    }
    let reconciler = reconciler(config, &store, &parts);

    let running = Running {
        address,
        store: store.clone(),
        fleet: fleet.clone(),
        reconciler,
        rest: parts.retries.rest.clone(),
        completeness: completeness(config, clock, &store, &parts),
        signer: signer.clone(),
        pruner: Pruner::new(
            store.clone(),
            signer.clone(),
            config.storage.retention,
            false,
        ),
        rotator: SecretRotator::new(store.clone(), signer.clone(), secret_file(config), false),
        parts: parts.clone(),
        key_ring,
        keys_at_start,
        channels: channels.clone(),
        in_force: Arc::new(Mutex::new(InForce {
            database: config.storage.path.clone(),
            started: rendering.clone(),
            started_settings: shown::settings(config),
            loaded: rendering,
            config: config.clone(),
        })),
        certificates: tls.clone(),
    };
    if let Some(file) = file.clone() {
        running.serve_reloads(lifecycle, file);
    }
    start_jobs(lifecycle, &running);
    start_upkeep(lifecycle, &running, &config.storage.path);
    certificates::start(
        lifecycle,
        tls.clone(),
        &parts.inbound.calls.incidents,
        clock,
    );
    admin::start(lifecycle, &config.storage.path, running.control_handlers());
    let canary = parts.canary.clone();
    let expires_at = tls.as_ref().and_then(|tls| tls.state().expires_at);
    watch_changes(lifecycle, &parts, &store, confirm_every).await;
    metrics::begin_calls(&config.ruleset.dialers);
    metrics::watch_backups(lifecycle, &store);
    let serving = server.run(router(parts), tls, limits(config), lifecycle.clone());
    lifecycle.spawn("http", serving);
    jobs::canary::start(lifecycle, canary.clone()).await;
    jobs::systemd::start(lifecycle, canary.clone(), store);
    say_started(config, address, expires_at, file.as_deref());
    Ok(running)
}

/// That the process came up, and by which rules.
async fn write_first_records(
    config: &Config,
    clock: &Clock,
    store: &Store,
    rendering: &Rendering,
    former: Option<&Rendering>,
) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let ruleset = RulesetLoaded::new(config.ruleset.clone(), Some("start"));
    let mut started = vec![
        Record::of_service(clock.now(), Event::ServiceStarted { version }),
        Record::of_service(clock.now(), Event::RulesetLoaded(Box::new(ruleset))),
    ];
    let changed = changed_at_start(&config.storage.path, rendering, former);
    started.extend(changed.map(|event| Record::of_service(clock.now(), event)));
    match store.append(started).await {
        // On a disk that takes nothing now, calls are answered all the same.
        Ok(_) | Err(StoreError::Deferred) => {
            rendering.write(&config.storage.path);
            Ok(())
        }
        Err(error) => Err(error).context("cannot write the first record"),
    }
}

/// Starts what looks after the log and the calls that nobody ended.
fn start_upkeep(lifecycle: &Lifecycle, running: &Running, database: &Path) {
    let Running { store, signer, .. } = running;
    let clock = &running.parts.clock;
    let reconciling = jobs::reconcile::run(lifecycle.clone(), running.reconciler.clone());
    lifecycle.spawn("reap", reconciling);
    let verifying = jobs::reverify::run(lifecycle.clone(), signer.clone(), database.to_owned());
    lifecycle.spawn("reverify", verifying);
    let signing = jobs::checkpoint::run(
        lifecycle.clone(),
        store.clone(),
        signer.clone(),
        clock.clone(),
    );
    lifecycle.spawn("checkpoint", signing);
    let pruning = jobs::prune::run(
        lifecycle.clone(),
        running.pruner.clone(),
        running.parts.recorder.clone(),
        clock.clone(),
    );
    lifecycle.spawn("prune", pruning);
    let comparing = jobs::complete::run(lifecycle.clone(), running.completeness.clone());
    lifecycle.spawn("complete", comparing);
    let (rotator, draining) = (running.rotator.clone(), lifecycle.draining());
    lifecycle.spawn("rotate", async move {
        draining.run_until_cancelled(rotator.run()).await;
    });
}

/// Starts what every installation has running beside its calls.
fn start_jobs(lifecycle: &Lifecycle, running: &Running) {
    let Running {
        parts,
        store,
        channels,
        ..
    } = running;
    let watch = parts
        .overload
        .clone()
        .watch(lifecycle.clone(), parts.recorder.clone());
    lifecycle.spawn("overload", watch);
    let delivery = Delivery {
        store: store.clone(),
        outbox: parts.inbound.calls.incidents.outbox().clone(),
        channels: channels.clone(),
        clock: parts.clock.clone(),
    };
    alerts::start(lifecycle, &delivery, &parts.retries, parts.canary.clone());
    jobs::start(lifecycle, store, &parts.retries);
    let (drafts, draining) = (parts.inbound.drafts.clone(), lifecycle.draining());
    lifecycle.spawn("drafts", async move {
        draining.run_until_cancelled(drafts.run()).await;
    });
    let (scores, draining) = (parts.inbound.fresh_scores.clone(), lifecycle.draining());
    lifecycle.spawn("fresh scores", async move {
        Box::pin(draining.run_until_cancelled(scores.run())).await;
    });
    let announcing = jobs::missed::run(lifecycle.clone(), parts.inbound.calls.clone());
    lifecycle.spawn("missed", announcing);
    let expiring = jobs::lists::run(lifecycle.clone(), parts.lists.clone());
    lifecycle.spawn("lists", expiring);
    let (life, drains) = (lifecycle.clone(), parts.drains.clone());
    lifecycle.spawn("drains", async move {
        while life.pause(std::time::Duration::from_secs(1)).await {
            drains.resume_due().await;
        }
    });
    lifecycle.spawn(
        "ruleset",
        jobs::ruleset::run(
            lifecycle.clone(),
            parts.policies.clone(),
            parts.recorder.clone(),
            parts.clock.clone(),
        ),
    );
}

/// Binds the configured address, or takes the socket that was given.
async fn listen(
    config: &Config,
    given: Option<TcpListener>,
) -> Result<(BoundListener, SocketAddr), StartError> {
    let configured = config.server.listen;
    let refused = |source| StartError::Listen {
        address: configured,
        source,
    };
    let Some(given) = given else {
        let server = BoundListener::bind(configured).await.map_err(refused)?;
        let address = server.local_addr().map_err(refused)?;
        return Ok((server, address));
    };
    let server = BoundListener::from_listener(given).map_err(refused)?;
    let address = server.local_addr().map_err(refused)?;
    let is_private = address.ip().to_canonical().is_loopback();
    let has_guard = config.server.speaks_tls()
        || config.server.insecure_http
        || !config.server.trusted_proxies.is_empty();
    let why = match config.twilio.verify_signature {
        false => "without signatures only a loopback address may be served",
        true if !has_guard => "plain HTTP is served on a loopback address only",
        true => return Ok((server, address)),
    };
    if is_private {
        return Ok((server, address));
    }
    Err(StartError::Exposed {
        given: address,
        configured,
        why,
    })
}

fn say_started(
    config: &Config,
    address: SocketAddr,
    expires_at: Option<Timestamp>,
    file: Option<&Path>,
) {
    tracing::info!(
        event = "service.started",
        version = env!("CARGO_PKG_VERSION"),
        address = %address,
        public_url = config.server.public_url.as_str(),
        database = %shown::file_name(&config.storage.path).display(),
        schema = store::migrate::newest(),
        config = file.map(|file| shown::file_name(file).display().to_string()),
        tls_expires_at = expires_at.map(|at| at.to_string()),
        ruleset = config.ruleset.version().as_str(),
        dialers = config.dialers.len(),
        "calls can come"
    );
}

/// Takes up the sessions of before, and starts telling of changes.
async fn watch_changes(
    lifecycle: &Lifecycle,
    parts: &RouterParts,
    store: &Store,
    confirm_every: SignedDuration,
) {
    parts.made_keys.restore().await;
    parts.sessions.restore().await;
    let (people, until) = (parts.people.clone(), lifecycle.clone());
    let draining = lifecycle.draining();
    lifecycle.spawn("people", async move {
        draining
            .run_until_cancelled(people.run(until, confirm_every))
            .await;
    });
    let sources = EventSources {
        store: store.clone(),
        reads: parts.reads.clone(),
        drains: parts.drains.clone(),
        settings: parts.settings.clone(),
        clock: parts.clock.clone(),
    };
    let telling = parts.events.clone().run(lifecycle.clone(), sources);
    lifecycle.spawn("events", telling);
    let summing_up = parts.refusals.clone().run(lifecycle.clone());
    lifecycle.spawn("refusals", summing_up);
}

/// The store of a configuration, for a command that works without the server. Fails while a server has it.
pub fn store(config: &Config, clock: &Clock) -> Result<Store, StartError> {
    open_store(store_options(config, clock, key_ring(config)?).unhurried())
}

fn store_options(config: &Config, clock: &Clock, key_ring: KeyRing) -> store::Options {
    let storage = &config.storage;
    let mut options = store::Options {
        spool_bytes: u64::from(storage.spool_mib) * store::MIB,
        reserve_bytes: u64::from(storage.ballast_mib) * store::MIB,
        ..store::Options::new(storage.path.clone(), clock.clone(), key_ring)
    };
    if let Some(spool) = &storage.spool {
        options.spool.clone_from(spool);
    }
    options
}

fn open_store(options: store::Options) -> Result<Store, StartError> {
    Store::open(&options).map_err(|source| StartError::Store {
        path: options.path,
        source,
    })
}

async fn signer(config: &Config, store: &Store) -> anyhow::Result<CheckpointSigner> {
    let log_id = store.log_id().await.context("cannot read the database")?;
    let (key, former) = signing_keys(config, &log_id)?;
    secret::publish_key(config, key.public());
    Ok(CheckpointSigner::begin(store, key, &former).await)
}

/// Takes up what the last run recorded of the dialers and of Braze; what is different now is to be recorded.
async fn restore(
    clock: &Clock,
    secrets: &StartSecrets,
    store: &Store,
    braze: &Braze,
    fleet: &Fleet,
) -> Vec<HealthChange> {
    let mut left = store.dialer_states().await.unwrap_or_else(|error| {
        tracing::error!(event = "health.unread", error = %error, "the state of the dialers cannot be read; all of them count as well");
        Vec::new()
    });
    if let Some(before) = &secrets.before {
        know_credentials_again(&mut left, before, &secrets.current, braze, fleet);
    }
    let of_braze = left.iter().find(|state| state.service == "braze");
    braze.restore(&secrets.current, of_braze);
    fleet.restore(&left, clock.instant(), clock.now())
}

/// The secrets at the start of a process.
struct StartSecrets {
    current: Zeroizing<Vec<u8>>,
    /// The one before, by which an earlier run may have known credentials.
    before: Option<Zeroizing<Vec<u8>>>,
}

/// Credentials that were refused, and noted under the secret before, are noted as they are known under the current one.
fn know_credentials_again(
    left: &mut [ServiceState],
    before: &[u8],
    current: &[u8],
    braze: &Braze,
    fleet: &Fleet,
) {
    for state in left {
        let of = |secret: &[u8]| {
            if state.service == "braze" {
                return Some(braze.fingerprint(secret));
            }
            let dialers = fleet.dialers();
            let dialer = dialers
                .iter()
                .find(|one| one.id().as_str() == state.service);
            dialer.map(|dialer| dialer.fingerprint_under(secret))
        };
        let (known, now) = (of(before), of(current));
        if let (Some(open), Some(now)) = (&mut state.standing.open, now)
            && known.as_ref() == Some(&open.credentials)
        {
            open.credentials = now;
        }
    }
}

fn completeness(
    config: &Config,
    clock: &Clock,
    store: &Store,
    parts: &RouterParts,
) -> Completeness {
    let (clock, store) = (clock.clone(), store.clone());
    let rest = parts.retries.rest.clone();
    Completeness::new(
        clock,
        store,
        rest,
        public_names(config),
        &config.storage.path,
    )
}

fn reconciler(config: &Config, store: &Store, parts: &RouterParts) -> Reconciler {
    let reconciliation = Reconciliation {
        calls: parts.inbound.calls.clone(),
        rest: parts.retries.rest.clone(),
    };
    let silence = settings::silence(config);
    Reconciler::new(store.clone(), reconciliation, parts.clock.clone(), silence)
}

fn parts(
    config: &Config,
    clock: &Clock,
    lifecycle: &Lifecycle,
    store: &Store,
    braze: &Braze,
    fleet: &Fleet,
    metrics: Option<PrometheusHandle>,
) -> anyhow::Result<RouterParts> {
    let alert_policy = settings::alert_policy(config);
    let observer = CallObserver::new(clock.clone(), alert_policy.rules.window);
    let recorder = Recorder::new(clock.clone(), store.clone()).observed_by(observer.clone());
    let policy = settings::policy(config);
    let policies = Policies::new(policy.with_draft(config.draft.clone(), None, clock.now()));
    let waiting = Waiting::default();
    let waiting_line = waiting.clone();
    let incidents = Incidents::new(
        clock.clone(),
        fleet.clone(),
        waiting.clone(),
        recorder.clone(),
        observer,
        alert_policy,
    );
    let of_reads = incidents.clone();
    let lists = ListEntries::new(clock.clone(), store.clone());
    lists.lists.define(&config.lists);
    let calls = Calls {
        clock: clock.clone(),
        policies: policies.clone(),
        locks: IdempotencyLocks::new(clock.clone(), store.clone()),
        fleet: fleet.clone(),
        waiting,
        lists: lists.lists.clone(),
        loads: DialerLoads::new(clock.clone(), config.routing.time_zone.clone()),
        incidents: incidents.clone(),
        missed: MissedCalls::default(),
        recorder: recorder.clone(),
    };
    let made_keys = MadeKeys::new(clock.clone(), store.clone());
    let keys = Keys::new(config.auth.keys.clone()).with_made(made_keys.clone());
    let sessions = sessions(config, &keys, store, clock);
    let people = People::new(sessions.clone(), recorder.clone(), clock.clone());
    people.replace(clients::oidc(config, clock)?);
    Ok(RouterParts {
        clock: clock.clone(),
        edge: Edge::new(edge(config)?, clock.clone()),
        policies: policies.clone(),
        recorder: recorder.clone(),
        inbound: Inbound {
            calls,
            braze: braze.clone(),
            drafts: Drafts::new(recorder.clone()),
            fresh_scores: FreshScores::new(clock.clone(), braze.clone(), recorder.clone()),
        },
        retries: Retries {
            clock: clock.clone(),
            fleet: fleet.clone(),
            braze: braze.clone(),
            rest: rest(config, clock)?,
            incidents,
            recorder: recorder.clone(),
        },
        profile_push: ProfilePush {
            clock: clock.clone(),
            braze: braze.clone(),
            recorder: recorder.clone(),
            secret: Arc::new(ArcSwapOption::from_pointee(settings::push_secret(config))),
        },
        lists,
        sessions,
        people,
        made_keys,
        refusals: RefusalLog::new(clock.clone(), recorder.clone()),
        keys,
        key_ring: store.key_ring().clone(),
        events: Events::new(clock),
        overload: Overload::new(clock.of_timers(), config.server.calls_in_hand),
        // It tells of the machine's own time, too.
        canary: Canary::new(Clock::system(), policies.clone(), store.clone()),
        drains: Drains {
            clock: clock.clone(),
            fleet: fleet.clone(),
            recorder,
        },
        reloads: Reloads::default(),
        customers: Customers {
            clock: clock.clone(),
            braze: braze.clone(),
            policies: policies.clone(),
        },
        settings: ShownSettings::new(shown::document(config, clock.now(), &[], &[])),
        reads: Reads::new(store.clone(), clock.clone(), waiting_line, of_reads),
        lifecycle: lifecycle.clone(),
        docs: config.server.docs,
        cors_origins: config.server.cors_origins.clone().into(),
        trusted_proxies: config.server.trusted_proxies.clone().into(),
        metrics,
        demo: None,
    })
}

fn sessions(config: &Config, keys: &Keys, store: &Store, clock: &Clock) -> Sessions {
    let site = settings::site(config);
    Sessions::new(keys.clone(), store.clone(), clock.clone(), site)
}

/// Proxies in front of us carry everybody's calls: their connections are not counted per address.
fn limits(config: &Config) -> Limits {
    let mut limits = Limits::default();
    limits.uncapped.extend(&config.server.trusted_proxies);
    limits
}
