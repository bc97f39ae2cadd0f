//! No dialer takes calls: callers are held, somebody is told at once, and on recovery the callers are served in order of arrival.
//!
//! The callers are driven by hand, in phone time: the clock is moved from one webhook to the next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use switchboard::alerts::{IncidentKind, Notification};
use switchboard::audit::{Event, Kind};
use switchboard::call::{CallId, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::routing::DialerId;
use switchboard::store::{StoredCall, StoredRecord};
use switchboard_simulator::faults::{Fault, Route};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::{CALLED, COLD, DIALFIRE_LINE, HOT, LAST_RESORT, Settings, World, ZENDESK_LINE};

/// How long the hold message takes to be spoken.
const SPEECH_MS: u64 = 7_000;
const OTHER_LINE: &str = "+4930555555";
const MESSAGE: &str = "Please hold the line.";

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    /// Waits, and asks again.
    Held {
        spoken: bool,
        pause_ms: u64,
        next: String,
    },
    /// A line rings.
    Line(String),
    /// A message, and the end.
    Goodbye(String),
}

impl Heard {
    fn read(body: &str) -> Self {
        let between = |from: &str, to: &str| {
            let (_, rest) = body.split_once(from)?;
            rest.split_once(to).map(|(text, _)| text.to_owned())
        };
        if let Some(url) = between("<Redirect>", "</Redirect>") {
            let seconds = between("<Pause length=\"", "\"").unwrap();
            let at = url.find("/webhooks/").unwrap();
            return Self::Held {
                spoken: body.contains(MESSAGE),
                pause_ms: seconds.parse::<u64>().unwrap() * 1_000,
                next: url[at..].to_owned(),
            };
        }
        for line in [DIALFIRE_LINE, ZENDESK_LINE, LAST_RESORT, OTHER_LINE] {
            if body.contains("<Dial") && body.contains(line) {
                return Self::Line(line.to_owned());
            }
        }
        assert!(
            body.contains("<Hangup/>"),
            "neither held nor served: {body}"
        );
        Self::Goodbye(between("<Say language=\"de-DE\">", "</Say>").unwrap_or_default())
    }

    fn is_a_dialer(&self) -> bool {
        matches!(self, Self::Line(line) if line != LAST_RESORT)
    }
}

fn sid(n: usize) -> String {
    format!("CA{n:032x}")
}

fn call_id(n: usize) -> CallId {
    CallId::parse(&sid(n)).unwrap()
}

/// The world, with a clock that is moved by hand.
struct Scene {
    world: World,
    clock: Clock,
}

impl Scene {
    async fn with(routing: &str) -> Self {
        let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
        let settings = Settings {
            routing: format!("hold_message = \"{MESSAGE}\"\n{routing}"),
            clock: clock.clone(),
            ..Settings::default()
        };
        let world = World::with(settings).await;
        Self { world, clock }
    }

    /// A third dialer, which only the default plan names.
    async fn with_another_dialer() -> Self {
        let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
        let settings = Settings {
            clock: clock.clone(),
            sections: format!(
                "[dialers.other]\nkind = \"http\"\nconnect = \"{OTHER_LINE}\"\nurl = \"HTTP_SERVER/calls\"\nprobe_every = \"1h\""
            ),
            ..Settings::default()
        };
        let world = World::with(settings).await;
        Self { world, clock }
    }

    async fn with_last_resort() -> Self {
        Self::with(&format!("last_resort_number = \"{LAST_RESORT}\"")).await
    }

    fn break_both(&self) {
        for faults in [
            self.world.outside.dialfire.faults(),
            self.world.outside.zendesk.faults(),
        ] {
            faults.standing_on(Route::method("POST"), Fault::status(503));
        }
    }

    fn repair_both(&self) {
        self.world.outside.dialfire.faults().clear();
        self.world.outside.zendesk.faults().clear();
    }

