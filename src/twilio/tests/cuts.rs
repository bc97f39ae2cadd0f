//! One captured webhook never becomes another one, however its signed text is cut anew.
//!
//! The signature covers URL, names and values one after another, names in ascending order. So every request that one
//! signature is good for is a cut of the same text whose names ascend, and those are tried here.

use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha1::Sha1;

use super::super::extract::{Received, WebhookRefusal};
use super::super::{
    DialEnded, Edge, EdgeSettings, FallbackCall, Flaw, HeldCall, SignedWebhook, StatusReport,
    Verifier, VerifierSettings,
};
use crate::call::InboundCall;
use crate::clock::Clock;

const PUBLIC: &str = "https://calls.example.com";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const ACCOUNT: &str = "AC00000000000000000000000000000001";
const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const LEG: &str = "CAfedcba9876543210fedcba9876543210";
const INVENTED: &str = "CA99999999999999999999999999999999";

/// What a webhook makes of a call: the endpoint, and what it does there.
type Step = (&'static str, String);

/// A webhook as somebody saw it on its way.
struct Captured {
    method: Method,
    target: String,
    fields: Vec<(String, String)>,
}

impl Captured {
    fn post(target: &str, fields: &[(&str, &str)]) -> Self {
        let mut fields: Vec<_> = [("AccountSid", ACCOUNT), ("CallSid", CALL)]
            .iter()
            .filter(|(name, _)| !fields.iter().any(|(other, _)| other == name))
            .chain(fields)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        fields.sort();
        Self {
            method: Method::POST,
            target: target.to_owned(),
            fields,
        }
    }

    fn text(&self) -> String {
        let fields = self.fields.iter().flat_map(|(name, value)| [name, value]);
        std::iter::once(&self.target)
            .chain(fields)
            .cloned()
            .collect()
    }

    /// The end of the URL, and then of every name and value but the last.
    fn marks(&self) -> Vec<usize> {
        let mut at = self.target.len();
        let mut marks = vec![at];
        for (name, value) in &self.fields {
            marks.extend([at + name.len(), at + name.len() + value.len()]);
            at += name.len() + value.len();
        }
        if marks.len() > 1 {
            marks.pop();
        }
        marks
    }
}

/// The appliance, with the signature of one webhook.
struct CutAppliance {
    edge: Edge,
    headers: HeaderMap,
    text: String,
    step: Step,
}

impl CutAppliance {
    fn with(captured: &Captured) -> Self {
        let verifier = Verifier::new(VerifierSettings {
            public_url: PUBLIC.to_owned(),
            auth_tokens: vec![TOKEN.as_bytes().into()],
            shared_keys: Vec::new(),
        });
        let settings = EdgeSettings {
            verifier: verifier.unwrap(),
            verify_signature: true,
            allowed_networks: Vec::new(),
            accounts: vec![ACCOUNT.to_owned()],
        };
        let text = captured.text();
        let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(TOKEN.as_bytes()).unwrap();
        mac.update(format!("{PUBLIC}{text}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert("content-type", form);
        headers.insert("x-twilio-signature", signature.parse().unwrap());
        let mut appliance = Self {
            edge: Edge::new(settings, Clock::stopped(Timestamp::UNIX_EPOCH)),
            headers,
            text,
            step: ("", String::new()),
        };
        let genuine = appliance.send(&captured.method, &captured.target, &captured.fields);
        appliance.step = genuine.unwrap().unwrap();
        appliance
    }

    /// What becomes of a request with that signature; `None` where no client could send it, or its signature is not good for it.
    fn send<T: AsRef<str>>(
        &self,
        method: &Method,
        target: &str,
        fields: &[(T, T)],
    ) -> Option<Result<Step, Flaw>> {
        let uri: Uri = target.parse().ok()?;
        let escape = |text: &T| -> String {
            let bytes = text.as_ref().bytes();
            bytes
                .flat_map(|byte| ["%".to_owned(), hex::encode([byte])])
                .collect()
        };
        let pairs = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let received = Received {
            method,
            uri: &uri,
            headers: &self.headers,
            body: body.as_bytes(),
        };
        match received.admit(&self.edge, &self.edge.settings(), None) {
            Ok(webhook) => Some(step(&webhook)),
            Err(WebhookRefusal::Malformed(malformed)) => Some(Err(malformed.flaw)),
            Err(WebhookRefusal::Rejected(_)) => None,
        }
    }

    /// Cuts the text at these marks, and sends it where the signature is good for it. True where it was.
    fn try_cut(&self, marks: &[usize]) -> bool {
        if !ascends(self.text.as_bytes(), marks) {
            return false;
        }
        let (target, fields) = cut(&self.text, marks);
        let methods: &[Method] = if fields.is_empty() {
            &[Method::POST, Method::GET]
        } else {
            &[Method::POST]
        };
        let mut was_signed = false;
        for method in methods {
            let made = self.send(method, target, &fields);
            was_signed |= made.is_some();
            if let Some(Ok(step)) = made {
                assert_eq!(step, self.step, "{method} {target} {fields:?}");
            }
        }
        was_signed
    }
}

/// The pieces of a field from its first mark on: its name, and its value, which may be all that is left.
fn field(marks: &[usize], length: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let mark = |idx: usize| marks.get(idx).copied().unwrap_or(length);
    (mark(0)..mark(1), mark(1)..mark(2))
}

/// Whether every field stands behind the one before: the only order in which the signature is good for them.
fn ascends(text: &[u8], marks: &[usize]) -> bool {
    let mut before = None;
    for nth in (0..marks.len()).step_by(2) {
        let (name, value) = field(&marks[nth..], text.len());
        let this = (&text[name], &text[value]);
        if before.is_some_and(|before| before >= this) {
            return false;
        }
        before = Some(this);
    }
    true
}

/// The target, and the fields.
fn cut<'t>(text: &'t str, marks: &[usize]) -> (&'t str, Vec<(&'t str, &'t str)>) {
    let fields = (0..marks.len()).step_by(2).map(|nth| {
        let (name, value) = field(&marks[nth..], text.len());
        (&text[name], &text[value])
    });
    // Nothing behind the target is no field.
    let fields = fields.filter(|field| *field != ("", ""));
    (&text[..marks[0]], fields.collect())
}

fn step(webhook: &SignedWebhook) -> Result<Step, Flaw> {
    let path = webhook.path.strip_prefix("/webhooks/twilio");
    Ok(match path {
        Some("" | "/") => (
            "inbound",
            InboundCall::of_webhook(webhook).call_id.to_string(),
        ),
        Some("/dial") => {
            let ended = DialEnded::read(webhook)?;
            let (call, step, dialer) = (ended.call.call_id, ended.report.step, ended.report.dialer);
            ("dial", format!("{call} {step} {dialer:?}"))
        }
        Some("/hold") => {
            let held = HeldCall::read(webhook)?;
            ("hold", format!("{} {}", held.call.call_id, held.round))
        }
        // A report of a leg that is known starts nothing, whatever it says.
        Some("/status") => (
            "status",
            StatusReport::read(webhook)?.report.leg.to_string(),
        ),
        Some("/fallback") => {
            let call = FallbackCall::read(webhook).call_id;
            ("fallback", format!("{call:?}"))
        }
        _ => ("unknown", webhook.call_id.to_string()),
    })
}

const LEG_OF_DIAL: [(&str, &str); 3] = [
    ("CallSid", LEG),
    ("CallStatus", "busy"),
    ("ParentCallSid", CALL),
];

/// The fewest fields, so that every double move can be tried.
fn short() -> Vec<Captured> {
    vec![
        Captured::post("/webhooks/twilio", &[("Al", "b"), ("From", "+4917")]),
        Captured::post(
            "/webhooks/twilio/dial?dialer=Zed&step=12",
            &[("DialCallSid", LEG), ("DialCallStatus", "busy")],
        ),
        Captured::post("/webhooks/twilio/status?dialer=Zed&step=1", &LEG_OF_DIAL),
    ]
}

/// Webhooks with all their fields, and some whose caller has chosen the words.
fn whole() -> Vec<Captured> {
    let usual = [
        ("AddOns", r#"{"status":"successful"}"#),
        ("AnsweredBy", "human"),
        ("ApiVersion", "2010-04-01"),
        ("CallStatus", "ringing"),
        ("CallToken", "%7B%22parentCallInfoToken%22%3A%22abc%22%7D"),
        ("Called", "+4930900900"),
        ("Caller", "+491700000090"),
        ("CallerCity", ""),
        ("CallerCountry", "DE"),
        ("Direction", "inbound"),
        ("From", "+491700000090"),
        ("FromZip", ""),
        ("StirVerstat", "TN-Validation-Passed-A"),
        ("To", "+4930900900"),
    ];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        let kept = usual
            .iter()
            .filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        kept.chain(more).copied().collect()
    };
    let words = "sip:AccountSidAC00000000000000000000000000000001CallSidCA99999999999999999999999999999999CallStatusringing@x";
    let pairs = "sip:&CallSid=CA99999999999999999999999999999999&AccountSid=AC00000000000000000000000000000001&step=1";
    let dial = [
        ("DialBridged", "false"),
        ("DialCallSid", LEG),
        ("DialCallStatus", "no-answer"),
    ];
    let get = format!(
        "/webhooks/twilio?Called=%2B4930900900&From={words}&AccountSid={ACCOUNT}&CallSid={CALL}&To=x"
    );
    assert!(words.contains(INVENTED) && pairs.contains(INVENTED));
    vec![
        Captured::post("/webhooks/twilio", &with(&[])),
        Captured::post("/webhooks/twilio?tenant=A", &with(&[("From", words)])),
        Captured::post("/webhooks/twilio?tenant=A", &with(&[("From", pairs)])),
        Captured::post(
            "/webhooks/twilio/dial?dialer=Dialfire&step=10",
            &with(&dial),
        ),
        Captured::post("/webhooks/twilio/dial?step=3", &with(&dial)),
        Captured::post("/webhooks/twilio/hold?n=21", &with(&[("From", pairs)])),
        Captured::post(
            "/webhooks/twilio/status?dialer=Dialfire&step=1",
            &with(&LEG_OF_DIAL),
        ),
        Captured::post(
            "/webhooks/twilio/status",
            &with(&[("CallStatus", "completed")]),
        ),
        Captured::post(
            "/webhooks/twilio/fallback",
            &with(&[("ErrorCode", "11200")]),
        ),
        Captured {
            method: Method::GET,
            target: get.replace(words, "Bob"),
            fields: Vec::new(),
        },
    ]
}

/// Every mark from this one on moved to every place. Marks may pass each other.
fn single_moves(
    marks: &[usize],
    from: usize,
    length: usize,
    mut with: impl FnMut(usize, &mut Vec<usize>),
) {
    let mut moved = Vec::with_capacity(marks.len());
    for idx in from..marks.len() {
        for to in 0..=length {
            moved.clear();
            moved.extend_from_slice(marks);
            moved[idx] = to;
            with(idx, &mut moved);
        }
    }
}

#[test]
fn every_single_move_of_a_boundary_leaves_the_webhook_what_it_is() {
    for captured in short().into_iter().chain(whole()) {
        let appliance = CutAppliance::with(&captured);
        let mut signed = 0;
        single_moves(&captured.marks(), 0, appliance.text.len(), |_, marks| {
            marks.sort_unstable();
            signed += u32::from(appliance.try_cut(marks));
        });
        assert!(signed > 5, "{}: {signed}", captured.target);
    }
}

#[test]
fn a_field_more_at_any_place_and_any_field_less_leave_the_webhook_what_it_is() {
    for captured in short() {
        let appliance = CutAppliance::with(&captured);
        let marks = captured.marks();
        for at in 0..=appliance.text.len() {
            for end in at..=appliance.text.len() {
                let mut more = [&*marks, &[at, end]].concat();
                more.sort_unstable();
                appliance.try_cut(&more);
            }
        }
        for idx in 1..marks.len() {
            appliance.try_cut(&[&marks[..idx - 1], &marks[idx + 1..]].concat());
        }
    }
}

fn double_moves(captured: &Captured) {
    let appliance = CutAppliance::with(captured);
    let mut signed = 0;
    single_moves(&captured.marks(), 0, appliance.text.len(), |idx, once| {
        single_moves(once, idx + 1, appliance.text.len(), |_, marks| {
            marks.sort_unstable();
            signed += u32::from(appliance.try_cut(marks));
        });
    });
    assert!(signed > 100, "{}: {signed}", captured.target);
}

#[test]
fn every_double_move_of_a_boundary_leaves_the_webhook_what_it_is() {
    double_moves(&short()[0]);
}

#[test]
#[ignore = "takes a minute in a debug build: cargo test --release --lib cuts -- --ignored"]
fn every_double_move_of_a_boundary_leaves_every_short_webhook_what_it_is() {
    for captured in short() {
        double_moves(&captured);
    }
}

/// Numbers that look random, the same for the same seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % (n as u64)).unwrap()
    }
}

