//! A listening port that can refuse connections for a while and come back under the same number.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

const BACKLOG: u32 = 1024;

#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    slot: Mutex<Slot>,
    refusing: watch::Sender<bool>,
    /// Bound but never listening: keeps the number ours while the listener is gone.
    _reservation: TcpSocket,
}

#[derive(Debug)]
struct Slot {
    listener: Option<TcpListener>,
    /// Nobody serves any more: the port never listens again.
    closed: bool,
    waker: Option<Waker>,
}

impl Port {
    /// Listens on `address`; port 0 asks the operating system for a free one.
    pub(super) fn bind(address: &str) -> io::Result<Self> {
        let wanted: SocketAddr = address
            .parse()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not an address and port"))?;
        let reservation = socket_on(wanted)?;
        let address = reservation.local_addr()?;
        let listener = socket_on(address)?.listen(BACKLOG)?;
        Ok(Self {
            address,
            slot: Mutex::new(Slot {
                listener: Some(listener),
                closed: false,
                waker: None,
            }),
            refusing: watch::Sender::new(false),
            _reservation: reservation,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses from this moment on (open connections are reset), or listens again. Done when it returns.
    pub(super) fn refuse(&self, refuse: bool) {
        let mut slot = self.slot();
        if refuse {
            slot.listener = None;
        } else if slot.listener.is_none() && !slot.closed {
            slot.listener = socket_on(self.address)
                .and_then(|socket| socket.listen(BACKLOG))
                .inspect_err(|error| tracing::error!(%error, "a stand-in cannot listen again"))
                .ok();
        }
        self.refusing.send_replace(refuse);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// Tells each connection when refusing begins.
    pub(super) fn watch_refusing(&self) -> watch::Receiver<bool> {
        self.refusing.subscribe()
    }

    pub(super) async fn accept(&self) -> TcpStream {
        loop {
            let accepted = poll_fn(|context| {
                let mut slot = self.slot();
                let polled = slot
                    .listener
                    .as_ref()
                    .map_or(Poll::Pending, |listener| listener.poll_accept(context));
                if polled.is_pending() {
                    slot.waker = Some(context.waker().clone());
                }
                polled
            })
            .await;
            match accepted {
                Ok((stream, _)) => return stream,
                // Out of file descriptors and the like: passes when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn socket_on(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Closes the port when the future that serves it is dropped: whoever connects afterwards is refused, not kept waiting.
#[derive(Debug)]
pub(super) struct Open(Arc<Port>);

impl Open {
    pub(super) fn new(port: &Arc<Port>) -> Self {
        Self(Arc::clone(port))
    }

    pub(super) fn port(&self) -> &Port {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.slot().closed = true;
        self.0.refuse(true);
    }
}

/// Ends a connection with a TCP reset instead of an orderly close.
pub(super) fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a stand-in closes a connection that it wanted to reset");
    }
    drop(stream);
}

/// Returns once the port refuses connections.
pub(super) async fn refusing(watch: &mut watch::Receiver<bool>) {
    if watch.wait_for(|refusing| *refusing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_refuses_at_once_and_comes_back_under_its_number() {
        let port = Port::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(port.address());
        assert!(connect().await.is_ok());
        for _ in 0..3 {
            port.refuse(true);
            let error = connect().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            port.refuse(false);
            let (client, _server) = tokio::join!(connect(), port.accept());
            assert!(client.is_ok());
        }
    }

    #[tokio::test]
    async fn two_ports_never_share_a_number() {
        let ports: Vec<Port> = (0..64)
            .map(|_| Port::bind("127.0.0.1:0").unwrap())
            .collect();
        let mut numbers: Vec<_> = ports.iter().map(|port| port.address().port()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 64);
    }
}
