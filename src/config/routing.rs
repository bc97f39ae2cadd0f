//! `[routing]`: the budget, what callers hear, the tiers and the rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::hours::read_hours;
use super::lists::read_lists;
use super::problem::Fault;
use super::rule_tests::NamedTest;
use super::rules::{NamedRule, NamedValue, language};
use super::section::{Section, TomlValue};
use crate::lead::{LeadScore, NotLeadScore, Tier, TierName, Tiers};
use crate::phone::E164;
use crate::routing::{
    Condition, DialerId, DialerLimits, Hours, ListDefinition, MissedTo, Rule, Ruleset,
};

/// The most that a limit of a dialer may be.
const MOST_CALLS: u32 = 100_000_000;
/// A name of Braze is at most so long.
const LONGEST_ATTRIBUTE: usize = 255;

/// The budget of a call, and what callers hear when no dialer is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The file that holds all of `[routing]`, which rules may be published into. Default: none; the main file holds it.
    pub file: Option<PathBuf>,
    /// A second document of `[routing]`, which decides beside the one in force. Default: none.
    pub draft: Option<PathBuf>,
    /// How long after its webhook a call is answered at the latest; 500 ms to 10 s. Default: 2 s.
    pub budget: Duration,
    /// The number that is dialed when all else fails. Default: none; the caller hears `goodbye_message`.
    pub last_resort_number: Option<E164>,
    /// A call of the JSON door whose end is not reported for so long is closed as `unknown`; 1 min to 1 d. Default: 30 min.
    pub api_calls_end_after: Duration,
    /// How long a caller is held while no dialer is available; up to 1 h. Default: 2 m.
    pub max_hold: Duration,
    /// What a held caller hears. Default: German or English, by `language`.
    pub hold_message: String,
    /// What a caller hears when nothing else is left. Default: German or English, by `language`.
    pub goodbye_message: String,
    /// The language that messages are spoken in, as Twilio names it. Default: `de-DE`.
    pub language: String,
    /// What a caller hears when all dialers of the plan are outside their hours. Default: `goodbye_message`.
    pub closed_message: Option<String>,
    /// The number that such a caller is put through to. Default: none; the message is spoken.
    pub closed_number: Option<E164>,
    /// Who is told of callers who reached nobody, and the task that this is for. Default: nobody.
    pub missed_to: Option<MissedTo>,
    /// The zone of opening hours that name none. Default: that of `[alerts]`, else UTC.
    pub time_zone: TimeZone,
}

/// The section as it was read, before its names are compared with those of the dialers.
pub(super) struct RoutingSection {
    pub(super) routing: Routing,
    pub(super) default_dialer: String,
    /// Each with its dotted path.
    pub(super) tiers: Vec<(String, Tier)>,
    pub(super) rules: Vec<NamedRule>,
    /// The Braze attributes that rules may ask for.
    pub(super) attributes: Vec<String>,
    pub(super) limits: Vec<NamedLimits>,
    pub(super) hours: Vec<(String, Hours)>,
    pub(super) tests: Vec<NamedTest>,
    pub(super) lists: BTreeMap<String, ListDefinition>,
}

/// The limits of a dialer, with the path of its name, and the hours that they name.
pub(super) struct NamedLimits {
    pub(super) dialer: NamedValue,
    pub(super) hours: Option<NamedValue>,
    pub(super) limits: DialerLimits,
}

impl RoutingSection {
    /// Reads it; opening hours that name no time zone are in `default_zone` where the section names none either.
    pub(super) fn read(section: &mut Section<'_>, default_zone: TimeZone) -> Option<Self> {
        let default_dialer = section.required("default_dialer", TomlValue::text);
        let language = section.or("language", "de-DE".to_owned(), language);
        let (hold, goodbye) = default_messages(&language);
        let hold_message = section.or("hold_message", hold.to_owned(), TomlValue::spoken);
        let goodbye_message = section.or("goodbye_message", goodbye.to_owned(), TomlValue::spoken);
        if !speaks(&language, "de") && !speaks(&language, "en") {
            let messages = ["hold_message", "goodbye_message"].into_iter();
            for name in messages.filter(|name| !section.has(name)) {
                let why = format!("is {language}, but the default of {name} is English");
                let hint = format!("write {name} in that language");
                section.warn("language", Fault::new(why).hint(hint));
            }
        }
        let tiers = section.tables("tiers", |section| {
            let tier = read_tier(section)?;
            section.note_origin_as(
                "min_score",
                &format!("routing.tiers.{}.min_score", tier.name),
            );
            Some((section.path().to_owned(), tier))
        });
        let rules = section.tables("rules", NamedRule::read);
        let attributes = section.list("attributes", |value| {
            let what = "the name of a Braze attribute";
            value.text_like(what, |text| {
                text.len() <= LONGEST_ATTRIBUTE && !text.starts_with('$')
            })
        });
        let limits = section.optional_section("limits", |section| {
            let read = |(name, value): (&str, TomlValue<'_>)| {
                value.section(|section| Some(read_limits(name, section)))
            };
            Some(section.entries().into_iter().filter_map(read).collect())
        });
        let time_zone = section.or("time_zone", default_zone, TomlValue::time_zone);
        let hours = read_hours(section, &time_zone);
        let lists = section.optional_section("lists", |section| Some(read_lists(section, &rules)));
        Some(Self {
            routing: Routing {
                file: None,
                draft: None,
                budget: section.or("budget", Duration::from_secs(2), |value| {
                    value.duration(Duration::from_millis(500)..=Duration::from_secs(10))
                }),
                last_resort_number: section.optional("last_resort_number", TomlValue::phone_number),
                api_calls_end_after: section.or(
                    "api_calls_end_after",
                    Duration::from_mins(30),
                    |value| value.duration(Duration::from_mins(1)..=Duration::from_hours(24)),
                ),
                max_hold: section.or("max_hold", Duration::from_mins(2), |value| {
                    value.duration(Duration::ZERO..=Duration::from_hours(1))
                }),
                hold_message,
                goodbye_message,
                language,
                closed_message: section.optional("closed_message", TomlValue::spoken),
                closed_number: section.optional("closed_number", TomlValue::phone_number),
                missed_to: section.optional_section("missed_to", read_missed_to),
                time_zone,
            },
            default_dialer: default_dialer?,
            tiers,
            rules,
            attributes,
            limits: limits.unwrap_or_default(),
            hours,
            tests: section.tables("tests", NamedTest::read),
            lists: lists.unwrap_or_default(),
        })
    }

