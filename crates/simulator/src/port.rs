//! A listening port that can refuse connections for a while and come back under the same number.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

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

    /// Serves connections until dropped, each by the future that `answer` makes of it, which says how it is to end. The port closes with the
    /// future: whoever connects afterwards is refused, not kept waiting.
    pub(super) fn serve<A, C>(
        self: &Arc<Self>,
        answer: A,
    ) -> impl Future<Output = ()> + Send + 'static + use<A, C>
    where
        A: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = End> + Send + 'static,
    {
        let open = Open(Arc::clone(self));
        async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    stream = open.0.accept() => {
                        let refusing = open.0.refusing.subscribe();
                        if let Ok(twin) = twin_of(&stream) {
                            connections.spawn(drive(twin, refusing, answer(stream)));
                        }
                    }
                    Some(_ended) = connections.join_next() => {}
                }
            }
        }
    }

    async fn accept(&self) -> TcpStream {
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

struct Open(Arc<Port>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.slot().closed = true;
        self.0.refuse(true);
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    /// With a TCP reset.
    Reset,
}

/// A second handle of the same socket, to end it whoever owns the first.
fn twin_of(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())
}

async fn drive(
    twin: TcpStream,
    mut refusing: watch::Receiver<bool>,
    connection: impl Future<Output = End>,
) {
    let end = tokio::select! {
        end = connection => end,
        _ = refusing.wait_for(|refusing| *refusing) => End::Reset,
    };
    if end == End::Reset
        && let Err(error) = twin.set_zero_linger()
    {
        tracing::debug!(%error, "a stand-in closes a connection that it wanted to reset");
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
