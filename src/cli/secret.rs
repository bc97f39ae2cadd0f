//! `switchboard secret rotate`: changes the installation's secret. Beside a running server, that server does it.

use anyhow::Context;

use super::audit::not_opened;
use super::frame::{Bar, Exit, Global, as_owner, errln, load, outln, refused, runtime, sudo_user};
use crate::admin::{self, AskError, ControlPeer, ControlRequest};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::store::{CheckpointSigner, Options, RotateError, RotationReport, SecretRotator, Store};

#[derive(Debug, clap::Args)]
pub(super) struct SecretArguments {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SecretCommand {
    /// Draw a new installation secret and put everything under it, while calls go on; asked again, it says how far that is
    Rotate,
}

pub(super) fn run(arguments: &SecretArguments, global: &Global) -> anyhow::Result<Exit> {
    let SecretCommand::Rotate = arguments.command;
    let loaded = load(global)?;
    let path = &loaded.config.storage.path;
    if !path.exists() {
        errln!("there is no database at {}", path.display());
        return Ok(Exit::Failed);
    }
    let request = ControlRequest::RotateSecret {
        sudo_user: sudo_user(),
    };
    let bar = Bar::start(global, 0, "rows");
    let mut is_said = false;
    let answer = admin::ask(path, &request, |progress| {
        if !std::mem::replace(&mut is_said, true) && progress.done > 0 {
            let (done, total) = (progress.done, progress.total);
            errln!("a rotation is under way: {done} of {total} rows are done");
        }
        bar.set_total(progress.total);
        bar.set(progress.done);
    });
    let report = match answer {
        Ok(document) => {
            serde_json::from_value(document).context("the server's answer cannot be read")?
        }
        Err(AskError::Nobody { .. }) => alone(&loaded.config, &bar)?,
        Err(error) => {
            bar.end();
            return Ok(refused(error));
        }
    };
    bar.end();
    global.print(&report, |report: &RotationReport| {
        outln!("the installation secret was changed: {} rows", report.rows);
        errln!(
            "{} reads backups that were made before: keep it with them; back the new one up where they cannot be read by whoever has them",
            report.old
        );
    })?;
    Ok(Exit::Done)
}

/// Nobody has the database: it is opened and put under the new secret here.
fn alone(config: &Config, bar: &Bar) -> anyhow::Result<RotationReport> {
    let path = &config.storage.path;
    let _acting = as_owner(path)?;
    let key_ring = app::key_ring_of_existing(config).map_err(|e| Exit::Configuration.after(e))?;
    runtime()?.block_on(async {
        let options = Options::new(path, Clock::system(), key_ring).unhurried();
        let store = Store::open(&options).map_err(not_opened)?;
        let rotated = rotate(&store, config, bar).await;
        store.close().await;
        rotated
    })
}

async fn rotate(store: &Store, config: &Config, bar: &Bar) -> anyhow::Result<RotationReport> {
    let (key, former) = app::signing_keys(config, &store.log_id().await?)?;
    let signer = CheckpointSigner::begin(store, key, &former).await;
    let rotator = SecretRotator::new(
        store.clone(),
        signer.clone(),
        app::secret_file(config),
        true,
    );
    let by = ControlPeer {
        uid: rustix::process::getuid().as_raw(),
    };
    let by = by.name(false, sudo_user().as_deref());
    let rotated = rotator.rotate(&by, |done, total| {
        bar.set_total(total);
        bar.set(done);
    });
    let report = rotated.await.map_err(|error| {
        let exit = match &error {
            RotateError::NoFile | RotateError::OldInPlace { .. } => Exit::Usage,
            RotateError::Draw { .. } | RotateError::Place(_) => Exit::Failed,
            RotateError::Store(_) => Exit::TryAgain,
        };
        exit.after(error)
    })?;
    signer.sign(true).await;
    Ok(report)
}
