//! Every way in which a dialer's API fails, against every way in which a line ends, at either place of the plan.
//!
//! The tables are the specification. A row makes one call in a world of its own, over real sockets; what differs is told by row.
#![expect(clippy::indexing_slicing, reason = "helpers of tests")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::call::{Disposition, Status};
use switchboard::routing::Reason;
use switchboard_simulator::faults::{Fault, Faults, Route};
use switchboard_simulator::twilio::{Call, LineBehaviour};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::world::{
    CALLED, DIALFIRE_LINE, HOT, LAST_RESORT, Settings, World, ZENDESK_LINE, dialled,
};

/// Rows at work at the same time.
const AT_ONCE: usize = 6;
/// What hangs is given up after so many times as long as in life, and what is well has as many times as long to answer.
const SLOWED: u32 = 5;
/// The same where nothing hangs, so that the budget never ends.
const SLOWED_WITHOUT_WAIT: u32 = 60;
/// A caller on hold gives up after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the handoff requests of a dialer meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Well,
    Fails500,
    Refuses401,
    Hangs,
    Resets,
    Garbage,
    SlowDrip,
}

/// What a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Answers,
    Busy,
    NoAnswer,
    Unreachable,
    CallerLeavesRinging,
    CallerLeavesTalking,
}

/// One call: Dialfire is asked first, then Zendesk Talk.
#[derive(Clone, Copy, Debug)]
struct Setting {
    dialfire: Api,
    zendesk: Api,
    dialfire_line: Line,
    zendesk_line: Line,
    last_resort: Line,
}

const WELL: Setting = Setting {
    dialfire: Api::Well,
    zendesk: Api::Well,
    dialfire_line: Line::Answers,
    zendesk_line: Line::Answers,
    last_resort: Line::Answers,
};

/// What has to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    /// Handoff requests that Dialfire and Zendesk Talk get.
    requests: [usize; 2],
    /// The lines that ring: `D`ialfire, `Z`endesk Talk, the `L`ast resort.
    rung: String,
    /// Whether each answer that follows on a handoff had the dialer's word for it.
    confirmed: bool,
    disposition: Disposition,
    reason: Reason,
    failed_over: bool,
    held: bool,
}

struct Row {
    setting: Setting,
    expected: Expected,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.setting)
    }
}

/// `requests`, the lines that ring, how it ends; `?` behind the lines: a dialer was connected without its word.
fn row(setting: Setting, requests: [usize; 2], rung: &str, end: (Disposition, Reason)) -> Row {
    Row {
        setting,
        expected: Expected {
            requests,
            rung: rung.trim_end_matches('?').to_owned(),
            confirmed: !rung.ends_with('?'),
            disposition: end.0,
            reason: end.1,
            failed_over: rung.contains('Z'),
            held: rung.is_empty(),
        },
    }
}

const TALKED: (Disposition, Reason) = (Disposition::Answered, Reason::RuleMatched);
const LEFT: (Disposition, Reason) = (Disposition::Abandoned, Reason::RuleMatched);
const RESCUED: (Disposition, Reason) = (Disposition::LastResort, Reason::AllLegsFailed);
const LOST: (Disposition, Reason) = (Disposition::Failed, Reason::AllLegsFailed);

const FAILING_LINES: [Line; 3] = [Line::Busy, Line::NoAnswer, Line::Unreachable];

/// How often a dialer is asked whose API does this, where there is time for all of it.
const COSTS: [(Api, usize); 6] = [
    (Api::Fails500, 2),
    (Api::Refuses401, 1),
    (Api::Hangs, 2),
    (Api::Resets, 2),
    (Api::Garbage, 1),
    (Api::SlowDrip, 2),
];

fn primary_well() -> Vec<Row> {
    let line = |dialfire_line| Setting {
        dialfire_line,
        ..WELL
    };
    let mut rows = vec![
        row(line(Line::Answers), [1, 0], "D", TALKED),
        row(line(Line::CallerLeavesTalking), [1, 0], "D", TALKED),
        row(line(Line::CallerLeavesRinging), [1, 0], "D", LEFT),
    ];
    // Where it has rung out, a second ring would take the time of the next dialer or of the last resort.
    rows.extend(FAILING_LINES.map(|failing| {
        let rung = if failing == Line::NoAnswer {
            "DZ"
        } else {
            "DDZ"
        };
        row(line(failing), [1, 1], rung, TALKED)
    }));
    rows
}