    fn post(&self, n: usize, path: &str) -> impl Future<Output = Heard> + Send + 'static + use<> {
        let twilio = self.world.outside.twilio.clone();
        let path = path.to_owned();
        async move {
            let fields = twilio.inbound_fields(&sid(n), HOT, CALLED);
            let answer = twilio.post(&path, &fields).await.unwrap();
            assert_eq!(answer.status, 200);
            Heard::read(&answer.body)
        }
    }

    async fn arrive(&self, n: usize) -> Heard {
        self.post(n, "/webhooks/twilio").await
    }

    /// The caller hangs up: the number's own status callback.
    async fn hang_up(&self, n: usize) {
        let twilio = &self.world.outside.twilio;
        let mut fields = twilio.inbound_fields(&sid(n), HOT, CALLED);
        for (name, value) in &mut fields {
            if name == "CallStatus" {
                "completed".clone_into(value);
            }
        }
        let answer = twilio.post("/webhooks/twilio/status", &fields).await;
        assert_eq!(answer.unwrap().status, 200);
    }

    async fn stored(&self, n: usize) -> StoredCall {
        let store = &self.world.running().store;
        store.call(&call_id(n)).await.unwrap().unwrap()
    }

    /// What was told of callers whom nobody takes: opened and resolved.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is about something else"
    )]
    async fn incidents(&self) -> Vec<(Kind, Notification)> {
        let store = &self.world.running().store;
        let records = store.records(0, u32::MAX).await.unwrap();
        let notice = |record: &StoredRecord| match record.event().unwrap() {
            Event::IncidentOpened(notice) | Event::IncidentResolved(notice)
                if matches!(
                    notice.kind,
                    IncidentKind::AllDialersDown | IncidentKind::CallersWaiting
                ) =>
            {
                Some((record.kind, *notice))
            }
            _ => None,
        };
        records.iter().filter_map(notice).collect()
    }

    /// The same, once there are so many: they are written down beside the calls that opened and resolved them.
    async fn incidents_when(&self, n: usize) -> Vec<(Kind, Notification)> {
        let recorded = timeout(Duration::from_mins(3), async {
            let mut commits = self.world.running().store.watch_commits();
            loop {
                let incidents = self.incidents().await;
                if incidents.len() >= n {
                    return incidents;
                }
                commits.recv().await.ok();
            }
        });
        recorded.await.unwrap()
    }
}

/// Callers who do as they are told, in phone time.
struct Callers<'a> {
    scene: &'a Scene,
    now_ms: u64,
    due: BinaryHeap<Reverse<(u64, usize, String)>>,
    /// Who has hung up.
    gone: BTreeSet<usize>,
    /// Who was held at least once.
    held: BTreeSet<usize>,
    /// Who got a line, in order, and when.
    served: Vec<(usize, u64)>,
}

impl<'a> Callers<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self {
            scene,
            now_ms: 0,
            due: BinaryHeap::new(),
            gone: BTreeSet::new(),
            held: BTreeSet::new(),
            served: Vec::new(),
        }
    }

    fn will_arrive(&mut self, n: usize, at_ms: u64) {
        let path = "/webhooks/twilio".to_owned();
        self.due.push(Reverse((at_ms, n, path)));
    }

    /// Plays all that happens before `end_ms`.
    async fn play_until(&mut self, end_ms: u64) {
        while let Some(Reverse((at_ms, ..))) = self.due.peek().cloned() {
            if at_ms >= end_ms {
                break;
            }
            self.pass_time(at_ms);
            for (n, heard) in self.post_all_due_at(at_ms).await {
                match &heard {
                    Heard::Held {
                        spoken,
                        pause_ms,
                        next,
                    } => {
                        self.held.insert(n);
                        let back_ms = at_ms + pause_ms + if *spoken { SPEECH_MS } else { 0 };
                        self.due.push(Reverse((back_ms, n, next.clone())));
                    }
                    Heard::Line(_) | Heard::Goodbye(_) => {
                        assert!(heard.is_a_dialer(), "caller {n} at {at_ms} ms: {heard:?}");
                        self.served.push((n, at_ms));
                    }
                }
            }
        }
        self.pass_time(end_ms);
    }

    /// Webhooks of one moment come at once.
    async fn post_all_due_at(&mut self, at_ms: u64) -> BTreeMap<usize, Heard> {
        let mut posts = JoinSet::new();
        while self
            .due
            .peek()
            .is_some_and(|Reverse((at, ..))| *at == at_ms)
        {
            let Some(Reverse((_, n, path))) = self.due.pop() else {
                break;
            };
            if !self.gone.contains(&n) {
                let post = self.scene.post(n, &path);
                posts.spawn(async move { (n, post.await) });
            }
        }
        posts.join_all().await.into_iter().collect()
    }

    fn pass_time(&mut self, to_ms: u64) {
        let passed = Duration::from_millis(to_ms.saturating_sub(self.now_ms));
        self.scene.clock.advance(passed);
        self.now_ms = self.now_ms.max(to_ms);
    }

    fn order(&self) -> Vec<usize> {
        self.served.iter().map(|(n, _)| *n).collect()
    }
}

