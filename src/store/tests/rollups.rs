//! Figures by the minute agree with the calls, whatever happens to these.

use std::collections::BTreeMap;

use super::*;
use crate::audit::{Attempt, Exchange};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::store::{Figures, GroupFigures};

const MINUTE_MS: i64 = 60_000;

/// A generator that needs no crate: the same numbers every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

fn answered(call: &CallId, ms: i64, dice: &mut Dice) -> Record {
    let state = CallState::routing(vec![dialer("dialfire"), dialer("zendesk")]);
    let state = if dice.roll(7) == 0 {
        state.dialing_last_resort(&crate::phone::E164::parse("+4930900900").unwrap())
    } else {
        state
    };
    let name = if dice.roll(3) == 0 {
        "zendesk"
    } else {
        "dialfire"
    };
    let after = CallAfter {
        status: Status::Dialing,
        disposition: None,
        reason: if dice.roll(4) == 0 {
            Reason::NoDialerAvailable
        } else {
            Reason::RuleMatched
        },
        dialer: (dice.roll(5) > 0).then(|| dialer(name)),
        failed_over: dice.roll(4) == 0,
        held: dice.roll(6) == 0,
        answered_at: None,
        ended_at: None,
        routing_ms: Some(12),
        state,
    };
    let event = Event::CallAnswered(Box::new(CallAnswered {
        request_id: "r".into(),
        step: if dice.roll(2) == 0 {
            "inbound"
        } else {
            "dial-1"
        }
        .into(),
        answer: Answer::Hold,
        stages: Stages {
            lookup_ms: 1.0,
            handoff_ms: 5.0,
            total_ms: 12.0,
        },
        within_budget: dice.roll(5) > 0,
        unclaimed: false,
        attempt: None,
    }));
    Record::of_call(at(ms), call, event).leaving(after)
}

fn ended(call: &CallId, ms: i64, dice: &mut Dice) -> Record {
    const ENDS: [Disposition; 5] = [
        Disposition::Answered,
        Disposition::Abandoned,
        Disposition::Busy,
        Disposition::LastResort,
        Disposition::Unknown,
    ];
    let mut record = answered(call, ms, dice);
    if let Some(after) = &mut record.after {
        after.status = Status::Ended;
        after.ended_at = Some(at(ms));
        after.disposition = ENDS.get(usize::try_from(dice.roll(5)).unwrap()).copied();
    }
    record
}

fn handed_off(call: &CallId, ms: i64, dice: &mut Dice) -> Record {
    let failure = Failure::of(FailureKind::Timeout);
    let attempt = Attempt {
        dialer: dialer("dialfire"),
        attempt: 1,
        outcome: if dice.roll(3) == 0 {
            Outcome::Refused { failure }
        } else {
            Outcome::Accepted { reference: None }
        },
        exchanges: vec![Exchange {
            service: "dialfire".into(),
            method: "POST".into(),
            url: "https://dialer.example".into(),
            status: Some(200),
            error: None,
            elapsed_ms: 7.0,
            request: None,
            response: None,
        }],
    };
    Record::of_call(at(ms), call, Event::HandoffConcluded(Box::new(attempt)))
}

