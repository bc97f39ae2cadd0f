//! Verifies the whole log once a day, page by page with pauses, so that what was altered behind our back is found within that time.

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::VerifyReport;
use crate::lifecycle::Lifecycle;
use crate::store::CheckpointSigner;
use crate::store::verify::{Against, Verification, VerifyError};

/// After the start: other things come first then.
const FIRST: Duration = Duration::from_mins(10);
const EVERY: Duration = Duration::from_hours(24);
/// Between two pages of 4,096 records.
const PAUSE: Duration = Duration::from_millis(100);

/// Verifies until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, signer: CheckpointSigner, database: PathBuf) {
    let mut pause = FIRST;
    while lifecycle.pause(pause).await {
        pause = EVERY;
        match verify(&lifecycle, &signer, &database).await {
            Ok(Some(report)) => log_outcome(&signer, &report).await,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(event = "audit.not_verified", error = %error, "the audit log could not be verified");
            }
        }
    }
}

/// `None` where the process is to stop meanwhile.
async fn verify(
    lifecycle: &Lifecycle,
    signer: &CheckpointSigner,
    database: &std::path::Path,
) -> Result<Option<VerifyReport>, VerifyError> {
    let against = Against {
        key: Some(signer.public_key().clone()),
        ..Against::nothing(database)
    };
    let opened = tokio::task::spawn_blocking(move || Verification::open(against)).await;
    let mut verification = match opened {
        Ok(opened) => opened?,
        Err(_) => return Ok(None),
    };
    loop {
        let stepped = tokio::task::spawn_blocking(move || {
            let more = verification.step();
            (verification, more)
        });
        let Ok((next, more)) = stepped.await else {
            return Ok(None);
        };
        verification = next;
        if !more {
            return Ok(Some(verification.finish()));
        }
        if !lifecycle.pause(PAUSE).await {
            return Ok(None);
        }
    }
}

async fn log_outcome(signer: &CheckpointSigner, report: &VerifyReport) {
    if report.ok {
        tracing::info!(
            event = "audit.verified",
            records = report.records,
            signed = report.signed,
            "the whole audit log was verified"
        );
        return;
    }
    for finding in &report.findings {
        tracing::error!(
            event = "audit.finding",
            record = finding.record,
            finding = finding.message,
            "the audit log does not verify"
        );
    }
    if let Some(first) = report.findings.first() {
        signer.give_up(first.record, &first.message).await;
    }
}
