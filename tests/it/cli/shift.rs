//! `serve` as somebody runs it who keeps everything that it says.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use switchboard::clock::Clock;

use super::Place;
use super::serve::{PATIENCE, connect, slowed};
use crate::wire::Request;

/// A `serve` of which every byte is kept: what it writes to standard output and standard error, and its log files.
pub(super) struct Shift {
    child: Child,
    pub(super) address: SocketAddr,
    outputs: [PathBuf; 2],
    logs: Option<PathBuf>,
}

impl Shift {
    pub(super) async fn start(place: &Place, name: &str, logs: Option<&str>) -> Self {
        let outputs = ["out", "err"].map(|end| place.path(&format!("{name}.{end}")));
        let [stdout, stderr] = outputs.each_ref().map(|path| File::create(path).unwrap());
        let mut command = place.command(&["serve"]);
        command.stdout(stdout).stderr(stderr);
        let child = slowed(&mut command).spawn().unwrap();
        let mut shift = Self {
            child,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            outputs,
            logs: logs.map(|name| place.path(name)),
        };
        let started = shift.event("service.started", 1).await;
        shift.address = started["address"].as_str().unwrap().parse().unwrap();
        connect(place, shift.address);
        shift
    }

    /// All that was said.
    pub(super) fn text(&self) -> String {
        let mut paths = self.outputs.to_vec();
        if let Some(directory) = &self.logs {
            let files = fs::read_dir(directory).into_iter().flatten();
            paths.extend(files.map(|file| file.unwrap().path()));
        }
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        paths.iter().map(read).collect()
    }

    /// Waits for the nth event of this name.
    pub(super) async fn event(&self, name: &str, nth: usize) -> Value {
        let clock = Clock::system();
        let began = clock.instant();
        loop {
            let text = self.text();
            // The last line may be half written.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let mut of_name = whole
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|line| line["event"] == name);
            if let Some(found) = of_name.nth(nth - 1) {
                return found;
            }
            assert!(
                clock.instant().duration_since(began) < PATIENCE,
                "no {name}: {text}"
            );
            clock.wait(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success());
    }

    /// Sends the signal and waits for the end; gives all that was said.
    pub(super) async fn end(mut self, signal: &str) -> String {
        self.signal(signal);
        let clock = Clock::system();
        let began = clock.instant();
        while self.child.try_wait().unwrap().is_none() {
            assert!(clock.instant().duration_since(began) < PATIENCE);
            clock.wait(Duration::from_millis(20)).await;
        }
        self.text()
    }

    pub(super) async fn send(&self, request: Request) -> u16 {
        request.send(self.address).await.status
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        // Nothing to end where it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
