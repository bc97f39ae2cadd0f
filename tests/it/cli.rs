//! The command line, asked as an operator or a script asks it: the real binary, a directory of its own, exit codes and documents.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod acme;
mod check_config;
mod commands;
mod control;
mod day;
mod doctor;
mod drill;
mod exits;
mod exposed;
mod init;
mod links;
mod lists;
mod logs;
mod mail;
mod privacy;
mod proof;
mod rotate;
mod second;
mod serve;
mod shift;
mod simulate;
mod systemd;
mod tls;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use switchboard_simulator::{World as Outside, made_up};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::world::{PUSH_SECRET, Settings, everything_outside};

/// All that stands as a secret in the configuration.
const SECRETS: [&str; 5] = [
    made_up::AUTH_TOKEN,
    made_up::BRAZE_KEY,
    made_up::CAMPAIGN_TOKEN,
    made_up::ZENDESK_TOKEN,
    PUSH_SECRET,
];

/// Fails where a secret, or a good part of one, stands in what was printed or logged.
fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        for part in [
            secret,
            &secret[..secret.len() / 2],
            &secret[secret.len() / 2..],
        ] {
            assert!(!text.contains(part), "a part of {secret} in: {text}");
        }
    }
}

/// A directory with a configuration, and a world that it describes.
struct Place {
    directory: TempDir,
    outside: Outside,
    _tasks: JoinSet<()>,
}

impl Place {
    /// With the configuration of the other tests: secrets as plain text, readable by its owner only.
    fn new() -> Self {
        let place = Self::empty();
        place.configure(&Settings::default().configuration(&place.outside));
        place
    }

    /// Without a configuration.
    fn empty() -> Self {
        let (outside, tasks) = everything_outside(1);
        Self {
            directory: tempfile::tempdir().unwrap(),
            outside,
            _tasks: tasks,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("config.toml")).unwrap()
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("config.toml"), text).unwrap();
        self.set_mode("config.toml", 0o600);
    }

    /// Replaces a text of the configuration, which must be there.
    fn reconfigure(&self, from: &str, to: &str) {
        let text = self.text();
        assert!(text.contains(from), "{from}");
        self.configure(&text.replace(from, to));
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("TMPDIR", self.directory.path())
            .env_remove("SWITCHBOARD_CONFIG")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, the stand-ins serving meanwhile.
    async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments)).await
    }
}

/// A command that has ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    async fn of(mut command: Command) -> Self {
        let output = tokio::task::spawn_blocking(move || command.output());
        let Output {
            status,
            stdout,
            stderr,
        } = output.await.unwrap().unwrap();
        let ran = Self {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        };
        assert_no_secret(&ran.stdout);
        assert_no_secret(&ran.stderr);
        assert!(
            !ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'),
            "colours without a terminal: {ran:?}"
        );
        ran
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The whole of standard output as one document.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            assert_eq!(self.stdout, "", "{error}");
            Value::Null
        })
    }
}