#[tokio::test]
async fn both_dialers_down_for_a_minute_under_20_calls_a_second() {
    const DOWN_MS: u64 = 60_000;
    const N_CALLERS: usize = 1_400;
    /// Those who arrive while the dialers are down.
    const N_WAITING: usize = 1_200;
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    let mut callers = Callers::new(&scene);
    for n in 0..N_CALLERS {
        callers.will_arrive(n, u64::try_from(n).unwrap() * 50);
    }
    callers.play_until(DOWN_MS).await;
    assert_eq!(callers.served, []);
    assert_eq!(callers.held.len(), N_WAITING, "everybody is held");
    let requests_while_down = scene.world.asked_dialfire() + scene.world.asked_zendesk();
    assert!(
        requests_while_down < 40,
        "{requests_while_down} for 1,200 callers"
    );
    // Every twentieth has lost patience.
    let gone = (0..N_WAITING).step_by(20);
    for n in gone.clone() {
        scene.hang_up(n).await;
        callers.gone.insert(n);
    }

    scene.repair_both();
    callers.play_until(DOWN_MS + 45_000).await;
    let mut expected: BTreeSet<usize> = (0..N_CALLERS).collect();
    expected.retain(|n| !callers.gone.contains(n));
    let order = callers.order();
    let served: BTreeSet<usize> = order.iter().copied().collect();
    assert_eq!(order.len(), served.len(), "nobody is served twice");
    assert_eq!(served, expected, "all who stayed are served");
    assert_on_the_ramp(&callers);

    let incidents = scene.incidents_when(2).await;
    let [
        (Kind::IncidentOpened, opened),
        (Kind::IncidentResolved, resolved),
    ] = &incidents[..]
    else {
        panic!("{incidents:?}");
    };
    assert_eq!(opened.cause, "dialfire and zendesk answer HTTP 503");
    assert_eq!(resolved.lasted_ms, Some(callers.served[0].1));
    let calls = resolved.calls;
    assert!((1_200..1_400).contains(&calls), "{calls} calls affected");
}

/// Whose turn it was, was always at the front of the line: while the ramp rises, nobody goes before more callers than it admits so far.
fn assert_on_the_ramp(callers: &Callers<'_>) {
    let mut left: BTreeSet<usize> = callers.order().into_iter().collect();
    let first_ms = callers.served.first().map_or(0, |(_, at_ms)| *at_ms);
    for (place, (n, at_ms)) in callers.served.iter().enumerate() {
        let second = (at_ms - first_ms) / 1_000;
        if second >= 9 {
            break;
        }
        // The trial, then each dialer from one on.
        let admitted = 1 + 2 * ((2 << second) - 1);
        assert!(place < admitted, "more than {admitted} by second {second}");
        let overtaken = left.range(..n).count();
        assert!(
            overtaken < admitted,
            "caller {n} went before {overtaken} others in second {second}"
        );
        left.remove(n);
    }
}

