//! Real files, real `SQLite`.

mod callers;
mod calls;
mod chain;
mod dialer_states;
mod disk;
mod lists;
mod opening;
mod planted;
mod prune;
mod quality;
mod rollups;
mod rotation;
mod schema;
mod signer;
mod speed;
mod spool;
mod tamper;

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tempfile::TempDir;

use super::{CallsAsked, KeyRing, Options, Part, RawRecord, Store, StoredCall};
use crate::audit::{
    Answer, CallAfter, CallAnswered, CallDecided, ChainLink, Event, HandoffIntended, Ingress,
    Personal, Record, Stages,
};
use crate::call::{CallId, CallState, Disposition, Status};
use crate::clock::Clock;
use crate::handoff::Certainty;
use crate::lead::{LeadScore, TierName, Tiers};
use crate::routing::{
    CallFacts, Course, Decision, DialerId, Lookup, Profile, Reason, RoutePlan, RuleVerdict,
    Ruleset, Source, Step, Trace,
};

const START_MS: i64 = 1_790_000_000_000;

/// A folder with a database, gone at the end of the test.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("switchboard.db")
    }

    fn options(&self) -> Options {
        Options {
            spool_bytes: 1024 * 1024,
            reserve_bytes: 1024 * 1024,
            ..Options::new(self.path(), Clock::manual(at(0)), key_ring()).unhurried()
        }
    }

    fn open(&self) -> Store {
        Store::open(&self.options()).unwrap()
    }

    fn stranger(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// The connection of somebody whom neither triggers nor checks stop, and who leaves no trace in the schema.
    fn intruder(&self) -> Connection {
        intruder(&self.path())
    }

    /// Files whose name has `part` in it.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut found: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().contains(part))
            .collect();
        found.sort();
        found
    }
}

fn intruder(path: &std::path::Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
        .unwrap();
    connection
        .pragma_update(None, "ignore_check_constraints", "ON")
        .unwrap();
    connection
}

fn key_ring() -> KeyRing {
    KeyRing::new(b"a secret of this test")
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + ms).unwrap()
}

fn call_id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

fn dialer(name: &str) -> DialerId {
    DialerId::new(name)
}

fn ruleset() -> Ruleset {
    Ruleset {
        default_dialer: dialer("zendesk"),
        ..Ruleset::of_rules(Tiers::default(), Vec::new(), &["dialfire", "zendesk"])
    }
}

fn decided(call: &CallId, ms: i64) -> Record {
    let plan = RoutePlan {
        dialers: vec![dialer("dialfire"), dialer("zendesk")],
        skipped: Vec::new(),
    };
    let score = LeadScore::new(87.5);
    let lookup = Lookup::Known {
        profile: Profile {
            score,
            ..Profile::default()
        },
        source: Source::Fetched,
        age_ms: 0,
        because: None,
    };
    let tier = Some(TierName::new("hot"));
    let planned = |name, order| Step::Planned {
        dialer: dialer(name),
        order,
        line_only: false,
    };
    let trace = vec![
        Step::Lookup {
            lookup: lookup.clone(),
        },
        Step::Tier {
            tier: tier.clone(),
            score,
            named: None,
        },
        Step::Rule {
            name: "hot leads".into(),
            verdict: RuleVerdict::Matched,
        },
        planned("dialfire", 1),
        planned("zendesk", 2),
    ];
    let event = Event::CallDecided(Box::new(CallDecided {
        request_id: "r1".into(),
        door: Ingress::Twilio,
        caller: "+*********50".into(),
        facts: CallFacts::new(at(ms), lookup, Vec::new()),
        lookup_exchange: None,
        decision: Decision {
            tier,
            score,
            rule: Some("hot leads".into()),
            reason: Reason::RuleMatched,
            course: Course::Dialers,
            plan,
            trace: Trace(trace),
            ruleset: ruleset().version(),
        },
        intended: None,
    }));
    Record {
        personal: Some(Personal {
            caller: Some("+4915112345650".into()),
            called: Some("+4930123456".into()),
            ..Personal::default()
        }),
        ..Record::of_call(at(ms), call, event)
    }
}

fn intended(call: &CallId, ms: i64) -> Record {
    let event = Event::HandoffIntended(HandoffIntended {
        dialer: dialer("dialfire"),
        attempt: 1,
        timeout_ms: 700,
    });
    Record::of_call(at(ms), call, event)
}

fn routed() -> CallState {
    CallState::routing(vec![dialer("dialfire"), dialer("zendesk")])
}

fn after(state: CallState) -> CallAfter {
    let status = state.status();
    CallAfter {
        status,
        disposition: state.disposition(),
        reason: Reason::RuleMatched,
        dialer: Some(dialer("dialfire")),
        failed_over: false,
        held: false,
        answered_at: (status == Status::Bridged).then(|| at(9_000)),
        ended_at: (status == Status::Ended).then(|| at(60_000)),
        routing_ms: Some(120),
        state,
    }
}

fn dialing() -> CallAfter {
    after(routed().dialing(&dialer("dialfire"), None))
}

fn over() -> CallAfter {
    after(routed().ended(Disposition::Abandoned))
}

fn answered(call: &CallId, step: &str, body: &str, after: CallAfter, ms: i64) -> Record {
    let event = Event::CallAnswered(Box::new(CallAnswered {
        request_id: "r1".into(),
        step: step.into(),
        answer: Answer::Connect {
            dialer: dialer("dialfire"),
            certainty: Certainty::Confirmed,
        },
        stages: Stages::default(),
        within_budget: true,
        unclaimed: false,
        attempt: None,
    }));
    Record {
        personal: Some(Personal {
            caller: Some("+4915112345650".into()),
            body: Some(body.into()),
            step: Some(step.into()),
            ..Personal::default()
        }),
        ..Record::of_call(at(ms), call, event).leaving(after)
    }
}

fn service_record(ms: i64) -> Record {
    let event = Event::ServiceStarted {
        version: format!("0.{ms}"),
    };
    Record::of_service(at(ms), event)
}

/// Every record, after checking each hash and place from the first record on.
async fn verified(store: &Store) -> Vec<RawRecord> {
    let records = store.raw_records(0, 100_000).await.unwrap();
    let mut link = ChainLink::GENESIS;
    for record in &records {
        assert_eq!(record.id, link.id + 1, "a gap");
        assert_eq!(record.previous_hash, link.hash);
        link = link.append(&record.content());
        assert_eq!(record.hash, link.hash);
    }
    assert_eq!(store.head().await.unwrap(), link);
    records
}

/// The newest calls, so many at most.
async fn newest_calls(store: &Store, size: u32) -> Vec<StoredCall> {
    let part = Part {
        after: None,
        skip: 0,
        size,
    };
    let page = store.calls_page(CallsAsked::default(), part).await.unwrap();
    page.rows.into_iter().map(|(call, _)| call).collect()
}
