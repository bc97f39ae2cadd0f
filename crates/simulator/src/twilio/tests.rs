use std::collections::{HashMap, VecDeque};

use tokio::task::JoinSet;

use super::*;
use crate::faults::Fault;
use crate::form;
use crate::http_server::Answer;
use crate::requests::Request;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PUBLIC: &str = "https://router.example.com";
const FROM: &str = "+14155550100";
const TO: &str = "+18005551212";
const A: &str = "+4930111111";
const B: &str = "sip:q@b.example";

/// What the tiny application answers, by path: status and body, one after another; the last stays.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<HashMap<String, Answers>>>);

type Answers = VecDeque<(u16, String)>;

impl Script {
    fn answer(&self, path: &str, status: u16, verbs: &str) -> &Self {
        let body = format!(r#"<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>"#);
        let mut map = self.0.lock().unwrap();
        map.entry(path.to_owned())
            .or_default()
            .push_back((status, body));
        self
    }
}

fn handle(script: &Script, request: &Request) -> Answer {
    let path = request.target.as_str();
    let fields = form::decode(std::str::from_utf8(&request.body).unwrap());
    let expected = signature::sign(TOKEN, &format!("{PUBLIC}{path}"), &fields);
    if request.header("x-twilio-signature") != Some(expected.as_str()) {
        return Answer::text(403, "");
    }
    let mut map = script.0.lock().unwrap();
    let (status, body) = match map.get_mut(path) {
        Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
        Some(queue) => queue[0].clone(),
        None => (200, "<Response/>".to_owned()),
    };
    Answer {
        status,
        headers: vec![("content-type", "application/xml".to_owned())],
        body: body.into(),
    }
}

struct Bench {
    twilio: Twilio,
    script: Script,
    _running: JoinSet<()>,
}

/// A tiny application under the public URL, and a Twilio in front of it.
fn bench() -> Bench {
    let script = Script::default();
    let app = HttpServer::bind("127.0.0.1:0").unwrap();
    let settings = Settings::new(&app.url(), PUBLIC, ACCOUNT, TOKEN);
    let (twilio, serve) = Twilio::bind("127.0.0.1:0", settings, 1).unwrap();
    let mut running = JoinSet::new();
    let answers = script.clone();
    running.spawn(app.serve(move |request| handle(&answers, request)));
    running.spawn(serve);
    Bench {
        twilio,
        script,
        _running: running,
    }
}

fn dial(noun: &str, action: &str) -> String {
    format!(r#"<Dial answerOnBridge="true" timeout="10" action="{action}">{noun}</Dial>"#)
}

fn number(number: &str) -> String {
    format!(
        r#"<Number statusCallback="{PUBLIC}/webhooks/twilio/status?leg=1" statusCallbackEvent="initiated ringing answered completed">{number}</Number>"#
    )
}

const ACTION: &str = "/webhooks/twilio/dial?attempt=1&amp;dialer=a#rc=2&amp;rp=ct,5xx";
const ACTION_PATH: &str = "/webhooks/twilio/dial?attempt=1&dialer=a";
const LEG_STATUS: &str = "/webhooks/twilio/status";

#[tokio::test]
async fn a_busy_line_leads_to_the_action_a_second_dial_and_a_talk() {
    let bench = bench();
    let second = dial(
        &format!("<Sip>{B}?X-Zendesk-Ticket-Id=7&amp;X-Tier=hot%20lead</Sip>"),
        "/webhooks/twilio/dial?attempt=2",
    );
    bench
        .script
        .answer("/webhooks/twilio", 200, &dial(&number(A), ACTION))
        .answer(ACTION_PATH, 200, &second)
        .answer("/webhooks/twilio/dial?attempt=2", 200, "<Hangup/>");
    let lines = [
        LineBehaviour::Busy,
        LineBehaviour::answer(Duration::from_secs(61)),
    ];
    let result = bench.twilio.call(Call::new(FROM, TO).lines(lines)).await;
    assert_eq!(result.violations, Vec::<String>::new());
    assert_eq!(
        result.outcome,
        Outcome::Talked {
            address: B.to_owned()
        }
    );
    let legs: Vec<_> = result
        .dialled
        .iter()
        .map(|leg| (leg.address.as_str(), leg.status, leg.caller_id.as_str()))
        .collect();
    assert_eq!(
        legs,
        [(A, LegStatus::Busy, FROM), (B, LegStatus::Completed, FROM)]
    );
    let headers = [("X-Zendesk-Ticket-Id", "7"), ("X-Tier", "hot lead")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(result.dialled[1].sip_headers, headers);

    let legs = result.steps_to(LEG_STATUS);
    let events: Vec<_> = legs
        .iter()
        .map(|step| {
            let field = |name| step.field(name).unwrap_or("-");
            (
                field("CallStatus"),
                field("SequenceNumber"),
                field("SipResponseCode"),
            )
        })
        .collect();
    assert_eq!(
        events,
        [
            ("initiated", "0", "-"),
            ("ringing", "1", "-"),
            ("busy", "2", "486"),
            ("completed", "0", "-"),
        ]
    );
    assert_eq!(
        legs[0].field("ParentCallSid"),
        Some(result.call_sid.as_str())
    );
    assert_eq!(legs[0].field("Direction"), Some("outbound-dial"));
    assert_eq!(legs[3].field("CallDuration"), Some("61"));
    assert_eq!(legs[3].field("Duration"), Some("2"));

    let actions = result.steps_to("/webhooks/twilio/dial");
    assert_eq!(actions[0].path, ACTION_PATH);
    assert_eq!(actions[0].field("DialCallStatus"), Some("busy"));
    assert_eq!(actions[0].field("DialBridged"), Some("false"));
    assert_eq!(actions[0].field("DialCallDuration"), None);
    assert_eq!(actions[1].field("DialCallStatus"), Some("completed"));
    assert_eq!(actions[1].field("DialCallDuration"), Some("61"));
    assert_eq!(actions[1].field("DialSipResponseCode"), Some("200"));
    assert_eq!(actions[1].field("CallStatus"), Some("in-progress"));
}

#[tokio::test]
async fn bad_answers_are_violations_and_go_to_the_fallback_url() {
    let bench = bench();
    bench
        .script
        .answer("/webhooks/twilio", 200, "<Say>a & b</Say>")
        .answer("/webhooks/twilio", 500, "")
        .answer(
            "/webhooks/twilio/fallback",
            200,
            &dial(&number(A), "/webhooks/twilio/dial"),
        );
    for code in ["12100", "11200"] {
        let result = bench.twilio.call(Call::new(FROM, TO)).await;
        assert!(
            result.violations[0].starts_with(code),
            "{:?}",
            result.violations
        );
        let fallback = &result.steps[1];
        assert_eq!(fallback.path, "/webhooks/twilio/fallback");
        assert_eq!(fallback.field("ErrorCode"), Some(code));
        assert_eq!(
            fallback.field("ErrorUrl"),
            Some("https://router.example.com/webhooks/twilio")
        );
        assert_eq!(
            result.outcome,
            Outcome::Talked {
                address: A.to_owned()
            }
        );
    }
    bench
        .twilio
        .configure(|settings| settings.fallback_path = None);
    let result = bench.twilio.call(Call::new(FROM, TO)).await;
    assert_eq!(result.outcome, Outcome::ErrorMessage);
}

#[tokio::test]
async fn overrides_in_the_url_repeat_a_failing_action() {
    let bench = bench();
    bench
        .script
        .answer("/webhooks/twilio", 200, &dial(&number(A), ACTION))
        .answer(ACTION_PATH, 503, "")
        .answer(ACTION_PATH, 200, "<Hangup/>");
    let result = bench.twilio.call(Call::new(FROM, TO)).await;
    let action = result.steps_to("/webhooks/twilio/dial")[0];
    assert_eq!((action.attempts, action.status), (2, Some(200)));
    assert_eq!(result.violations, Vec::<String>::new());
}

#[tokio::test]
async fn a_caller_who_leaves_is_reported_and_nothing_more_is_dialled() {
    let bench = bench();
    let first = dial(&number(A), "/webhooks/twilio/dial");
    bench.script.answer("/webhooks/twilio", 200, &first).answer(
        "/webhooks/twilio/dial",
        200,
        &first,
    );
    let leaves = LineBehaviour::CallerHangsUpRinging {
        after: Duration::from_secs(3),
    };
    let by_script = Call::new(FROM, TO).lines([leaves]);
    let by_patience = Call::new(FROM, TO)
        .lines([LineBehaviour::NoAnswer])
        .patience(Duration::from_secs(3));
    for call in [by_script, by_patience] {
        let result = bench.twilio.call(call).await;
        assert_eq!(result.outcome, Outcome::CallerHungUp);
        assert_eq!(result.phone_time, Duration::from_secs(3));
        assert_eq!(result.dialled.len(), 1);
        let action = result.steps_to("/webhooks/twilio/dial")[0];
        assert_eq!(action.field("CallStatus"), Some("completed"));
        assert_eq!(action.field("DialCallStatus"), Some("no-answer"));
        assert!(result.violations[0].contains("has hung up"));
    }
}

#[tokio::test]
async fn a_hold_loop_ends_when_patience_does_and_an_endless_one_is_cut() {
    let bench = bench();
    bench.script.answer(
        "/webhooks/twilio",
        200,
        "<Say>Bitte warten</Say><Pause length=\"5\"/><Redirect>/webhooks/twilio</Redirect>",
    );
    let call = Call::new("anonymous", TO).patience(Duration::from_secs(30));
    let result = bench.twilio.call(call).await;
    assert_eq!(result.outcome, Outcome::CallerHungUp);
    assert_eq!(result.phone_time, Duration::from_secs(30));
    assert_eq!(result.heard[0], "Bitte warten");
    let forever = Call::new(FROM, TO).patience(Duration::from_secs(1_000_000));
    let result = bench.twilio.call(forever).await;
    assert_eq!(result.outcome, Outcome::Endless);
}

#[tokio::test]
async fn lines_rung_together_have_one_winner_and_reject_is_never_answered() {
    let bench = bench();
    let both = format!("{}{}", number(A), number("+4930222222"));
    bench
        .script
        .answer(
            "/webhooks/twilio",
            200,
            &dial(&both, "/webhooks/twilio/dial"),
        )
        .answer("/webhooks/twilio", 200, "<Reject reason=\"busy\"/>");
    let slow = LineBehaviour::Answer {
        after: Duration::from_secs(9),
        talk: Duration::from_secs(1),
    };
    let lines = [slow, LineBehaviour::answer(Duration::from_secs(2))];
    let result = bench.twilio.call(Call::new(FROM, TO).lines(lines)).await;
    let legs: Vec<_> = result.dialled.iter().map(|leg| leg.status).collect();
    assert_eq!(legs, [LegStatus::Canceled, LegStatus::Completed]);
    let result = bench.twilio.call(Call::new(FROM, TO)).await;
    assert_eq!(result.outcome, Outcome::Rejected);
    let end = result.steps.last().unwrap();
    assert_eq!(end.field("CallStatus"), Some("busy"));
}

#[tokio::test]
async fn duplicates_are_sent_and_another_answer_is_a_violation() {
    let bench = bench();
    for duplicate in [
        Duplicate::AtOnce,
        Duplicate::AfterAnswer,
        Duplicate::AfterEnd,
    ] {
        let call = Call::new(FROM, TO).duplicate(duplicate);
        let result = bench.twilio.call(call).await;
        assert_eq!(result.steps_to("/webhooks/twilio").len(), 2);
        assert_eq!(result.violations, Vec::<String>::new());
    }
    bench
        .script
        .answer("/webhooks/twilio", 200, "<Hangup/>")
        .answer("/webhooks/twilio", 200, "<Say>again</Say>");
    let call = Call::new(FROM, TO).duplicate(Duplicate::AfterEnd);
    let result = bench.twilio.call(call).await;
    assert!(result.violations[0].contains("another answer"));
}

#[tokio::test]
async fn disorder_loses_repeats_and_delays_callbacks_but_nothing_else() {
    let bench = bench();
    bench.script.answer(
        "/webhooks/twilio",
        200,
        &dial(&number(A), "/webhooks/twilio/dial"),
    );
    let count = async |disorder: Disorder| {
        bench
            .twilio
            .configure(|settings| settings.disorder = disorder);
        let result = bench.twilio.call(Call::new(FROM, TO)).await;
        assert_eq!(
            result.outcome,
            Outcome::Talked {
                address: A.to_owned()
            }
        );
        let steps = result.steps_to(LEG_STATUS);
        let first = steps.first().and_then(|step| step.field("CallStatus"));
        (steps.len(), first.map(str::to_owned))
    };
    let all = |disorder: fn(&mut Disorder) -> &mut f64| {
        let mut all = Disorder::default();
        *disorder(&mut all) = 1.0;
        all
    };
    let initiated = Some("initiated".to_owned());
    assert_eq!(count(Disorder::default()).await, (5, initiated.clone()));
    assert_eq!(count(all(|d| &mut d.lose)).await, (0, None));
    assert_eq!(
        count(all(|d| &mut d.duplicate)).await,
        (10, initiated.clone())
    );
    assert_eq!(count(all(|d| &mut d.reorder)).await.0, 5);
    assert_eq!(count(all(|d| &mut d.concurrent)).await.0, 5);
}

#[tokio::test]
async fn the_rest_api_knows_the_call_and_its_legs() {
    let bench = bench();
    bench.script.answer(
        "/webhooks/twilio",
        200,
        &dial(&number(A), "/webhooks/twilio/dial"),
    );
    let sid = "CA0000000000000000000000000000000a";
    let result = bench.twilio.call(Call::new(FROM, TO).call_sid(sid)).await;
    let get = async |call: &str, password: &str| {
        let url = format!(
            "{}/2010-04-01/Accounts/{ACCOUNT}/Calls/{call}.json",
            bench.twilio.url()
        );
        let request = crate::testing::client().get(url);
        let answer = request.basic_auth(ACCOUNT, Some(password)).send().await;
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        let body: serde_json::Value = answer.json().await.unwrap_or_default();
        (status, body)
    };
    let (status, call) = get(sid, TOKEN).await;
    assert_eq!(status, 200);
    assert_eq!(call["status"], "completed");
    assert_eq!(call["duration"], "60");
    let (_, leg) = get(&result.dialled[0].call_sid, TOKEN).await;
    assert_eq!(leg["parent_call_sid"], sid);
    assert_eq!(leg["direction"], "outbound-dial");
    assert_eq!(get("CAunknown", TOKEN).await.0, 404);
    assert_eq!(get(sid, "wrong").await.0, 401);
    bench.twilio.faults().once(Fault::too_many_requests(None));
    assert_eq!(get(sid, TOKEN).await.0, 429);
}

#[tokio::test]
async fn a_single_webhook_can_be_posted_with_any_fields() {
    let bench = bench();
    bench
        .script
        .answer("/webhooks/twilio/hold?x=1", 200, "<Hangup/>");
    let fields = bench.twilio.inbound_fields("CA1", "anonymous", TO);
    let answer = bench
        .twilio
        .post("/webhooks/twilio/hold?x=1", &fields)
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("<Hangup/>"));
    assert!(
        fields
            .iter()
            .any(|(name, value)| name == "ToZip" && value.is_empty())
    );
}

#[tokio::test]
async fn caller_ids_that_twilio_refuses_are_reported() {
    let bench = bench();
    let document = |caller_id: &str| format!("<Dial{caller_id}>{A}</Dial>");
    bench
        .script
        .answer("/webhooks/twilio", 200, &document(""))
        .answer(
            "/webhooks/twilio",
            200,
            &document(" callerId=\"+4930999999\""),
        )
        .answer(
            "/webhooks/twilio",
            200,
            &document(&format!(" callerId=\"{TO}\"")),
        );
    let withheld = bench.twilio.call(Call::new("+266696687", TO)).await;
    assert!(withheld.violations[0].starts_with("13247"));
    let strange = bench.twilio.call(Call::new(FROM, TO)).await;
    assert!(strange.violations[0].starts_with("13214"));
    let ours = bench.twilio.call(Call::new("+266696687", TO)).await;
    assert_eq!(ours.violations, Vec::<String>::new());
    assert_eq!(ours.dialled[0].caller_id, TO);
    let sip = bench
        .twilio
        .call(Call::new("sip:alice@pbx.example.com", TO))
        .await;
    assert!(sip.violations[0].starts_with("13214"));
}

#[tokio::test]
async fn a_caller_who_hangs_up_after_the_talk_has_talked() {
    let bench = bench();
    let first = dial(&number(A), "/webhooks/twilio/dial");
    bench.script.answer("/webhooks/twilio", 200, &first);
    let line = LineBehaviour::AnswerThenCallerHangsUp {
        after: Duration::from_secs(2),
        talk: Duration::from_secs(30),
    };
    let call = Call::new(FROM, TO).lines([line]);
    let result = bench.twilio.call(call.clone()).await;
    assert_eq!(
        result.outcome,
        Outcome::Talked {
            address: A.to_owned()
        }
    );
    let action = result.steps_to("/webhooks/twilio/dial")[0];
    assert_eq!(action.field("CallStatus"), Some("completed"));
    assert_eq!(action.field("DialCallStatus"), Some("completed"));
    assert_eq!(action.field("DialCallDuration"), Some("30"));
    bench.twilio.configure(|settings| {
        settings.action_after_hang_up = false;
    });
    let result = bench.twilio.call(call).await;
    assert!(result.steps_to("/webhooks/twilio/dial").is_empty());
    assert_eq!(
        result.outcome,
        Outcome::Talked {
            address: A.to_owned()
        }
    );
}

#[tokio::test]
async fn lines_in_sequence_ring_one_after_another_until_patience_ends() {
    let bench = bench();
    let document = format!(
        "<Dial sequential=\"true\" timeout=\"10\"><Number>{A}</Number><Sip>{B}</Sip></Dial>"
    );
    bench.script.answer("/webhooks/twilio", 200, &document);
    bench.twilio.set_line("+4930", LineBehaviour::Failed);
    bench.twilio.set_line(A, LineBehaviour::Busy);
    bench.twilio.set_line("sip:", LineBehaviour::NoAnswer);
    let statuses = async |patience: u64| {
        let call = Call::new(FROM, TO).patience(Duration::from_secs(patience));
        let result = bench.twilio.call(call).await;
        let legs: Vec<_> = result.dialled.iter().map(|leg| leg.status).collect();
        assert_eq!(legs, [LegStatus::Busy, LegStatus::NoAnswer]);
        (result.outcome, result.phone_time.as_secs())
    };
    assert_eq!(statuses(4).await, (Outcome::CallerHungUp, 4));
    assert_eq!(statuses(60).await, (Outcome::HungUp, 1 + 10 + 5));
}

#[tokio::test]
async fn phone_time_passes_at_the_scale_that_is_set() {
    let bench = bench();
    bench
        .script
        .answer("/webhooks/twilio", 200, "<Pause length=\"100\"/><Hangup/>");
    bench
        .twilio
        .configure(|settings| settings.time_scale = 0.001);
    let began = Instant::now();
    let result = bench.twilio.call(Call::new(FROM, TO)).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(result.phone_time, Duration::from_secs(100));
}

#[tokio::test]
async fn a_call_whose_machine_is_gone_goes_on_at_the_fallback_url_of_another() {
    let bench = bench();
    let other = "https://other.example.com";
    // What the caller was told before the first machine went: nobody listens there any more.
    let dead = HttpServer::bind("127.0.0.1:0").unwrap().url();
    bench
        .script
        .answer(
            "/webhooks/twilio",
            200,
            &dial(&number(A), &format!("{other}/dial?p=x#rc=2&amp;ct=500")),
        )
        .answer("/webhooks/twilio/fallback", 200, "<Say>Bye</Say>");
    bench.twilio.configure(|settings| {
        settings.voice_path = "/webhooks/twilio#rc=1&rp=ct,rt,5xx&rt=6000".to_owned();
        settings.also_public = vec![(other.to_owned(), dead)];
    });
    let call = || Call::new(FROM, TO).lines([LineBehaviour::Busy]);
    let result = bench.twilio.call(call()).await;
    let story: Vec<String> = result
        .story
        .iter()
        .map(|moment| {
            let heard: Vec<String> = moment.heard.iter().map(ToString::to_string).collect();
            format!("{} {:?} {}", moment.url, moment.status, heard.join(", "))
        })
        .collect();
    assert_eq!(
        story,
        [
            format!("/webhooks/twilio Some(200) ring {A}"),
            format!("{other}/dial?p=x None "),
            "/webhooks/twilio/fallback Some(200) say Bye, goodbye".to_owned(),
        ]
    );
    let failed = result
        .steps
        .iter()
        .find(|step| step.path.ends_with("?p=x"))
        .unwrap();
    assert_eq!((failed.attempts, failed.failed.len()), (3, 3));
    let fallback = result.steps_to("/webhooks/twilio/fallback")[0];
    assert_eq!(fallback.field("ErrorCode"), Some("11205"));
    assert_eq!(
        fallback.field("ErrorUrl"),
        Some("https://other.example.com/dial?p=x")
    );
    bench
        .twilio
        .configure(|settings| settings.fallback_after_actions = false);
    let result = bench.twilio.call(call()).await;
    assert_eq!(result.outcome, Outcome::ErrorMessage);
    assert_eq!(result.story.last().unwrap().heard, [Heard::Lost]);
}

#[tokio::test]
async fn another_program_orders_calls_and_reads_what_callers_heard() {
    let bench = bench();
    bench.script.answer(
        "/webhooks/twilio",
        200,
        &dial(&number(A), "/webhooks/twilio/dial"),
    );
    let (door, serve) = bench.twilio.open_door("127.0.0.1:0").unwrap();
    let _running = crate::testing::in_background(serve);
    let client = crate::testing::client();
    let order = serde_json::json!({
        "per_second": 1000, "seconds": 0.02,
        "mix": [{ "name": "usual", "from": "+49151", "lines": [{ "ring_ms": 900, "talk_ms": 1 }] }],
    });
    let post = async |path: &str, body: &serde_json::Value| {
        let request = client.post(format!("{door}{path}"));
        request.json(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(
        post("/settings", &serde_json::json!({ "speed": 2 })).await,
        400
    );
    assert_eq!(
        post("/settings", &serde_json::json!({ "time_scale": 0.0 })).await,
        200
    );
    assert_eq!(post("/calls", &order).await, 202);
    let call = loop {
        let page = client.get(format!("{door}/calls")).send().await.unwrap();
        let page: serde_json::Value = page.json().await.unwrap();
        if let Some(call) = page["calls"].get(0) {
            break call.clone();
        }
    };
    assert_eq!(call["outcome"], "talked");
    assert_eq!(call["heard"][0]["heard"][1], format!("talk {A}"));
    assert_eq!(call["webhooks"][0]["status"], 200);
}
