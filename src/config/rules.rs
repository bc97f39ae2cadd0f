//! `[[routing.rules]]`: what a rule asks of a call, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::lead::{LeadScore, NotLeadScore, TierName};
use crate::phone::E164;
use crate::routing::{
    CalledBefore, CallerKind, Condition, Conditions, DialerId, LookupOutcome, NumberPattern,
    OrderStep, Rejection, Rule, RuleAction, ScoreRange, Speech,
};

/// Digits of a caller's number that a rule may name: fewer than make a person.
const MOST_CALLER_DIGITS: usize = 8;
/// The longest time that rules look back for.
const LONGEST_AGO: Duration = Duration::from_hours(366 * 24);
/// The largest weight of a dialer.
const MOST_WEIGHT: u32 = 1_000_000;

/// A rule whose names are still to be compared with those that exist, each with its dotted path.
pub(super) struct NamedRule {
    pub(super) path: String,
    pub(super) rule: Rule,
    pub(super) tiers: Vec<NamedValue>,
    pub(super) dialers: Vec<NamedValue>,
    pub(super) hours: Vec<NamedValue>,
    pub(super) lists: Vec<NamedValue>,
    pub(super) attributes: Vec<NamedValue>,
}

/// A name and its dotted path.
pub(super) type NamedValue = (String, String);

/// The names of one rule as they are read.
#[derive(Default)]
struct Names {
    tiers: Vec<NamedValue>,
    hours: Vec<NamedValue>,
    lists: Vec<NamedValue>,
    attributes: Vec<NamedValue>,
}

impl NamedRule {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let name = section.required("name", TomlValue::text);
        let mut names = Names::default();
        let hint = "leave tier out for a rule that matches every caller";
        let tiers = section.optional("tier", |value| names_of(value, hint));
        let when = section.optional_section("when", |when| read_conditions(when, &mut names));
        if section.has("tier") && section.has("when") {
            let fault = Fault::new("cannot stand beside when");
            section.error("tier", fault.hint("write when = { tier = … } instead"));
        }
        let conditions = match (tiers, when) {
            (Some(tiers), _) => {
                names.tiers.clone_from(&tiers);
                Some(vec![Condition::Tier(tier_names(&tiers))])
            }
            (None, None) if section.has("tier") || section.has("when") => None,
            (None, when) => Some(when.unwrap_or_default()),
        };
        let mut dialers = Vec::new();
        let action = read_action(section, &mut dialers);
        let prefer = section.optional_section("prefer", |prefer| {
            prefer.required("last_answered_within", |value| {
                value.duration(Duration::from_secs(1)..=LONGEST_AGO)
            })
        });
        let speech = Speech {
            language: section.optional("language", language),
            hold_message: section.optional("hold_message", TomlValue::spoken),
            goodbye_message: section.optional("goodbye_message", TomlValue::spoken),
        };
        Some(Self {
            path: section.path().to_owned(),
            rule: Rule {
                name: name?.into(),
                when: Conditions(conditions?.into_iter().map(Arc::new).collect()),
                action: action?,
                prefer_last_answered_s: prefer.map(|within| within.as_secs()),
                speech,
            },
            tiers: names.tiers,
            dialers,
            hours: names.hours,
            lists: names.lists,
            attributes: names.attributes,
        })
    }
}

/// What becomes of the call: exactly one of four.
fn read_action(section: &mut Section<'_>, named: &mut Vec<NamedValue>) -> Option<RuleAction> {
    let dialers = section.optional("dialers", |value| {
        let fault = "is an empty list, so the rule sends the call nowhere";
        let hint = "name at least one dialer";
        value.non_empty(fault, hint, |value| {
            value.one_or_list(|value| order_step(value, named))
        })
    });
    let number = section.optional("number", TomlValue::phone_number);
    let reject = section.optional("reject", |value| {
        value.one_of(&[("busy", Rejection::Busy), ("rejected", Rejection::Rejected)])
    });
    let message = section.optional("message", TomlValue::spoken);
    let all = ["dialers", "number", "reject", "message"];
    let there: Vec<&str> = all.into_iter().filter(|name| section.has(name)).collect();
    match there.as_slice() {
        [] => {
            let fault =
                Fault::new("is missing").hint("write dialers, or one of number, reject, message");
            section.error("dialers", fault);
        }
        [_] => {}
        [first, rest @ ..] => {
            for name in rest {
                let fault = Fault::new(format!("cannot stand beside {first}"));
                section.error(name, fault.hint("a rule does one thing with a call"));
            }
        }
    }
    dialers
        .map(RuleAction::Dialers)
        .or_else(|| number.map(RuleAction::Number))
        .or_else(|| reject.map(RuleAction::Reject))
        .or_else(|| message.map(RuleAction::Message))
}

