//! The look-up against a stand-in on a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::stand_in::{Act, StandIn, answer};
use super::*;
use crate::audit::ProfileAction;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::lead::LeadScore;
use crate::outbound::Connections;
use crate::phone::{Caller, E164, Region};
use crate::routing::{BreakerView, Lookup, LookupSkipped, LookupUnavailable, Profile, Source};
use crate::secret::Secret;

const KEY: &str = "11111111-very-secret";
const HOT: &str = r#"{"users":[{"external_id":"c1","custom_attributes":{"lead_score":"87"}}],"message":"success"}"#;
const NOBODY: &str = r#"{"users":[],"message":"success"}"#;

pub(super) fn settings(base_url: &str) -> BrazeSettings {
    BrazeSettings {
        base_url: base_url.to_owned(),
        api_key: Secret::new(KEY),
        timeout: Duration::from_millis(1_500),
        cache_ttl: Duration::from_hours(1),
        stale_for: Duration::from_hours(24),
        negative_ttl: Duration::from_mins(5),
        cache_capacity: 1_000,
        requests_per_minute: 6_000,
        open_for: Duration::from_secs(15),
        score_attribute: "lead_score".to_owned(),
        attributes: Vec::new(),
        tier_attribute: Some("lead_tier".to_owned()),
        webhook_secret: None,
        region: None,
    }
}

fn braze_with(settings: BrazeSettings) -> Braze {
    braze_by(&Clock::system(), settings, || ())
}

/// Whenever new connections are prepared, `prepared` is called.
fn braze_by(
    clock: &Clock,
    settings: BrazeSettings,
    prepared: impl Fn() + Send + Sync + 'static,
) -> Braze {
    // Installed once per process; later attempts are refused, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let make = move || {
        prepared();
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_certs_only([])
            .build()
    };
    let http = Connections::new(Arc::new(make), clock.clone()).unwrap();
    Braze::new(settings, http, clock.clone()).unwrap()
}

fn braze(stand_in: &StandIn) -> Braze {
    braze_with(settings(&stand_in.url))
}

#[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
fn start_tasks(braze: &Braze) {
    braze.send_in_tasks(Box::new(|request| drop(tokio::spawn(request))));
}

fn number(i: u32) -> E164 {
    E164::parse(&format!("+4930{:06}", 123_456 + i)).unwrap()
}

fn caller(i: u32) -> Caller {
    Caller::Number(number(i))
}

fn within(ms: u64) -> Deadline {
    // The look-up leaves 500 ms to the handoff and the answer.
    Deadline::starting(Clock::system().instant(), Duration::from_millis(ms + 500))
}

async fn ask(braze: &Braze, i: u32) -> LookedUp {
    braze.look_up(&caller(i), within(1_500)).await
}

fn hot() -> Profile {
    Profile {
        score: LeadScore::new(87.0),
        ..Profile::default()
    }
}

fn source(looked_up: &LookedUp) -> Source {
    match looked_up.lookup {
        Lookup::Known { source, .. } | Lookup::Unknown { source, .. } => source,
        Lookup::Skipped { .. } | Lookup::Unavailable { .. } => panic!("{looked_up:?}"),
    }
}

fn why(looked_up: &LookedUp) -> Option<LookupUnavailable> {
    match &looked_up.lookup {
        Lookup::Unavailable { reason } => Some(*reason),
        Lookup::Known { .. } | Lookup::Unknown { .. } | Lookup::Skipped { .. } => None,
    }
}

fn remembered(i: u32, age: Duration) -> CachedProfile {
    let age = jiff::SignedDuration::try_from(age).unwrap();
    CachedProfile {
        phone: number(i),
        external_id: Some("c1".to_owned()),
        profile: Profile {
            score: LeadScore::new(10.0),
            ..Profile::default()
        },
        known: true,
        fetched_at: Clock::system().now() - age,
        changed_at: None,
    }
}

