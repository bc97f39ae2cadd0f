//! `switchboard demo`: the appliance against stand-ins of everything outside, with people who call. Nothing leaves this machine.

mod faults;
mod report;
mod setup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::frame::{Exit, Global, errln, outln, runtime};
use super::serve;
use crate::app::{self, Running};
use crate::clock::Clock;
use crate::config;
use crate::http::{DemoDoor, OneTimeLink};
use crate::lifecycle::{Lifecycle, Signal, Signals};
use crate::telemetry;
use switchboard_simulator::World;
use switchboard_simulator::callers::Callers;
use switchboard_simulator::chance::Chance;
use switchboard_simulator::made_up;
use switchboard_simulator::twilio::{Call, CallResult};

use faults::{OpenFault, Switches};
use report::{DemoCall, DemoReport};
pub(super) use setup::telemetry as terminal_logs;

/// How long people wait, in phone time: longer than the demo's `max_hold` takes, so that nobody's patience ends a hold.
const PATIENCE: Duration = Duration::from_mins(30);
/// How many people call in a minute of the time before, where nobody is on the phone.
const CALLS_BEFORE: f64 = 3.0;
/// Results that may wait to be printed.
const RESULTS_WAITING: usize = 1_024;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Where to listen; a loopback address
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How many people call in a minute
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    calls_per_minute: u32,
    /// How long new calls come in: 30s, 10m
    #[arg(long = "for", default_value = "10m", value_parser = duration)]
    length: Duration,
    /// How much is made up of the time before, so that no chart is empty: 2h, or 0s for nothing
    #[arg(long, default_value = "2h", value_parser = duration)]
    history: Duration,
    /// Break something from the start
    #[arg(long, value_enum, value_delimiter = ',')]
    open_faults: Vec<OpenFault>,
    /// Repeat a run: the same people call in the same order
    #[arg(long)]
    seed: Option<u64>,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .ok_or_else(|| "write a number and a unit, like 30s or 10m".to_owned())
}

pub(super) fn run(arguments: &DemoArguments, global: &Global) -> anyhow::Result<Exit> {
    if !arguments.listen.ip().is_loopback() {
        errln!("the demo listens on a loopback address only: its secrets are public");
        return Ok(Exit::Usage);
    }
    let _logs = telemetry::start(&setup::telemetry(global), Clock::system())?;
    let metrics = app::metrics::install()?;
    runtime()?.block_on(async {
        let mut signals = Signals::register()?;
        let lifecycle = Lifecycle::default();
        let seed = arguments.seed.unwrap_or_else(Chance::fresh_seed);
        let (world, serve_world) = World::bind(seed).context("cannot bind the stand-ins")?;
        let outside = lifecycle.draining();
        lifecycle.spawn("stand-ins", async move {
            outside.run_until_cancelled(serve_world).await;
        });
        let setup = setup::Setup::new(arguments.listen, &world)?;
        let switches = Switches::new(world.clone());
        let given = app::Given {
            metrics: Some(metrics),
            file: Some(setup.file.clone()),
            demo: Some(DemoDoor {
                routes: switches.clone().routes(),
                link: OneTimeLink::new(setup.once.clone(), setup.key.clone()),
            }),
            ..app::Given::default()
        };
        let ms = i64::try_from(arguments.history.as_millis())?;
        let late_ms = Arc::new(AtomicI64::new(ms));
        let clock = Clock::system().late(Arc::clone(&late_ms));
        let started = app::start_with(&setup.config, &clock, &lifecycle, given).await;
        let running = started.map_err(serve::refuse)?;
        setup.furnish(&world, running.address);
        tokio::select! {
            () = live_through(seed, &world, &late_ms) => {}
            () = stop(&mut signals) => lifecycle.stop(),
        }
        setup::slow_down(&world);
        for fault in &arguments.open_faults {
            switches.set(*fault, true);
        }
        greet(arguments, &setup, &running, seed);

        // The first signal ends the calls, and the appliance serves them to their end.
        let enough = lifecycle.draining().child_token();
        let (results, printed) = mpsc::channel(RESULTS_WAITING);
        let callers = Callers::seeded(seed).score_attribute(setup::SCORE_ATTRIBUTE);
        let calls = CallMaker {
            world,
            lifecycle: lifecycle.clone(),
            enough: enough.clone(),
            results,
        };
        lifecycle.spawn_transient("callers", calls.run(callers, arguments.clone()));
        let report = print_results(global.json, &running, printed, &lifecycle);
        let verdict = async {
            if enough
                .run_until_cancelled(stop(&mut signals))
                .await
                .is_some()
            {
                errln!("callers hang up; once more ends it at once");
                enough.cancel();
                let draining = lifecycle.draining();
                let again = draining.run_until_cancelled(stop(&mut signals));
                if again.await.is_some() {
                    lifecycle.stop();
                }
            }
            lifecycle.run_until_stopped(signals).await
        };
        let (report, _verdict) = tokio::join!(report, verdict);
        running.close().await;
        report.summarize(global, setup.database)
    })
}