fn order_step(value: &TomlValue<'_>, named: &mut Vec<NamedValue>) -> Result<OrderStep, Fault> {
    if value.as_table().is_none() {
        let (path, name) = name_of(value)?;
        let step = OrderStep::One(DialerId::new(&name));
        named.push((path, name));
        return Ok(step);
    }
    let weights = value.map(|_, weight| weight.integer(0..=MOST_WEIGHT))?;
    if weights.iter().all(|(_, weight)| *weight == 0) {
        return Err(Fault::new("has no weight above 0").hint("write { first = 70, second = 30 }"));
    }
    let path = |name: &str| format!("{}.{name}", value.key());
    named.extend(weights.iter().map(|(name, _)| (path(name), name.clone())));
    let weights = weights
        .iter()
        .map(|(name, weight)| (DialerId::new(name), *weight));
    Ok(OrderStep::Drawn(weights.collect()))
}

/// The conditions, in one order whatever that of the file: the same rule has the same version. `None` where one of them cannot be read.
fn read_conditions(when: &mut Section<'_>, names: &mut Names) -> Option<Vec<Condition>> {
    let hint = "leave the condition out";
    let named = |when: &mut Section<'_>, key: &'static str, into: &mut Vec<NamedValue>| {
        let read = when.optional(key, |value| names_of(value, hint));
        into.extend(read.iter().flatten().cloned());
        read
    };
    let tiers = named(when, "tier", &mut names.tiers);
    let score = when.optional_section("score", read_score);
    let lookup = when.optional("lookup", |value| {
        words_of(
            value,
            hint,
            &LookupOutcome::ALL
                .iter()
                .map(|one| (one.as_str(), *one))
                .collect::<Vec<_>>(),
        )
    });
    let attribute = when.optional("attribute", |value| {
        attributes_of(value, &mut names.attributes)
    });
    let called = when.optional("called", |value| patterns_of(value, hint));
    let caller = when.optional("caller", |value| {
        let patterns = patterns_of(value, hint)?;
        let is_prefix = |pattern: &NumberPattern| {
            pattern.as_str().starts_with('+')
                && pattern.is_prefix()
                && pattern.n_digits() <= MOST_CALLER_DIGITS
        };
        if patterns.iter().all(is_prefix) {
            return Ok(patterns);
        }
        let fault = format!(
            "must be beginnings of numbers of at most {MOST_CALLER_DIGITS} digits, like +4915*"
        );
        Err(Fault::new(fault).hint("put whole numbers on a list: no recorded rule set holds one"))
    });
    let kinds: Vec<_> = CallerKind::ALL
        .iter()
        .filter(|kind| **kind != CallerKind::Unreadable)
        .map(|kind| (kind.as_str(), *kind))
        .collect();
    let caller_kind = when.optional("caller_kind", |value| words_of(value, hint, &kinds));
    let hours = named(when, "hours", &mut names.hours);
    let not_hours = named(when, "not_hours", &mut names.hours);
    let list = named(when, "list", &mut names.lists);
    let not_list = named(when, "not_list", &mut names.lists);
    let called_before = when.optional("called_before_within", called_before);
    let never = when.optional("never", TomlValue::boolean) == Some(true);
    let share = when.optional("share", |value| value.integer(1..=100_u8));
    let all = [
        (
            "tier",
            tiers.map(|tiers| Condition::Tier(tier_names(&tiers))),
        ),
        ("score", score.map(Condition::Score)),
        ("lookup", lookup.map(Condition::Lookup)),
        ("attribute", attribute.map(Condition::Attribute)),
        ("called", called.map(Condition::Called)),
        ("caller", caller.map(Condition::Caller)),
        ("caller_kind", caller_kind.map(Condition::CallerKind)),
        ("hours", hours.map(|names| Condition::Hours(plain(&names)))),
        (
            "not_hours",
            not_hours.map(|names| Condition::NotHours(plain(&names))),
        ),
        ("list", list.map(|names| Condition::List(plain(&names)))),
        (
            "not_list",
            not_list.map(|names| Condition::NotList(plain(&names))),
        ),
        (
            "called_before_within",
            called_before
                .or(never.then_some(CalledBefore::Never))
                .map(Condition::CalledBeforeWithin),
        ),
        ("share", share.map(Condition::Share)),
    ];
    // Without a condition that cannot be read, the rule would match more than is meant.
    let is_whole = all
        .iter()
        .all(|(name, condition)| condition.is_some() || !when.has(name));
    is_whole.then(|| {
        all.into_iter()
            .filter_map(|(_, condition)| condition)
            .collect()
    })
}