#[tokio::test]
async fn a_few_callers_are_served_one_after_another_in_order_of_arrival() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    let mut callers = Callers::new(&scene);
    // They arrive in this order, and come back in any.
    for (n, at_ms) in [(3, 0), (0, 4_900), (4, 5_000), (1, 9_300), (2, 13_500)] {
        callers.will_arrive(n, at_ms);
    }
    callers.play_until(40_000).await;
    scene.repair_both();
    callers.play_until(70_000).await;
    assert_eq!(callers.order(), [3, 0, 4, 1, 2], "{:?}", callers.served);
}

#[tokio::test]
async fn the_first_caller_whom_nobody_takes_opens_an_incident_and_the_first_taken_resolves_it() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    let incidents = scene.incidents_when(1).await;
    assert!(
        matches!(&incidents[..], [(Kind::IncidentOpened, opened)] if opened.dialers.len() == 2),
        "{incidents:?}"
    );
    assert!(matches!(scene.arrive(1).await, Heard::Held { .. }));
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(20));
    assert!(
        scene
            .post(0, "/webhooks/twilio/hold?n=1")
            .await
            .is_a_dialer()
    );
    let incidents = scene.incidents_when(2).await;
    let [_, (kind, resolved)] = &incidents[..] else {
        panic!("{incidents:?}");
    };
    assert_eq!(*kind, Kind::IncidentResolved);
    assert_eq!((resolved.lasted_ms, resolved.calls), (Some(20_000), 2));
}

#[tokio::test]
async fn a_call_that_arrives_does_not_pass_those_who_wait() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    let mut callers = Callers::new(&scene);
    for n in 0..4 {
        callers.will_arrive(n, u64::try_from(n).unwrap() * 10);
    }
    callers.play_until(30_000).await;
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(16));
    // The circuits have waited; the first who comes is not the first in line.
    let heard = scene.arrive(9).await;
    assert!(
        matches!(heard, Heard::Held { spoken: true, .. }),
        "{heard:?}"
    );
    let store = &scene.world.running().store;
    let records = store.records_of_call(&call_id(9)).await.unwrap();
    let decided: serde_json::Value = serde_json::from_str(&records[0].detail).unwrap();
    let skipped = decided["decision"]["skipped"].clone();
    assert_eq!(skipped[0]["reason"], "callers_first", "{skipped}");
    callers.play_until(60_000).await;
    assert_eq!(callers.order().len(), 4);
    assert!(
        scene
            .post(9, "/webhooks/twilio/hold?n=1")
            .await
            .is_a_dialer()
    );
    assert_eq!(
        scene.incidents_when(2).await.len(),
        2,
        "nothing new is wrong"
    );
}

#[tokio::test]
async fn calls_that_arrive_use_up_the_ramp_of_a_dialer_that_has_just_recovered() {
    let scene = Scene::with_last_resort().await;
    let running = scene.world.running();
    let dialers = ["dialfire", "zendesk"].map(DialerId::new);
    for dialer in &dialers {
        running.fleet.drain(
            dialer,
            &switchboard::audit::Drained::new("ops", scene.clock.now()),
        );
    }
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    for dialer in &dialers {
        running.fleet.resume(dialer, "ops");
    }
    // From here on they recover: one caller in the first second, three by the second one.
    running.incidents().look_around(scene.clock.instant());
    scene.clock.advance(Duration::from_secs(1));
    // One of the three is for the caller who waits.
    assert!(scene.arrive(1).await.is_a_dialer());
    assert!(scene.arrive(2).await.is_a_dialer());
    let heard = scene.arrive(3).await;
    assert!(matches!(heard, Heard::Held { .. }), "{heard:?}");
    assert!(
        scene
            .post(0, "/webhooks/twilio/hold?n=1")
            .await
            .is_a_dialer()
    );
}

