//! `GET /ready`: whether a call that came now would be decided and recorded.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;

const REQUEST: &[u8] = b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async fn answer(mut stream: TcpStream) -> (u16, Value) {
    let mut answer = String::new();
    stream.write_all(REQUEST).await.unwrap();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

async fn ask(world: &World) -> (u16, Value) {
    answer(TcpStream::connect(world.running().address).await.unwrap()).await
}

/// Asks until the answer is this one.
async fn ask_until(world: &World, status: u16) -> Value {
    let asked = tokio::time::timeout(Duration::from_mins(3), async {
        loop {
            let (found, body) = ask(world).await;
            if found == status {
                return body;
            }
        }
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_appliance_is_ready_and_says_what_it_has_tried() {
    let mut world = World::new().await;
    let records = world.running().store.counts().await.unwrap().records;
    let (status, body) = ask(&world).await;
    assert_eq!((status, &body["ready"]), (200, &true.into()), "{body}");
    for (idx, name) in ["decision", "store"].into_iter().enumerate() {
        let check = &body["checks"][idx];
        assert_eq!((&check["name"], &check["ok"]), (&name.into(), &true.into()));
        assert!(check["last_good"].is_string(), "{check}");
    }
    let later = ask_until(&world, 200).await;
    assert!(later.is_object());
    let after = world.running().store.counts().await.unwrap().records;
    assert_eq!(after, records, "a beat leaves no record");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_makes_it_unready_until_it_does() {
    let mut world = World::new().await;
    let path = world.database();
    let stranger = Connection::open(path).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = ask_until(&world, 503).await;
    assert_eq!(body["status"], "failing", "{body}");
    assert_eq!(body["checks"][0]["ok"], true, "{body}");
    assert_eq!(body["checks"][1]["ok"], false, "{body}");
    let fault = body["checks"][1]["fault"].as_str().unwrap();
    assert!(!fault.contains('/'), "strangers read this: {fault}");
    stranger.execute_batch("ROLLBACK").unwrap();
    let body = ask_until(&world, 200).await;
    assert_eq!(body["checks"][1]["fault"], Value::Null, "{body}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_while_it_drains_is_told_so() {
    let mut world = World::new().await;
    let stream = TcpStream::connect(world.running().address).await.unwrap();
    // The connection is in hand before the stop is asked for.
    ask(&world).await;
    world.lifecycle.stop();
    let (status, body) = answer(stream).await;
    assert_eq!(
        (status, &body["status"]),
        (503, &"draining".into()),
        "{body}"
    );
    world.stop().await;
}