/// Calls of the time before, one after another by the same way as all that follow: while somebody is on the phone, the clock catches up.
async fn live_through(seed: u64, world: &World, late_ms: &Arc<AtomicI64>) {
    let pace = |late_ms| {
        world
            .twilio
            .configure(|settings| settings.late_ms = late_ms);
    };
    pace(Some(Arc::clone(late_ms)));
    let mut callers = Callers::seeded(!seed).score_attribute(setup::SCORE_ATTRIBUTE);
    for gap in callers.arrivals(CALLS_BEFORE) {
        let ms = i64::try_from(gap.as_millis()).unwrap_or(i64::MAX);
        if late_ms.fetch_sub(ms, Ordering::SeqCst) <= ms {
            break;
        }
        let person = callers.next(&world.braze);
        world
            .twilio
            .call(Call::new(&person.from, made_up::CALLED))
            .await;
    }
    late_ms.store(0, Ordering::SeqCst);
    pace(None);
}

/// Waits until the process is asked to stop.
async fn stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

fn greet(arguments: &DemoArguments, setup: &setup::Setup, running: &Running, seed: u64) {
    errln!("switchboard demo: listening on http://{}", running.address);
    errln!(
        "Twilio, Braze, Dialfire, Zendesk Talk and a mail server are stand-ins; nothing leaves this machine."
    );
    errln!("dashboard: http://{}/", running.address);
    errln!(
        "log in once: http://{}/login?once={}",
        running.address,
        setup.once
    );
    errln!("API key: {}", setup.key);
    errln!("configuration {}, seed {seed}", setup.file.display());
    errln!(
        "{} calls a minute for {} s; on the phone, time runs 20 times faster; Ctrl-C ends it early\n",
        arguments.calls_per_minute,
        arguments.length.as_secs()
    );
}

/// Prints a line for every call that has ended, until the last result has come; then lets the process end.
async fn print_results(
    json: bool,
    running: &Running,
    mut results: mpsc::Receiver<CallResult>,
    lifecycle: &Lifecycle,
) -> DemoReport {
    let mut report = DemoReport::default();
    while let Some(result) = results.recv().await {
        let seen = DemoCall::of(&running.store, result).await;
        if !json {
            outln!("{}", seen.line(Clock::system().now()));
        }
        report.add(&seen);
    }
    lifecycle.stop();
    report
}

struct CallMaker {
    world: World,
    lifecycle: Lifecycle,
    /// No more calls; who is on the line hangs up.
    enough: CancellationToken,
    results: mpsc::Sender<CallResult>,
}

impl CallMaker {
    /// Makes calls at random moments until the time is over or it is enough; every call is made to its end, and its result sent on.
    async fn run(self, mut callers: Callers, arguments: DemoArguments) {
        let arrivals = callers.arrivals(f64::from(arguments.calls_per_minute));
        let clock = Clock::system();
        let started = clock.instant();
        let mut due = Duration::ZERO;
        for gap in arrivals {
            due += gap;
            if due > arguments.length {
                break;
            }
            let wait = due.saturating_sub(clock.instant().duration_since(started));
            if timeout(wait, self.enough.cancelled()).await.is_ok() {
                break;
            }
            let person = callers.next(&self.world.braze);
            let call = Call::new(&person.from, made_up::CALLED)
                .patience(PATIENCE)
                .until(self.enough.clone());
            let (world, results) = (self.world.clone(), self.results.clone());
            self.lifecycle.spawn_transient("call", async move {
                let result = world.twilio.call(call).await;
                // A printer that is gone needs no result.
                drop(results.send(result).await);
            });
        }
    }
}