#[tokio::test]
async fn a_caller_on_hold_gets_the_line_of_a_dialer_that_refuses_only_this_call() {
    for fault in [Fault::status(422), Fault::too_many_requests(Some(60))] {
        let scene = Scene::with_last_resort().await;
        scene.break_both();
        assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
        let dialfire = &scene.world.outside.dialfire;
        dialfire.faults().clear();
        dialfire.faults().standing_on(Route::method("POST"), fault);
        scene.clock.advance(Duration::from_secs(20));
        let heard = scene.post(0, "/webhooks/twilio/hold?n=1").await;
        assert_eq!(heard, Heard::Line(DIALFIRE_LINE.to_owned()));
        let store = &scene.world.running().store;
        let records = store.records_of_call(&call_id(0)).await.unwrap();
        let said = &records.last().unwrap().detail;
        assert!(said.contains(r#""certainty":"unannounced""#), "{said}");
    }
}

#[tokio::test]
async fn a_held_caller_who_hangs_up_has_abandoned_and_leaves_the_line() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    for n in 0..2 {
        assert!(matches!(scene.arrive(n).await, Heard::Held { .. }));
    }
    assert_eq!(scene.stored(0).await.status, Status::Held);
    scene.hang_up(0).await;
    let stored = scene.stored(0).await;
    assert_eq!(stored.disposition, Some(Disposition::Abandoned));
    assert!(stored.held);
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(20));
    let heard = scene.post(1, "/webhooks/twilio/hold?n=1").await;
    assert!(heard.is_a_dialer(), "nobody is before caller 1: {heard:?}");
}

#[tokio::test]
async fn the_message_is_spoken_at_once_and_about_every_30_seconds() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    let mut heard = scene.arrive(0).await;
    let mut spoken = Vec::new();
    for round in 1..=14 {
        let Heard::Held {
            spoken: is_spoken,
            pause_ms,
            next,
        } = heard
        else {
            panic!("round {round}: {heard:?}");
        };
        assert_eq!(pause_ms, 5_000, "round {round}");
        if is_spoken {
            spoken.push(round);
        }
        scene.clock.advance(Duration::from_secs(5));
        heard = scene.post(0, &next).await;
    }
    assert_eq!(spoken, [1, 7, 13]);
}

#[tokio::test]
async fn after_the_longest_hold_comes_the_last_resort_or_else_goodbye() {
    let last_resort = format!("last_resort_number = \"{LAST_RESORT}\"\n");
    let cases = [
        (
            last_resort.as_str(),
            Heard::Line(LAST_RESORT.to_owned()),
            None,
        ),
        (
            "goodbye_message = \"Please call again.\"\n",
            Heard::Goodbye("Please call again.".to_owned()),
            Some(Disposition::Goodbye),
        ),
    ];
    for (routing, expected, disposition) in cases {
        let scene = Scene::with(&format!("{routing}max_hold = \"30s\"")).await;
        scene.break_both();
        assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
        scene.clock.advance(Duration::from_millis(29_999));
        let heard = scene.post(0, "/webhooks/twilio/hold?n=1").await;
        assert!(matches!(heard, Heard::Held { .. }), "{heard:?}");
        scene.clock.advance(Duration::from_millis(1));
        let heard = scene.post(0, "/webhooks/twilio/hold?n=2").await;
        assert_eq!(heard, expected);
        let stored = scene.stored(0).await;
        assert_eq!(stored.disposition, disposition);
        assert_eq!(stored.reason.as_str(), "all_dialers_refused");
    }
}

