//! One stand-in by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::Value;

use super::Place;

#[tokio::test]
async fn a_stand_in_says_in_a_line_where_it_listens_and_serves_until_it_is_stopped() {
    let place = Place::empty();
    let refused = place
        .run(&["simulate", "http", "--listen", "0.0.0.0:0"])
        .await;
    refused.exits(2);
    let mut command = place.command(&["-q", "simulate", "http"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let known: Value = serde_json::from_str(&line).unwrap();
    let url = known["health_url"].as_str().unwrap();
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address.strip_suffix("/health").unwrap()).unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
