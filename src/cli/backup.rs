//! `switchboard backup` and `switchboard restore`: a consistent copy of the database, and the way back.

use std::path::PathBuf;

use super::frame::{self, Bar, Exit, Global, as_owner, errln, load, outln, runtime};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::files::Acting;
use crate::store::copy::{self, CopyError, CopyPhase, RestoreReport};
use crate::store::{KeyRing, OpenError};

#[derive(Debug, clap::Args)]
pub(super) struct BackupArguments {
    /// Where to put it. What is there is replaced, when the new one has been verified
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArguments {
    /// The backup
    file: PathBuf,
    /// Replace the database that is there; it is kept beside the new one
    #[arg(long)]
    force: bool,
}

pub(super) fn run_backup(arguments: &BackupArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let database = &loaded.config.storage.path;
    let clock = Clock::system();
    let key_ring = key_ring(&loaded.config)?;
    let mut progress = ProgressBars::new(global);
    let made = copy::back_up(
        database,
        &arguments.file,
        &key_ring,
        || clock.now(),
        std::thread::park_timeout,
        &mut |phase, done, all| progress.show(phase, done, all),
    );
    progress.end();
    let manifest = made.map_err(refused)?;
    if let Err(error) = copy::record(database, &manifest) {
        let error = anyhow::Error::from(error);
        errln!("the server does not learn of this backup: {error:#}");
    }
    global.print(&manifest, |manifest| {
        outln!(
            "{}: {} records, {} bytes, SHA-256 {}",
            manifest.file.display(),
            manifest.records,
            manifest.bytes,
            manifest.sha256
        );
        errln!(
            "callers' data in it can be read with the installation secret only: keep that in another place"
        );
    })?;
    Ok(Exit::Done)
}

pub(super) fn run_restore(arguments: &RestoreArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let key_ring = key_ring(&loaded.config)?;
    let mut progress = ProgressBars::new(global);
    let restored = copy::restore(
        &arguments.file,
        &loaded.config.storage.path,
        &key_ring,
        arguments.force,
        Clock::system().now(),
        &mut |phase, done, all| progress.show(phase, done, all),
    );
    progress.end();
    let restored = restored.map_err(refused)?;
    for altered in &restored.altered {
        errln!("projection_altered: {altered}; it is not used, and `audit verify` names it");
    }
    if let Err(error) = record(&loaded.config, &restored) {
        errln!("that it was restored could not be recorded: {error:#}");
    }
    if let Some(kept) = &restored.kept {
        errln!("the database of before is kept as {}", kept.display());
        errln!(
            "where it went on after the backup, the audit log says at the next start that it was rolled back: `audit accept-rollback` says that this was meant"
        );
    }
    global.print(&restored, |restored| {
        let (records, schema) = (restored.records, restored.schema);
        outln!("restored: {records} records, schema {schema}");
    })?;
    Ok(Exit::Done)
}

/// The keys of the installation, as the owner of the database's folder reads them.
fn key_ring(config: &Config) -> Result<KeyRing, Exit> {
    let _acting = as_owner(&config.storage.path)?;
    frame::key_ring(config)
}

/// Writes into the log that a backup was put in place, and the head beside it where there is none.
fn record(config: &Config, restored: &RestoreReport) -> anyhow::Result<()> {
    let _acting = Acting::as_owner_of_folder(&config.storage.path)?;
    let store = app::store(config, &Clock::system())?;
    runtime()?.block_on(async {
        let records = u64::try_from(restored.records).unwrap_or_default();
        let head = restored.head.clone().unwrap_or_default();
        let recorded = store.record_restored(records, head).await;
        store.close().await;
        recorded
    })?;
    Ok(())
}

fn refused(error: CopyError) -> Exit {
    let exit = match &error {
        CopyError::Open(OpenError::InUse { .. }) => Exit::TryAgain,
        CopyError::Open(OpenError::WrongSecret { .. } | OpenError::FormerSecret { .. }) => {
            Exit::Configuration
        }
        CopyError::Itself { .. } => Exit::Usage,
        CopyError::Open(_)
        | CopyError::Damaged { .. }
        | CopyError::Exists { .. }
        | CopyError::Verify(_) => Exit::Failed,
    };
    exit.after(error)
}

/// One bar for each phase.
struct ProgressBars<'g> {
    global: &'g Global,
    bar: Option<(CopyPhase, Bar)>,
}

impl<'g> ProgressBars<'g> {
    fn new(global: &'g Global) -> Self {
        Self { global, bar: None }
    }

    fn show(&mut self, phase: CopyPhase, done: u64, all: u64) {
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            self.end();
            let unit = match phase {
                CopyPhase::Copying => "pages",
                CopyPhase::Verifying => "records",
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