#[tokio::test]
async fn a_restart_while_callers_are_held_loses_neither_their_order_nor_the_incident() {
    let mut scene = Scene::with_last_resort().await;
    scene.break_both();
    for n in 0..3 {
        assert!(matches!(scene.arrive(n).await, Heard::Held { .. }));
        scene.clock.advance(Duration::from_secs(1));
    }
    scene.world.stop().await;
    scene.world.start().await;
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(20));

    let second = scene.post(1, "/webhooks/twilio/hold?n=1").await;
    assert!(
        matches!(
            second,
            Heard::Held {
                pause_ms: 1_000,
                ..
            }
        ),
        "{second:?}"
    );
    assert!(
        scene
            .post(0, "/webhooks/twilio/hold?n=1")
            .await
            .is_a_dialer()
    );
    scene.clock.advance(Duration::from_secs(1));
    assert!(
        scene
            .post(1, "/webhooks/twilio/hold?n=2")
            .await
            .is_a_dialer()
    );
    assert!(
        scene
            .post(2, "/webhooks/twilio/hold?n=1")
            .await
            .is_a_dialer()
    );
    let incidents = scene.incidents_when(2).await;
    let [(_, opened), (Kind::IncidentResolved, resolved)] = &incidents[..] else {
        panic!("{incidents:?}");
    };
    assert_eq!((resolved.lasted_ms, resolved.calls), (Some(23_000), 3));
    assert_eq!(opened.incident, resolved.incident);
}

#[tokio::test]
async fn a_probe_resolves_the_incident_when_nobody_waits_any_more() {
    let settings = Settings {
        dialers: "probe_every = \"1s\"".to_owned(),
        machine_is_faster: 1,
        ..Settings::default()
    };
    let scene = Scene {
        world: World::with(settings).await,
        clock: Clock::system(),
    };
    for faults in [
        scene.world.outside.dialfire.faults(),
        scene.world.outside.zendesk.faults(),
    ] {
        faults.standing(Fault::status(503));
    }
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    scene.incidents_when(1).await;
    scene.hang_up(0).await;
    scene.repair_both();
    let incidents = scene.incidents_when(2).await;
    let (kind, resolved) = incidents[1].clone();
    assert_eq!((kind, resolved.calls), (Kind::IncidentResolved, 1));
}

/// Both dialers refuse, and the caller is held for the first time; the wall clock is set by so much before each question. Gives what the
/// caller hears 10, 14 and 16 s after the arrival.
async fn heard_while_the_clock_is_set(step: SignedDuration, restarts: bool) -> [Heard; 3] {
    let mut scene = Scene::with(&format!(
        "last_resort_number = \"{LAST_RESORT}\"\nmax_hold = \"15s\""
    ))
    .await;
    scene.break_both();
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    let mut heard = Vec::new();
    for (round, passes) in [(1, 10), (2, 4), (3, 2)] {
        scene.clock.advance(Duration::from_secs(passes));
        if restarts {
            scene.world.stop().await;
        }
        scene.clock.set(scene.clock.now() + step);
        if restarts {
            scene.world.start().await;
        }
        let path = format!("/webhooks/twilio/hold?n={round}");
        heard.push(scene.post(0, &path).await);
    }
    heard.try_into().unwrap()
}

#[tokio::test]
async fn a_clock_that_is_set_neither_ends_nor_prolongs_a_wait_also_across_a_restart() {
    for restarts in [false, true] {
        for hours in [-1, 1] {
            let step = SignedDuration::from_hours(hours);
            let heard = Box::pin(heard_while_the_clock_is_set(step, restarts));
            let [first, second, third] = heard.await;
            let what = format!("{hours} h, restarts: {restarts}");
            assert!(matches!(first, Heard::Held { .. }), "{what}: {first:?}");
            assert!(matches!(second, Heard::Held { .. }), "{what}: {second:?}");
            assert_eq!(third, Heard::Line(LAST_RESORT.to_owned()), "{what}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_put_later_callers_first() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    for n in 0..4 {
        assert!(matches!(scene.arrive(n).await, Heard::Held { .. }));
    }
    scene.clock.advance(Duration::from_secs(5));
    scene
        .clock
        .set(scene.clock.now() - SignedDuration::from_hours(1));
    assert!(matches!(scene.arrive(4).await, Heard::Held { .. }));
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(16));
    let later = scene.post(4, "/webhooks/twilio/hold?n=1").await;
    assert!(matches!(later, Heard::Held { .. }), "{later:?}");
    let first = scene.post(0, "/webhooks/twilio/hold?n=1").await;
    assert!(first.is_a_dialer(), "{first:?}");
}

#[tokio::test]
async fn a_question_of_another_round_changes_nothing() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    scene.repair_both();
    let asked = scene.world.asked_dialfire() + scene.world.asked_zendesk();
    for round in [0, 2, 7] {
        let twilio = &scene.world.outside.twilio;
        let fields = twilio.inbound_fields(&sid(0), HOT, CALLED);
        let path = format!("/webhooks/twilio/hold?n={round}");
        let answer = twilio.post(&path, &fields).await.unwrap();
        assert!(answer.body.ends_with("<Response/>"), "{}", answer.body);
    }
    let stored = scene.stored(0).await;
    assert_eq!(stored.state.waiting().map(|(_, round)| round), Some(1));
    let now_asked = scene.world.asked_dialfire() + scene.world.asked_zendesk();
    assert_eq!(now_asked, asked, "nobody is asked");
}

