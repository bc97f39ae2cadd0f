//! The listener: an accept loop of our own over hyper's HTTP/1.
//!
//! `axum::serve` never gives up on a half-sent head, a stalled body or a stalled handshake, and a single stranger can
//! then hold every connection there is. Here every wait for the other side is bounded ([`Limits`]), connections are
//! counted, in all and per address, and all of it stays outside the handlers: what they see is a request with its
//! sender, its id, and a body that ends in time or in an error.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use answer::PeerAddr;
pub use limits::Limits;
pub use request::RequestId;

use crate::lifecycle::Lifecycle;
use admission::{Admitted, ConnectionAdmission};
use answer::ConnectionService;
use framing::WatchedStream;
use progress::ConnectionProgress;
use timeouts::Timeouts;
use tls::{Certificates, is_challenge};

mod admission;
mod answer;
mod framing;
mod limits;
mod progress;
mod request;
mod timeouts;
pub mod tls;

#[cfg(test)]
mod tests;

/// How long the accept loop rests when the system gives it no connection (no descriptor left, no memory).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);

/// Connections that may wait in the system's queue, by the default of tokio's listener.
const BACKLOG: usize = 1_024;

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct BoundListener(TcpListener);

impl BoundListener {
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Takes a listener that somebody else bound: the service manager, or the process before this one.
    pub fn from_listener(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves `app` until the process is to stop; connections that are still open then finish their requests as
    /// transient tasks of `lifecycle`.
    pub async fn run(
        self,
        app: Router,
        tls: Option<Arc<Certificates>>,
        limits: Limits,
        lifecycle: Lifecycle,
    ) {
        let draining = lifecycle.draining();
        let listener = Arc::new(Listener::new(limits, tls, draining.clone()));
        let admit = |(stream, peer): (TcpStream, SocketAddr)| {
            if let Some(admitted) = listener.admission.admit(peer.ip()) {
                let serving = listener.clone().accept(stream, peer, admitted, app.clone());
                lifecycle.spawn_transient("connection", serving);
            }
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = draining.cancelled() => break,
                accepted = self.0.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    let longest = listener.limits.head_when_crowded;
                    listener.admission.room(longest).await;
                    admit(accepted);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    listener.accept_failures.increment(1);
                    tracing::debug!(event = "http.accept_failed", %error, "No connection could be accepted.");
                    lifecycle.pause(ACCEPT_BACKOFF).await;
                }
            }
        }
        // The system has accepted for us those that wait here; closing on them would be a reset.
        for _ in 0..BACKLOG {
            match tokio::time::timeout(Duration::ZERO, self.0.accept()).await {
                Ok(Ok(accepted)) => admit(accepted),
                _ => return,
            }
        }
    }
}

/// A client that was gone before we looked, as opposed to a system that has nothing left to give.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

struct Listener {
    limits: Limits,
    tls: Option<Arc<Certificates>>,
    admission: Arc<ConnectionAdmission>,
    http: http1::Builder,
    draining: CancellationToken,
    accept_failures: metrics::Counter,
}

impl Listener {
    fn new(
        mut limits: Limits,
        tls: Option<Arc<Certificates>>,
        draining: CancellationToken,
    ) -> Self {
        let fitting = limits::fitting(limits.connections);
        if fitting < limits.connections {
            tracing::warn!(
                event = "http.connections_lowered",
                wanted = limits.connections,
                connections = fitting,
                "Fewer connections than wanted: raise the limit of open files (LimitNOFILE)."
            );
            limits.connections = fitting;
        }
        let mut http = http1::Builder::new();
        // `Timeouts` keeps the time of heads and idle connections; hyper knows one limit for both.
        http.header_read_timeout(None)
            .max_buf_size(limits.head_bytes.max(8 * 1024))
            .max_headers(limits.headers)
            // Who has asked and closes that side of the connection still waits for the answer.
            .half_close(true)
            .keep_alive(true);
        Self {
            admission: Arc::new(ConnectionAdmission::new(&limits)),
            limits,
            tls,
            http,
            draining,
            accept_failures: metrics::counter!("switchboard_accept_failures_total"),
        }
    }

    async fn accept(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        admitted: Admitted,
        app: Router,
    ) {
        // Fails only on a socket that is closed already, which the next read finds out.
        drop(stream.set_nodelay(true));
        let came_at = timeouts::now();
        let Some(certificates) = &self.tls else {
            return (self.serve_connection(stream, peer, came_at, admitted, app)).await;
        };
        let handshake = certificates.acceptor().accept(stream);
        let too_late = async {
            admitted.until_crowded().await;
            tokio::time::sleep_until(came_at + self.limits.head_when_crowded).await;
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.limits.handshake, handshake) => shaken.ok(),
            () = too_late => None,
        };
        let failed = match shaken {
            Some(Ok(stream)) if is_challenge(&stream) => return,
            Some(Ok(stream)) => {
                return (self.serve_connection(stream, peer, came_at, admitted, app)).await;
            }
            Some(Err(_)) => "refused",
            None => "timed_out",
        };
        metrics::counter!("switchboard_tls_handshakes_failed_total", "reason" => failed)
            .increment(1);
    }

    async fn serve_connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: SocketAddr,
        came_at: tokio::time::Instant,
        admitted: Admitted,
        app: Router,
    ) {
        let progress = Arc::new(ConnectionProgress::default());
        let service = ConnectionService {
            peer: PeerAddr(peer),
            body_limit: self.limits.body,
            admitted: &admitted,
            progress: progress.clone(),
        };
        let watched = TokioIo::new(WatchedStream::new(stream, progress.clone()));
        let service = &service;
        let answer = service_fn(move |request| service.answer(app.clone(), request));
        let connection = self.http.serve_connection(watched, answer);
        let timeouts = Timeouts {
            limits: &self.limits,
            admitted: &admitted,
            progress: &progress,
        };
        timeouts.drive(connection, &self.draining, came_at).await;
    }
}
