//! How fast it is here: `cargo test --release --lib store::tests::speed -- --ignored --nocapture`.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::*;
use crate::audit::Attempt;
use crate::handoff::Outcome;
use crate::store::FirstWrite;

const PRODUCERS: u32 = 64;
const LASTS: Duration = Duration::from_secs(5);

fn concluded(call: &CallId) -> Record {
    let event = Event::HandoffConcluded(Box::new(Attempt {
        dialer: dialer("dialfire"),
        attempt: 1,
        outcome: Outcome::Accepted { reference: None },
        exchanges: Vec::new(),
    }));
    Record::of_call(at(0), call, event)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn calls_per_second_with_64_producers() {
    let home = Home::new();
    let store = home.open();
    let clock = Clock::system();
    let start = clock.instant();
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let (store, clock) = (store.clone(), clock.clone());
        tasks.spawn(async move {
            let mut acks = Histogram::<u64>::new(3).unwrap();
            let mut n = 0_u64;
            while clock.instant() - start < LASTS {
                let seed = (u64::from(producer) << 32 | n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let call = call_id(&format!("CA{seed:016x}{seed:016x}"));
                let sent = clock.instant();
                let opened = store
                    .open_call(vec![decided(&call, 0), intended(&call, 1)])
                    .await;
                assert_eq!(opened.unwrap(), FirstWrite::First);
                acks.record(u64::try_from((clock.instant() - sent).as_micros()).unwrap())
                    .unwrap();
                let sent = clock.instant();
                let body = "<?xml version=\"1.0\"?><Response><Dial>+4930123456</Dial></Response>";
                let rest = vec![
                    concluded(&call),
                    answered(&call, "inbound", body, dialing(), 2),
                ];
                store.append(rest).await.unwrap();
                acks.record(u64::try_from((clock.instant() - sent).as_micros()).unwrap())
                    .unwrap();
                n += 1;
            }
            acks
        });
    }
    let mut acks = Histogram::<u64>::new(3).unwrap();
    for one in tasks.join_all().await {
        acks.add(one).unwrap();
    }
    let seconds = (clock.instant() - start).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = acks.len() as f64 / seconds;
    let report = format!(
        "{rate:.0} submissions/s, {:.0} calls/s; acknowledged p50 {} p99 {} p99.9 {} max {} µs; file {} bytes",
        rate / 2.0,
        acks.value_at_quantile(0.5),
        acks.value_at_quantile(0.99),
        acks.value_at_quantile(0.999),
        acks.max(),
        std::fs::metadata(home.path()).unwrap().len(),
    );
    std::io::Write::write_all(&mut std::io::stderr(), format!("{report}\n").as_bytes()).unwrap();
    store.close().await;
}