#[tokio::test]
async fn a_held_caller_whose_last_question_says_that_they_are_gone_has_abandoned() {
    let scene = Scene::with_last_resort().await;
    scene.break_both();
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    let twilio = &scene.world.outside.twilio;
    let mut fields = twilio.inbound_fields(&sid(0), HOT, CALLED);
    for (name, value) in &mut fields {
        if name == "CallStatus" {
            "completed".clone_into(value);
        }
    }
    let asked = scene.world.asked_dialfire();
    let path = "/webhooks/twilio/hold?n=1";
    let answer = twilio.post(path, &fields).await.unwrap();
    assert!(answer.body.ends_with("<Response/>"), "{}", answer.body);
    let stored = scene.stored(0).await;
    assert_eq!(stored.disposition, Some(Disposition::Abandoned));
    assert_eq!(scene.world.asked_dialfire(), asked, "nobody is asked");
}

#[tokio::test]
async fn a_held_call_that_another_dialer_takes_goes_on_by_the_plan_of_that_moment() {
    let scene = Scene::with_last_resort().await;
    let fleet = scene.world.running().fleet.clone();
    let now = scene.clock.now();
    let zendesk = DialerId::new("zendesk");
    fleet
        .drain(&zendesk, &switchboard::audit::Drained::new("ops", now))
        .unwrap();
    scene.break_both();
    // The plan of the arrival is Dialfire alone, which refuses.
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    fleet.resume(&zendesk, "ops").unwrap();
    let dialfire = DialerId::new("dialfire");
    fleet
        .drain(&dialfire, &switchboard::audit::Drained::new("ops", now))
        .unwrap();
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(20));
    let heard = scene.post(0, "/webhooks/twilio/hold?n=1").await;
    assert_eq!(heard, Heard::Line(ZENDESK_LINE.to_owned()));
    assert!(!scene.stored(0).await.failed_over, "the first of its plan");

    // Busy: the line is rung once more, as for every dialer of a plan.
    let twilio = &scene.world.outside.twilio;
    let mut fields = twilio.inbound_fields(&sid(0), HOT, CALLED);
    fields.push(("DialCallStatus".to_owned(), "busy".to_owned()));
    for (step, line) in [(1, ZENDESK_LINE), (2, LAST_RESORT)] {
        let path = format!("/webhooks/twilio/dial?step={step}&dialer=zendesk");
        let answer = twilio.post(&path, &fields).await.unwrap();
        assert_eq!(Heard::read(&answer.body), Heard::Line(line.to_owned()));
    }
}

