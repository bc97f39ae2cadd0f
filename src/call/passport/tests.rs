use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::lead::{Tier, Tiers};
use crate::phone::E164;
use crate::routing::Rule;

const MAX_HOLD: Duration = Duration::from_mins(2);
const CALLER: &str = "+491700000090";

fn keys(byte: u8) -> PassportKeys {
    PassportKeys(vec![Arc::new(PassportKey::new(&[byte; 32]).unwrap())])
}

static CALL: LazyLock<CallId> =
    LazyLock::new(|| CallId::parse("CA000000000000000000000000000000aa").unwrap());

fn dial(call: &CallId, step: u32) -> PassportUse<'_> {
    PassportUse {
        call,
        webhook: "dial",
        step,
    }
}

/// So many seconds after the machine was started.
fn at(seconds: u64) -> Stamp {
    let second = 1_790_000_000 + i64::try_from(seconds).unwrap();
    Stamp {
        at: Timestamp::from_second(second).unwrap(),
        uptime_ms: seconds * 1_000,
    }
}

fn ruleset() -> Ruleset {
    let tier = |name: &str, min: f64| Tier {
        name: TierName::new(name),
        min_score: LeadScore::new(min).unwrap(),
    };
    let tiers = Tiers::new(vec![tier("hot", 80.0), tier("cold", 0.0)]);
    let rules = ["first", "second"].map(|name| Rule::of_tiers(name, &["hot"], &["desk"]));
    let dialers = ["desk", "floor", "c", "d", "e", "f", "g", "h"];
    Ruleset::of_rules(tiers, rules.to_vec(), &dialers)
}

fn plan(n: usize) -> Vec<DialerId> {
    ruleset().dialers.into_iter().take(n).collect()
}

fn passport(state: CallState) -> Passport {
    Passport {
        owner: "a".to_owned(),
        issued_at: at(100).at,
        started_at: at(90).at,
        routing_ms: Some(12),
        reason: Reason::RuleMatched,
        tier: Some(TierName::new("hot")),
        score: LeadScore::new(87.5),
        rule: Some("second".to_owned()),
        ruleset: ruleset().version(),
        failed_over: true,
        held: false,
        state,
    }
}

fn ringing() -> CallState {
    CallState::routing(plan(2)).dialing(&plan(2)[1], Some("4711".to_owned()))
}

fn open(text: &str, to: &PassportUse<'_>, now: Stamp) -> Result<Passport, PassportRefusal> {
    Passport::open(text, &keys(1), to, &ruleset(), now, MAX_HOLD)
}

fn sealed(passport: &Passport, step: u32) -> String {
    let sealed = passport.seal(&keys(1), &dial(&CALL, step), at(100), 512);
    sealed.unwrap()
}

#[test]
fn a_passport_comes_back_as_it_was_whatever_the_call_is_doing() {
    let number = E164::parse("+493011111179").unwrap();
    let begun = || CallState::routing(plan(3)).in_order(plan(2));
    let again = ringing().dialing(&plan(2)[1], None).adopted(None);
    let states = [
        ringing(),
        again,
        begun().dialing_number(false),
        begun().dialing_number(true),
        CallState::routing(Vec::new()).dialing(&plan(1)[0], None),
    ];
    for state in states {
        let passport = passport(state);
        let text = sealed(&passport, 1);
        assert_eq!(open(&text, &dial(&CALL, 1), at(101)), Ok(passport));
    }
    let bare = Passport {
        owner: String::new(),
        routing_ms: None,
        tier: None,
        score: None,
        rule: None,
        failed_over: false,
        ..passport(begun().dialing_last_resort(&number))
    };
    let opened = open(&sealed(&bare, 1), &dial(&CALL, 1), at(101)).unwrap();
    assert!(opened.state.is_at_last_resort());
    assert_eq!(opened.state.last_resort(), None, "no number is in it");
    let adopted = opened.state.adopted(Some(&number));
    assert_eq!(adopted.last_resort(), Some(&*number.masked()));
}

