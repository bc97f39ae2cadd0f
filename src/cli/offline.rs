//! Commands that the running server does where there is one.

use super::frame::Exit;
use crate::admin::{AskError, RefusalCause};

/// Says why the server did not do it, and how to end.
pub(super) fn refused(error: AskError) -> Exit {
    let exit = match &error {
        AskError::Refused(refusal) => match refusal.cause {
            RefusalCause::Request => Exit::Usage,
            RefusalCause::Busy => Exit::TryAgain,
            RefusalCause::Failed => Exit::Failed,
        },
        AskError::Nobody { .. } | AskError::Broken { .. } => Exit::TryAgain,
    };
    exit.after(error)
}
