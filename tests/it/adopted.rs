//! A call goes on at a machine that knows nothing of it, or less than its callback URL does.

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::call::{CallId, Disposition, Stamp, Status};
use switchboard::lead::LeadScore;
use switchboard::store::StoredCall;
use switchboard_simulator::faults::{Fault, Route};

use crate::world::{CALLED, DIALFIRE_LINE, HOT, LAST_RESORT, Settings, World, ZENDESK_LINE};

const NOTHING: &str = "<Response/>";

fn node(name: &str) -> Settings {
    Settings {
        server: format!("node = \"{name}\"\nalso_public = [\"https://b.example.com\"]"),
        ..Settings::default()
    }
}

/// Another machine of the same configuration takes the place of this one: it has the secret, and nothing else.
async fn to_another_machine(world: &mut World, name: &str) {
    world.stop().await;
    for entry in std::fs::read_dir(world.file("")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file.starts_with("switchboard.db") && !file.ends_with(".secret") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let server = node(name).server;
    world.change(|settings| settings.server = server);
    world.start().await;
}

/// The URL at which Twilio asks next, as it is written in an answer.
fn next_url(twiml: &str) -> String {
    let at = |begin: &str, end: &str| {
        let (_, rest) = twiml.split_once(begin)?;
        let (url, _) = rest.split_once(end)?;
        Some(url.replace("&amp;", "&"))
    };
    at("action=\"", "\"")
        .or_else(|| {
            let redirect = at("<Redirect", "</Redirect>")?;
            Some(redirect.split_once('>')?.1.to_owned())
        })
        .unwrap()
}

/// Path and query of such a URL, as Twilio asks for it.
fn path_of(url: &str) -> String {
    let (url, overrides) = url.split_once('#').unwrap();
    assert_eq!(overrides, "ct=2000&rt=6000&rc=1&rp=ct,rt,5xx");
    let path = url.find("/webhooks").unwrap();
    url[path..].to_owned()
}

async fn post(world: &World, call: &str, path: &str, more: &[(&str, &str)]) -> String {
    let twilio = &world.outside.twilio;
    let mut fields = twilio.inbound_fields(call, HOT, CALLED);
    let more = more.iter();
    fields.extend(more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let answer = twilio.post(path, &fields).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.body
}

async fn busy(world: &World, call: &str, url: &str) -> String {
    post(world, call, &path_of(url), &[("DialCallStatus", "busy")]).await
}

/// A call whose dialer's line rings, and the URL that its end is reported at.
async fn ringing(world: &World) -> (String, String) {
    let call = world.outside.twilio.new_sid("CA");
    let answer = post(world, &call, "/webhooks/twilio", &[]).await;
    assert!(answer.contains(DIALFIRE_LINE), "{answer}");
    (call, next_url(&answer))
}

async fn stored(world: &World, call: &str) -> Option<StoredCall> {
    let call = CallId::parse(call).unwrap();
    world.running().store.call(&call).await.unwrap()
}

async fn adoptions(world: &World, call: &str) -> Vec<serde_json::Value> {
    let call = CallId::parse(call).unwrap();
    let records = world.running().store.records_of_call(&call).await.unwrap();
    let adopted = records
        .iter()
        .filter(|record| record.kind == Kind::CallAdopted);
    adopted
        .map(|record| serde_json::from_str(&record.detail).unwrap())
        .collect()
}

fn is_safe_answer(answer: &str) -> bool {
    answer.contains(LAST_RESORT) && !answer.contains("action=")
}

#[tokio::test]
async fn a_call_goes_on_along_its_plan_at_a_machine_that_has_never_heard_of_it() {
    let mut world = World::with(node("a")).await;
    let (call, url) = ringing(&world).await;
    assert!(url.contains("&o=a&p="), "{url}");
    assert!(url.len() <= 512, "{}", url.len());

    to_another_machine(&mut world, "b").await;
    let again = busy(&world, &call, &url).await;
    assert!(
        again.contains(DIALFIRE_LINE),
        "its line rings once more: {again}"
    );
    assert!(next_url(&again).contains("&o=b&p="));
    assert_eq!(busy(&world, &call, &url).await, again, "a repeat");
    let second = busy(&world, &call, &next_url(&again)).await;
    assert!(second.contains(ZENDESK_LINE), "{second}");
    assert_eq!((world.asked_dialfire(), world.asked_zendesk()), (1, 1));

    let adoptions = adoptions(&world, &call).await;
    assert_eq!(adoptions.len(), 1);
    let said = |key: &str| adoptions[0][key].clone();
    assert_eq!((said("from"), said("epoch")), ("a".into(), 1.into()));
    assert_eq!(
        (said("how"), said("tier")),
        ("passport".into(), "hot".into())
    );
    let stored = stored(&world, &call).await.unwrap();
    assert_eq!(stored.adopted_from.as_deref(), Some("a"));
    assert_eq!(stored.score, LeadScore::new(90.0));
    assert!(stored.failed_over);
    assert_eq!(stored.personal.caller().as_text(), HOT);
    let figures = world.running().store.figures(0, i64::MAX, 60_000).await;
    let counted: i64 = figures.unwrap().values().map(|figures| figures.calls).sum();
    assert_eq!(counted, 0, "it counts where it was decided");
}

#[tokio::test]
async fn who_waits_is_served_at_another_machine_and_has_waited_as_long() {
    let mut world = World::with(node("a")).await;
    let outside = world.outside.clone();
    let dialers = [outside.dialfire.faults(), outside.zendesk.faults()];
    for faults in dialers {
        faults.standing_on(Route::method("POST"), Fault::status(503));
    }
    let call = world.outside.twilio.new_sid("CA");
    let answer = post(&world, &call, "/webhooks/twilio", &[]).await;
    let url = next_url(&answer);
    assert!(url.contains("/hold?n=1&o=a&p="), "{url}");

    to_another_machine(&mut world, "b").await;
    let second = post(&world, &call, &path_of(&url), &[]).await;
    assert!(second.contains("/hold?n=2"), "{second}");
    let held = stored(&world, &call).await.unwrap();
    assert!(held.held);
    let (since, round) = held.state.waiting().unwrap();
    assert_eq!(round, 2);
    assert!(since.at <= held.updated_at);
    assert!(
        since.until(Stamp {
            at: held.updated_at,
            ..since
        }) < Duration::from_mins(2)
    );

    for faults in dialers {
        faults.clear();
    }
    to_another_machine(&mut world, "a").await;
    let third = post(&world, &call, &path_of(&next_url(&second)), &[]).await;
    assert!(third.contains("dialer=dialfire"), "{third}");
    assert_eq!(adoptions(&world, &call).await[0]["epoch"], 2);
}

#[tokio::test]
async fn a_passport_of_another_call_or_step_or_secret_gets_the_safe_answer() {
    let mut world = World::with(node("a")).await;
    let (call, url) = ringing(&world).await;
    let (_, other) = ringing(&world).await;
    to_another_machine(&mut world, "b").await;
    let step_2 = url.replace("step=1", "step=2");
    let torn = url.replace("&p=", "&p=A");
    let bare =
        url.split("&p=").next().unwrap().to_owned() + "&step=1#ct=2000&rt=6000&rc=1&rp=ct,rt,5xx";
    for url in [&other, &step_2, &torn, &bare] {
        let answer = busy(&world, &call, url).await;
        assert!(is_safe_answer(&answer), "{url}: {answer}");
    }
    assert_eq!(stored(&world, &call).await, None);

    world.stop().await;
    std::fs::remove_file(world.file("switchboard.db.secret")).unwrap();
    std::fs::remove_file(world.file("switchboard.db")).unwrap();
    world.start().await;
    let answer = busy(&world, &call, &url).await;
    assert!(is_safe_answer(&answer), "{answer}");
}

#[tokio::test]
async fn a_call_that_is_over_stays_over_whatever_its_passport_says() {
    let world = World::with(node("a")).await;
    let (call, url) = ringing(&world).await;
    let gone = [("DialCallStatus", "canceled"), ("CallStatus", "completed")];
    let twilio = &world.outside.twilio;
    let mut fields = twilio.inbound_fields(&call, HOT, CALLED);
    fields.retain(|(name, _)| name != "CallStatus");
    fields.extend(gone.map(|(name, value)| (name.to_owned(), value.to_owned())));
    twilio
        .post("/webhooks/twilio/status", &fields)
        .await
        .unwrap();
    let asked = (world.asked_dialfire(), world.asked_zendesk());
    assert!(busy(&world, &call, &url).await.contains(NOTHING));
    assert_eq!((world.asked_dialfire(), world.asked_zendesk()), asked);
    let stored = stored(&world, &call).await.unwrap();
    assert_eq!(stored.disposition, Some(Disposition::Abandoned));
    assert!(adoptions(&world, &call).await.is_empty());
}

#[tokio::test]
async fn a_machine_whose_last_record_of_a_call_is_lost_goes_on_where_the_caller_is() {
    let mut world = World::with(node("a")).await;
    let (call, first) = ringing(&world).await;
    world.stop().await;
    let old = std::fs::read(world.file("switchboard.db")).unwrap();
    world.start().await;
    let again = busy(&world, &call, &first).await;
    let second = busy(&world, &call, &next_url(&again)).await;
    assert!(second.contains(ZENDESK_LINE), "{second}");

    // The row is the one of the first answer again.
    world.stop().await;
    for end in ["-wal", "-shm", ".head", ".spool"] {
        drop(std::fs::remove_file(
            world.file(&format!("switchboard.db{end}")),
        ));
    }
    std::fs::write(world.file("switchboard.db"), old).unwrap();
    world.start().await;
    let third = busy(&world, &call, &next_url(&second)).await;
    assert!(
        third.contains(ZENDESK_LINE),
        "its line rings once more: {third}"
    );
    let adopted = adoptions(&world, &call).await;
    assert_eq!(
        (&adopted[0]["was_known"], &adopted[0]["epoch"]),
        (&true.into(), &1.into())
    );
    let stored = stored(&world, &call).await.unwrap();
    assert_eq!(
        (stored.status, stored.adopted_from),
        (Status::Dialing, None)
    );
    assert_eq!(world.asked_dialfire(), 1);
}

#[tokio::test]
async fn a_step_that_twilio_could_not_fetch_goes_on_at_the_fallback_url_and_no_other_does() {
    for fallback in ["/webhooks/twilio/fallback", "/webhooks/twilio"] {
        let mut world = World::with(node("a")).await;
        let (call, url) = ringing(&world).await;
        to_another_machine(&mut world, "b").await;
        let (url, _) = url.split_once('#').unwrap();
        let elsewhere = url.replacen("https://", "https://x.", 1);
        let refused = [("12100", url), ("11750", url), ("11205", &elsewhere)];
        let fields = |code, url| {
            [
                ("ErrorCode", code),
                ("ErrorUrl", url),
                ("DialCallStatus", "busy"),
            ]
        };
        for (code, url) in refused {
            if fallback.ends_with("fallback") || code != "11205" {
                let answer = post(&world, &call, fallback, &fields(code, url)).await;
                assert!(is_safe_answer(&answer), "{fallback} {code} {url}: {answer}");
            }
        }
        let answer = post(&world, &call, fallback, &fields("11205", url)).await;
        assert!(answer.contains(DIALFIRE_LINE), "{fallback}: {answer}");
        assert_eq!(adoptions(&world, &call).await[0]["how"], "fallback");
        let under_b = url.replacen(&node("a").public_url, "https://b.example.com", 1);
        let again = post(&world, &call, fallback, &fields("11200", &under_b)).await;
        assert_eq!(again, answer, "the same step again");
    }
}
