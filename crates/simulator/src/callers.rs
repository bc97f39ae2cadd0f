//! People who call: most of them known to Braze with a score, some unknown, some with a hidden or unusable number.

use std::time::Duration;

use serde_json::{Value, json};

use super::braze::{Braze, Profile};
use super::chance::Chance;
use super::number::WITHHELD;

/// Shares of the callers: leads with a high, a middling and a low score, profiles without a usable one, numbers that Braze does not know,
/// hidden numbers, SIP addresses, numbers without their country code.
const MIX: [f64; 8] = [0.18, 0.32, 0.28, 0.03, 0.12, 0.04, 0.02, 0.01];

#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// What the carrier says of the caller.
    pub from: String,
    /// What Braze knows, if anything.
    pub profile: Option<Profile>,
}

/// Area codes, so that the numbers look like a country's.
const AREAS: [&str; 10] = [
    "+4930", "+4989", "+4940", "+49171", "+49160", "+431", "+4144", "+4420", "+331", "+1415",
];

/// The share of leads that have called before: they meet a warm cache.
const RETURNING: f64 = 0.35;

/// Makes callers, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Callers {
    chance: Chance,
    score_attribute: String,
    known: Vec<Person>,
}

impl Callers {
    /// Callers of the usual mix whose score stands in `lead_score`.
    pub fn seeded(seed: u64) -> Self {
        Self {
            chance: Chance::seeded(seed),
            score_attribute: "lead_score".to_owned(),
            known: Vec::new(),
        }
    }

    /// With the score in another attribute.
    #[must_use]
    pub fn score_attribute(mut self, name: &str) -> Self {
        name.clone_into(&mut self.score_attribute);
        self
    }

    /// The next caller; Braze learns of the profile. One in three known leads has called before.
    pub fn next(&mut self, braze: &Braze) -> Person {
        let person = self.draw();
        if let Some(profile) = &person.profile {
            braze.put(profile.clone());
        }
        person
    }

    pub fn draw(&mut self) -> Person {
        let mut left = self.chance.fraction();
        let kind = MIX.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        match kind {
            Some(0) => self.lead(80, 100),
            Some(1) => self.lead(40, 79),
            Some(2) => self.lead(0, 39),
            Some(3) => self.unscored(),
            Some(5) => nobody(
                self.chance
                    .one_of(&WITHHELD)
                    .copied()
                    .unwrap_or("anonymous"),
            ),
            Some(6) => {
                let from = format!("sip:desk{}@pbx.example.com", self.chance.below(90) + 10);
                nobody(&from)
            }
            Some(7) => nobody(&format!("0{}", 30_100_000 + self.chance.below(800_000))),
            Some(_) | None => nobody(&self.number()),
        }
    }

    /// The gaps between calls that come independently of each other, so many per minute on average.
    pub fn arrivals(&self, per_minute: f64) -> Arrivals {
        Arrivals {
            chance: Chance::seeded(self.chance.clone().bits()),
            mean: Duration::from_mins(1).div_f64(per_minute.max(0.001)),
        }
    }

    fn lead(&mut self, least: u64, most: u64) -> Person {
        if self.chance.happens(RETURNING) {
            let earlier: Vec<&Person> = self
                .known
                .iter()
                .filter(|person| {
                    let profile = person.profile.as_ref();
                    let value =
                        profile.and_then(|profile| profile.attribute(&self.score_attribute));
                    let score = value.and_then(number_of);
                    score.is_some_and(|score| (least..=most).contains(&score))
                })
                .collect();
            if let Some(person) = self.chance.one_of(&earlier) {
                return (*person).clone();
            }
        }
        let score = least + self.chance.below(most - least + 1);
        // Braze keeps whatever type the importer chose.
        let value = match self.chance.below(4) {
            0 => json!(score.to_string()),
            1 => json!(f64::from(u32::try_from(score).unwrap_or(0))),
            _ => json!(score),
        };
        let phone = self.number();
        let profile = Profile::new(&phone)
            .with(&self.score_attribute, value)
            .with("newsletter", true);
        let person = Person {
            from: phone,
            profile: Some(profile),
        };
        if self.known.len() < 2_000 {
            self.known.push(person.clone());
        }
        person
    }

    fn unscored(&mut self) -> Person {
        let phone = self.number();
        let profile = Profile::new(&phone);
        let profile = match self.chance.below(4) {
            0 => profile,
            1 => profile.with_empty_attributes(),
            2 => profile.with(&self.score_attribute, Value::Null),
            _ => profile.with(&self.score_attribute, "n/a"),
        };
        Person {
            from: phone,
            profile: Some(profile),
        }
    }

    fn number(&mut self) -> String {
        let area = self.chance.one_of(&AREAS).copied().unwrap_or("+4930");
        format!("{area}{:07}", 1_000_000 + self.chance.below(9_000_000))
    }
}

fn nobody(from: &str) -> Person {
    Person {
        from: from.to_owned(),
        profile: None,
    }
}

fn number_of(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.to_string().split('.').next()?.parse().ok()),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Gaps with an exponential distribution, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    chance: Chance,
    mean: Duration,
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let gap = -(1.0 - self.chance.fraction()).ln();
        Some(self.mean.mul_f64(gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_callers_in_the_proportions_of_the_mix() {
        let draw = |seed| {
            let mut callers = Callers::seeded(seed);
            (0..4_000).map(|_| callers.draw()).collect::<Vec<_>>()
        };
        let people = draw(3);
        assert_eq!(people, draw(3));
        let share = |wanted: fn(&Person) -> bool| {
            let n = people.iter().filter(|person| wanted(person)).count();
            f64::from(u32::try_from(n).unwrap()) / 4_000.0
        };
        let near = |got: f64, wanted: f64| (got - wanted).abs() < 0.02;
        assert!(near(share(|p| p.profile.is_some()), 0.81));
        let hot = share(|p| {
            let score = p.profile.as_ref().and_then(|p| p.attribute("lead_score"));
            score.and_then(number_of).is_some_and(|score| score >= 80)
        });
        assert!(near(hot, 0.18), "{hot}");
        assert!(near(share(|p| WITHHELD.contains(&p.from.as_str())), 0.04));
        assert!(near(share(|p| p.from.starts_with("sip:")), 0.02));
        assert!(near(share(|p| p.from.starts_with('0')), 0.01));
        let mut numbers: Vec<_> = people.iter().map(|person| &person.from).collect();
        numbers.sort();
        numbers.dedup();
        assert!(
            numbers.len() < 3_200,
            "nobody calls twice: {}",
            numbers.len()
        );
    }

    #[test]
    fn arrivals_have_the_rate_asked_for_and_irregular_gaps() {
        let gaps: Vec<Duration> = Callers::seeded(5).arrivals(120.0).take(5_000).collect();
        let mean = gaps.iter().sum::<Duration>() / 5_000;
        assert!((mean.as_secs_f64() - 0.5).abs() < 0.03, "{mean:?}");
        let short = gaps.iter().filter(|gap| **gap < mean).count();
        assert!((2_900..3_450).contains(&short), "{short}");
    }
}