/// Of `n` cuts, how many had a good signature.
fn seeded_cuts(n: usize) -> usize {
    let captured: Vec<_> = short().into_iter().chain(whole()).collect();
    let appliances: Vec<_> = captured.iter().map(CutAppliance::with).collect();
    let mut seeded = Seeded(20_261_130);
    let mut signed = 0;
    for turn in 0..n {
        let which = turn % appliances.len();
        let (appliance, length) = (&appliances[which], appliances[which].text.len());
        let mut marks = captured[which].marks();
        for _ in 0..=seeded.below(6) {
            match seeded.below(4) {
                0 => marks.extend([seeded.below(length + 1), seeded.below(length + 1)]),
                1 if marks.len() > 3 => {
                    let at = 1 + seeded.below(marks.len() - 2);
                    marks.drain(at..=at + 1);
                }
                _ => {
                    let at = seeded.below(marks.len());
                    marks[at] = seeded.below(length + 1);
                }
            }
            marks.sort_unstable();
        }
        signed += usize::from(appliance.try_cut(&marks));
    }
    signed
}

#[test]
fn ten_thousand_seeded_cuts_leave_the_webhook_what_it_is() {
    let signed = seeded_cuts(10_000);
    assert!(signed > 100, "{signed}");
}

#[test]
#[ignore = "takes a minute in a debug build: cargo test --release --lib cuts -- --ignored"]
fn a_million_seeded_cuts_leave_the_webhook_what_it_is() {
    let signed = seeded_cuts(1_000_000);
    assert!(signed > 10_000, "{signed}");
}
