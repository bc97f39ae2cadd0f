//! `switchboard migrate`: the version of the database schema.

use super::frame::{Exit, Global, as_owner, errln, load, outln};
use super::serve;
use crate::app::{self, SecretError};
use crate::clock::Clock;
use crate::store::{OpenError, migrate};

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Action {
    /// Show which version the database has and which steps are pending
    Status,
    /// Bring the database to the latest version (the default)
    Up,
    /// Take the database back to an older version; a copy is kept beside it
    Down {
        /// The version to go back to; 0 removes everything
        #[arg(long)]
        to: u32,
    },
}

pub(super) fn run(arguments: &MigrateArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let path = &loaded.config.storage.path;
    let _acting = as_owner(path)?;
    let clock = Clock::system();
    let done = match arguments.action.unwrap_or(Action::Up) {
        Action::Status => Ok(None),
        Action::Up => {
            let key_ring = app::key_ring(&loaded.config).map_err(no_secret)?;
            migrate::up(path, &clock, &key_ring).map(Some)
        }
        Action::Down { to } => migrate::down(path, to, &clock).map(Some),
    };
    if let Ok(Some(migrated)) = &done
        && let Some(backup) = &migrated.backup
    {
        errln!("the database as it was is kept as {}", backup.display());
    }
    let status = done.and_then(|_| migrate::status(path)).map_err(|error| {
        let exit = exit_of(&error);
        exit.after(anyhow::Error::from(error).context(path.display().to_string()))
    })?;
    global.print(&status, |status| {
        outln!("schema {} of {}", status.current, status.latest);
        for step in &status.pending {
            outln!("pending: {step}");
        }
    })?;
    Ok(Exit::Done)
}

fn no_secret(error: SecretError) -> Exit {
    let exit = match &error {
        SecretError::Database { source, .. } => exit_of(source),
        SecretError::Missing { .. }
        | SecretError::Empty { .. }
        | SecretError::Exposed { .. }
        | SecretError::File { .. } => Exit::Configuration,
    };
    exit.after(error)
}

/// As at a start; but here the configuration is at fault only where it names a database that no release can read.
fn exit_of(error: &OpenError) -> Exit {
    if matches!(error, OpenError::Development { .. }) {
        return Exit::Configuration;
    }
    match serve::exit_of(error) {
        Exit::Usage => Exit::Usage,
        Exit::TryAgain => Exit::TryAgain,
        Exit::Done | Exit::Failed | Exit::Configuration => Exit::Failed,
    }
}
