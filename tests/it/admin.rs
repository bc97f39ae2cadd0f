//! The socket by which commands reach the running server.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use switchboard::admin::{self, AskError, ControlRequest, Refusal, Reply};
use tokio::task::spawn_blocking;

use crate::world::World;

async fn ask(database: PathBuf, request: ControlRequest) -> Result<serde_json::Value, AskError> {
    let asked = move || admin::ask(&database, &request, |_| {});
    spawn_blocking(asked).await.unwrap()
}

/// Sends a line as it is and gives the first line that comes back.
async fn say(database: PathBuf, line: &'static str) -> Reply {
    let said = move || {
        let mut stream = UnixStream::connect(admin::socket_path(&database)).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    spawn_blocking(said).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reaches_the_running_server_and_nobody_else() {
    let mut world = World::new().await;
    let database = world.database();
    let status = ask(database.clone(), ControlRequest::Status).await.unwrap();
    assert_eq!(status["pid"], std::process::id());
    assert_eq!(status["store"]["running"], true);
    let socket = std::fs::metadata(admin::socket_path(&database)).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);

    world.stop().await;
    let gone = ask(database, ControlRequest::Status).await;
    assert!(matches!(gone, Err(AskError::Nobody { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_know_is_refused_in_words() {
    let world = World::new().await;
    for line in ["{\"command\":\"dance\"}\n", "no JSON\n", "\n"] {
        let Reply::Refused(Refusal { message, .. }) = say(world.database(), line).await else {
            panic!("{line:?} was taken");
        };
        assert!(message.contains("does not know the request"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_killed_server_left_behind_is_in_nobodys_way() {
    let mut world = World::new().await;
    let database = world.database();
    world.stop().await;
    drop(std::os::unix::net::UnixListener::bind(admin::socket_path(&database)).unwrap());
    let gone = ask(database.clone(), ControlRequest::Status).await;
    assert!(matches!(gone, Err(AskError::Nobody { .. })), "{gone:?}");

    world.start().await;
    assert!(ask(database, ControlRequest::Status).await.is_ok());
}
