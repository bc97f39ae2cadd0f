//! The answering side: a supervised task that accepts, and a transient one per client.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::{ControlHandlers, ControlPeer, ControlRequest, Refusal, Reply, socket_path};
use crate::lifecycle::Lifecycle;

/// Clients at the same time.
const CLIENTS: usize = 4;
/// A request is one line; that with the text of rules is the longest.
const MAX_REQUEST: u64 = 4 * 1024 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Progress that may wait for a slow client; what does not fit is left out.
const PROGRESS_WAITING: usize = 16;
const PAUSE: Duration = Duration::from_millis(100);

/// The bound socket. The file goes when this is dropped.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

/// Binds the socket of `database` and serves it. Without it calls are routed all the same, so a failure is only told.
pub fn start(lifecycle: &Lifecycle, database: &Path, handlers: ControlHandlers) {
    match ControlServer::bind(database) {
        Ok(server) => lifecycle.spawn("admin", server.run(lifecycle.clone(), handlers)),
        Err(error) => tracing::error!(
            event = "admin.unavailable",
            error = %error,
            path = %socket_path(database).display(),
            "commands cannot reach this server"
        ),
    }
}

impl ControlServer {
    /// Binds beside `database`, which this process has locked: a socket that lies there is a leftover. It appears with the
    /// rights it is to have.
    pub fn bind(database: &Path) -> io::Result<Self> {
        let path = socket_path(database);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        remove(&unfinished)?;
        let listener = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
        fs::rename(&unfinished, &path)?;
        Ok(Self { listener, path })
    }

    async fn run(self, lifecycle: Lifecycle, handlers: ControlHandlers) {
        let draining = lifecycle.draining();
        let places = Arc::new(Semaphore::new(CLIENTS));
        while let Some(accepted) = draining.run_until_cancelled(self.listener.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(event = "admin.accept_failed", error = %error, "a command did not get through");
                    lifecycle.pause(PAUSE).await;
                    continue;
                }
            };
            let (handlers, places) = (handlers.clone(), Arc::clone(&places));
            lifecycle.spawn_transient("admin-client", async move {
                let served = match places.try_acquire() {
                    Ok(_place) => serve(stream, &handlers).await,
                    Err(_) => refuse(stream, Refusal::busy()).await,
                };
                if let Err(error) = served {
                    tracing::debug!(event = "admin.client_gone", error = %error, "a client left before its answer");
                }
            });
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::debug!(event = "admin.socket_left", error = %error, "the admin socket could not be removed");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn serve(mut stream: UnixStream, handlers: &ControlHandlers) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return refuse(
            stream,
            Refusal::request("only the user of the server, or root, may ask it"),
        )
        .await;
    }
    let request = match timeout(PATIENCE, read_request(&mut stream)).await {
        Ok(request) => request?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let request: ControlRequest = match serde_json::from_slice(&request) {
        Ok(request) => request,
        Err(error) => {
            return refuse(
                stream,
                Refusal::request(format!("this server does not know the request: {error}")),
            )
            .await;
        }
    };
    let (progress, mut made) = mpsc::channel(PROGRESS_WAITING);
    let work = async {
        let result = handlers
            .perform(request, &ControlPeer { uid: peer }, &progress)
            .await;
        drop(progress);
        result
    };
    let mut work = std::pin::pin!(work);
    let result = loop {
        // What arrives last is the result, so progress comes first where both are there.
        tokio::select! {
            biased;
            Some(progress) = made.recv() => send(&mut stream, &Reply::Progress(progress)).await?,
            result = &mut work => break result,
        }
    };
    let reply = match result {
        Ok(document) => Reply::Done(document),
        Err(refusal) => Reply::Refused(refusal),
    };
    send(&mut stream, &reply).await
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_REQUEST))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line)
}

async fn refuse(mut stream: UnixStream, refusal: Refusal) -> io::Result<()> {
    send(&mut stream, &Reply::Refused(refusal)).await
}

async fn send(stream: &mut UnixStream, reply: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
