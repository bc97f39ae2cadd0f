//! Captured webhooks, cut anew under their signature and sent to the running appliance.
#![expect(clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::clock::Clock;
use switchboard_simulator::made_up;

use crate::wire::{Request, encoded, exchange, sign};
use crate::world::{DIALFIRE_LINE, World, ZENDESK_LINE};

const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const LEG: &str = "CAfedcba9876543210fedcba9876543210";
/// So many requests on one connection.
const BATCH: usize = 40;

/// Path and query, and the fields in the order of the signature.
struct Captured(&'static str, Vec<(&'static str, &'static str)>);

/// One call: it arrives, its line is engaged twice, the next dialer's line rings.
fn one_call() -> [Captured; 5] {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields = vec![
            ("AccountSid", made_up::ACCOUNT_SID),
            ("ApiVersion", "2010-04-01"),
            ("From", "+491700000090"),
            ("To", "+4930900900"),
        ];
        fields.extend(more);
        fields.sort_unstable();
        fields
    };
    let busy = [
        ("CallSid", CALL),
        ("CallStatus", "in-progress"),
        ("DialCallSid", LEG),
        ("DialCallStatus", "busy"),
    ];
    let leg = [
        ("CallSid", LEG),
        ("CallStatus", "busy"),
        ("Direction", "outbound-dial"),
        ("ParentCallSid", CALL),
    ];
    [
        Captured("", with(&[("CallSid", CALL), ("CallStatus", "ringing")])),
        Captured("/status?dialer=dialfire&step=1", with(&leg)),
        Captured("/dial?dialer=dialfire&step=1", with(&busy)),
        Captured("/dial?dialer=dialfire&step=2", with(&busy)),
        Captured("/hold?n=1", with(&[("CallSid", CALL)])),
    ]
}

impl Captured {
    fn request(&self) -> Request {
        let target = format!("/webhooks/twilio{}", self.0);
        Request::signed(&target, encoded(&self.1).as_bytes())
    }

    /// Every request that differs by one moved boundary and has the same signature.
    fn cuts(&self) -> Vec<Request> {
        let target = format!("/webhooks/twilio{}", self.0);
        let body = encoded(&self.1);
        let url = format!("{}{target}", made_up::PUBLIC_URL);
        let signature = sign(made_up::AUTH_TOKEN, &url, body.as_bytes());
        let fields = self.1.iter().flat_map(|(name, value)| [*name, *value]);
        let pieces: Vec<&str> = std::iter::once(target.as_str()).chain(fields).collect();
        let text = pieces.concat();
        let mut marks: Vec<usize> = Vec::new();
        for piece in &pieces {
            marks.push(marks.last().unwrap_or(&0) + piece.len());
        }
        marks.pop();
        let mut cuts = Vec::new();
        for idx in 0..marks.len() {
            for to in 0..=text.len() {
                let mut moved = marks.clone();
                moved[idx] = to;
                moved.sort_unstable();
                let ends = moved.iter().skip(1).copied().chain([text.len()]);
                let starts = moved.iter().copied();
                let pieces: Vec<&str> =
                    starts.zip(ends).map(|(from, to)| &text[from..to]).collect();
                let fields: Vec<(&str, &str)> =
                    pieces.chunks(2).map(|pair| (pair[0], pair[1])).collect();
                let target = &text[..moved[0]];
                if moved == marks
                    || !fields.is_sorted_by(|one, next| one < next)
                    || !target.starts_with('/')
                {
                    continue;
                }
                let cut = Request::form(target, encoded(&fields).as_bytes());
                cuts.push(cut.header("X-Twilio-Signature", &signature));
            }
        }
        cuts
    }
}

#[tokio::test]
async fn no_cut_of_a_webhook_makes_another_call_a_second_handoff_or_a_false_alarm() {
    let world = World::new().await;
    let to = world.running().address;
    let call = one_call();
    let mut heard = Vec::new();
    for captured in &call {
        let reply = captured.request().send(to).await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{}", captured.0);
        heard.push(reply.text());
    }
    assert!(
        heard[0].contains(DIALFIRE_LINE) && heard[3].contains(ZENDESK_LINE),
        "{heard:#?}"
    );
    let asked = || (world.asked_dialfire(), world.asked_zendesk());
    let (before, lookups) = (asked(), world.outside.braze.requests().count());
    assert_eq!(before, (1, 1));

    for captured in &call {
        let cuts = captured.cuts();
        assert!(cuts.len() > 100, "{}: {}", captured.0, cuts.len());
        let mut let_in = 0;
        for batch in cuts.chunks(BATCH) {
            let (last, others) = batch.split_last().unwrap();
            let kept = others
                .iter()
                .map(|cut| cut.clone().without("Connection").to_bytes());
            let bytes: Vec<u8> = kept.chain([last.to_bytes()]).flatten().collect();
            let replies = exchange(to, &bytes).await;
            assert_eq!(replies.len(), batch.len());
            let_in += replies.iter().filter(|reply| reply.status == 200).count();
        }
        assert!(
            let_in > 20,
            "{}: the signature is good for {let_in} of them",
            captured.0
        );
    }

    assert_eq!(asked(), before);
    assert_eq!(world.outside.braze.requests().count(), lookups);
    let store = &world.running().store;
    assert_eq!(store.counts().await.unwrap().calls, 1);
    // Whoever looks for what is wrong looks at everything at once.
    let mut incidents = Vec::new();
    for _ in 0..200 {
        let records = store.records(0, 10_000).await.unwrap();
        let opened = records
            .into_iter()
            .filter(|record| record.kind == Kind::IncidentOpened);
        incidents = opened.map(|record| record.detail).collect();
        if !incidents.is_empty() {
            break;
        }
        Clock::system().wait(Duration::from_millis(50)).await;
    }
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert!(
        incidents[0].contains(r#""webhooks_malformed""#),
        "{incidents:#?}"
    );
}