    /// The rule set over the dialers, which are given in the order of the file.
    pub(super) fn ruleset(&self, dialers: Vec<DialerId>) -> Ruleset {
        let tiers = Tiers::new(self.tiers.iter().map(|(_, tier)| tier.clone()).collect());
        let tier_name = |name: &str| {
            let known = tiers.named(name).map(|tier| tier.name.clone());
            known.unwrap_or_else(|| TierName::new(name))
        };
        // Names of tiers are compared without case; the rule set has them as they are defined.
        let with_known_tiers = |named: &NamedRule| {
            let mut rule = Rule::clone(&named.rule);
            for condition in &mut rule.when.0 {
                if let Condition::Tier(names) = &**condition {
                    let names = names.iter().map(|name| tier_name(name.as_str()));
                    *condition = Arc::new(Condition::Tier(names.collect()));
                }
            }
            rule
        };
        let limits = self.limits.iter();
        Ruleset {
            rules: self.rules.iter().map(with_known_tiers).collect(),
            tiers,
            default_dialer: DialerId::new(&self.default_dialer),
            dialers,
            attributes: self.attributes.clone(),
            limits: limits
                .map(|named| (DialerId::new(&named.dialer.1), named.limits.clone()))
                .collect(),
            lists: self
                .lists
                .iter()
                .map(|(name, list)| (name.clone(), list.summary()))
                .collect(),
            hours: self
                .hours
                .iter()
                .map(|(name, hours)| (name.as_str().into(), hours.clone()))
                .collect(),
        }
    }
}

fn read_missed_to(section: &mut Section<'_>) -> Option<MissedTo> {
    let dialer = section.required("dialer", TomlValue::text);
    let task = section.optional("task", |value| {
        value.text_like("the name of a task: letters, digits, _ and -", |text| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        })
    });
    Some(MissedTo {
        dialer: DialerId::new(&dialer?),
        task,
    })
}

fn read_limits(name: &str, section: &mut Section<'_>) -> NamedLimits {
    let most = |value: &TomlValue<'_>| value.integer(0..=MOST_CALLS);
    let hours = section.optional("hours", |value| Ok((value.key().to_owned(), value.text()?)));
    NamedLimits {
        dialer: (section.path().to_owned(), name.to_owned()),
        limits: DialerLimits {
            hours: hours.as_ref().map(|(_, name)| name.as_str().into()),
            max_active: section.optional("max_active", most),
            max_per_hour: section.optional("max_per_hour", most),
            max_per_day: section.optional("max_per_day", most),
            max_per_month: section.optional("max_per_month", most),
        },
        hours,
    }
}

fn read_tier(section: &mut Section<'_>) -> Option<Tier> {
    let name = section.required("name", |value| {
        value.text_like("a name without blanks around it", |text| {
            text.trim() == text
        })
    });
    let min_score = section.required("min_score", |value| {
        LeadScore::new(value.number()?).ok_or_else(|| Fault::new(NotLeadScore.to_string()))
    });
    Some(Tier {
        name: TierName::new(&name?),
        min_score: min_score?,
    })
}

fn speaks(language: &str, wanted: &str) -> bool {
    language.split('-').next() == Some(wanted)
}

/// What a held caller and a caller with nothing left hear.
fn default_messages(language: &str) -> (&'static str, &'static str) {
    if speaks(language, "de") {
        (
            "Alle Mitarbeiter sind im Gespräch. Bitte bleiben Sie in der Leitung, wir verbinden Sie so bald wie möglich.",
            "Leider können wir Ihren Anruf gerade nicht entgegennehmen. Bitte versuchen Sie es später noch einmal. Auf Wiederhören.",
        )
    } else {
        (
            "All of our agents are busy. Please stay on the line, and we will connect you as soon as possible.",
            "We are sorry that we cannot take your call right now. Please try again later. Goodbye.",
        )
    }
}
