//! How every command ends, as a table: what stands there, what is asked, the exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::Place;

/// What stands in the place of a database or a configuration.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Well,
    NoConfig,
    BrokenConfig,
    ConfigIsDirectory,
    ExposedSecret,
    Newer,
    Development,
    Foreign,
    ZeroBytes,
    Directory,
    Junk,
    StrayLog,
}

use Standing::{
    BrokenConfig, ConfigIsDirectory, Development, Directory, ExposedSecret, Foreign, Junk, Newer,
    NoConfig, StrayLog, Well, ZeroBytes,
};

impl Standing {
    fn set_up(self, place: &Place) {
        let database = place.path("switchboard.db");
        match self {
            Well => {}
            NoConfig => fs::remove_file(place.path("config.toml")).unwrap(),
            BrokenConfig => place.configure("[server]\nlisten = 7\n"),
            ConfigIsDirectory => {
                fs::remove_file(place.path("config.toml")).unwrap();
                fs::create_dir(place.path("config.toml")).unwrap();
            }
            ExposedSecret => {
                fs::write(place.path("token"), "made-up").unwrap();
                fs::set_permissions(place.path("token"), fs::Permissions::from_mode(0o604))
                    .unwrap();
                let text = place.text();
                let line = text
                    .lines()
                    .find(|line| line.starts_with("auth_token"))
                    .unwrap();
                place.reconfigure(line, "auth_token = { file = \"token\" }");
            }
            Newer => {
                // Made by this program, then marked by a later one.
                let stamp = "PRAGMA application_id = 0x53574244; PRAGMA user_version = 99; CREATE TABLE t (x);";
                Connection::open(&database)
                    .unwrap()
                    .execute_batch(stamp)
                    .unwrap();
            }
            Development => {
                let stamp = "PRAGMA application_id = 0x53574244; PRAGMA user_version = 8; CREATE TABLE t (x);";
                Connection::open(&database)
                    .unwrap()
                    .execute_batch(stamp)
                    .unwrap();
            }
            Foreign => {
                let stamp = "PRAGMA application_id = 7; CREATE TABLE t (x);";
                Connection::open(&database)
                    .unwrap()
                    .execute_batch(stamp)
                    .unwrap();
            }
            ZeroBytes => fs::write(&database, "").unwrap(),
            Directory => fs::create_dir(&database).unwrap(),
            Junk => fs::write(&database, "x".repeat(8192)).unwrap(),
            StrayLog => fs::write(place.path("switchboard.db-wal"), "left behind").unwrap(),
        }
    }
}

/// What is there, the command, its exit code, and words that must be said.
const TABLE: &[(Standing, &[&str], i32, &[&str])] = &[
    (Well, &["check-config"], 0, &["is valid"]),
    (Well, &["doctor", "--offline"], 0, &["database"]),
    (Well, &["migrate", "status"], 0, &["schema 0"]),
    (Well, &["migrate", "down", "--to", "99"], 2, &["99"]),
    (Well, &["test-dialer", "nobody"], 2, &["nobody"]),
    (Well, &["explain", "--from", "+491700000001"], 0, &[]),
    (
        Well,
        &["key", "new", "--name", "x", "--role", "viewer"],
        0,
        &["hash"],
    ),
    (
        Well,
        &["key", "new", "--name", "", "--role", "viewer"],
        2,
        &[],
    ),
    (Well, &["completions", "bash"], 0, &[]),
    (Well, &["man"], 0, &[]),
    (Well, &["frobnicate"], 2, &[]),
    (Well, &["doctor", "--sideways"], 2, &[]),
    (
        Well,
        &["doctor", "signature", "--url", "/x"],
        2,
        &["X-Twilio-Signature"],
    ),
    (
        Well,
        &["--config", "config.toml", "init", "--yes"],
        1,
        &["config.toml", "already"],
    ),
    (
        NoConfig,
        &["serve"],
        78,
        &["config.toml", "switchboard init"],
    ),
    (NoConfig, &["check-config"], 78, &["config.toml"]),
    (NoConfig, &["doctor", "--offline"], 78, &["config.toml"]),
    (NoConfig, &["migrate"], 78, &["config.toml"]),
    (
        NoConfig,
        &["explain", "--from", "+491700000001"],
        78,
        &["config.toml"],
    ),
    (NoConfig, &["test-dialer", "--all"], 78, &["config.toml"]),
    (BrokenConfig, &["serve"], 78, &["config.toml:2:10"]),
    (BrokenConfig, &["check-config"], 78, &["config.toml:2:10"]),
    (ConfigIsDirectory, &["serve"], 78, &["it is a directory"]),
    (ExposedSecret, &["serve"], 78, &["token", "0604"]),
    (ExposedSecret, &["check-config"], 78, &["token", "0604"]),
    (Newer, &["serve"], 78, &["switchboard.db", "99"]),
    (Newer, &["migrate"], 1, &["99"]),
    (Newer, &["doctor", "--offline"], 1, &["99"]),
    (Development, &["serve"], 78, &["development version"]),
    (Development, &["migrate"], 78, &["development version"]),
    (
        Development,
        &["migrate", "status"],
        78,
        &["development version"],
    ),
    (
        Development,
        &["doctor", "--offline"],
        1,
        &["development version"],
    ),
    (
        Foreign,
        &["serve"],
        78,
        &["switchboard.db", "another program"],
    ),
    (
        ZeroBytes,
        &["serve"],
        78,
        &["switchboard.db", "it is empty"],
    ),
    (
        Directory,
        &["serve"],
        78,
        &["switchboard.db", "it is a directory"],
    ),
    (Junk, &["serve"], 78, &["switchboard.db", "no database"]),
    (
        StrayLog,
        &["serve"],
        1,
        &["switchboard.db", "-wal", "restore"],
    ),
];

#[tokio::test]
async fn every_command_ends_with_its_exit_code_and_says_why() {
    for (standing, command, code, words) in TABLE {
        let place = Place::new();
        standing.set_up(&place);
        let mut arguments = vec!["--config", "config.toml"];
        if command.contains(&"--config") {
            arguments.clear();
        }
        arguments.extend(*command);
        let before = contents(&place);
        let ran = place.run(&arguments).await;
        assert_eq!(ran.code, Some(*code), "{standing:?} {command:?}: {ran:?}");
        for word in *words {
            let said = ran.stdout.contains(word) || ran.stderr.contains(word);
            assert!(
                said,
                "{standing:?} {command:?} does not say {word}: {ran:?}"
            );
        }
        if matches!(standing, Newer | Foreign | ZeroBytes | Junk | StrayLog) {
            assert_eq!(contents(&place), before, "{standing:?} {command:?} wrote");
        }
    }
}

/// The database as it is.
fn contents(place: &Place) -> Option<Vec<u8>> {
    fs::read(place.path("switchboard.db")).ok()
}

#[tokio::test]
async fn every_result_is_one_document_with_json() {
    let place = Place::new();
    let commands: [&[&str]; 7] = [
        &["check-config"],
        &["doctor", "--offline"],
        &["migrate", "status"],
        &["explain", "--from", "+491700000001"],
        &["test-dialer", "--all"],
        &["key", "new", "--name", "x", "--role", "viewer"],
        &["--config", "other.toml", "init", "--yes"],
    ];
    for command in commands {
        let arguments = [command, &["--json"]].concat();
        let ran = place.run(&arguments).await.exits(0);
        let document = ran.json();
        assert!(
            document.is_object() || document.is_array(),
            "{command:?}: {ran:?}"
        );
    }
}