/// The same figures from the rows of `calls`, counted by SQL.
fn recount(home: &Home) -> BTreeMap<i64, (i64, i64, i64, i64, i64, i64)> {
    let sql = "SELECT started_at / 60000 * 60000, count(*),
            sum(overran OR coalesce(disposition IN ('no_answer', 'busy', 'failed', 'last_resort', 'goodbye'), 0)
                OR (status IN ('dialing', 'bridged') AND state LIKE '%\"last_resort\"%')),
            sum(failed_over), sum(held), sum(coalesce(disposition = 'answered', 0)), sum(coalesce(dialer = 'dialfire', 0))
        FROM calls GROUP BY 1";
    let connection = home.stranger();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let figures = (
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
            row.get(6)?,
        );
        Ok((row.get(0)?, figures))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn as_counted(figures: &Figures) -> (i64, i64, i64, i64, i64, i64) {
    let answered = figures
        .dispositions
        .get("answered")
        .copied()
        .unwrap_or_default();
    let dialfire = figures
        .dialers
        .get("dialfire")
        .map_or(0, |share| share.calls);
    (
        figures.calls,
        figures.failed,
        figures.failed_over,
        figures.held,
        answered,
        dialfire,
    )
}

#[tokio::test]
async fn the_figures_of_every_minute_are_those_of_its_calls_in_whatever_order_things_happen() {
    for seed in 1..=3 {
        let home = Home::new();
        let store = home.open();
        let mut dice = Dice(seed);
        let mut calls: Vec<CallId> = Vec::new();
        let (mut asked, mut refused, mut first_answers) = (0, 0, 0);
        for n in 0..200 {
            // Three hours, with steps back: records of different calls are written out of order.
            let ms = n * 54_000 + i64::try_from(dice.roll(90_000)).unwrap() - 45_000;
            let known = usize::try_from(dice.roll(200)).unwrap();
            let call = calls.get(known % calls.len().max(1)).cloned();
            let record = match (dice.roll(6), call) {
                (0 | 1, _) | (_, None) => {
                    let call = call_id(&format!("CA{seed}x{n}"));
                    calls.push(call.clone());
                    store.open_call(vec![decided(&call, ms)]).await.unwrap();
                    // A repeat changes nothing.
                    store.open_call(vec![decided(&call, ms + 1)]).await.unwrap();
                    continue;
                }
                (2, Some(call)) => ended(&call, ms, &mut dice),
                (3, Some(call)) => handed_off(&call, ms, &mut dice),
                (_, Some(call)) => answered(&call, ms, &mut dice),
            };
            if let Event::HandoffConcluded(attempt) = &record.event {
                asked += 1;
                refused += i64::from(!matches!(attempt.outcome, Outcome::Accepted { .. }));
            }
            if let Event::CallAnswered(answered) = &record.event {
                first_answers += u64::from(answered.step == "inbound");
            }
            store.append(vec![record]).await.unwrap();
        }
        let (from, to) = (START_MS - 10 * MINUTE_MS, START_MS + 240 * MINUTE_MS);
        let from = from.div_euclid(MINUTE_MS) * MINUTE_MS;
        let minutes = store.figures(from, to, MINUTE_MS).await.unwrap();
        let counted: BTreeMap<i64, _> = minutes
            .iter()
            .map(|(minute, figures)| (*minute, as_counted(figures)))
            .filter(|(_, figures)| figures.0 != 0)
            .collect();
        assert_eq!(counted, recount(&home), "seed {seed}");

        let sum = |steps: &BTreeMap<i64, Figures>| {
            let mut all = Figures::default();
            for figures in steps.values() {
                all.add(figures);
            }
            all
        };
        let all = sum(&minutes);
        let hours = store.figures(from, to, 60 * MINUTE_MS).await.unwrap();
        assert_eq!(
            sum(&hours),
            all,
            "hours that are over are the sum of their minutes"
        );
        assert!(hours.len() >= 3);
        let n_hours: i64 = home
            .stranger()
            .query_row(
                "SELECT count(*) FROM rollups WHERE span_ms = 3600000",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert!(n_hours >= 2, "{n_hours}");
        let handoffs = all.handoffs.get("dialfire").unwrap();
        assert_eq!((handoffs.asked, handoffs.failed), (asked, refused));
        assert_eq!(handoffs.took.count(), u64::try_from(asked).unwrap());
        assert_eq!(all.stages.get("routing").unwrap().count(), first_answers);
        assert_eq!(
            all.cache.get("miss").copied(),
            Some(i64::try_from(calls.len()).unwrap())
        );
        let failures: i64 = all.failures.values().sum();
        let [late, succeeded]: [i64; 2] = home
            .stranger()
            .query_row(
                "SELECT sum(overran AND disposition = 'answered'), sum(NOT overran AND disposition = 'answered') FROM calls",
                [],
                |row| Ok([row.get(0)?, row.get(1)?]),
            )
            .unwrap();
        assert!(failures >= late, "seed {seed}: {late} of {failures}");
        assert_eq!((all.answered_late, all.succeeded()), (late, succeeded));
        let tiers: i64 = all
            .tiers
            .values()
            .map(|share: &GroupFigures| share.calls)
            .sum();
        assert_eq!((failures, tiers), (all.failed, all.calls));
        store.close().await;
    }
}

#[tokio::test]
async fn every_commit_is_told_to_who_listens_and_waits_for_nobody() {
    let home = Home::new();
    let store = home.open();
    let mut commits = store.watch_commits();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    let heard = commits.recv().await.unwrap();
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].id, heard[0].call.as_ref()), (1, Some(&call)));
    // Nobody listens any more: the writer goes on all the same.
    drop(commits);
    let record = handed_off(&call, 1, &mut Dice(1));
    store.append(vec![record]).await.unwrap();
}