#[test]
fn who_waits_has_waited_as_long_by_the_clock_of_another_machine() {
    let held = CallState::routing(plan(2)).held(at(60)).held(at(70));
    let to = PassportUse {
        webhook: "hold",
        step: 2,
        ..dial(&CALL, 2)
    };
    let text = passport(held).seal(&keys(1), &to, at(100), 512).unwrap();
    let elsewhere = Stamp {
        uptime_ms: 5_000_000,
        ..at(107)
    };
    let opened = open(&text, &to, elsewhere).unwrap();
    let (since, round) = opened.state.waiting().unwrap();
    assert_eq!((round, since.at), (2, at(60).at));
    assert_eq!(since.until(elsewhere), Duration::from_secs(47));
}

#[test]
fn a_passport_is_good_for_its_call_webhook_and_step_alone_and_for_its_time() {
    let text = sealed(&passport(ringing()), 1);
    let other = CallId::parse("CA000000000000000000000000000000ab").unwrap();
    let hold = PassportUse {
        webhook: "hold",
        ..dial(&CALL, 1)
    };
    for to in [dial(&other, 1), dial(&CALL, 2), hold] {
        assert_eq!(open(&text, &to, at(101)), Err(PassportRefusal::Altered));
    }
    let to = dial(&CALL, 1);
    let last = 100 + 4 * 3_600 + 600 + 120;
    assert!(open(&text, &to, at(last)).is_ok());
    let refused = |now| open(&text, &to, now).unwrap_err();
    assert_eq!(refused(at(last + 1)), PassportRefusal::Expired);
    let behind = |seconds| Stamp {
        at: at(0).at.checked_sub(Duration::from_secs(seconds)).unwrap(),
        uptime_ms: 0,
    };
    assert!(open(&text, &to, behind(20)).is_ok());
    assert_eq!(refused(behind(21)), PassportRefusal::FromTheFuture);
    let elsewhere = Passport::open(&text, &keys(2), &to, &ruleset(), at(101), MAX_HOLD);
    assert_eq!(elsewhere, Err(PassportRefusal::OtherSecret));
    let two = PassportKeys([keys(2).0, keys(1).0].concat());
    assert!(Passport::open(&text, &two, &to, &ruleset(), at(101), MAX_HOLD).is_ok());
}

#[test]
fn no_byte_of_a_passport_can_be_changed_and_other_versions_are_refused() {
    let text = sealed(&passport(ringing()), 1);
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    let to = dial(&CALL, 1);
    for at_byte in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at_byte] ^= 1;
        let expected = match at_byte {
            0 => PassportRefusal::Version,
            1..=4 => PassportRefusal::OtherSecret,
            _ => PassportRefusal::Altered,
        };
        let changed = URL_SAFE_NO_PAD.encode(changed);
        assert_eq!(open(&changed, &to, at(101)), Err(expected), "{at_byte}");
    }
    for length in 0..bytes.len() {
        let cut = URL_SAFE_NO_PAD.encode(&bytes[..length]);
        assert!(open(&cut, &to, at(101)).is_err(), "{length}");
    }
    for odd in ["", "=", "AAAA", " ", "ä", &"A".repeat(100_000)] {
        assert_eq!(open(odd, &to, at(101)), Err(PassportRefusal::Malformed));
    }
}

#[test]
fn what_does_not_fit_is_dropped_in_order_and_names_are_never_readable() {
    let reference = "r".repeat(MAX_REFERENCE);
    let state = CallState::routing(plan(8)).dialing(&plan(8)[7], Some(reference.clone()));
    let whole = passport(state);
    let to = dial(&CALL, 1);
    let length = sealed(&whole, 1).len();
    let tried = |room| {
        let text = whole.seal(&keys(1), &to, at(100), room)?;
        assert!(text.len() <= room);
        let opened = open(&text, &to, at(101)).unwrap();
        assert_eq!(opened.state.plan, plan(8));
        Some((opened.rule.is_some(), opened.state.reference().is_some()))
    };
    assert_eq!(tried(length), Some((true, true)));
    assert_eq!(tried(length - 1), Some((false, true)));
    let without_rule = length - 4;
    assert_eq!(tried(without_rule - 1), Some((false, false)));
    assert_eq!(tried(80), None);
    let long = CallState::routing(plan(1)).dialing(&plan(1)[0], Some(reference + "r"));
    let opened = open(&sealed(&passport(long), 1), &to, at(101)).unwrap();
    assert_eq!(opened.state.reference(), None);
    assert!(length <= 220, "{length}");
    let usual = sealed(&passport(ringing()), 1).len();
    assert!((100..=150).contains(&usual), "{usual}");
}

