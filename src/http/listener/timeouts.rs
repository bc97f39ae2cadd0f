//! How long a connection may keep us waiting: one timer per connection, for whatever it waits for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::BoxError;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admission::Admitted;
use super::answer::ResponseBody;
use super::limits::Limits;
use super::progress::{Awaiting, ConnectionProgress};
use crate::clock::Clock;

/// The limits as they apply to one connection.
pub(super) struct Timeouts<'c> {
    pub(super) limits: &'c Limits,
    pub(super) admitted: &'c Admitted,
    pub(super) progress: &'c ConnectionProgress,
}

impl Timeouts<'_> {
    /// Drives the connection to its end, or to the end of our patience; what is returned early is dropped, and with it
    /// the socket.
    pub(super) async fn drive<I, S>(
        &self,
        connection: http1::Connection<I, S>,
        draining: &CancellationToken,
        came_at: Instant,
    ) where
        I: Read + Write + Unpin,
        S: HttpService<Incoming, ResBody = ResponseBody>,
        S::Error: Into<BoxError>,
    {
        let mut connection = pin!(connection);
        let mut drained = pin!(draining.cancelled());
        let mut crowded = pin!(self.admitted.crowded());
        let mut awaiting = self.progress.awaiting();
        let mut since = came_at;
        let mut in_debt_since: Option<(Awaiting, Instant)> = None;
        let mut timer = pin!(tokio::time::sleep_until(since));
        let mut timer_ends = since;
        let mut is_draining = false;
        let mut is_finishing = false;
        poll_fn(|cx| {
            if !is_draining && drained.as_mut().poll(cx).is_ready() {
                is_draining = true;
                self.progress.close();
            }
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // Who has just connected is about to ask, and is answered; hyper would close on him.
            if is_draining && !is_finishing && !self.progress.awaits_first_head() {
                is_finishing = true;
                connection.as_mut().graceful_shutdown();
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
            }
            while crowded.as_mut().poll(cx).is_ready() {
                crowded.set(self.admitted.crowded());
            }
            let found = self.progress.awaiting();
            if found != awaiting {
                awaiting = found;
                since = now();
                if let Awaiting::Reader { .. } = found {
                    // Taking a part of an answer begins nothing anew.
                    let (_, debt_since) = in_debt_since
                        .filter(|(debt, _)| *debt == found)
                        .unwrap_or((found, since));
                    since = debt_since;
                    in_debt_since = Some((found, since));
                }
            }
            let Some((limit, what)) = self.limit(awaiting, is_draining) else {
                return Poll::Pending;
            };
            let ends = since + limit;
            if ends != timer_ends {
                timer_ends = ends;
                timer.as_mut().reset(ends);
            }
            timer.as_mut().poll(cx).map(|()| {
                metrics::counter!("switchboard_connections_timed_out_total", "awaiting" => what)
                    .increment(1);
            })
        })
        .await;
    }

    /// How long to wait for the client, and for what; our own answers have deadlines of their own.
    fn limit(&self, awaiting: Awaiting, is_draining: bool) -> Option<(Duration, &'static str)> {
        let limits = self.limits;
        let is_pressed = is_draining || self.admitted.is_crowded();
        match awaiting {
            Awaiting::Head { .. } if is_pressed => Some((limits.head_when_crowded, "head")),
            Awaiting::Head { .. } => Some((limits.head, "head")),
            Awaiting::Request { .. } if is_pressed => Some((limits.idle_when_crowded, "request")),
            Awaiting::Request { .. } => Some((limits.idle, "request")),
            Awaiting::Reader { .. } if self.admitted.is_crowded() => {
                Some((limits.answer_when_crowded, "reader"))
            }
            Awaiting::Reader { .. } => {
                let rate = limits.answer_bytes_a_second.max(1);
                let for_size = Duration::from_secs(self.progress.owed() / rate);
                Some((limits.answer + for_size, "reader"))
            }
            Awaiting::Answer => None,
        }
    }
}

pub(super) fn now() -> Instant {
    Instant::from_std(Clock::system().instant())
}
