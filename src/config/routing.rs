//! `[routing]`: the budget, what callers hear, the tiers and the rules.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lists::read_lists;
use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::lead::{LeadScore, NotLeadScore, Tier, TierName, Tiers};
use crate::phone::E164;
use crate::routing::{DialerId, ListDefinition, Rule, Ruleset};

/// The budget of a call, and what callers hear when no dialer is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
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
}

/// The section as it was read, before its names are compared with those of the dialers.
pub(super) struct RoutingSection {
    pub(super) routing: Routing,
    pub(super) default_dialer: String,
    /// Each with its dotted path.
    pub(super) tiers: Vec<(String, Tier)>,
    pub(super) rules: Vec<NamedRule>,
    pub(super) lists: BTreeMap<String, ListDefinition>,
}

/// A rule whose tiers and dialers are still names, each with its dotted path.
pub(super) struct NamedRule {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) tiers: Vec<(String, String)>,
    pub(super) dialers: Vec<(String, String)>,
}

impl RoutingSection {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
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
        let lists = section.optional_section("lists", |section| {
            // No rule can turn callers away yet.
            Some(read_lists(section, |_| false))
        });
        Some(Self {
            routing: Routing {
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
            },
            default_dialer: default_dialer?,
            tiers,
            rules,
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
        let rule = |rule: &NamedRule| Rule {
            name: rule.name.clone(),
            tiers: rule.tiers.iter().map(|(_, name)| tier_name(name)).collect(),
            dialers: rule
                .dialers
                .iter()
                .map(|(_, name)| DialerId::new(name))
                .collect(),
        };
        let rules = self.rules.iter().map(rule).collect();
        Ruleset {
            tiers,
            rules,
            default_dialer: DialerId::new(&self.default_dialer),
            dialers,
        }
    }
}

impl NamedRule {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let name = section.required("name", TomlValue::text);
        let tiers = section.or("tier", Vec::new(), |value| {
            let hint = "leave tier out for a rule that matches every caller";
            value.non_empty("is an empty list", hint, |value| value.one_or_list(named))
        });
        let dialers = section.required("dialers", |value| {
            let fault = "is an empty list, so the rule sends the call nowhere";
            let hint = "name at least one dialer";
            value.non_empty(fault, hint, |value| value.one_or_list(named))
        });
        Some(Self {
            path: section.path().to_owned(),
            name: name?,
            tiers,
            dialers: dialers?,
        })
    }
}

/// A name with its dotted path.
fn named(value: &TomlValue<'_>) -> Result<(String, String), Fault> {
    Ok((value.key().to_owned(), value.text()?))
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

fn language(value: &TomlValue<'_>) -> Result<String, Fault> {
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
