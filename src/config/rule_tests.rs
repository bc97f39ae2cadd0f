//! `[[routing.tests]]`: calls, and what has to become of them.

use std::time::Duration;

use super::problem::Fault;
use super::rules::NamedValue;
use super::section::{Section, TomlValue};
use crate::lead::{LeadScore, NotLeadScore};
use crate::phone::{Caller, E164};
use crate::routing::{
    CallerKind, DialerId, ExpectedCourse, GivenCall, GivenDialer, Lookup, LookupOutcome,
    LookupSkipped, LookupUnavailable, Profile, RuleTest, Source,
};

/// Calls when a test does not say who does: a number of no country.
const SOMEBODY: &str = "+9990000000";
const LONGEST_AGO: Duration = Duration::from_hours(366 * 24);

/// A test whose dialers are still to be compared with those that exist, each with its dotted path.
pub(super) struct NamedTest {
    pub(super) path: String,
    pub(super) test: RuleTest,
    pub(super) dialers: Vec<NamedValue>,
}

impl NamedTest {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let mut dialers = Vec::new();
        let name = section.required("name", TomlValue::text);
        let given = section.required_section("given", |given| read_given(given, &mut dialers));
        let expect =
            section.required_section("expect", |expect| Some(read_expected(expect, &mut dialers)));
        Some(Self {
            path: section.path().to_owned(),
            test: RuleTest {
                name: name?,
                given: given?,
                expect: expect?,
            },
            dialers,
        })
    }
}

fn read_given(section: &mut Section<'_>, dialers: &mut Vec<NamedValue>) -> Option<GivenCall> {
    let at = section.optional("at", |value| {
        let hint = "write \"2026-12-01T22:00:00+01:00\"";
        let moment = value.text()?.parse();
        moment.map_err(|_| Fault::new("is no moment with its offset from UTC").hint(hint))
    });
    let kinds: Vec<_> = CallerKind::ALL
        .iter()
        .map(|kind| (kind.as_str(), *kind))
        .collect();
    let kind = section.optional("caller_kind", |value| value.one_of(&kinds));
    let caller = section.optional("caller", |value| Ok(Caller::classify(&value.text()?)));
    if let (Some(kind), Some(caller)) = (kind, &caller)
        && CallerKind::of(caller) != kind
    {
        let is = CallerKind::of(caller).as_str();
        let fault = Fault::new(format!("is {}, and caller is {is}", kind.as_str()));
        section.error("caller_kind", fault.hint("leave one of the two out"));
    }
    let caller = match caller {
        Some(caller) => caller,
        None => caller_of(kind.unwrap_or(CallerKind::Number))?,
    };
    let score = section.optional("score", |value| {
        LeadScore::new(value.number()?).ok_or_else(|| Fault::new(NotLeadScore.to_string()))
    });
    let attributes = section.optional("attribute", |value| {
        value.map(|_, value| value.as_plain_text())
    });
    let outcomes: Vec<_> = LookupOutcome::ALL
        .iter()
        .map(|one| (one.as_str(), *one))
        .collect();
    let outcome = section.optional("lookup", |value| value.one_of(&outcomes));
    let is_profile = score.is_some() || attributes.is_some();
    if is_profile && outcome.is_some_and(|outcome| outcome != LookupOutcome::Known) {
        let fault = Fault::new("leaves nothing of the caller known");
        section.error(
            "lookup",
            fault.hint("leave score and attribute out, or write known"),
        );
    }
    let otherwise = match caller.number() {
        _ if is_profile => LookupOutcome::Known,
        Some(_) => LookupOutcome::Unknown,
        None => LookupOutcome::Skipped,
    };
    let profile = Profile {
        score,
        tier: None,
        attributes: attributes.unwrap_or_default().into_iter().collect(),
    };
    let lists = section.optional("list", |value| value.one_or_list(TomlValue::text));
    let called_before = section.optional("called_before", |value| {
        value.duration(Duration::from_secs(1)..=LONGEST_AGO)
    });
    let words = [
        ("down", GivenDialer::Down),
        ("full", GivenDialer::Full),
        ("closed", GivenDialer::Closed),
    ];
    let of_dialers = section.optional("dialers", |value| {
        let given = value.map(|_, value| value.one_of(&words))?;
        let path = |name: &str| format!("{}.{name}", value.key());
        dialers.extend(given.iter().map(|(name, _)| (path(name), name.clone())));
        Ok(given)
    });
    let of_dialers = of_dialers.unwrap_or_default().into_iter();
    let lists = lists.unwrap_or_default().into_iter();
    Some(GivenCall {
        at,
        caller,
        called: section.optional("called", TomlValue::text),
        lookup: lookup_of(outcome.unwrap_or(otherwise), profile),
        lists: lists.map(Into::into).collect(),
        called_before_s: called_before.map(|ago| ago.as_secs()),
        draw: section.or("draw", 0, |value| value.integer(0..=99_u8)),
        dialers: of_dialers
            .map(|(name, given)| (DialerId::new(&name), given))
            .collect(),
    })
}

/// A caller of a kind. `None` is never the case.
fn caller_of(kind: CallerKind) -> Option<Caller> {
    Some(match kind {
        CallerKind::Number => Caller::Number(E164::parse(SOMEBODY).ok()?),
        CallerKind::Withheld => Caller::Withheld,
        CallerKind::National => Caller::National("0".to_owned()),
        CallerKind::Sip => Caller::Sip {
            address: "sip:somebody@example.invalid".to_owned(),
            number: None,
        },
        CallerKind::Client => Caller::Client("somebody".to_owned()),
        CallerKind::Unreadable => Caller::Unreadable("?".to_owned()),
    })
}

fn lookup_of(outcome: LookupOutcome, profile: Profile) -> Lookup {
    match outcome {
        LookupOutcome::Known => Lookup::Known {
            profile,
            source: Source::Supposed,
            age_ms: 0,
            because: None,
        },
        LookupOutcome::Unknown => Lookup::Unknown {
            source: Source::Supposed,
            age_ms: 0,
        },
        LookupOutcome::Unavailable => Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        },
        LookupOutcome::Skipped => Lookup::Skipped {
            reason: LookupSkipped::Withheld,
        },
    }
}

fn read_expected(section: &mut Section<'_>, named: &mut Vec<NamedValue>) -> ExpectedCourse {
    let one = |value: &TomlValue<'_>| Ok((value.key().to_owned(), value.text()?));
    let first = section.optional("first", one);
    let dialers = section.optional("dialers", |value| value.one_or_list(one));
    named.extend(first.iter().chain(dialers.iter().flatten()).cloned());
    let expected = ExpectedCourse {
        rule: section.optional("rule", TomlValue::text),
        dialers: dialers.map(|dialers| {
            dialers
                .iter()
                .map(|(_, name)| DialerId::new(name))
                .collect()
        }),
        first: first.map(|(_, name)| DialerId::new(&name)),
        number: section.optional("number", TomlValue::phone_number),
        reject: section.optional("reject", TomlValue::boolean),
        closed: section.optional("closed", TomlValue::boolean),
    };
    if expected == ExpectedCourse::default() {
        let hint = "write rule, dialers, first, number, reject or closed";
        section.error("", Fault::new("expects nothing").hint(hint));
    }
    expected
}