fn push(i: u32, fields: &str) -> Push {
    let phone = number(i);
    let body = format!(r#"{{"phone":"{}"{fields}}}"#, phone.as_str());
    Push::parse(body.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_profile_is_fetched_once_and_then_served_from_the_cache() {
    let stand_in = StandIn::saying(201, HOT).await;
    let braze = braze(&stand_in);
    let first = ask(&braze, 0).await;
    assert_eq!(source(&first), Source::Fetched);
    assert_eq!(first.external_id.as_deref(), Some("c1"));
    let exchange = first.exchange.unwrap();
    assert_eq!(exchange.status, Some(201));
    assert_eq!(
        exchange.request.unwrap()["phone"],
        serde_json::json!("+********56")
    );
    assert_eq!(
        exchange.response.unwrap(),
        serde_json::json!({"users": 1, "score": 87, "tier": null})
    );
    let second = ask(&braze, 0).await;
    assert!(
        matches!(&second.lookup, Lookup::Known { profile, source: Source::Fresh, .. } if *profile == hot())
    );
    assert_eq!(second.external_id.as_deref(), Some("c1"));
    assert_eq!(stand_in.n_requests(), 1);
    let request = stand_in.last_request();
    assert!(request.starts_with("POST /users/export/ids HTTP/1.1\r\n"));
    assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")));
    assert!(request.contains("content-type: application/json\r\n"));
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap(),
        serde_json::json!({"phone": "+4930123456", "fields_to_export": ["external_id", "braze_id", "created_at", "custom_attributes"]})
    );
    let stats = braze.stats();
    assert_eq!((stats.hits, stats.stale, stats.misses), (1, 0, 1));
}

#[tokio::test]
async fn an_unknown_caller_is_remembered_as_such() {
    let stand_in = StandIn::saying(200, NOBODY).await;
    let braze = braze(&stand_in);
    assert_eq!(source(&ask(&braze, 0).await), Source::Fetched);
    let again = ask(&braze, 0).await;
    assert!(matches!(
        again.lookup,
        Lookup::Unknown {
            source: Source::Fresh,
            ..
        }
    ));
    assert_eq!(stand_in.n_requests(), 1);
}

#[tokio::test]
async fn every_bad_answer_has_its_reason() {
    use LookupUnavailable::{Connect, Malformed, RateLimited, Rejected, ServerError, Unauthorized};
    let say = |status, body: &str| Act::Say(answer(status, "", body));
    let half = "HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"users\"";
    let huge = "HTTP/1.1 200 X\r\ncontent-length: 4194305\r\n\r\n{\"users\":[]}".to_owned();
    let redirect = answer(302, "location: http://169.254.169.254/\r\n", "");
    for (act, reason) in [
        (say(429, ""), RateLimited),
        (say(500, "<html>"), ServerError),
        (say(202, r#"{"message":"queued"}"#), ServerError),
        (say(400, "{}"), Rejected),
        (say(401, ""), Unauthorized),
        (say(403, ""), Unauthorized),
        (say(404, ""), Unauthorized),
        (say(200, "<html>"), Malformed),
        (say(200, "{\"users\":[{]}"), Malformed),
        (say(201, r#"{"message":"success"}"#), Malformed),
        (Act::Say(huge), Malformed),
        (Act::Say(redirect), Malformed),
        (Act::Say("no HTTP at all\r\n\r\n".to_owned()), Connect),
        (Act::Say(half.to_owned()), Connect),
        (Act::Reset(half.to_owned()), Connect),
        (Act::Reset(String::new()), Connect),
    ] {
        let stand_in = StandIn::start(act).await;
        let looked_up = ask(&braze(&stand_in), 0).await;
        assert_eq!(why(&looked_up), Some(reason), "{looked_up:?}");
        assert!(looked_up.exchange.unwrap().error.is_some());
        assert_eq!(stand_in.n_requests(), 1, "no retry while the caller waits");
    }
    let nobody_listens = braze_with(settings("http://127.0.0.1:1"));
    assert_eq!(why(&ask(&nobody_listens, 0).await), Some(Connect));
}

#[tokio::test]
async fn whatever_hangs_the_caller_waits_no_longer_than_the_share() {
    let head = "HTTP/1.1 200 X\r\ncontent-length: 5000\r\n\r\n";
    for act in [
        Act::Hang,
        Act::Stall(head.to_owned()),
        Act::Drip(format!("{head}{{")),
        Act::Drip("H".to_owned()),
    ] {
        let stand_in = StandIn::start(act).await;
        let clock = Clock::system();
        let started = clock.instant();
        let looked_up = braze(&stand_in).look_up(&caller(0), within(150)).await;
        let took = clock.instant() - started;
        // A machine under load may not even connect in time.
        let expected = [LookupUnavailable::Timeout, LookupUnavailable::Connect];
        let reason = why(&looked_up).unwrap();
        assert!(expected.contains(&reason), "{reason:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn without_budget_nothing_is_asked() {
    let stand_in = StandIn::saying(200, HOT).await;
    let looked_up = braze(&stand_in).look_up(&caller(0), within(0)).await;
    assert_eq!(why(&looked_up), Some(LookupUnavailable::NoBudget));
    assert_eq!(stand_in.n_requests(), 0);
}

#[tokio::test]
async fn callers_without_a_number_are_never_looked_up() {
    let stand_in = StandIn::saying(200, HOT).await;
    let braze = braze(&stand_in);
    for (from, reason) in [
        ("anonymous", LookupSkipped::Withheld),
        ("+266696687", LookupSkipped::Withheld),
        ("5035551212", LookupSkipped::NotE164),
        ("client:alice", LookupSkipped::Client),
        ("sip:alice@pbx.example.com", LookupSkipped::SipUser),
        ("müller", LookupSkipped::Unreadable),
    ] {
        let looked_up = braze.look_up(&Caller::classify(from), within(1_500)).await;
        assert_eq!(looked_up.lookup, Lookup::Skipped { reason }, "{from}");
    }
    assert_eq!(stand_in.n_requests(), 0);
}

#[tokio::test]
async fn a_refused_key_is_never_shown_and_opens_the_breaker_until_it_is_accepted_or_changed() {
    let echo = format!(r#"{{"message":"Invalid API key: {KEY}"}}"#);
    let headers = "x-ratelimit-limit: \r\nx-ratelimit-remaining: \r\n";
    let stand_in = StandIn::start(Act::Say(answer(401, headers, &echo))).await;
    let braze = braze(&stand_in);
    let refused = ask(&braze, 0).await;
    assert_eq!(why(&refused), Some(LookupUnavailable::Unauthorized));
    let shown = format!(
        "{refused:?} {braze:?} {:?} {}",
        braze.probe().await,
        serde_json::to_string(&refused.exchange).unwrap()
    );
    assert!(!shown.contains(KEY), "{shown}");
    assert_eq!(
        why(&ask(&braze, 1).await),
        Some(LookupUnavailable::Unauthorized)
    );
    assert_eq!(stand_in.n_requests(), 2, "nobody is asked for again");
    let changes = braze.take_changes();
    let causes: Vec<_> = changes.into_iter().map(|change| change.cause).collect();
    let refused = "the credentials were refused";
    assert_eq!(causes, [refused, "the credentials are still refused"]);
    let told = braze.status().refused.unwrap();
    assert_eq!(told.credential, "the API key (braze.api_key)");
    assert!(told.is_confirmed());

    stand_in.now_does(Act::Say(answer(200, "", HOT)));
    assert!(!braze.take_probe(), "it is not time yet");
    braze.reconfigure(settings(&stand_in.url)).unwrap();
    assert_eq!(braze.status().breaker, BreakerView::Open);
    assert!(braze.take_probe(), "the same key was read again");
    assert!(!braze.take_try_now(), "one request per try");
    assert!(braze.probe().await.ok);
    assert_eq!(braze.status().refused, None);
    assert!(!braze.take_try_now(), "nothing is refused");

    stand_in.now_does(Act::Say(answer(401, "", &echo)));
    ask(&braze, 1).await;
    assert!(braze.status().refused.unwrap().is_confirmed(), "once more");
    stand_in.now_does(Act::Say(answer(200, "", HOT)));
    let mut with_new_key = settings(&stand_in.url);
    with_new_key.api_key = Secret::new("another");
    braze.reconfigure(with_new_key).unwrap();
    assert_eq!(source(&ask(&braze, 1).await), Source::Fetched);
    assert!(stand_in.last_request().contains("Bearer another"));
}

#[tokio::test]
async fn five_failures_in_a_row_spare_the_sixth_caller_the_wait() {
    let stand_in = StandIn::saying(500, "").await;
    let braze = braze(&stand_in);
    for i in 0..5 {
        assert_eq!(
            why(&ask(&braze, i).await),
            Some(LookupUnavailable::ServerError)
        );
    }
    assert_eq!(
        why(&ask(&braze, 5).await),
        Some(LookupUnavailable::BreakerOpen)
    );
    assert_eq!(stand_in.n_requests(), 5);
    stand_in.now_does(Act::Say(answer(200, "", NOBODY)));
    assert!(braze.probe().await.ok);
    assert_eq!(source(&ask(&braze, 5).await), Source::Fetched);
}

#[tokio::test]
async fn an_empty_limiter_refuses_at_once() {
    let stand_in = StandIn::saying(200, HOT).await;
    let mut settings = settings(&stand_in.url);
    settings.requests_per_minute = 8;
    let braze = braze_with(settings);
    for i in 0..2 {
        assert_eq!(source(&ask(&braze, i).await), Source::Fetched);
    }
    assert_eq!(
        why(&ask(&braze, 2).await),
        Some(LookupUnavailable::LimiterEmpty)
    );
    assert_eq!(source(&ask(&braze, 1).await), Source::Fresh);
}

#[tokio::test]
async fn after_a_429_nothing_is_sent_until_braze_allows_it() {
    let stand_in = StandIn::start(Act::Say(answer(429, "retry-after: 30\r\n", ""))).await;
    let braze = braze(&stand_in);
    assert_eq!(
        why(&ask(&braze, 0).await),
        Some(LookupUnavailable::RateLimited)
    );
    assert_eq!(
        why(&ask(&braze, 0).await),
        Some(LookupUnavailable::LimiterEmpty)
    );
    assert_eq!(stand_in.n_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_of_one_number_share_one_request() {
    for has_tasks in [true, false] {
        let gate = Arc::new(Semaphore::new(0));
        let act = Act::SayWhenLet(Arc::clone(&gate), answer(201, "", HOT));
        let stand_in = StandIn::start(act).await;
        let braze = braze(&stand_in);
        if has_tasks {
            start_tasks(&braze);
        }
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let braze = braze.clone();
            callers.spawn(async move { ask(&braze, 0).await });
        }
        gate.add_permits(100);
        while let Some(looked_up) = callers.join_next().await {
            let Lookup::Known { profile, .. } = looked_up.unwrap().lookup else {
                panic!("not found");
            };
            assert_eq!(profile, hot());
        }
        assert_eq!(stand_in.n_requests(), 1, "tasks: {has_tasks}");
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_the_answer_to_the_cache() {
    let gate = Arc::new(Semaphore::new(0));
    let stand_in = StandIn::start(Act::SayWhenLet(Arc::clone(&gate), answer(201, "", HOT))).await;
    let braze = braze(&stand_in);
    start_tasks(&braze);
    let impatient = braze.look_up(&caller(0), within(50)).await;
    assert_eq!(why(&impatient), Some(LookupUnavailable::Timeout));
    gate.add_permits(1);
    let next = ask(&braze, 0).await;
    assert!(matches!(&next.lookup, Lookup::Known { profile, .. } if *profile == hot()));
    assert_eq!(stand_in.n_requests(), 1);
}

#[tokio::test]
async fn without_tasks_the_next_caller_takes_over() {
    let stand_in = StandIn::start(Act::Hang).await;
    let braze = braze(&stand_in);
    {
        let hangs_up = ask(&braze, 0);
        let soon = tokio::time::timeout(Duration::from_millis(50), hangs_up).await;
        assert!(soon.is_err());
    }
    stand_in.now_does(Act::Say(answer(201, "", HOT)));
    assert_eq!(source(&ask(&braze, 0).await), Source::Fetched);
}

#[tokio::test]
async fn a_stale_profile_is_served_at_once_and_refreshed_behind() {
    let gate = Arc::new(Semaphore::new(0));
    let stand_in = StandIn::start(Act::SayWhenLet(Arc::clone(&gate), answer(201, "", HOT))).await;
    let braze = braze(&stand_in);
    start_tasks(&braze);
    braze
        .warm(vec![remembered(0, Duration::from_hours(2))])
        .await;
    for _ in 0..3 {
        let stale = ask(&braze, 0).await;
        let Lookup::Known {
            source: Source::Stale,
            age_ms: 7_200_000..7_210_000,
            because: None,
            ..
        } = stale.lookup
        else {
            panic!("{stale:?}");
        };
    }
    gate.add_permits(1);
    while source(&ask(&braze, 0).await) != Source::Fresh {
        tokio::task::yield_now().await;
    }
    assert_eq!(stand_in.n_requests(), 1);
    let changed = braze.drain_changed();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].profile.score, LeadScore::new(87.0));
}

#[tokio::test]
async fn a_stale_profile_says_why_it_cannot_be_refreshed() {
    let stand_in = StandIn::saying(401, "").await;
    let braze = braze(&stand_in);
    start_tasks(&braze);
    braze
        .warm(vec![remembered(0, Duration::from_hours(2))])
        .await;
    assert_eq!(
        why(&ask(&braze, 1).await),
        Some(LookupUnavailable::Unauthorized)
    );
    let stale = ask(&braze, 0).await;
    assert!(
        matches!(
            stale.lookup,
            Lookup::Known {
                because: Some(LookupUnavailable::Unauthorized),
                ..
            }
        ),
        "{stale:?}"
    );
}

#[tokio::test]
async fn a_warm_start_takes_what_may_still_be_used() {
    let stand_in = StandIn::saying(201, HOT).await;
    let braze = braze(&stand_in);
    let day = Duration::from_hours(24);
    let nobody = |i, age| CachedProfile {
        known: false,
        ..remembered(i, age)
    };
    braze
        .warm(vec![
            remembered(0, Duration::ZERO),
            remembered(1, day * 2),
            nobody(2, Duration::from_mins(1)),
            nobody(3, Duration::from_mins(10)),
        ])
        .await;
    let expected = [
        Source::Fresh,
        Source::Fetched,
        Source::Fresh,
        Source::Fetched,
    ];
    for (i, expected) in (0..).zip(expected) {
        assert_eq!(source(&ask(&braze, i).await), expected, "{i}");
    }
}

#[tokio::test]
async fn a_push_replaces_drops_or_comes_too_late() {
    let stand_in = StandIn::saying(201, HOT).await;
    let braze = braze(&stand_in);
    let cases = [
        (
            r#","lead_score":50,"sent_at":"2026-01-02T00:00:00Z""#,
            ProfileAction::Replaced,
            Some(50.0),
        ),
        (
            r#","lead_score":40,"sent_at":"2026-01-01T00:00:00Z""#,
            ProfileAction::Outdated,
            Some(50.0),
        ),
        (
            r#","lead_score":50,"sent_at":"2026-01-02T00:00:00Z""#,
            ProfileAction::Replaced,
            Some(50.0),
        ),
        (r#","lead_score":30"#, ProfileAction::Replaced, Some(30.0)),
        (
            r#","sent_at":"2026-01-03T00:00:00Z""#,
            ProfileAction::Dropped,
            None,
        ),
        (
            r#","lead_score":20,"sent_at":"2026-01-02T12:00:00Z""#,
            ProfileAction::Outdated,
            None,
        ),
        (
            r#","lead_score":10,"sent_at":"2026-01-04T00:00:00Z""#,
            ProfileAction::Replaced,
            Some(10.0),
        ),
    ];
    for (fields, action, score) in cases {
        assert_eq!(braze.apply_push(push(0, fields)).await, action, "{fields}");
        let cached = braze.cached(&number(0)).await;
        let cached = cached.and_then(|cached| cached.profile.score);
        assert_eq!(cached, score.and_then(LeadScore::new), "{fields}");
    }
    assert_eq!(source(&ask(&braze, 0).await), Source::Fresh);
    assert_eq!(stand_in.n_requests(), 0);
    braze.invalidate(&number(0)).await;
    assert!(braze.drain_changed()[0].is_dropped());
    assert_eq!(source(&ask(&braze, 0).await), Source::Fetched);
}

#[tokio::test]
async fn a_push_is_read_however_its_number_is_written() {
    let stand_in = StandIn::saying(201, HOT).await;
    let mut settings = settings(&stand_in.url);
    settings.region = Region::parse("DE");
    let braze = braze_with(settings);
    let phones = [
        "4915112345678",
        "+49 151 12345678",
        "0049 151 12345678",
        "0151/12345678",
    ];
    for (score, phone) in (1_u32..).zip(phones) {
        let body = format!(r#"{{"external_id":"c1","phone":"{phone}","lead_score":{score}}}"#);
        let push = Push::parse(body.as_bytes()).unwrap();
        assert_eq!(braze.apply_push(push).await, ProfileAction::Replaced);
        let cached = braze.cached(&E164::parse("+4915112345678").unwrap()).await;
        assert_eq!(
            cached.unwrap().profile.score,
            LeadScore::new(score.into()),
            "{phone}"
        );
    }
}

#[tokio::test]
async fn a_push_whose_number_cannot_be_read_drops_what_is_remembered_of_the_same_id() {
    let stand_in = StandIn::saying(201, HOT).await;
    let braze = braze(&stand_in);
    let unreadable = |external_id: &str, more: &str| {
        let body = format!(r#"{{"external_id":"{external_id}","phone":"0151 123"{more}}}"#);
        Push::parse(body.as_bytes()).unwrap()
    };
    for i in 0..2 {
        let fields =
            format!(r#","external_id":"c{i}","lead_score":5,"sent_at":"2026-01-02T00:00:00Z""#);
        braze.apply_push(push(i, &fields)).await;
    }
    braze.drain_changed();
    let older = unreadable("c1", r#","sent_at":"2026-01-01T00:00:00Z""#);
    assert_eq!(braze.apply_push(older).await, ProfileAction::Outdated);
    let of_nobody = unreadable("c7", "");
    assert_eq!(braze.apply_push(of_nobody).await, ProfileAction::Unreadable);
    assert_eq!(source(&ask(&braze, 1).await), Source::Fresh);
    let newer = unreadable("c1", r#","lead_score":9,"sent_at":"2026-01-03T00:00:00Z""#);
    assert_eq!(braze.apply_push(newer).await, ProfileAction::Dropped);
    assert_eq!(braze.cached(&number(1)).await, None);
    let persisted = braze.drain_changed();
    assert!(matches!(&persisted[..], [one] if one.is_dropped() && one.phone == number(1)));
    assert_eq!(source(&ask(&braze, 0).await), Source::Fresh);
    assert_eq!(source(&ask(&braze, 1).await), Source::Fetched);
    let without_phone = Push::parse(br#"{"external_id":"c0","phone":""}"#).unwrap();
    assert_eq!(
        braze.apply_push(without_phone).await,
        ProfileAction::Dropped
    );
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn packed(body: &[u8]) -> Act {
    let n = body.len();
    let head = format!(
        "HTTP/1.1 201 X\r\ncontent-length: {n}\r\nconnection: close\r\ncontent-encoding: gzip\r\n\r\n"
    );
    Act::SayBytes([head.as_bytes(), body].concat())
}

fn score_of(looked_up: &LookedUp) -> Option<LeadScore> {
    match &looked_up.lookup {
        Lookup::Known { profile, .. } => profile.score,
        Lookup::Unknown { .. } | Lookup::Skipped { .. } | Lookup::Unavailable { .. } => None,
    }
}

#[tokio::test]
async fn an_answer_that_is_packed_unasked_is_read_within_bounds() {
    let stand_in = StandIn::start(packed(&gzip(HOT))).await;
    let braze = braze(&stand_in);
    assert_eq!(score_of(&ask(&braze, 0).await), LeadScore::new(87.0));
    let request = stand_in.last_request().to_ascii_lowercase();
    assert!(request.contains("accept-encoding: gzip\r\n"), "{request}");
    let bomb = gzip(&format!(
        r#"{{"pad":"{}",{}"#,
        " ".repeat(5 << 20),
        &HOT[1..]
    ));
    assert!(bomb.len() < 1 << 20);
    stand_in.now_does(packed(&bomb));
    assert_eq!(
        unavailable(&ask(&braze, 1).await),
        LookupUnavailable::Malformed
    );
    stand_in.now_does(packed(b"no gzip"));
    assert_eq!(
        unavailable(&ask(&braze, 2).await),
        LookupUnavailable::Malformed
    );
}

fn unavailable(looked_up: &LookedUp) -> LookupUnavailable {
    match looked_up.lookup {
        Lookup::Unavailable { reason } => reason,
        Lookup::Known { .. } | Lookup::Unknown { .. } | Lookup::Skipped { .. } => {
            panic!("{looked_up:?}")
        }
    }
}

/// Megabytes take their time where the machine is busy.
async fn ask_patiently(stand_in: &StandIn) -> LookedUp {
    let mut settings = settings(&stand_in.url);
    settings.timeout = Duration::from_mins(1);
    braze_with(settings)
        .look_up(&caller(0), within(60_000))
        .await
}

#[tokio::test]
async fn an_answer_of_up_to_4_mib_is_read() {
    let object = format!(r#"{{"history":"{}"}}"#, "x".repeat(48 << 10));
    let attributes: Vec<_> = (0..6)
        .map(|n| format!(r#""object_{n}":{object}"#))
        .collect();
    let attributes = attributes.join(",");
    let user =
        format!(r#"{{"external_id":"c1","custom_attributes":{{{attributes},"lead_score":87}}}}"#);
    let most = (4 << 20) - 100;
    for n_users in [1, 6, most / user.len()] {
        let users = vec![user.as_str(); n_users].join(",");
        let body = format!(r#"{{"users":[{users}],"message":"success"}}"#);
        let stand_in = StandIn::saying(201, &body).await;
        let looked_up = ask_patiently(&stand_in).await;
        assert_eq!(
            score_of(&looked_up),
            LeadScore::new(87.0),
            "{} bytes",
            body.len()
        );
        let response = looked_up.exchange.unwrap().response.unwrap();
        assert_eq!(response["users"], n_users);
    }
    let too_long = format!(r#"{{"pad":"{}",{}"#, " ".repeat(4 << 20), &HOT[1..]);
    let stand_in = StandIn::saying(201, &too_long).await;
    let looked_up = ask_patiently(&stand_in).await;
    assert_eq!(unavailable(&looked_up), LookupUnavailable::Malformed);
    let error = looked_up.exchange.unwrap().error;
    assert_eq!(error.as_deref(), Some("the answer is longer than 4096 KiB"));
}

/// The connection may be of no use, or its name may lead elsewhere by now.
#[tokio::test]
async fn after_a_failure_braze_is_asked_over_new_connections() {
    for (act, renewed) in [
        (Act::Say(answer(201, "", HOT)), 0),
        (Act::Say(answer(429, "", "")), 0),
        (Act::Say(answer(503, "", "")), 1),
        (Act::Reset(String::new()), 1),
    ] {
        let stand_in = StandIn::start(act).await;
        let clock = Clock::stopped(jiff::Timestamp::UNIX_EPOCH);
        let n_prepared = Arc::new(AtomicUsize::new(0));
        let counted = n_prepared.clone();
        let braze = braze_by(&clock, settings(&stand_in.url), move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        clock.advance(Duration::from_secs(1));
        let looked_up = braze.look_up(&caller(0), within(60_000)).await;
        let n_renewed = n_prepared.load(Ordering::SeqCst) - 1;
        assert_eq!(n_renewed, renewed, "{looked_up:?}");
    }
}

#[tokio::test]
async fn a_push_beats_the_answer_to_a_request_sent_before_it() {
    let gate = Arc::new(Semaphore::new(0));
    let stand_in = StandIn::start(Act::SayWhenLet(Arc::clone(&gate), answer(201, "", HOT))).await;
    let braze = braze(&stand_in);
    let pushed = async {
        while stand_in.n_requests() == 0 {
            tokio::task::yield_now().await;
        }
        braze.apply_push(push(0, r#","lead_score":5"#)).await;
        gate.add_permits(1);
    };
    let (looked_up, ()) = tokio::join!(ask(&braze, 0), pushed);
    assert!(
        matches!(&looked_up.lookup, Lookup::Known { profile, .. } if profile.score == LeadScore::new(5.0))
    );
    let cached = braze.cached(&number(0)).await.unwrap();
    assert_eq!(cached.profile.score, LeadScore::new(5.0));
}

#[tokio::test]
async fn another_attribute_empties_the_cache() {
    let stand_in = StandIn::saying(201, HOT).await;
    let braze = braze(&stand_in);
    ask(&braze, 0).await;
    let mut other = settings(&stand_in.url);
    other.score_attribute = "value".to_owned();
    braze.reconfigure(other).unwrap();
    let looked_up = ask(&braze, 0).await;
    assert!(
        matches!(&looked_up.lookup, Lookup::Known { profile, source: Source::Fetched, .. } if *profile == Profile::default())
    );
}

#[tokio::test]
async fn a_probe_asks_for_nobody_and_reports_in_words() {
    let stand_in = StandIn::saying(201, NOBODY).await;
    let braze = braze(&stand_in);
    assert!(braze.probe().await.ok);
    assert!(
        stand_in.last_request().contains(
            r#"{"external_ids":["__callrouter_probe__"],"fields_to_export":["braze_id"]}"#
        )
    );
    stand_in.now_does(Act::Say(answer(403, "", "")));
    let report = braze.probe().await;
    assert_eq!(report.failure, Some(LookupUnavailable::Unauthorized));
    assert!(report.message.contains("users.export.ids"));
    stand_in.now_does(Act::Say(answer(200, "", "<html>")));
    assert!(!braze.probe().await.ok);
}
