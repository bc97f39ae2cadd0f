//! Every kind of mail, byte for byte: `tests/golden/mail/` holds what goes out, text, HTML and the webhook's JSON.
//!
//! A difference fails. A file that is missing is written, and fails once; look at what changed before you commit it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use switchboard::alerts::{
    AffectedCall, ChangeLine, DailySummary, DayShare, EventType, IncidentKind, IncidentLine,
    MessageContext, Notification, Percentiles, RenderedMessage, TestNotification,
};
use switchboard::call::CallId;

const HOSTILE: &str =
    "<img src=x onerror=\"alert('1')\"> & &amp; &#60; {{ secret }} \u{202e}Ärger\r\n\r\n<b>\t ";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn around() -> MessageContext {
    let call = |id: &str, caller: &str, fate: &str| AffectedCall {
        id: id.to_owned(),
        caller: caller.to_owned(),
        fate: fate.to_owned(),
    };
    MessageContext {
        public_url: "https://calls.example.com/base?a=1&b='2'".to_owned(),
        calls: vec![
            call("CA1", "+********07", "last resort"),
            call("CA2", "", ""),
            call("CA3", "<unknown>", ""),
        ],
        audit_head: Some("abc 12 0011".to_owned()),
    }
}

fn bare() -> MessageContext {
    MessageContext {
        public_url: "https://calls.example.com".to_owned(),
        ..MessageContext::default()
    }
}

fn notice(kind: IncidentKind, occasion: EventType, subject: &str, cause: &str) -> Notification {
    Notification {
        id: format!("{kind}-1-{}", occasion.as_str()),
        incident: format!("{kind}-1"),
        kind,
        subject: subject.to_owned(),
        cause: cause.to_owned(),
        dialers: Vec::new(),
        since: Some(at("2026-11-20T10:00:00Z")),
        lasted_ms: (occasion != EventType::Opened).then_some(12_345_678),
        calls: 0,
        call_ids: Vec::new(),
        reasons: [].into(),
        quiet: false,
        muted: None,
        tell: Vec::new(),
    }
}

/// An incident that has affected so many calls.
fn affecting(n: u64, notice: Notification) -> Notification {
    let ids = (1..=n).map(|n| CallId::parse(&format!("CA{n}")).unwrap());
    Notification {
        calls: n,
        call_ids: ids.collect(),
        reasons: [
            ("all_dialers_refused", 1),
            ("all_legs_failed", n),
            ("<b>&\"'", 2),
        ]
        .map(|(reason, n)| (reason.to_owned(), n))
        .into(),
        ..notice
    }
}

