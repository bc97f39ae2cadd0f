//! `switchboard simulate`: one stand-in of the outside world by itself, to be used from another program.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;

use super::frame::{Exit, Global, errln, outln, runtime};
use crate::lifecycle::{Signal, Signals};
use switchboard_simulator::chance::Chance;
use switchboard_simulator::{alone, made_up};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct SimulateArguments {
    /// Which of them
    #[arg(value_enum)]
    which: StandIn,
    /// Where to listen; a loopback address
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Of twilio: where another program orders calls and reads what callers heard; a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Of twilio: the public URL of the appliance, as it is typed in the console
    #[arg(long, value_name = "URL", default_value = made_up::PUBLIC_URL)]
    public_url: String,
    /// Of twilio: where webhooks under that URL are really sent
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    webhooks: String,
    /// Repeat a run: the same people call in the same order
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StandIn {
    /// Calls by webhooks, and the REST API
    Twilio,
    /// Profiles with scores
    Braze,
    /// A campaign that takes contacts
    Dialfire,
    /// Tickets and agents of Zendesk Talk
    Zendesk,
    /// Any dialer that takes calls by HTTP
    Http,
    /// A mail server
    Smtp,
}

pub(super) fn run(arguments: &SimulateArguments, global: &Global) -> anyhow::Result<Exit> {
    let addresses = [arguments.listen, arguments.control];
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        errln!("a stand-in listens on a loopback address only: its secrets are public");
        return Ok(Exit::Usage);
    }
    runtime()?.block_on(async {
        let mut signals = Signals::register()?;
        let (known, serve) = listen(arguments).context("cannot listen")?;
        print(&known, global)?;
        tokio::select! {
            () = serve => {}
            () = stopped(&mut signals) => {}
        }
        Ok(Exit::Done)
    })
}

/// The stand-in that was asked for, listening; and what has to be known to use it.
fn listen(
    arguments: &SimulateArguments,
) -> std::io::Result<(Value, impl Future<Output = ()> + use<>)> {
    let address = arguments.listen.to_string();
    let seed = arguments.seed.unwrap_or_else(Chance::fresh_seed);
    match arguments.which {
        StandIn::Braze => alone::braze(&address, seed),
        StandIn::Dialfire => alone::dialfire(&address),
        StandIn::Zendesk => alone::zendesk(&address),
        StandIn::Http => alone::http_dialer(&address),
        StandIn::Smtp => alone::smtp(&address),
        StandIn::Twilio => alone::twilio(
            &address,
            &arguments.control.to_string(),
            &arguments.public_url,
            &arguments.webhooks,
            seed,
        ),
    }
}

/// One line, so that another program can read it while this one goes on; more for people.
fn print(known: &Value, global: &Global) -> anyhow::Result<()> {
    outln!("{}", serde_json::to_string(known)?);
    if global.quiet == 0 {
        errln!("listening until Ctrl-C; nothing leaves this machine");
    }
    Ok(())
}

/// Until the process is asked to stop.
async fn stopped(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}
