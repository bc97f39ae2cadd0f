//! What the carrier reports of a call counts whenever it arrives: a call that is over stays over, and how it counts is put right.

use switchboard::audit::Kind;
use switchboard::call::{CallId, Disposition, EndReason, LegStatus, Status};
use switchboard::store::{Figures, StoredCall, StoredRecord};

use crate::world::{CALLED, DIALFIRE_LINE, HOT, World};

/// A call that Dialfire's line was dialled for, and its child leg.
struct Story<'w> {
    world: &'w World,
    call: String,
    leg: String,
}

impl<'w> Story<'w> {
    async fn begin(world: &'w World) -> Self {
        let twilio = &world.outside.twilio;
        let (call, leg) = (twilio.new_sid("CA"), twilio.new_sid("CA"));
        let fields = twilio.inbound_fields(&call, HOT, CALLED);
        let answer = twilio.post("/webhooks/twilio", &fields).await.unwrap();
        assert!(answer.body.contains(DIALFIRE_LINE), "{}", answer.body);
        Self { world, call, leg }
    }

    /// Sends one webhook of it: a word for each.
    async fn tell(&self, what: &str) {
        let (path, sid, own) = match what {
            "caller completed" => ("/webhooks/twilio/status", &self.call, true),
            "dial completed" | "dial no-answer, caller gone" => (
                "/webhooks/twilio/dial?step=1&dialer=dialfire",
                &self.call,
                true,
            ),
            _ => (
                "/webhooks/twilio/status?step=1&dialer=dialfire",
                &self.leg,
                false,
            ),
        };
        let twilio = &self.world.outside.twilio;
        let mut fields = twilio.inbound_fields(sid, HOT, CALLED);
        let mut set = |name: &str, value: &str| {
            fields.retain(|(known, _)| known != name);
            fields.push((name.to_owned(), value.to_owned()));
        };
        if !own {
            set("ParentCallSid", &self.call);
        }
        match what {
            "caller completed" => {
                set("CallStatus", "completed");
                set("CallDuration", "200");
            }
            "dial completed" => {
                set("CallStatus", "in-progress");
                set("DialCallStatus", "completed");
                set("DialCallSid", &self.leg);
                set("DialCallDuration", "190");
            }
            "dial no-answer, caller gone" => {
                set("CallStatus", "completed");
                set("DialCallStatus", "no-answer");
                set("DialCallSid", &self.leg);
            }
            "leg completed" => {
                set("CallStatus", "completed");
                set("CallDuration", "190");
                set("SequenceNumber", "3");
            }
            "leg answered" => {
                set("CallStatus", "in-progress");
                set("SequenceNumber", "2");
            }
            "leg ringing" => {
                set("CallStatus", "ringing");
                set("SequenceNumber", "1");
            }
            "leg initiated" => {
                set("CallStatus", "initiated");
                set("SequenceNumber", "0");
            }
            other => unreachable!("{other}"),
        }
        let answer = twilio.post(path, &fields).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("<Response/>"), "{}", answer.body);
    }

    fn id(&self) -> CallId {
        CallId::parse(&self.call).unwrap()
    }

    async fn stored(&self) -> StoredCall {
        let store = &self.world.running().store;
        store.call(&self.id()).await.unwrap().unwrap()
    }

    async fn corrections(&self) -> Vec<(String, String)> {
        let store = &self.world.running().store;
        let records = store.records_of_call(&self.id()).await.unwrap();
        let corrected = |record: &StoredRecord| {
            let detail: serde_json::Value = serde_json::from_str(&record.detail).unwrap();
            let text = |name: &str| detail.get(name).unwrap().as_str().unwrap().to_owned();
            (text("from"), text("to"))
        };
        let of_kind = records
            .iter()
            .filter(|record| record.kind == Kind::CallCorrected);
        of_kind.map(corrected).collect()
    }
}