fn day() -> DailySummary {
    let share = |calls, answered, failed| DayShare {
        calls,
        answered,
        failed,
    };
    let incident = |kind, subject: &str, cause: &str, lasted_ms, calls| IncidentLine {
        incident: "named".to_owned(),
        kind,
        subject: subject.to_owned(),
        cause: cause.to_owned(),
        opened_at: at("2026-07-14T12:00:00Z"),
        lasted_ms,
        calls,
    };
    let change = |by: &str, keys: &[&str]| ChangeLine {
        at: at("2026-07-14T09:30:00Z"),
        by: by.to_owned(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
    };
    let hostile = || HOSTILE.to_owned();
    DailySummary {
        id: "summary-2026-07-15".to_owned(),
        from: at("2026-07-14T05:00:00Z"),
        to: at("2026-07-15T05:00:00Z"),
        zone: "Europe/Berlin".to_owned(),
        calls: 80,
        answered: 70,
        failed: 2,
        abandoned: 6,
        succeeded: 70,
        by_reason: [("all_legs_failed".to_owned(), 2), (hostile(), 1)].into(),
        completeness: Some(
            "Of 2026-07-13, Twilio lists 80 calls; 1 are missing in the log, 0 were answered at the fallback URL, 0 end otherwise; 0 are not at Twilio."
                .to_owned(),
        ),
        failed_over: 5,
        held: 1,
        by_tier: [
            (String::new(), share(10, 8, 0)),
            ("hot".to_owned(), share(1, 0, 1)),
            (hostile(), share(0, 0, 0)),
        ]
        .into(),
        by_outcome: [("answered".to_owned(), 70), ("last_resort".to_owned(), 2)].into(),
        by_dialer: [("dialfire".to_owned(), share(75, 70, 0))].into(),
        times: ["lookup", "routing"]
            .map(|stage| {
                let times = Percentiles {
                    p50_ms: 4.25,
                    p95_ms: 31.0,
                    p99_ms: 640.55,
                };
                (stage.to_owned(), times)
            })
            .into(),
        incidents: vec![
            incident(
                IncidentKind::DialerDown,
                "dialfire",
                HOSTILE,
                Some(200_000),
                3,
            ),
            incident(IncidentKind::NoCalls, "", "no call for 2 h", None, 0),
        ],
        n_incidents: 7,
        changes: vec![
            change("key ops", &["routing.budget", "braze.api_key"]),
            change(
                HOSTILE,
                &["a", "b", "c", "d", "e", "f", "g", "h", "i", "<j>"],
            ),
        ],
        n_changes: 2,
        tell: Vec::new(),
    }
}

/// What each file holds.
fn mails() -> BTreeMap<String, String> {
    let mut mails: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |file: &str, occasion, detail: String, around: &MessageContext| {
        let letter =
            RenderedMessage::compose(occasion, &detail, at("2026-11-20T13:25:45.678Z"), around);
        *mails.entry(file.to_owned()).or_default() += &written(&letter.unwrap());
    };
    let json = |notice: &Notification| serde_json::to_string(notice).unwrap();
    let occasions = [EventType::Opened, EventType::Reminded, EventType::Resolved];
    for &kind in IncidentKind::ALL {
        for occasion in occasions {
            let plain = notice(kind, occasion, "", "something is wrong");
            add(kind.as_str(), occasion, json(&plain), &bare());
            let about = affecting(2, notice(kind, occasion, "dialfire", "äußerst: 503"));
            add(kind.as_str(), occasion, json(&about), &around());
        }
    }
    for occasion in occasions {
        let kind = IncidentKind::CallersWaiting;
        let hostile = affecting(3, notice(kind, occasion, HOSTILE, HOSTILE));
        add("hostile", occasion, json(&hostile), &around());
    }
    let long = "ß€😀 ".repeat(100);
    let many = affecting(
        60,
        notice(IncidentKind::AllDialersDown, EventType::Opened, "", &long),
    );
    add("many", EventType::Opened, json(&many), &around());
    let one = Notification {
        since: None,
        ..affecting(
            1,
            notice(IncidentKind::OnFallback, EventType::Resolved, "", ""),
        )
    };
    add("one", EventType::Resolved, json(&one), &bare());

    let tested = |by: &str| {
        let tested = TestNotification {
            id: "test-1".to_owned(),
            by: by.to_owned(),
            tell: Vec::new(),
        };
        serde_json::to_string(&tested).unwrap()
    };
    add("test", EventType::Tested, tested("key ops"), &bare());
    add("test", EventType::Tested, tested(HOSTILE), &around());

    let summed = |day: &DailySummary| serde_json::to_string(day).unwrap();
    add("day", EventType::Summary, summed(&day()), &around());
    let quiet = DailySummary {
        id: "summary-2026-07-15".to_owned(),
        zone: "Nowhere/Else".to_owned(),
        ..DailySummary::default()
    };
    add("day", EventType::Summary, summed(&quiet), &bare());
    mails
}

fn written(letter: &RenderedMessage) -> String {
    let RenderedMessage {
        id,
        follows,
        subject,
        text,
        html,
        json,
    } = letter;
    let json = serde_json::to_string_pretty(json).unwrap();
    format!(
        "=== {id}\nfollows: {follows:?}\nsubject: {subject:?}\n--- text\n{text}--- html\n{html}--- json\n{json}\n"
    )
}

#[test]
fn every_mail_is_what_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mail");
    let mails = mails();
    for (name, now) in &mails {
        let path = folder.join(format!("{name}.txt"));
        let golden = fs::read_to_string(&path).unwrap_or_else(|_| {
            fs::write(&path, now).unwrap();
            "missing".to_owned()
        });
        assert!(*now == golden, "{name} differs:\n{now}\nwas\n{golden}");
    }
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        mails.len(),
        "no file is left over"
    );
}
