//! `switchboard backup` and `switchboard restore`: a consistent copy of the database, and the way back.

use std::path::PathBuf;

use super::progress::Bar;
use super::{Exit, Global, load, output};
use crate::app;
use crate::clock::Clock;
use crate::store::OpenError;
use crate::store::copy::{self, CopyError, Phase};

#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// Where to put it. What is there is replaced, when the new one has been verified
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    /// Replace the database that is there; it is kept beside the new one
    #[arg(long)]
    force: bool,
}

pub(super) fn run_backup(arguments: &Backup, global: &Global) -> anyhow::Result<Exit> {
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let database = &loaded.config.storage.path;
    let clock = Clock::system();
    let mut progress = Progress::new(global);
    let made = copy::back_up(
        database,
        &arguments.file,
        || clock.now(),
        std::thread::park_timeout,
        &mut |phase, done, all| progress.tell(phase, done, all),
    );
    progress.end();
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => return Ok(refused(error)),
    };
    if let Err(error) = copy::note(database, &manifest) {
        let error = anyhow::Error::from(error);
        output::complain(&format!(
            "the server does not learn of this backup: {error:#}"
        ));
    }
    if global.json {
        output::document(&manifest)?;
    } else {
        output::line(&format!(
            "{}: {} records, {} bytes, SHA-256 {}",
            manifest.file.display(),
            manifest.records,
            manifest.bytes,
            manifest.sha256
        ));
        output::complain(
            "callers' data in it can be read with the installation secret only: keep that in another place",
        );
    }
    Ok(Exit::Done)
}

pub(super) fn run_restore(arguments: &Restore, global: &Global) -> anyhow::Result<Exit> {
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let vault = match app::vault_of_existing(&loaded.config) {
        Ok(vault) => vault,
        Err(error) => {
            output::complain(&format!("{:#}", anyhow::Error::from(error)));
            return Ok(Exit::Configuration);
        }
    };
    let mut progress = Progress::new(global);
    let restored = copy::restore(
        &arguments.file,
        &loaded.config.storage.path,
        &vault,
        arguments.force,
        Clock::system().now(),
        &mut |phase, done, all| progress.tell(phase, done, all),
    );
    progress.end();
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => return Ok(refused(error)),
    };
    if let Some(kept) = &restored.kept {
        output::complain(&format!(
            "the database of before is kept as {}",
            kept.display()
        ));
        output::complain(
            "where it went on after the backup, the audit log says at the next start that it was rolled back: `audit accept-rollback` says that this was meant",
        );
    }
    if global.json {
        output::document(&restored)?;
    } else {
        output::line(&format!(
            "restored: {} records, schema {}",
            restored.records, restored.schema
        ));
    }
    Ok(Exit::Done)
}

fn refused(error: CopyError) -> Exit {
    let exit = match &error {
        CopyError::Open(OpenError::InUse { .. }) => Exit::TryAgain,
        CopyError::Open(OpenError::WrongSecret { .. }) => Exit::Configuration,
        CopyError::Itself { .. } => Exit::Usage,
        CopyError::Open(_)
        | CopyError::Damaged { .. }
        | CopyError::Exists { .. }
        | CopyError::File { .. }
        | CopyError::Verify(_) => Exit::Failed,
    };
    output::complain(&format!("{:#}", anyhow::Error::from(error)));
    exit
}

/// One bar for each phase.
struct Progress<'g> {
    global: &'g Global,
    bar: Option<(Phase, Bar)>,
}

impl<'g> Progress<'g> {
    fn new(global: &'g Global) -> Self {
        Self { global, bar: None }
    }

    fn tell(&mut self, phase: Phase, done: u64, all: u64) {
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            self.end();
            let unit = match phase {
                Phase::Copying => "pages",
                Phase::Verifying => "records",
            };
            self.bar = Some((phase, Bar::start(self.global, all, unit)));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set(done);
        }
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.end();
        }
    }
}
