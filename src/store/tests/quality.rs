//! The figures of hours agree with the calls, whatever happens to these.

use std::collections::BTreeMap;

use super::*;
use crate::routing::LookupUnavailable;
use crate::store::{Dimension, QualitySums};

const HOUR_MS: i64 = 3_600_000;
const ALL_HOURS: [i64; 2] = [0, i64::MAX];

/// The same figures from the rows of `calls`, counted by SQL.
fn recount(home: &Home, name: &str) -> BTreeMap<String, QualitySums> {
    let sql = format!(
        "SELECT coalesce(CAST({name} AS TEXT), ''), count(*), sum(disposition IS NOT NULL), sum(coalesce(disposition = 'answered', 0)),
             coalesce(sum(disposition = 'answered' AND answered_at IS NOT NULL), 0),
             coalesce(sum(max(answered_at - started_at, 0)) FILTER (WHERE disposition = 'answered'), 0),
             coalesce(sum(max(ended_at - answered_at, 0)) FILTER (WHERE disposition = 'answered'), 0),
             sum(coalesce(disposition = 'abandoned', 0)),
             coalesce(sum(max(ended_at - started_at, 0)) FILTER (WHERE disposition = 'abandoned'), 0), 0, 0
         FROM calls GROUP BY 1"
    );
    let connection = home.stranger();
    let mut statement = connection.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| {
        let mut sums = QualitySums::default();
        for (place, sum) in sums.iter_mut().enumerate() {
            *sum = row.get(place + 1)?;
        }
        Ok((row.get(0)?, sums))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

async fn figures(store: &Store, dimension: Dimension) -> BTreeMap<String, QualitySums> {
    let groups = store.quality(dimension, ALL_HOURS).await.unwrap();
    let groups = groups.into_iter();
    groups.map(|group| (group.name, group.sums)).collect()
}

fn moved(call: &CallId, ms: i64, how: Option<Disposition>, name: Option<&str>) -> Record {
    let state = match how {
        Some(how) => routed().ended(how),
        None => routed().dialing(&dialer("dialfire"), None),
    };
    let after = CallAfter {
        dialer: name.map(dialer),
        disposition: how,
        answered_at: (ms % 3 > 0).then(|| at(ms - 30_000)),
        ended_at: how.map(|_| at(ms)),
        ..after(state)
    };
    answered(call, "dial-1", "", after, ms)
}

#[tokio::test]
async fn the_figures_are_those_of_the_calls_also_where_the_end_was_told_late() {
    const ENDS: [Option<Disposition>; 5] = [
        None,
        Some(Disposition::Answered),
        Some(Disposition::Abandoned),
        Some(Disposition::Failed),
        Some(Disposition::Answered),
    ];
    let home = Home::new();
    let store = home.open();
    for n in 0..240_i64 {
        let call = call_id(&format!("CA{n}"));
        let ms = n * 97_000;
        let mut begun = decided(&call, ms);
        if let Event::CallDecided(decided) = &mut begun.event {
            decided.decision.rule = (n % 3 > 0).then(|| format!("rule {}", n % 3));
            decided.decision.tier = (n % 4 > 0).then(|| TierName::new(&format!("t{}", n % 4)));
            if n % 5 == 0 {
                decided.facts.lookup = Lookup::Unavailable {
                    reason: LookupUnavailable::Timeout,
                };
            }
        }
        if let Some(personal) = &mut begun.personal {
            personal.called = (n % 6 > 0).then(|| format!("+493012345{}", n % 6));
        }
        store.open_call(vec![begun]).await.unwrap();
        let index = |n: i64| usize::try_from(n).unwrap() % ENDS.len();
        let line = [Some("dialfire"), Some("zendesk"), None][usize::try_from(n % 3).unwrap()];
        store
            .append(vec![moved(&call, ms + 40_000, ENDS[index(n)], line)])
            .await
            .unwrap();
        // Hours later it turns out otherwise.
        if n % 7 == 0 {
            let how = ENDS[index(n / 7)];
            let later = moved(&call, ms + 5 * HOUR_MS, how, Some("zendesk"));
            store.append(vec![later]).await.unwrap();
        }
    }
    let hour = format!("started_at / {HOUR_MS} * {HOUR_MS}");
    for (dimension, name) in [
        (Dimension::All, hour.as_str()),
        (Dimension::Rule, "coalesce(rule, '(default)')"),
        (Dimension::Dialer, "dialer"),
        (Dimension::Tier, "tier"),
        (Dimension::Number, "called_id"),
    ] {
        let found = figures(&store, dimension).await;
        assert_eq!(found, recount(&home, name), "{dimension:?}");
    }
    let numbers = store.quality(Dimension::Number, ALL_HOURS).await.unwrap();
    let masked = numbers.iter().filter_map(|group| group.number.as_deref());
    assert_eq!(masked.filter(|masked| masked.starts_with("+*")).count(), 5);
    let scores = figures(&store, Dimension::Score).await;
    assert_eq!(scores["timeout"], [48, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    store.close().await;
}

#[tokio::test]
async fn what_is_older_than_400_days_goes_an_hour_at_a_time() {
    let home = Home::new();
    let store = home.open();
    let days = |n: i64| n * 24 * HOUR_MS;
    for (n, ms) in [0, days(1), days(402), days(402), days(402)]
        .into_iter()
        .enumerate()
    {
        let call = call_id(&format!("CA{n}"));
        store.open_call(vec![decided(&call, ms)]).await.unwrap();
        let hours = figures(&store, Dimension::All).await;
        assert_eq!(hours.len(), [1, 2, 2, 1, 1][n], "after {n}");
    }
    store.close().await;
}
