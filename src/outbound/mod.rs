//! Requests to services: over connections that are kept while they serve and replaced when they fail, and answers that are read within bounds.
//!
//! A connection can be of no use without being closed: its packets are dropped on the way, or its name leads elsewhere by now. So no connection
//! lives long, an HTTP/2 connection has to answer a PING every few seconds, and whoever meets a failure says so: the next request goes over a
//! new connection, for which the name is resolved again.

mod body;
mod retry_after;
mod template;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};

pub use body::{ACCEPTED_CODINGS, Content, Unreadable};
pub use retry_after::retry_after;
pub use template::{TemplatePiece, template_pieces};

use crate::clock::Clock;

/// No connection is used for longer, so that its name is resolved again. Shorter than what a service may need to be well again.
const LIFE: Duration = Duration::from_secs(20);
/// Connections that are younger are not replaced for a failure: a service that fails must not be asked for one with every request.
const YOUNG: Duration = Duration::from_secs(1);
/// How often one request may be sent again because the service says that it has not looked at it.
const MOST_UNTOUCHED: u32 = 4;

/// A connection over HTTP/2 that carries nothing for so long has to answer a PING …
const PING_EVERY: Duration = Duration::from_secs(5);
/// … within this time, or it is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A client whose connections over HTTP/2 prove that they are of use.
pub fn pinging(client: ClientBuilder) -> ClientBuilder {
    client
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
}

/// Makes the client of one service. Called every few seconds: what is slow has to be made before.
pub type Make = Arc<dyn Fn() -> reqwest::Result<Client> + Send + Sync>;

/// The connections to one service. Clones share them.
#[derive(Clone)]
pub struct Connections(Arc<SharedConnections>);

struct SharedConnections {
    make: Make,
    clock: Clock,
    current: Mutex<Generation>,
}

/// Connections that are replaced together.
#[derive(Clone)]
struct Generation {
    client: Client,
    since: Instant,
    /// Our ends of the connections over which an answer came: they are being used again.
    answered: Arc<Mutex<HashSet<SocketAddr>>>,
}

/// When a request may be sent again at once, because a kept connection was closed by its peer before any of an answer came.
pub enum Again<'a> {
    /// It reads only, or its receiver knows a repeat.
    Always,
    /// Only where it has not left, which this says.
    Unless(&'a (dyn Fn() -> bool + Send + Sync)),
}

impl Connections {
    /// Connections by `make`. An error where that cannot make a client.
    pub fn new(make: Make, clock: Clock) -> reqwest::Result<Self> {
        let current = Generation::new(&make, &clock)?;
        Ok(Self(Arc::new(SharedConnections {
            make,
            clock,
            current: Mutex::new(current),
        })))
    }

    /// Sends what `request` makes, and again over a new connection where nothing can have come of it: the service has not looked at it, or
    /// closed a connection that it had kept. To the caller that is one request.
    pub async fn send(
        &self,
        request: impl Fn(&Client) -> RequestBuilder,
        again: Again<'_>,
    ) -> reqwest::Result<Response> {
        let mut stale = false;
        let mut n_untouched = 0;
        loop {
            let generation = self.generation();
            let error = match request(&generation.client).send().await {
                Ok(response) => {
                    generation.learn(&response);
                    return Ok(response);
                }
                Err(error) => error,
            };
            if is_untouched(&error) && n_untouched < MOST_UNTOUCHED {
                n_untouched += 1;
            } else if !stale && generation.was_stale(&error) && again.allows() {
                stale = true;
            } else {
                return Err(error);
            }
            self.replace(&generation);
        }
    }

    /// A request failed, by its transport, for lack of an answer in time or by an answer that says so: where the connections are not new
    /// themselves, the next request goes over another.
    pub fn failed(&self) {
        let now = self.0.clock.instant();
        let mut current = self.lock();
        if now.saturating_duration_since(current.since) >= YOUNG {
            self.renew(&mut current);
        }
    }

    /// An answer with this status came. Some say that the service fails, or that this may be another than it was.
    pub fn answered(&self, status: u16) {
        if matches!(status, 401 | 403 | 404 | 408 | 421 | 500..) {
            self.failed();
        }
    }

    fn generation(&self) -> Generation {
        let now = self.0.clock.instant();
        let mut current = self.lock();
        if now.saturating_duration_since(current.since) >= LIFE {
            self.renew(&mut current);
        }
        current.clone()
    }

    /// Unless somebody else was first.
    fn replace(&self, used: &Generation) {
        let mut current = self.lock();
        if Arc::ptr_eq(&current.answered, &used.answered) {
            self.renew(&mut current);
        }
    }

    fn renew(&self, current: &mut Generation) {
        match Generation::new(&self.0.make, &self.0.clock) {
            Ok(next) => *current = next,
            Err(error) => {
                tracing::error!(event = "outbound.kept", error = %error, "new connections cannot be prepared; the old ones stay");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generation> {
        // A generation is replaced as a whole.
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections(…)")
    }
}

impl Generation {
    fn new(make: &Make, clock: &Clock) -> reqwest::Result<Self> {
        Ok(Self {
            client: make()?,
            since: clock.instant(),
            answered: Arc::default(),
        })
    }

    fn learn(&self, response: &Response) {
        if let Some(info) = response.extensions().get::<HttpInfo>() {
            self.answered_over().insert(info.local_addr());
        }
    }

    /// Whether a connection broke over which an answer had come before: to a request without one, no connection belongs.
    fn was_stale(&self, error: &reqwest::Error) -> bool {
        causes(error)
            .find_map(|cause| cause.downcast_ref::<legacy::Error>()?.connect_info())
            .is_some_and(|connected| {
                let mut extensions = Extensions::new();
                connected.get_extras(&mut extensions);
                let info = extensions.get::<HttpInfo>();
                info.is_some_and(|info| self.answered_over().contains(&info.local_addr()))
            })
    }

    fn answered_over(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Again<'_> {
    fn allows(&self) -> bool {
        match self {
            Self::Always => true,
            Self::Unless(has_left) => !has_left(),
        }
    }
}

/// Whether the service says that it has not looked at the request, or the connection was closed before it could be written.
fn is_untouched(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        let refused = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
            let reason = error.reason();
            error.is_remote()
                && (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)
                    || error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
        });
        refused
            || cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_canceled)
    })
}

/// An error and what caused it.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |cause| Error::source(*cause))
}