/// The first dialer does not take the call; the line of the second one rings.
fn primary_broken() -> Vec<Row> {
    let mut rows = Vec::new();
    for (dialfire, asked) in COSTS {
        let line = |zendesk_line| Setting {
            dialfire,
            zendesk_line,
            ..WELL
        };
        rows.push(row(line(Line::Answers), [asked, 1], "Z", TALKED));
        rows.push(row(line(Line::CallerLeavesRinging), [asked, 1], "Z", LEFT));
        for failing in FAILING_LINES {
            rows.push(row(line(failing), [asked, 1], "ZZL", RESCUED));
        }
    }
    rows
}

/// The first dialer takes the call and its line fails twice, so that the second one is asked when the dial has ended.
fn fallback_well() -> Vec<Row> {
    let line = |zendesk_line| Setting {
        dialfire_line: Line::Busy,
        zendesk_line,
        ..WELL
    };
    let mut rows = vec![
        row(line(Line::Answers), [1, 1], "DDZ", TALKED),
        row(line(Line::CallerLeavesTalking), [1, 1], "DDZ", TALKED),
        row(line(Line::CallerLeavesRinging), [1, 1], "DDZ", LEFT),
    ];
    rows.extend(FAILING_LINES.map(|failing| row(line(failing), [1, 1], "DDZZL", RESCUED)));
    rows
}

/// As above, but the second dialer does not take the call. Where it may have taken it all the same its line rings; where it has
/// refused, the last resort does, so that its line is the one that varies.
fn fallback_broken() -> Vec<Row> {
    let mut rows = Vec::new();
    for (zendesk, asked) in COSTS {
        let broken = Setting {
            zendesk,
            dialfire_line: Line::Busy,
            ..WELL
        };
        let requests = [1, asked];
        if matches!(zendesk, Api::Hangs | Api::Resets | Api::SlowDrip) {
            let line = |zendesk_line| Setting {
                zendesk_line,
                ..broken
            };
            rows.push(row(line(Line::Answers), requests, "DDZ?", TALKED));
            rows.push(row(line(Line::CallerLeavesRinging), requests, "DDZ?", LEFT));
            for failing in FAILING_LINES {
                rows.push(row(line(failing), requests, "DDZZL?", RESCUED));
            }
        } else {
            let line = |last_resort| Setting {
                last_resort,
                ..broken
            };
            rows.push(row(line(Line::Answers), requests, "DDL", RESCUED));
            for failing in FAILING_LINES {
                rows.push(row(line(failing), requests, "DDL", LOST));
            }
        }
    }
    rows
}