#[tokio::test]
async fn callers_of_a_rule_whose_dialers_are_down_wait_while_everybody_else_is_connected() {
    let scene = Scene::with_another_dialer().await;
    scene.break_both();
    for n in 0..2 {
        assert!(matches!(scene.arrive(n).await, Heard::Held { .. }));
    }
    // The others' plan ends with the dialer that works.
    let others = scene
        .world
        .outside
        .twilio
        .inbound_fields(&sid(9), COLD, CALLED);
    let answer = scene
        .world
        .outside
        .twilio
        .post("/webhooks/twilio", &others)
        .await;
    assert_eq!(
        Heard::read(&answer.unwrap().body),
        Heard::Line(OTHER_LINE.to_owned())
    );
    assert!(!scene.world.running().incidents().is_routing_paused());
    let incidents = scene.incidents_when(1).await;
    let [(Kind::IncidentOpened, opened)] = &incidents[..] else {
        panic!("{incidents:?}");
    };
    assert_eq!(opened.kind, IncidentKind::CallersWaiting);
    assert_eq!(opened.title(), "callers of \"sales floor\" wait");
    assert_eq!(
        opened.cause,
        "dialfire and zendesk answer HTTP 503. Everybody else is connected"
    );
    assert_eq!((opened.since, opened.calls), (Some(scene.clock.now()), 1));

    scene.repair_both();
    scene.clock.advance(Duration::from_secs(20));
    assert!(
        scene
            .post(0, "/webhooks/twilio/hold?n=1")
            .await
            .is_a_dialer()
    );
    let incidents = scene.incidents_when(2).await;
    let (kind, resolved) = &incidents[1];
    assert_eq!((*kind, resolved.calls), (Kind::IncidentResolved, 2));
    assert_eq!(resolved.lasted_ms, Some(20_000));
}

#[tokio::test]
async fn dialers_that_were_taken_out_by_hand_are_told_as_such_and_are_not_down() {
    let scene = Scene::with_last_resort().await;
    let fleet = scene.world.running().fleet.clone();
    let dialers = ["dialfire", "zendesk"].map(DialerId::new);
    for dialer in &dialers {
        fleet
            .drain(
                dialer,
                &switchboard::audit::Drained::new("ops", scene.clock.now()),
            )
            .unwrap();
    }
    let incidents = scene.world.running().incidents();
    for _ in 0..5 {
        scene.clock.advance(Duration::from_secs(2));
        incidents.look_around(scene.clock.instant());
    }
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    assert!(!incidents.is_routing_paused());
    let told = scene.incidents_when(1).await;
    let [(Kind::IncidentOpened, opened)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(opened.kind, IncidentKind::CallersWaiting);
    assert_eq!(
        opened.cause,
        "dialfire and zendesk were taken out by hand (ops)"
    );

    // One is put back, and is down: now all that are in service are.
    fleet.resume(&dialers[0], "ops").unwrap();
    scene.break_both();
    let heard = scene.post(0, "/webhooks/twilio/hold?n=1").await;
    assert!(matches!(heard, Heard::Held { .. }), "{heard:?}");
    let told = scene.incidents_when(2).await;
    assert_eq!(told[1].1.kind, IncidentKind::AllDialersDown);
    assert_eq!(
        told[1].1.cause,
        "dialfire answers HTTP 503; zendesk was taken out by hand (ops)"
    );
    scene.repair_both();
    scene.clock.advance(Duration::from_secs(5));
    assert!(
        scene
            .post(0, "/webhooks/twilio/hold?n=2")
            .await
            .is_a_dialer()
    );
    let told = scene.incidents_when(4).await;
    assert!(
        told[2..]
            .iter()
            .all(|(kind, _)| *kind == Kind::IncidentResolved)
    );
}

#[tokio::test]
async fn callers_who_have_gone_are_no_incident_for_longer_than_a_minute() {
    let scene = Scene::with_another_dialer().await;
    scene.break_both();
    assert!(matches!(scene.arrive(0).await, Heard::Held { .. }));
    scene.incidents_when(1).await;
    scene.hang_up(0).await;
    let incidents = scene.world.running().incidents();
    incidents.look_around(scene.clock.instant());
    scene.clock.advance(Duration::from_secs(59));
    incidents.look_around(scene.clock.instant());
    scene.clock.advance(Duration::from_secs(1));
    incidents.look_around(scene.clock.instant());
    let told = scene.incidents_when(2).await;
    assert_eq!(
        (told[1].0, told[1].1.lasted_ms),
        (Kind::IncidentResolved, Some(60_000))
    );
}