#[test]
fn a_dialer_that_is_not_configured_here_keeps_its_place_in_the_plan() {
    let text = sealed(&passport(ringing()), 1);
    let here = Ruleset::of_rules(Tiers::default(), Vec::new(), &["floor"]);
    let to = dial(&CALL, 1);
    let opened = Passport::open(&text, &keys(1), &to, &here, at(101), MAX_HOLD).unwrap();
    assert_eq!(opened.state.dialer(), Some(&DialerId::new("floor")));
    assert_eq!(opened.state.plan[0], DialerId::new(STRANGER));
    assert_eq!((opened.tier, opened.rule), (None, None));
}

#[test]
fn what_has_come_further_or_elsewhere_is_ahead() {
    let ahead = |told: &CallState, known: &CallState| passport(told.clone()).is_ahead_of(known);
    let (fresh, first) = (CallState::routing(plan(2)), ringing());
    let second = ringing().dialing(&plan(2)[1], None);
    assert!(ahead(&first, &fresh) && ahead(&second, &first));
    assert!(!ahead(&first, &first) && !ahead(&first, &second));
    assert!(ahead(&first.clone().adopted(None), &second));
    let other_line = CallState::routing(plan(2)).dialing(&plan(2)[0], None);
    assert!(ahead(&other_line, &first), "Twilio plays what it came with");
    let held = fresh.held(at(1));
    assert!(ahead(&first, &held) && ahead(&held.clone().held(at(2)), &held));
}

proptest! {
    #![proptest_config(crate::property::seeded())]

    #[test]
    fn noise_is_never_a_passport(bytes in prop::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
        let mut bytes = bytes;
        if real && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let text = URL_SAFE_NO_PAD.encode(&bytes);
        prop_assert!(open(&text, &dial(&CALL, 1), at(101)).is_err());
    }

    #[test]
    fn whatever_is_sealed_by_somebody_with_the_key_is_read_without_a_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        // Refused or read: both are well.
        drop(Passport::decode(&content, &ruleset(), at(101)));
    }

    #[test]
    fn numbers_come_back(number in any::<u64>()) {
        let mut out = Packer::default();
        out.number(number);
        prop_assert_eq!(Unpacker(&out.0).number(), Some(number));
    }
}

#[test]
fn nobody_can_be_read_out_of_a_passport() {
    let text = sealed(&passport(ringing()), 1);
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    let content = passport(ringing()).encode(at(100));
    for name in [CALLER, "desk", "floor", "hot", "second", "rule_matched"] {
        let is_in = |bytes: &[u8]| {
            bytes
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        assert!(!is_in(&bytes) && !is_in(&content), "{name}");
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the lengths are shown to who asks for them"
)]
fn the_urls_of_every_plan_are_short_enough() {
    use crate::twiml::CallbackUrls;

    let urls = CallbackUrls::new("https://calls.example.com").on(Some("node-a"), [].into_iter());
    let mut lengths = Vec::new();
    for n in 1..=8 {
        for reference in [0, 8, 36, MAX_REFERENCE] {
            let reference = (reference > 0).then(|| "7".repeat(reference));
            for (line, step) in [("desk", 1), (&*"d".repeat(64), 16)] {
                let state = CallState::routing(plan(n)).dialing(&plan(n)[n - 1], reference.clone());
                let passport = passport(state.in_order(plan(n)));
                let url = urls.dial(step, Some(line), |room| {
                    passport.seal(&keys(1), &dial(&CALL, step), at(100), room)
                });
                assert!(url.contains("&p="), "{url}");
                lengths.push(url.len());
            }
        }
    }
    lengths.sort_unstable();
    let (shortest, longest) = (lengths[0], lengths[lengths.len() - 1]);
    let median = lengths[lengths.len() / 2];
    println!(
        "action URLs of {} plans: {shortest} to {longest} characters, median {median}",
        lengths.len()
    );
    assert!(longest <= 512);
}