/// Neither dialer takes the call.
fn both_broken() -> Vec<Row> {
    let both = |dialfire, zendesk| Setting {
        dialfire,
        zendesk,
        ..WELL
    };
    let refused = (Disposition::Abandoned, Reason::AllDialersRefused);
    vec![
        row(both(Api::Refuses401, Api::Refuses401), [1, 1], "", refused),
        row(both(Api::Fails500, Api::Resets), [2, 2], "Z?", TALKED),
        row(both(Api::Garbage, Api::Hangs), [1, 2], "Z?", TALKED),
        // The first has used up what a second attempt at the second would need.
        row(both(Api::Hangs, Api::Hangs), [2, 1], "Z?", TALKED),
        row(both(Api::SlowDrip, Api::SlowDrip), [2, 1], "Z?", TALKED),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_dialer_fails_in_every_way() {
    let mut rows = primary_well();
    rows.extend(primary_broken());
    check_all(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_dialer_fails_in_every_way() {
    let mut rows = fallback_well();
    rows.extend(fallback_broken());
    check_all(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_dialers_fail_at_once() {
    check_all(both_broken()).await;
}

/// Checks rows beside each other, and names every one that fails.
async fn check_all(rows: Vec<Row>) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut checks = JoinSet::new();
    for row in rows {
        let at_once = Arc::clone(&at_once);
        checks.spawn(async move {
            let _permit = at_once.acquire_owned().await.unwrap();
            play(&row)
                .await
                .map_err(|what| format!("{row}\n    {what}"))
        });
    }
    let failures: Vec<String> = checks
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Makes the call of a row and compares what became of it.
async fn play(row: &Row) -> Result<(), String> {
    let waits = [row.setting.dialfire, row.setting.zendesk]
        .iter()
        .any(|api| matches!(api, Api::Hangs | Api::SlowDrip));
    let world = World::with(Settings {
        machine_is_faster: if waits { SLOWED } else { SLOWED_WITHOUT_WAIT },
        ..Settings::default()
    })
    .await;
    let Setting {
        dialfire,
        zendesk,
        dialfire_line,
        zendesk_line,
        last_resort,
    } = row.setting;
    break_handoffs(world.outside.dialfire.faults(), dialfire);
    break_handoffs(world.outside.zendesk.faults(), zendesk);
    for (address, line) in [
        (DIALFIRE_LINE, dialfire_line),
        (ZENDESK_LINE, zendesk_line),
        (LAST_RESORT, last_resort),
    ] {
        world.outside.twilio.set_line(address, behaviour(line));
    }
    let call = Call::new(HOT, CALLED).patience(Duration::from_mins(10));
    let call = if row.expected.held {
        call.patience(PATIENCE)
    } else {
        call
    };
    let result = world.outside.twilio.call(call).await;
    let answers = world.details(&result, Kind::CallAnswered).await;
    if let Some(answer) = answers.iter().find(|a| a["within_budget"] == false) {
        return Err(format!("late: {answer}"));
    }
    if !result.violations.is_empty() {
        return Err(format!("{:?}", result.violations));
    }
    let stored = world.stored(&result).await;
    let Some(disposition) = stored
        .disposition
        .filter(|_| stored.status == Status::Ended)
    else {
        return Err(format!("{:?}", stored.status));
    };
    let unconfirmed = |answer: &serde_json::Value| answer["answer"]["certainty"] == "unconfirmed";
    let found = Expected {
        requests: [
            asked(dialfire, world.asked_dialfire()),
            asked(zendesk, world.asked_zendesk()),
        ],
        rung: dialled(&result).into_iter().map(letter).collect(),
        confirmed: !answers.iter().any(unconfirmed),
        disposition,
        reason: stored.reason,
        failed_over: stored.failed_over,
        held: stored.held,
    };
    if found == row.expected {
        Ok(())
    } else {
        let expected = &row.expected;
        Err(format!("{found:?}, not {expected:?}"))
    }
}

/// A reset may have met a connection that a probe has left: the request is sent again over a new one, which is no retry.
fn asked(api: Api, n_requests: usize) -> usize {
    if api == Api::Resets {
        n_requests.min(2)
    } else {
        n_requests
    }
}

fn break_handoffs(faults: &Faults, api: Api) {
    let fault = match api {
        Api::Well => return,
        Api::Fails500 => Fault::status(500),
        Api::Refuses401 => Fault::status(401),
        Api::Hangs => Fault::Hang,
        Api::Resets => Fault::Reset,
        // What none of them takes for a success.
        Api::Garbage => Fault::Status {
            status: 200,
            body: r#"{"error":"try elsewhere"}"#.to_owned(),
            retry_after: None,
        },
        // The status line arrives within the timeout, the answer never does.
        Api::SlowDrip => Fault::SlowDrip(Duration::from_millis(150)),
    };
    faults.standing_on(Route::method("POST"), fault);
}

fn behaviour(line: Line) -> LineBehaviour {
    let (after, talk) = (Duration::from_secs(4), Duration::from_secs(30));
    match line {
        Line::Answers => LineBehaviour::Answer { after, talk },
        Line::Busy => LineBehaviour::Busy,
        Line::NoAnswer => LineBehaviour::NoAnswer,
        Line::Unreachable => LineBehaviour::Failed,
        Line::CallerLeavesRinging => LineBehaviour::CallerHangsUpRinging { after },
        Line::CallerLeavesTalking => LineBehaviour::AnswerThenCallerHangsUp { after, talk },
    }
}

fn letter(address: &str) -> char {
    match address {
        DIALFIRE_LINE => 'D',
        ZENDESK_LINE => 'Z',
        LAST_RESORT => 'L',
        _ => '!',
    }
}
