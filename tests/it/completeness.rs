//! Twilio's list of calls is compared with the log: every call that is missing is named, with why, and none falsely.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde_json::Value;
use switchboard::alerts::{IncidentKind, IncidentStatus};
use switchboard::audit::{
    CallAfter, ChainLink, CompletenessChecked, Discrepancy, Event, Kind, Record, RowContent,
    list_hash,
};
use switchboard::call::{CallId, CarrierAnswer, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::phone::Caller;
use switchboard::store::{Part, StoreError, StoredCall};
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::twilio::PastCall;

use crate::world::{CALLED, HOT, Settings, World};

/// Midnight of a day, UTC.
const MIDNIGHT: i64 = 1_709_596_800;
const DAY: &str = "2024-03-05";
/// A number whose webhooks go elsewhere by now.
const LOST: &str = "+4930900901";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(MIDNIGHT + seconds).unwrap()
}

fn sid(n: u32) -> String {
    // In no order.
    format!(
        "CA{:032x}",
        u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    )
}

/// How a call is missing on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    NeverSent,
    Refused,
    Fallback,
    Deleted,
    Down,
}

const WAYS: [Way; 4] = [Way::NeverSent, Way::Refused, Way::Fallback, Way::Deleted];

struct Day {
    world: World,
    missing: BTreeMap<CallId, Way>,
    n_calls: u32,
}

/// A world an hour before the day begins, with a call whose records are the model of others.
async fn evening() -> (World, Clock, Vec<Record>, StoredCall) {
    let clock = Clock::manual(at(-3_600));
    let world = World::with(Settings {
        clock: clock.clone(),
        machine_is_faster: 1,
        ..Settings::default()
    })
    .await;
    world.outside.twilio.configure(|settings| {
        settings.own_numbers = vec![CALLED.to_owned(), LOST.to_owned()];
        settings.led_elsewhere = vec![LOST.to_owned()];
    });
    let result = world.call(HOT).await;
    let stored = world.stored(&result).await;
    let records = world.records(&result).await;
    let decided = records
        .iter()
        .find(|record| record.kind == Kind::CallDecided)
        .unwrap();
    let mut first = Record::of_call(at(0), &stored.id, decided.event().unwrap());
    first.personal.clone_from(&decided.personal);
    let reaped = Event::CallReaped {
        found: CarrierAnswer::Unasked,
    };
    let last = Record::of_call(at(0), &stored.id, reaped);
    (world, clock, vec![first, last], stored)
}

/// The records of a call like the model.
fn records_of(
    call: &CallId,
    model: &[Record],
    stored: &StoredCall,
    [start, end]: [Timestamp; 2],
) -> [Record; 2] {
    let of = |record: &Record, at| Record {
        at,
        call_id: Some(call.clone()),
        ..record.clone()
    };
    [
        of(&model[0], start),
        of(&model[1], end).leaving(after(stored, end)),
    ]
}

