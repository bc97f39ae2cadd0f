//! What can go wrong with a service, as a script: one-shot faults in order, and standing faults until they are cleared.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chance::Chance;
use super::port::Port;

/// One way in which an HTTP service fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The request takes effect at once, the answer comes late.
    Delay(Duration),
    /// Waits, then fails as the inner fault says.
    After(Duration, Box<Fault>),
    /// The request is read and never answered; it takes no effect.
    Hang,
    /// The request is read, then the connection is reset; it takes no effect.
    Reset,
    /// The request takes effect, then the connection is reset: the answer is lost.
    ResetAfterAccept,
    /// The request takes effect; the connection is reset half-way through the answer's body.
    ResetMidAnswer,
    /// Answered with this status; the request takes no effect.
    Status {
        status: u16,
        /// The body, sent as `text/plain`.
        body: String,
        retry_after: Option<u32>,
    },
    /// A 200 whose body is not what the API promises; the request takes no effect.
    Garbage(Garbage),
    /// The true answer, head and body, one byte at a time with this pause between two bytes.
    SlowDrip(Duration),
    /// Standing: nothing listens and open connections are reset. One-shot: the next connection is closed as soon as
    /// it is accepted (a route cannot matter, nothing has been read).
    RefuseConnections,
    /// A 200 with a JSON text of at least this many bytes; the request takes no effect.
    HugeBody(usize),
    /// A 307 to this URL; the request takes no effect.
    Redirect(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    Html,
    /// Text that is no JSON.
    NotJson,
    /// JSON that ends too early.
    TruncatedJson,
    /// JSON of the wrong shape.
    WrongShape,
    /// Bytes that are no UTF-8.
    NotUtf8,
    Empty,
}

impl Fault {
    /// A status with a short text.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            body: format!("{status} - stand-in fault"),
            retry_after: None,
        }
    }

    /// A 429, with `Retry-After` where given.
    pub fn too_many_requests(retry_after: Option<u32>) -> Self {
        Self::Status {
            status: 429,
            body: "Number of allowed API requests per minute exceeded".to_owned(),
            retry_after,
        }
    }
}

impl Garbage {
    /// The content type and the body.
    pub(super) fn content(self) -> (&'static str, &'static [u8]) {
        match self {
            Self::Html => (
                "text/html",
                b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>",
            ),
            Self::NotJson => ("application/json", b"upstream connect error"),
            Self::TruncatedJson => (
                "application/json",
                br#"{"message":"success","users":[{"external_id":"a1","custom_attrib"#,
            ),
            Self::WrongShape => ("application/json", br#"[{"message":17},null]"#),
            Self::NotUtf8 => (
                "application/json",
                b"{\"message\":\"\xff\xfe\xc3\x28\",\"users\":[]}",
            ),
            Self::Empty => ("application/json", b""),
        }
    }
}

/// Which requests a fault is for. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    method: Option<String>,
    path: Option<String>,
}

impl Route {
    /// Requests whose path (without the query) contains this text.
    pub fn path(part: &str) -> Self {
        Self {
            method: None,
            path: Some(part.to_owned()),
        }
    }

    pub fn method(method: &str) -> Self {
        Self {
            method: Some(method.to_owned()),
            path: None,
        }
    }

    /// The same, for this method only.
    #[must_use]
    pub fn and_method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method
            .as_deref()
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self
                .path
                .as_deref()
                .is_none_or(|wanted| path.contains(wanted))
    }
}

/// The script of one service. Cheap to clone; all clones are the same script.
///
/// A request takes the first one-shot fault that matches it, else the first standing fault that does.
#[derive(Clone, Debug)]
pub struct Faults {
    port: Arc<Port>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug)]
struct Script {
    once: VecDeque<(Route, Fault)>,
    standing: Vec<Standing>,
    latency: Option<(Duration, Duration)>,
    chance: Chance,
}

#[derive(Debug)]
struct Standing {
    route: Route,
    fault: Fault,
    probability: f64,
}

impl Faults {
    pub(super) fn new(port: Arc<Port>) -> Self {
        Self {
            port,
            script: Arc::new(Mutex::new(Script {
                once: VecDeque::new(),
                standing: Vec::new(),
                latency: None,
                chance: Chance::seeded(0),
            })),
        }
    }

    /// The next request fails like this.
    pub fn once(&self, fault: Fault) {
        self.once_on(Route::default(), fault);
    }

    /// The next request on this route fails like this.
    pub fn once_on(&self, route: Route, fault: Fault) {
        self.script().once.push_back((route, fault));
    }

    /// Every request fails like this until [`Faults::clear`].
    pub fn standing(&self, fault: Fault) {
        self.standing_on(Route::default(), fault);
    }

    /// Every request on this route fails like this until [`Faults::clear`].
    pub fn standing_on(&self, route: Route, fault: Fault) {
        self.stand(route, fault, 1.0);
    }

    /// A request fails like this with the given probability, until [`Faults::clear`]. A connection is refused always or never.
    pub fn sometimes(&self, probability: f64, fault: Fault) {
        self.stand(Route::default(), fault, probability);
    }

    /// Every answer without another fault takes a time between these two, evenly distributed; [`Faults::clear`] leaves this alone.
    pub fn set_latency(&self, least: Duration, most: Duration) {
        self.script().latency = (!most.is_zero()).then_some((least, most));
    }

    /// Seeds the chance behind [`Faults::sometimes`] and [`Faults::set_latency`].
    pub fn seed(&self, seed: u64) {
        self.script().chance = Chance::seeded(seed);
    }

    /// Forgets every fault; the service is well again when this returns.
    pub fn clear(&self) {
        let mut script = self.script();
        script.once.clear();
        script.standing.clear();
        self.port.refuse(false);
    }

    fn stand(&self, route: Route, fault: Fault, probability: f64) {
        let refuse = fault == Fault::RefuseConnections;
        let mut script = self.script();
        script.standing.push(Standing {
            route,
            fault,
            probability,
        });
        if refuse {
            self.port.refuse(true);
        }
    }

    /// The fault for this request, if any.
    pub(super) fn next(&self, method: &str, path: &str) -> Option<Fault> {
        let mut script = self.script();
        let once = script.once.iter().position(|(route, fault)| {
            *fault != Fault::RefuseConnections && route.matches(method, path)
        });
        if let Some((_, fault)) = once.and_then(|index| script.once.remove(index)) {
            return Some(fault);
        }
        let Script {
            standing,
            chance,
            latency,
            ..
        } = &mut *script;
        standing
            .iter()
            .find(|standing| {
                standing.route.matches(method, path) && chance.happens(standing.probability)
            })
            .map(|standing| standing.fault.clone())
            .or_else(|| latency.map(|(least, most)| Fault::Delay(chance.between(least, most))))
    }

    /// Whether the connection just accepted is to be closed at once.
    pub(super) fn is_refused_once(&self) -> bool {
        let mut script = self.script();
        let index = script
            .once
            .iter()
            .position(|(_, fault)| *fault == Fault::RefuseConnections);
        index.and_then(|index| script.once.remove(index)).is_some()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
