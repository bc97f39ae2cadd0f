//! The life of the process: the one place that starts tasks, hears signals and decides when to stop, and how.
//!
//! A *supervised* task is meant to run until shutdown. If it ends by itself, by returning or by a panic, part of the
//! service is gone and nobody would notice; so the process is asked to stop with a failing exit, and whoever started it
//! (systemd) starts it again whole. A *transient* task, such as one connection, may end whenever it likes.
//!
//! Shutdown has two steps. *Drain*: take nothing new, finish what is in hand. *Abort*, after the grace period or at a
//! second signal: what is still running is dropped.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long draining may take unless said otherwise: a webhook is answered within 2 s, so calls need far less, and the
/// service manager's own limit (90 s with systemd) stays out of reach.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Where the process stands. [`Lifecycle::phases`] tells every change: `/ready` looks at it, and a service notifier
/// (`sd_notify`) is one task that forwards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessPhase {
    /// Opening the store, reading the configuration: not yet answering.
    Starting,
    Ready,
    /// Taking nothing new, finishing what is in hand.
    Draining,
    /// Everything has ended or was dropped.
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Asked to stop, and everything in hand was finished.
    Clean,
    /// Asked to stop, and this many tasks had to be dropped.
    Aborted {
        /// Tasks that were still running when the grace period or the patience of the operator ended.
        tasks: usize,
    },
    /// A supervised task ended by itself; the text says which and how.
    Failed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("stopped; everything in hand was finished"),
            Self::Aborted { tasks } => write!(f, "stopped; {tasks} unfinished tasks were dropped"),
            Self::Failed(reason) => write!(f, "stopped because {reason}"),
        }
    }
}

/// What an operator or the service manager may ask of a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop; asked twice: stop now.
    Stop,
    /// SIGHUP: read the configuration and the secrets again.
    Reload,
}

/// The signals of this process, from the moment of registration on.
#[derive(Debug)]
pub struct Signals(SignalSource);

#[derive(Debug)]
enum SignalSource {
    Os {
        terminate: unix::Signal,
        interrupt: unix::Signal,
        hangup: unix::Signal,
    },
    Channel(mpsc::Receiver<Signal>),
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP. To be called first thing, since a SIGHUP that nobody took over kills.
    pub fn register() -> io::Result<Self> {
        Ok(Self(SignalSource::Os {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
        }))
    }

    /// Signals that arrive over a channel: for `demo` and tests, which share a process with others.
    pub fn from_channel(receiver: mpsc::Receiver<Signal>) -> Self {
        Self(SignalSource::Channel(receiver))
    }

    /// The next one; none is lost where this is dropped before it comes.
    pub async fn next(&mut self) -> Signal {
        match &mut self.0 {
            SignalSource::Os {
                terminate,
                interrupt,
                hangup,
            } => tokio::select! {
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
                _ = hangup.recv() => Signal::Reload,
            },
            SignalSource::Channel(receiver) => match receiver.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            },
        }
    }
}

/// Starts tasks and stops them again. Cheap to clone; all clones are the same life.
#[derive(Clone, Debug)]
pub struct Lifecycle(Arc<Life>);

#[derive(Debug)]
struct Life {
    grace: Duration,
    tasks: TaskTracker,
    drain: CancellationToken,
    abort: CancellationToken,
    failure: OnceLock<String>,
    phase: watch::Sender<ProcessPhase>,
    reloads: watch::Sender<u64>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new(DEFAULT_GRACE)
    }
}

impl Lifecycle {
    /// A life that, once asked to stop, gives its tasks `grace` to finish.
    pub fn new(grace: Duration) -> Self {
        Self(Arc::new(Life {
            grace,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            failure: OnceLock::new(),
            phase: watch::Sender::new(ProcessPhase::Starting),
            reloads: watch::Sender::new(0),
        }))
    }