/// A day with so many calls, of which some are missing here, each in one of five ways.
async fn day(n_calls: u32, n_missing: u32) -> Day {
    let (mut world, clock, model, stored) = evening().await;
    let n_down = n_missing / 5;
    let (n_before, every) = (n_calls - n_down, n_calls / n_missing);
    let (mut missing, mut past, mut batch) = (BTreeMap::new(), Vec::new(), Vec::new());
    for n in 0..n_before {
        let call = CallId::parse(&sid(n)).unwrap();
        let is_missing = n % every == every / 2 && missing.len() < (n_missing - n_down) as usize;
        let way = is_missing.then(|| WAYS[missing.len() % WAYS.len()]);
        let start = at(i64::from(n) * 79_000 / i64::from(n_before));
        let mut listed = past_call(&call, start, way);
        if way.is_none() && n % 50 == 0 {
            // Its webhooks came here that day, until somebody changed the number.
            LOST.clone_into(&mut listed.to);
        }
        if matches!(way, None | Some(Way::Deleted)) {
            batch.extend(records_of(&call, &model, &stored, [start, listed.ended_at]));
        } else if way == Some(Way::Fallback) {
            clock.set(start);
            falls_back(&world, &call).await;
        }
        past.push(listed);
        missing.extend(way.map(|way| (call, way)));
        if batch.len() >= 500 {
            let records = std::mem::take(&mut batch);
            write(&world, records).await;
        }
    }
    clock.set(at(79_990));
    write(&world, batch).await;
    let of = |wanted| {
        let of_way = missing.iter().filter(move |(_, way)| **way == wanted);
        of_way
            .map(|(call, _)| call.clone())
            .collect::<BTreeSet<_>>()
    };
    while fallbacks(&world).await != of(Way::Fallback) {
        tokio::task::yield_now().await;
    }
    world.stop().await;
    rewrite_without(&world, &of(Way::Deleted));
    for n in n_before..n_calls {
        let call = CallId::parse(&sid(n)).unwrap();
        let start = at(80_000 + i64::from(n - n_before));
        past.push(past_call(&call, start, Some(Way::Down)));
        missing.insert(call, Way::Down);
    }
    clock.set(at(82_000));
    world.outside.twilio.remember(past);
    world.start().await;
    clock.set(at(2 * 86_400));
    assert_eq!(missing.len(), n_missing as usize);
    Day {
        world,
        missing,
        n_calls,
    }
}

/// Writes records, however slow the disk is.
async fn write(world: &World, records: Vec<Record>) {
    let store = &world.running().store;
    match store.append(records).await {
        Ok(_) | Err(StoreError::Deferred) => {}
        Err(error) => panic!("{error:?}"),
    }
    store
        .health_when(|health| health.failing_since.is_none() && health.backlog == 0)
        .await;
}

fn past_call(call: &CallId, start: Timestamp, way: Option<Way>) -> PastCall {
    let is_lost = way == Some(Way::NeverSent);
    PastCall {
        sid: call.as_str().to_owned(),
        from: HOT.to_owned(),
        to: if is_lost { LOST } else { CALLED }.to_owned(),
        started_at: start,
        ended_at: start + Duration::from_secs(40),
        error_code: match way {
            Some(Way::Refused | Way::Fallback) => Some(11_200),
            Some(Way::Down) => Some(11_205),
            Some(Way::NeverSent | Way::Deleted) | None => None,
        },
    }
}

async fn falls_back(world: &World, call: &CallId) {
    let twilio = &world.outside.twilio;
    let mut fields = twilio.inbound_fields(call.as_str(), HOT, CALLED);
    fields.push(("ErrorCode".to_owned(), "11200".to_owned()));
    let answer = twilio.post("/webhooks/twilio/fallback", &fields).await;
    assert_eq!(answer.unwrap().status, 200);
}

/// The calls that incidents name as answered at the fallback URL.
async fn fallbacks(world: &World) -> BTreeSet<CallId> {
    let found = incidents(world, IncidentKind::OnFallback).await;
    found
        .into_iter()
        .flat_map(|incident| incident.call_ids)
        .collect()
}

async fn incidents(world: &World, kind: IncidentKind) -> Vec<IncidentStatus> {
    let all = Part {
        after: None,
        skip: 0,
        size: 100,
    };
    let found = world
        .running()
        .store
        .incidents(false, all)
        .await
        .unwrap()
        .rows;
    let found = found.into_iter().map(|(incident, _)| incident.status);
    found
        .filter(|incident| incident.topic.kind == kind)
        .collect()
}

fn after(call: &StoredCall, at: Timestamp) -> CallAfter {
    CallAfter {
        status: Status::Ended,
        disposition: Some(Disposition::Answered),
        reason: call.reason,
        dialer: call.dialer.clone(),
        failed_over: false,
        held: false,
        answered_at: Some(at),
        ended_at: Some(at),
        routing_ms: Some(1),
        state: call.state.clone(),
    }
}

