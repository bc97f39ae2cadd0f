//! A call arrives, and everything is well.

use switchboard::audit::Kind;
use switchboard::call::{Disposition, Status};
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::{Call, Duplicate, LineBehaviour, Outcome};

use crate::world::{
    CALLED, COLD, DIALFIRE_LINE, HOT, LAST_RESORT, STRANGER, Settings, World, ZENDESK_LINE, dialled,
};

#[tokio::test]
async fn a_hot_lead_talks_to_the_sales_floor_and_every_step_is_on_disk() {
    let world = World::new().await;
    let result = world.call(HOT).await;
    assert_eq!(
        result.outcome,
        Outcome::Talked {
            address: DIALFIRE_LINE.to_owned()
        }
    );

    let stored = world.stored(&result).await;
    assert_eq!(
        stored
            .tier
            .as_ref()
            .map(switchboard::lead::TierName::as_str),
        Some("hot")
    );
    assert_eq!(stored.rule.as_deref(), Some("sales floor"));
    assert_eq!(stored.status, Status::Ended);
    assert_eq!(stored.disposition, Some(Disposition::Answered));
    assert_eq!(
        stored
            .dialer
            .as_ref()
            .map(switchboard::routing::DialerId::as_str),
        Some("dialfire")
    );
    assert!(!stored.failed_over);
    let kinds: Vec<Kind> = world
        .records(&result)
        .await
        .iter()
        .map(|record| record.kind)
        .collect();
    assert_eq!(&kinds[..2], [Kind::CallDecided, Kind::CallAnswered]);
    assert_eq!(world.asked_dialfire(), 1);
    assert_eq!(world.asked_zendesk(), 0);
}

#[tokio::test]
async fn the_line_of_zendesk_talk_rings_with_the_ticket_of_its_handoff() {
    let world = World::new().await;
    let result = world.call(COLD).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let concluded = world.details(&result, Kind::HandoffConcluded).await;
    let ticket = concluded[0]["reference"].as_str().unwrap();
    let headers = &result.dialled[0].sip_headers;
    assert_eq!(
        headers,
        &[("X-Zendesk-Ticket-Id".to_owned(), ticket.to_owned())]
    );
}

#[tokio::test]
async fn a_caller_without_a_number_is_not_looked_up() {
    let world = World::new().await;
    for from in [
        "anonymous",
        "+266696687",
        "sip:alice@pbx.example.com",
        "client:alice",
        "5035551212",
    ] {
        let result = world.call(from).await;
        assert_eq!(dialled(&result), [ZENDESK_LINE], "{from}");
        assert_eq!(
            world.stored(&result).await.reason.as_str(),
            "lookup_skipped",
            "{from}"
        );
    }
    assert_eq!(world.outside.braze.requests().count(), 0);
}

#[tokio::test]
async fn the_second_call_of_a_caller_is_answered_from_the_cache() {
    let world = World::new().await;
    world.call(HOT).await;
    let result = world.call(HOT).await;
    assert_eq!(world.outside.braze.requests().count(), 1);
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(decided[0]["facts"]["lookup"]["source"], "fresh");
}

#[tokio::test]
async fn the_same_webhook_twice_gets_the_same_answer_and_one_handoff() {
    let world = World::new().await;
    for duplicate in [
        Duplicate::AtOnce,
        Duplicate::AfterAnswer,
        Duplicate::AfterEnd,
    ] {
        let call = Call::new(HOT, CALLED).duplicate(duplicate);
        let result = world.outside.twilio.call(call).await;
        assert_eq!(result.violations, Vec::<String>::new(), "{duplicate:?}");
        let answers = result.steps_to("/webhooks/twilio");
        assert_eq!(answers.len(), 2, "{duplicate:?}");
        assert_eq!(answers[0].body, answers[1].body, "{duplicate:?}");
        let handoffs = world.outside.dialfire.handoffs();
        assert_eq!(handoffs.count_of(&result.call_sid), 1, "{duplicate:?}");
        let decisions = world.details(&result, Kind::CallDecided).await;
        assert_eq!(decisions.len(), 1, "{duplicate:?}");
    }
}

#[tokio::test]
async fn an_unknown_caller_goes_to_the_default_dialer() {
    let world = World::new().await;
    let result = world.call(STRANGER).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    assert_eq!(
        world.stored(&result).await.reason.as_str(),
        "unknown_caller"
    );
}

#[tokio::test]
async fn profiles_survive_a_restart_and_so_do_answers() {
    let mut world = World::new().await;
    let call = Call::new(HOT, CALLED).call_sid("CA00000000000000000000000000000abc");
    let before = world.outside.twilio.call(call.clone()).await;
    world.stop().await;
    world.start().await;
    let twilio = &world.outside.twilio;
    let fields = twilio.inbound_fields(&before.call_sid, HOT, CALLED);
    let after = twilio.post("/webhooks/twilio", &fields).await.unwrap();
    assert_eq!(after.body, before.steps[0].body);
    world.call(HOT).await;
    assert_eq!(world.outside.braze.requests().count(), 1);
}

#[tokio::test]
async fn no_phone_is_rung_without_a_number_to_show_whoever_calls_and_whatever_breaks() {
    const OURS: &str = "+4930654321";
    let settings = Settings {
        twilio: format!("number = \"{OURS}\""),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let twilio = &world.outside.twilio;
    twilio.configure(|settings| settings.own_numbers.push(OURS.to_owned()));
    let sip = "sip:18005551212@acme.sip.twilio.com";
    // (who calls, what was called, what the phone is shown)
    let cases = [
        (HOT, CALLED, HOT),
        ("anonymous", CALLED, CALLED),
        ("anonymous", sip, OURS),
        ("03012345", CALLED, CALLED),
        ("sip:alice@pbx.example.com", sip, OURS),
        ("client:alice", "", OURS),
    ];
    // Every phone: that of the dialer, the last resort, and the safe answer.
    world.outside.zendesk.faults().standing(Fault::status(503));
    for (from, to, shown) in cases {
        twilio.set_line("", LineBehaviour::Busy);
        let result = twilio.call(Call::new(from, to)).await;
        assert_eq!(result.violations, Vec::<String>::new(), "{from} {to}");
        assert!(
            dialled(&result).contains(&DIALFIRE_LINE),
            "{from}: {result:?}"
        );
        assert!(
            dialled(&result).contains(&LAST_RESORT),
            "{from}: {result:?}"
        );
        let fields = twilio.inbound_fields(&twilio.new_sid("CA"), from, to);
        let fallback = twilio
            .post("/webhooks/twilio/fallback", &fields)
            .await
            .unwrap();
        let answers = result.steps.iter().map(|step| step.body.as_str());
        let phones = answers.chain([fallback.body.as_str()]);
        for body in phones.filter(|body| body.contains("<Number")) {
            let expected = format!(" callerId=\"{shown}\"");
            assert!(body.contains(&expected), "{from} calls {to}: {body}");
        }
    }
}
