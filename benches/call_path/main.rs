//! Complete calls per second over real sockets, beside a bare axum handler that only makes the same upstream request.
//!
//! Three processes share the machine: the load generator with the upstream dialer in it, the product (`switchboard serve`, release
//! build, its database on disk), and the bare handler. A complete call is: signed webhook, cache hit, one handoff request, two
//! durable commits, TwiML. The two servers are loaded in turn, A B A B …, so that the ratio holds when the machine's speed drifts.
//!
//! `cargo bench --bench call_path` prints everything; `SWITCHBOARD_BENCH_SECONDS` (default 10), `SWITCHBOARD_BENCH_ROUNDS`
//! (default 5) and `SWITCHBOARD_BENCH_CONNECTIONS` (default 64) change the closed loop.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench stops at the first surprise and prints"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads clocks and the environment, and starts tasks"
)]

mod bare;
mod load;
mod servers;
mod upstream;

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::{Caller, Measured};
use crate::servers::Server;

/// Arrivals per second of the open loop.
const RATE: u64 = 500;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let (Some("--bare"), Some(upstream)) = (arguments.next().as_deref(), arguments.next()) {
        return bare::run(&upstream);
    }
    let seconds = setting("SWITCHBOARD_BENCH_SECONDS", 10);
    let rounds = setting("SWITCHBOARD_BENCH_ROUNDS", 5);
    let connections = usize::try_from(setting("SWITCHBOARD_BENCH_CONNECTIONS", 64)).unwrap();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            bench(Duration::from_secs(seconds), rounds, connections).await;
        });
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

async fn bench(length: Duration, rounds: u64, connections: usize) {
    let directory = tempfile::tempdir().unwrap();
    let upstream = upstream::start().await;
    let product = Server::product(directory.path(), upstream).await;
    let bare = Server::bare(upstream);
    product.warm().await;

    println!(
        "machine: {} processors; {}",
        std::thread::available_parallelism().unwrap(),
        load::kernel()
    );
    print_fsync(directory.path());
    // Latency first: a disk that still writes back what a saturating load left behind measures that load.
    println!(
        "\nopen loop, {RATE} calls/s, {} s a run, latency from the intended start, in ms",
        length.as_secs()
    );
    let latency = load::open_loop(&product, RATE, length, 32).await;
    let bare_latency = load::open_loop(&bare, RATE, length, 32).await;
    print_latency("switchboard", &latency);
    print_latency("bare", &bare_latency);
    let own = |quantile: f64| {
        (ms(&latency.latency, quantile) - ms(&bare_latency.latency, quantile)).max(0.0)
    };
    println!(
        "{:>12}: p50 {:.2}  p99 {:.2}",
        "own overhead",
        own(0.5),
        own(0.99)
    );
    println!(
        "\nclosed loop, {connections} connections, {} s a run, {rounds} rounds",
        length.as_secs()
    );
    println!(
        "{:>6} {:>16} {:>16} {:>7}",
        "round", "switchboard/s", "bare/s", "ratio"
    );
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let a = load::closed_loop(&product, connections, length).await;
        let b = load::closed_loop(&bare, connections, length).await;
        let ratio = a.per_second() / b.per_second();
        println!(
            "{round:>6} {:>16.0} {:>16.0} {ratio:>7.2}",
            a.per_second(),
            b.per_second()
        );
        ours.push(a.per_second());
        theirs.push(b.per_second());
        ratios.push(ratio);
    }
    println!(
        "{:>6} {:>16.0} {:>16.0} {:>7.2}",
        "median",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios)
    );

    overload(&product, median(&mut ours), length).await;
    println!(
        "memory of switchboard after the run: {} MiB resident",
        product.resident_mib()
    );
    Server::check_records(directory.path(), &[&latency]);
}

/// Three times what the server can take: every webhook is answered with TwiML, in time; fresh calls beyond its capacity early.
async fn overload(product: &Server, capacity: f64, length: Duration) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of calls"
    )]
    let rate = (capacity * 3.0) as u64;
    let shed_before = product.metric("switchboard_calls_shed_total").await;
    let measured = load::open_loop(product, rate, length, 4_000).await;
    let shed = product.metric("switchboard_calls_shed_total").await - shed_before;
    let late = measured.answered - measured.service.count_between(0, 2_000_000);
    println!(
        "\nopen loop at three times the capacity, {rate} calls/s, {} s",
        length.as_secs()
    );
    let service = &measured.service;
    println!(
        "{:>12}: from sending p50 {:.0}  p99 {:.0}  max {:.0}  ({} calls, all answered with TwiML)",
        "switchboard",
        ms(service, 0.5),
        ms(service, 0.99),
        ms(service, 1.0),
        measured.answered
    );
    println!(
        "{:>12}: {shed} answered early with the safe answer; {late} later than 2 s",
        ""
    );
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a call")]
    let micros = latency.value_at_quantile(quantile) as f64;
    micros / 1_000.0
}

fn print_latency(name: &str, measured: &Measured) {
    let l = &measured.latency;
    println!(
        "{name:>12}: p50 {:.2}  p99 {:.2}  max {:.2}  ({} calls)",
        ms(l, 0.5),
        ms(l, 0.99),
        ms(l, 1.0),
        measured.answered
    );
}

/// The disk's own speed in the same minute: what a durable commit cannot be faster than.
fn print_fsync(directory: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(directory.join("probe")).unwrap();
    let mut latency = Histogram::<u64>::new(3).unwrap();
    for _ in 0..500 {
        file.write_all(&[0; 4096]).unwrap();
        let started = Instant::now();
        file.sync_data().unwrap();
        latency
            .record(u64::try_from(started.elapsed().as_micros()).unwrap())
            .unwrap();
    }
    println!(
        "fdatasync of 4 KiB: p50 {:.2} ms, p99 {:.2} ms",
        ms(&latency, 0.5),
        ms(&latency, 0.99)
    );
    println!("callers: {} numbers, all cached", Caller::COUNT);
}