/// Takes calls out of the database with all that is left of them, and makes the chain anew behind them, as somebody would who has the file.
fn rewrite_without(world: &World, calls: &BTreeSet<CallId>) {
    let connection = Connection::open(world.database()).unwrap();
    let triggers: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit_records'")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let begun = connection.unchecked_transaction().unwrap();
    for (name, _) in &triggers {
        begun.execute(&format!("DROP TRIGGER {name}"), []).unwrap();
    }
    for call in calls {
        begun
            .execute(
                "DELETE FROM audit_records WHERE call_sid = ?1",
                [call.as_str()],
            )
            .unwrap();
        begun
            .execute("DELETE FROM calls WHERE sid = ?1", [call.as_str()])
            .unwrap();
    }
    let ids: Vec<i64> = begun
        .prepare("SELECT id FROM audit_records ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut link = ChainLink::GENESIS;
    let mut read = begun
        .prepare("SELECT created_at, kind, call_id, call_sid, personal, detail FROM audit_records WHERE id = ?1")
        .unwrap();
    let mut write = begun
        .prepare("UPDATE audit_records SET id = ?2, previous_hash = ?3, hash = ?4 WHERE id = ?1")
        .unwrap();
    for id in ids {
        let next = read
            .query_row([id], |row| {
                let (kind, sid): (String, Option<String>) = (row.get(1)?, row.get(3)?);
                let (personal, detail): (Option<Vec<u8>>, String) = (row.get(4)?, row.get(5)?);
                Ok(link.append(&RowContent {
                    id: link.id + 1,
                    created_at: row.get(0)?,
                    kind: kind.as_bytes(),
                    call_id: row.get(2)?,
                    call_sid: sid.as_deref().map(str::as_bytes),
                    personal: personal.as_deref(),
                    detail: detail.as_bytes(),
                }))
            })
            .unwrap();
        write
            .execute(params![
                id,
                next.id,
                link.hash.as_slice(),
                next.hash.as_slice()
            ])
            .unwrap();
        link = next;
    }
    drop((read, write));
    for (_, sql) in &triggers {
        begun.execute(sql, []).unwrap();
    }
    begun.commit().unwrap();
}

impl Day {
    fn assert_named(&self, checked: &CompletenessChecked) {
        let n_fallbacks = self
            .missing
            .values()
            .filter(|way| **way == Way::Fallback)
            .count() as u64;
        assert_eq!(checked.listed, u64::from(self.n_calls));
        assert_eq!(checked.missing, self.missing.len() as u64 - n_fallbacks);
        assert_eq!(checked.fallback, n_fallbacks);
        assert_eq!((checked.unlisted, checked.differing), (0, 0));
        let named: BTreeMap<CallId, _> = checked
            .findings
            .iter()
            .map(|one| (one.call_id.clone(), (one.found, one.code)))
            .collect();
        let found = |way: &Way| match way {
            Way::NeverSent => (Discrepancy::Elsewhere, None),
            Way::Refused => (Discrepancy::Refused, Some(11_200)),
            Way::Fallback => (Discrepancy::Fallback, Some(11_200)),
            Way::Deleted => (Discrepancy::Unexplained, None),
            Way::Down => (Discrepancy::Down, Some(11_205)),
        };
        let missing = self.missing.iter();
        let wanted: BTreeMap<CallId, _> = missing
            .map(|(call, way)| (call.clone(), found(way)))
            .collect();
        assert_eq!(named, wanted);
    }

    async fn complete(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let all = [
            &["audit", "complete", "--from", DAY, "--to", DAY, "--json"],
            arguments,
        ]
        .concat();
        let output = self.world.command(&all).await;
        let text = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&text);
        (
            output.status.code(),
            document.unwrap_or_else(|error| panic!("{error}: {output:?}")),
        )
    }
}

fn checked(report: &Value) -> CompletenessChecked {
    checked_of(report, 0)
}

