//! The asking side, for commands.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{ControlRequest, Progress, Refusal, Reply, socket_path};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No server runs on this database.
    #[error("no server listens on {path}", path = .path.display())]
    Nobody { path: PathBuf },
    /// The server was not reached, or it ended before its answer.
    #[error("cannot talk to the server on {path}", path = .path.display())]
    Broken {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The server did not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Asks the server that runs on `database` and waits for the end of it; every progress is told.
pub fn ask(
    database: &Path,
    request: &ControlRequest,
    mut on_progress: impl FnMut(Progress),
) -> Result<serde_json::Value, AskError> {
    let path = socket_path(database);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if is_nobody(error.kind()) => return Err(AskError::Nobody { path }),
        Err(source) => return Err(AskError::Broken { path, source }),
    };
    let broken = |source| AskError::Broken {
        path: path.clone(),
        source,
    };
    let mut line = serde_json::to_string(request).map_err(|error| broken(error.into()))?;
    line.push('\n');
    (&stream).write_all(line.as_bytes()).map_err(broken)?;
    for line in BufReader::new(&stream).lines() {
        let line = line.map_err(broken)?;
        match serde_json::from_str(&line).map_err(|error| broken(error.into()))? {
            Reply::Progress(progress) => on_progress(progress),
            Reply::Done(document) => return Ok(document),
            Reply::Refused(refusal) => return Err(refusal.into()),
        }
    }
    Err(broken(io::ErrorKind::UnexpectedEof.into()))
}

/// A socket that is not there, or that a process which is gone left behind.
fn is_nobody(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