/// The figures of all time, by the minute.
async fn figures(world: &World) -> Figures {
    let minutes = world
        .running()
        .store
        .figures(0, i64::MAX / 2, 60_000)
        .await
        .unwrap();
    let mut all = Figures::default();
    for figures in minutes.values() {
        all.add(figures);
    }
    all
}

fn counted(figures: &Figures, disposition: &str) -> i64 {
    figures
        .dispositions
        .get(disposition)
        .copied()
        .unwrap_or_default()
}

#[tokio::test]
async fn a_talk_is_answered_in_whatever_order_it_is_told() {
    let world = World::new().await;
    let whole = [
        "leg initiated",
        "leg ringing",
        "leg answered",
        "leg completed",
        "dial completed",
        "caller completed",
    ];
    let mut reversed = whole;
    reversed.reverse();
    let orders: [(&[&str], usize); 6] = [
        (&whole, 0),
        (&reversed, 1),
        // The leg's answer is lost and so is the dial's end; the caller's end comes first.
        (&["leg ringing", "caller completed", "leg completed"], 1),
        (&["caller completed", "leg answered"], 1),
        (&["caller completed", "dial completed", "leg completed"], 1),
        (
            &[
                "caller completed",
                "caller completed",
                "leg completed",
                "leg completed",
                "leg answered",
                "leg answered",
            ],
            1,
        ),
    ];
    let mut n_calls = 0;
    for (order, n_corrections) in orders {
        let story = Story::begin(&world).await;
        n_calls += 1;
        let mut was_over = false;
        for what in order {
            story.tell(what).await;
            let is_over = story.stored().await.status == Status::Ended;
            assert!(is_over || !was_over, "{order:?}: {what}");
            was_over = is_over;
        }
        let stored = story.stored().await;
        assert_eq!(stored.disposition, Some(Disposition::Answered), "{order:?}");
        let (answered_at, ended_at) = (stored.answered_at.unwrap(), stored.ended_at.unwrap());
        assert!(stored.started_at <= answered_at && answered_at <= ended_at);
        let corrections = story.corrections().await;
        let expected = vec![("abandoned".to_owned(), "answered".to_owned()); n_corrections];
        assert_eq!(corrections, expected, "{order:?}");
        let all = figures(&world).await;
        assert_eq!(
            (counted(&all, "answered"), counted(&all, "abandoned")),
            (n_calls, 0),
            "{order:?}"
        );
        assert_eq!(all.dialers["dialfire"].answered, n_calls, "{order:?}");
    }
}

#[tokio::test]
async fn a_caller_who_left_has_left_in_whatever_order_it_is_told() {
    let world = World::new().await;
    let ends = ["dial no-answer, caller gone", "caller completed"];
    for order in [[ends[0], ends[1]], [ends[1], ends[0]]] {
        let story = Story::begin(&world).await;
        for what in order {
            story.tell(what).await;
        }
        let stored = story.stored().await;
        assert_eq!(stored.disposition, Some(Disposition::Abandoned));
        assert!(story.corrections().await.is_empty());
        // The end of the dial is taken note of, although the call was over.
        let legs = world.running().store.legs(&story.id()).await.unwrap();
        let child = legs.iter().find(|leg| leg.parent.is_some()).unwrap();
        assert_eq!(child.status, LegStatus::Ended(EndReason::NoAnswer));
        assert_eq!(child.leg.as_str(), story.leg);
    }
}

#[tokio::test]
async fn a_report_that_was_taken_changes_nothing_when_it_comes_again() {
    let world = World::new().await;
    let story = Story::begin(&world).await;
    let order = ["caller completed", "dial completed", "leg completed"];
    for what in order {
        story.tell(what).await;
    }
    let store = &world.running().store;
    let (before, records) = (story.stored().await, store.counts().await.unwrap().records);
    for what in order {
        story.tell(what).await;
    }
    assert_eq!(story.stored().await, before);
    assert_eq!(store.counts().await.unwrap().records, records);
}