fn checked_of(report: &Value, n: usize) -> CompletenessChecked {
    serde_json::from_value(report["checks"][n].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_is_missing_is_named_with_why_and_none_falsely() {
    Box::pin(every_way(2_000, 13 * 5)).await;
}

/// The same with a day of 100,000 calls, which takes minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn of_a_hundred_thousand_calls_137_that_are_missing_are_named() {
    Box::pin(every_way(100_000, 137)).await;
}

async fn every_way(n_calls: u32, n_missing: u32) {
    let mut day = Box::pin(day(n_calls, n_missing)).await;
    let twilio = day.world.outside.twilio.clone();
    let list = Route::path("/Calls.json");
    twilio.configure(|settings| settings.list_grows = true);
    twilio
        .faults()
        .once_on(list.clone(), Fault::too_many_requests(Some(1)));
    twilio.faults().once_on(list.clone(), Fault::status(500));
    let (code, report) = day.complete(&[]).await;
    assert_eq!(code, Some(1), "calls are missing");
    let first = checked(&report);
    day.assert_named(&first);
    let all: BTreeSet<CallId> = (0..n_calls)
        .map(|n| CallId::parse(&sid(n)).unwrap())
        .collect();
    assert_eq!(first.list_hash, list_hash(&all), "as the list gives it");

    // The process that reads the list is killed in the middle of it, and the next one goes on where it was.
    day.world.stop().await;
    twilio
        .faults()
        .once_on(list.clone(), Fault::Delay(Duration::ZERO));
    twilio.faults().once_on(list, Fault::Hang);
    let pages = || {
        let requests = twilio.requests().all();
        let of_list = requests
            .iter()
            .filter(|one| one.path().ends_with("/Calls.json"));
        of_list.filter(|one| one.status == Some(200)).count()
    };
    let (before, n_asked) = (pages(), twilio.requests().count());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .args(["audit", "complete", "--from", DAY, "--to", DAY])
        .current_dir(day.world.database().parent().unwrap())
        .env_remove("SWITCHBOARD_CONFIG")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // One page, and the one that hangs.
    twilio.requests().reached(n_asked + 2).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(pages(), before + 1);
    let (_, report) = day.complete(&[]).await;
    let second = checked(&report);
    day.assert_named(&second);
    assert_eq!(second.list_hash, first.list_hash);
    let whole = pages() - before;
    let (_, report) = day.complete(&[]).await;
    day.assert_named(&checked(&report));
    let anew = pages() - before - whole;
    assert!(
        whole <= anew,
        "{whole} pages with the kill, {anew} without: none was read again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_told_and_an_erased_call_is_none_of_it() {
    let (mut world, clock, model, stored) = evening().await;
    let [same, longer, unlisted, missing] = [1, 2, 3, 4].map(|n| CallId::parse(&sid(n)).unwrap());
    let (start, end) = (at(1_000), at(1_040));
    let twilio = world.outside.twilio.clone();
    twilio.remember([&same, &longer, &missing].map(|call| past_call(call, start, None)));
    for (call, end) in [(&same, end), (&longer, at(2_000)), (&unlisted, end)] {
        let records = records_of(call, &model, &stored, [start, end]);
        write(&world, records.to_vec()).await;
    }
    clock.set(at(2 * 86_400));
    let store = &world.running().store;
    let erased = store.erase(&Caller::classify(HOT), &[]).await.unwrap();
    assert!(erased.unwrap().erased);
    let arguments = [
        "audit",
        "complete",
        "--from",
        "2024-03-03",
        "--to",
        DAY,
        "--json",
    ];
    let output = world.command(&arguments).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["left_out"].as_object().unwrap().len(),
        1,
        "the log begins a day later"
    );
    let checked = checked_of(&report, 1);
    let found: Vec<_> = checked
        .findings
        .iter()
        .map(|one| (&one.call_id, one.found))
        .collect();
    let mut wanted = vec![
        (&longer, Discrepancy::EndDiffers),
        (&unlisted, Discrepancy::Unlisted),
        (&missing, Discrepancy::Unexplained),
    ];
    wanted.sort_by_key(|(call, _)| *call);
    assert_eq!(found, wanted);
    assert!(checked.with_alerts);
    // It is told once somebody looks, which is every minute.
    clock.advance(Duration::from_mins(2));
    let incident = loop {
        match incidents(&world, IncidentKind::CallsMissing).await.pop() {
            Some(incident) => break incident,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(
        incident.cause.contains("1 are missing in the log"),
        "{}",
        incident.cause
    );
    world.stop().await;
}