    /// Starts a supervised task: it is to run until [`draining`](Self::draining) says stop, and to return then.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let life = self.clone();
        self.start(async move {
            let ended = caught(task).await;
            match ended {
                Err(panic) => life.fail(format!("task {name} panicked: {panic}")),
                Ok(()) if !life.is_draining() => life.fail(format!("task {name} ended by itself")),
                Ok(()) => {}
            }
        });
    }

    /// Starts a task that may end at any time, such as one connection. Shutdown waits for it; its panic is counted and
    /// harms nobody else.
    pub fn spawn_transient<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(async move {
            if let Err(panic) = caught(task).await {
                metrics::counter!("switchboard_task_panics_total", "task" => name).increment(1);
                tracing::error!(
                    event = "task.panicked",
                    task = name,
                    panic,
                    "A task panicked."
                );
            }
        });
    }

    /// Waits for `duration`, or less if the process is asked to stop: `true` means go on, `false` means return.
    pub async fn pause(&self, duration: Duration) -> bool {
        tokio::time::timeout(duration, self.0.drain.cancelled())
            .await
            .is_err()
    }

    /// Everything is open: calls may come.
    pub fn ready(&self) {
        self.0.phase.send_if_modified(|phase| {
            let first = *phase == ProcessPhase::Starting;
            if first {
                *phase = ProcessPhase::Ready;
            }
            first
        });
    }

    /// Asks the process to stop, as SIGTERM does.
    pub fn stop(&self) {
        self.0.drain.cancel();
    }

    /// Asks the process to stop with a failing exit. The first reason is kept.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(
            event = "lifecycle.failed",
            reason,
            "Stopping because of a failure."
        );
        // A later reason is most likely a consequence of the first.
        drop(self.0.failure.set(reason));
        self.stop();
    }

    /// Why the process has to be started again, if it has to.
    pub fn failed(&self) -> Option<String> {
        self.0.failure.get().cloned()
    }

    /// Cancelled when the process is asked to stop: take nothing new, finish what is in hand, return.
    pub fn draining(&self) -> CancellationToken {
        self.0.drain.clone()
    }

    /// Whether the process was asked to stop.
    pub fn is_draining(&self) -> bool {
        self.0.drain.is_cancelled()
    }

    /// Counts requests to reload the configuration (SIGHUP); a change is a request, also one from before this was asked for. Several at once
    /// count as one.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        let mut reloads = self.0.reloads.subscribe();
        if *reloads.borrow() > 0 {
            reloads.mark_changed();
        }
        reloads
    }

    /// Asks for a reload, as SIGHUP does.
    pub fn reload(&self) {
        self.0.reloads.send_modify(|n| *n += 1);
    }

    /// Where the process stands, and every change of it.
    pub fn phases(&self) -> watch::Receiver<ProcessPhase> {
        self.0.phase.subscribe()
    }

    /// Tasks that are running, of both kinds.
    pub fn running(&self) -> usize {
        self.0.tasks.len()
    }

    /// Serves signals until the process is to stop, then drains, then aborts what is left.
    pub async fn run_until_stopped(&self, mut signals: Signals) -> Verdict {
        let life = &*self.0;
        while !self.is_draining() {
            tokio::select! {
                () = life.drain.cancelled() => {}
                signal = signals.next() => match signal {
                    Signal::Stop => self.stop(),
                    Signal::Reload => self.reload(),
                },
            }
        }
        life.phase.send_replace(ProcessPhase::Draining);
        tracing::info!(
            event = "lifecycle.draining",
            tasks = self.running(),
            "Taking nothing new, finishing what is in hand."
        );
        life.tasks.close();
        let left = self.drained(&mut signals).await;
        life.abort.cancel();
        // An aborted task is dropped at its next await; one that never awaits must not keep the process.
        drop(tokio::time::timeout(Duration::from_secs(1), life.tasks.wait()).await);
        life.phase.send_replace(ProcessPhase::Stopped);
        match (self.failed(), left) {
            (Some(reason), _) => Verdict::Failed(reason),
            (None, 0) => Verdict::Clean,
            (None, tasks) => Verdict::Aborted { tasks },
        }
    }

    /// Waits until nothing runs, the grace period is over, or a second signal says now; returns what still runs.
    async fn drained(&self, signals: &mut Signals) -> usize {
        let patience = tokio::time::timeout(self.0.grace, async {
            while signals.next().await != Signal::Stop {}
        });
        tokio::select! {
            biased;
            () = self.0.tasks.wait() => 0,
            _ = patience => self.running(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
    fn start<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let abort = self.0.abort.clone();
        tokio::spawn(self.0.tasks.track_future(async move {
            tokio::select! {
                biased;
                () = abort.cancelled() => {}
                () = task => {}
            }
        }));
    }
}

/// Runs a future to its end or to its panic, whose message is returned.
///
/// What a panic leaves half-done is dropped with the future, so nothing observes it; what is shared (locks, channels)
/// says so itself, by poisoning or closing.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
        },
    )
    .await
}