fn read_score(section: &mut Section<'_>) -> Option<ScoreRange> {
    let bound = |value: &TomlValue<'_>| {
        LeadScore::new(value.number()?).ok_or_else(|| Fault::new(NotLeadScore.to_string()))
    };
    let from = section.optional("from", bound);
    let below = section.optional("below", bound);
    if !section.has("from") && !section.has("below") {
        let hint = "write { from = 20, below = 40 }, or one of the two";
        section.error("", Fault::new("has neither from nor below").hint(hint));
        return None;
    }
    if let (Some(from), Some(below)) = (from, below)
        && from >= below
    {
        let fault = Fault::new(format!("is {below}, which is not above from ({from})"));
        section.error("below", fault.hint("no score lies between them"));
    }
    Some(ScoreRange { from, below })
}

fn called_before(value: &TomlValue<'_>) -> Result<CalledBefore, Fault> {
    if value.as_table().is_none() {
        let within = value.duration(Duration::from_secs(1)..=LONGEST_AGO)?;
        return Ok(CalledBefore::Seconds(within.as_secs()));
    }
    let hint = "write \"30d\", or { never = true }";
    match value.map(|_, never| never.boolean())?.as_slice() {
        [(name, true)] if name == "never" => Ok(CalledBefore::Never),
        _ => Err(Fault::new("is neither a duration nor { never = true }").hint(hint)),
    }
}

fn attributes_of(
    value: &TomlValue<'_>,
    named: &mut Vec<NamedValue>,
) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let wanted = value.map(|name, value| {
        let hint = format!("name the values of {name} that it matches");
        value.non_empty("is an empty list", &hint, |value| {
            value.one_or_list(|value| {
                let text = value.as_plain_text()?;
                if E164::parse(&text).is_ok() {
                    let hint = "put numbers of people on a list: no recorded rule set holds one";
                    return Err(Fault::new("is a whole phone number").hint(hint));
                }
                Ok(text)
            })
        })
    })?;
    let path = |name: &str| format!("{}.{name}", value.key());
    named.extend(wanted.iter().map(|(name, _)| (path(name), name.clone())));
    if wanted.is_empty() {
        return Err(Fault::new("names no attribute").hint("write { plan = [\"gold\"] }"));
    }
    Ok(wanted.into_iter().collect())
}

fn patterns_of(value: &TomlValue<'_>, hint: &str) -> Result<Vec<NumberPattern>, Fault> {
    value.non_empty("is an empty list", hint, |value| value.one_or_list(pattern))
}

/// A number or address, or its beginning.
pub(super) fn pattern(value: &TomlValue<'_>) -> Result<NumberPattern, Fault> {
    let text = value.text()?;
    NumberPattern::parse(&text).ok_or_else(|| {
        Fault::new("must be a number like +4930123456, or its beginning like +4930*")
            .hint("write the country code; * stands at the end")
    })
}

fn words_of<T: Copy>(
    value: &TomlValue<'_>,
    hint: &str,
    words: &[(&'static str, T)],
) -> Result<Vec<T>, Fault> {
    value.non_empty("is an empty list", hint, |value| {
        value.one_or_list(|value| value.one_of(words))
    })
}

fn names_of(value: &TomlValue<'_>, hint: &str) -> Result<Vec<NamedValue>, Fault> {
    value.non_empty("is an empty list", hint, |value| value.one_or_list(name_of))
}

/// A name with its dotted path.
fn name_of(value: &TomlValue<'_>) -> Result<NamedValue, Fault> {
    Ok((value.key().to_owned(), value.text()?))
}

fn tier_names(named: &[NamedValue]) -> Vec<TierName> {
    named.iter().map(|(_, name)| TierName::new(name)).collect()
}

fn plain(named: &[NamedValue]) -> Vec<Arc<str>> {
    named.iter().map(|(_, name)| name.as_str().into()).collect()
}

pub(super) fn language(value: &TomlValue<'_>) -> Result<String, Fault> {
    value.text_like(
        "a language of Twilio's <Say>, like de-DE or en-US",
        |text| {
            let mut parts = text.split('-');
            let first = parts.next().unwrap_or_default();
            (2..=3).contains(&first.len())
                && first.bytes().all(|b| b.is_ascii_lowercase())
                && parts.all(|part| {
                    (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
                })
        },
    )
}
