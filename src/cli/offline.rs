//! Commands that the running server does where there is one.

use super::{Exit, output};
use crate::admin::{AskError, Cause};

/// Says why the server did not do it, and how to end.
pub(super) fn refused(error: AskError) -> Exit {
    let exit = match &error {
        AskError::Refused(refusal) => match refusal.cause {
            Cause::Request => Exit::Usage,
            Cause::Busy => Exit::TryAgain,
            Cause::Failed => Exit::Failed,
        },
        AskError::Nobody { .. } | AskError::Broken { .. } => Exit::TryAgain,
    };
    output::complain(&format!("{:#}", anyhow::Error::from(error)));
    exit
}