/// The message of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn now() -> tokio::time::Instant {
        tokio::time::Instant::from_std(crate::clock::Clock::system().instant())
    }

    fn signals() -> (mpsc::Sender<Signal>, Signals) {
        let (sender, receiver) = mpsc::channel(4);
        (sender, Signals::from_channel(receiver))
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervised_task_that_returns_stops_the_process_with_a_failure() {
        let life = Lifecycle::default();
        life.spawn("pruner", async {});
        let verdict = life.run_until_stopped(signals().1).await;
        assert_eq!(
            verdict,
            Verdict::Failed("task pruner ended by itself".to_owned())
        );
        assert_eq!(
            life.failed().as_deref(),
            Some("task pruner ended by itself")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervised_task_that_panics_stops_the_process_with_its_message() {
        let life = Lifecycle::default();
        life.spawn("writer", async { panic!("disk {} gone", 1) });
        let verdict = life.run_until_stopped(signals().1).await;
        assert_eq!(
            verdict,
            Verdict::Failed("task writer panicked: disk 1 gone".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_draining_is_a_failure_too() {
        let life = Lifecycle::default();
        let token = life.draining();
        life.spawn("writer", async move {
            token.cancelled().await;
            panic!("lost the last record");
        });
        life.stop();
        let verdict = life.run_until_stopped(signals().1).await;
        assert!(matches!(verdict, Verdict::Failed(_)), "{verdict}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_task_may_end_or_panic_without_harm() {
        let life = Lifecycle::default();
        life.spawn_transient("connection", async {});
        life.spawn_transient("connection", async { panic!("one bad request") });
        let (sender, signals) = signals();
        sender.send(Signal::Stop).await.unwrap();
        assert_eq!(life.run_until_stopped(signals).await, Verdict::Clean);
        assert_eq!(life.failed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_signal_lets_running_work_finish() {
        let life = Lifecycle::default();
        let (done, finished) = oneshot::channel();
        let token = life.draining();
        life.spawn("door", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            done.send(()).unwrap();
        });
        let (sender, signals) = signals();
        sender.send(Signal::Stop).await.unwrap();
        assert_eq!(life.run_until_stopped(signals).await, Verdict::Clean);
        finished.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_drops_what_still_runs() {
        let life = Lifecycle::new(Duration::from_hours(1));
        life.spawn_transient("call", std::future::pending());
        let (sender, signals) = signals();
        sender.send(Signal::Stop).await.unwrap();
        sender.send(Signal::Reload).await.unwrap();
        sender.send(Signal::Stop).await.unwrap();
        let started = now();
        assert_eq!(
            life.run_until_stopped(signals).await,
            Verdict::Aborted { tasks: 1 }
        );
        assert!(now() - started < Duration::from_hours(1));
        assert_eq!(life.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_bounds_the_drain() {
        let life = Lifecycle::new(Duration::from_secs(10));
        life.spawn_transient("call", std::future::pending());
        life.stop();
        let started = now();
        let verdict = life.run_until_stopped(signals().1).await;
        assert_eq!(verdict, Verdict::Aborted { tasks: 1 });
        assert_eq!((now() - started).as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn phases_are_told_in_order_and_ready_comes_only_once() {
        let life = Lifecycle::default();
        let phases = life.phases();
        assert_eq!(*phases.borrow(), ProcessPhase::Starting);
        life.ready();
        assert_eq!(*phases.borrow(), ProcessPhase::Ready);
        life.stop();
        life.run_until_stopped(signals().1).await;
        life.ready();
        assert_eq!(*phases.borrow(), ProcessPhase::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_early_when_the_process_is_to_stop() {
        let life = Lifecycle::default();
        assert!(life.pause(Duration::from_secs(1)).await);
        life.stop();
        assert!(!life.pause(Duration::from_hours(1)).await);
    }

    #[tokio::test]
    async fn a_reload_that_was_asked_for_before_anybody_listened_is_heard() {
        let life = Lifecycle::default();
        assert!(!life.reloads().has_changed().unwrap());
        life.reload();
        let mut reloads = life.reloads();
        assert!(reloads.has_changed().unwrap());
        reloads.changed().await.unwrap();
        assert!(!reloads.has_changed().unwrap());
    }

    #[tokio::test]
    async fn real_signals_reload_and_stop() {
        let send = |name: &str| {
            let sent = std::process::Command::new("kill")
                .args([name, &std::process::id().to_string()])
                .status();
            assert!(sent.unwrap().success());
        };
        let life = Lifecycle::default();
        let mut reloads = life.reloads();
        let signals = Signals::register().unwrap();
        let operate = async {
            send("-HUP");
            reloads.changed().await.unwrap();
            assert_eq!(*reloads.borrow(), 1);
            send("-TERM");
        };
        let (verdict, ()) = tokio::join!(life.run_until_stopped(signals), operate);
        assert_eq!(verdict, Verdict::Clean);
    }
}
