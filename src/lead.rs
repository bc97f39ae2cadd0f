//! Lead score and tier: how valuable a caller is, and which class that makes.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A lead score as Braze holds it: a number from −1,000,000 to 1,000,000, usually 0 to 100. Whole scores are written without a fraction.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
pub struct LeadScore(f64);

/// The number is no lead score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from -1000000 to 1000000")]
pub struct NotLeadScore;

impl TryFrom<f64> for LeadScore {
    type Error = NotLeadScore;

    fn try_from(value: f64) -> Result<Self, NotLeadScore> {
        Self::new(value).ok_or(NotLeadScore)
    }
}

impl LeadScore {
    /// How far a score may lie from zero.
    const MOST: f64 = 1_000_000.0;

    /// Takes a number within the bounds; `None` for all others.
    pub fn new(value: f64) -> Option<Self> {
        (value.abs() <= Self::MOST).then_some(Self(value + 0.0))
    }

    /// Reads a score as people and systems write it: `87`, `"87"`, `" 87.5 "`. `None` where it is no number within the bounds.
    pub fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<f64>().ok().and_then(Self::new)
    }

    /// The score as a number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// How far two scores lie apart.
    pub fn distance(self, other: Self) -> f64 {
        (self.0 - other.0).abs()
    }
}

impl PartialEq for LeadScore {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for LeadScore {}
impl PartialOrd for LeadScore {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for LeadScore {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for LeadScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for LeadScore {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() <= EXACT {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole and within 2^53, checked above"
            )]
            return serializer.serialize_i64(self.0 as i64);
        }
        serializer.serialize_f64(self.0)
    }
}

/// The name of a lead-score class, as configured. Names are compared without regard to case when they come from Braze.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TierName(Arc<str>);

impl TierName {
    /// Takes a name as it stands.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One lead-score class and the lowest score that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// What the class is called.
    pub name: TierName,
    /// The lowest score of the class, inclusive.
    pub min_score: LeadScore,
}

/// All lead-score classes, highest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tiers(Vec<Tier>);

impl Tiers {
    /// Sorts the classes by their lowest score, highest first.
    pub fn new(mut tiers: Vec<Tier>) -> Self {
        tiers.sort_by_key(|tier| Reverse(tier.min_score));
        Self(tiers)
    }

    /// The class of a score; `None` where it lies below every class.
    pub fn of_score(&self, score: LeadScore) -> Option<&Tier> {
        self.0.iter().find(|tier| score >= tier.min_score)
    }

    /// The class of that name, without regard to case and surrounding blanks.
    pub fn named(&self, name: &str) -> Option<&Tier> {
        self.0
            .iter()
            .find(|tier| tier.name.as_str().eq_ignore_ascii_case(name.trim()))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Tier> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Tiers {
    type Item = &'a Tier;
    type IntoIter = std::slice::Iter<'a, Tier>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_belongs_to_the_highest_class_it_reaches() {
        let tier = |name: &str, min: f64| Tier {
            name: TierName::new(name),
            min_score: LeadScore::new(min).unwrap(),
        };
        let tiers = Tiers::new(vec![
            tier("cold", 0.0),
            tier("hot", 80.0),
            tier("warm", 40.0),
        ]);
        let of = |score: &str| {
            tiers
                .of_score(LeadScore::parse(score).unwrap())
                .map(|t| t.name.as_str())
        };
        assert_eq!(of("80"), Some("hot"));
        assert_eq!(of("79.99"), Some("warm"));
        assert_eq!(of("0"), Some("cold"));
        assert_eq!(of("-0"), Some("cold"));
        assert_eq!(of("-1"), None);
        assert_eq!(tiers.named(" HOT ").map(|t| t.name.as_str()), Some("hot"));
        assert_ne!(LeadScore::parse("80"), LeadScore::parse("40"));
        assert_eq!((&tiers).into_iter().count(), 3);
    }

    #[test]
    fn scores_are_read_tolerantly_and_written_plainly() {
        for (text, json) in [
            ("87", "87"),
            (" 87.5 ", "87.5"),
            ("1e2", "100"),
            ("-3", "-3"),
        ] {
            assert_eq!(
                serde_json::to_string(&LeadScore::parse(text).unwrap()).unwrap(),
                json
            );
        }
        for text in ["", "hot", "NaN", "inf", "12,5"] {
            assert_eq!(LeadScore::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn scores_are_bounded_wherever_they_come_from() {
        for text in ["1000000", "-1000000", "999999.9999999999", "0.1", "1e-320"] {
            let score = LeadScore::parse(text).unwrap();
            let read: LeadScore = serde_json::from_str(text).unwrap();
            assert_eq!(
                (read, score.value()),
                (score, text.parse().unwrap()),
                "{text}"
            );
        }
        for text in [
            "1000000.0000000001",
            "-1000001",
            "1.8e49",
            "1e308",
            "-1e308",
        ] {
            assert_eq!(LeadScore::parse(text), None, "{text}");
            assert!(serde_json::from_str::<LeadScore>(text).is_err(), "{text}");
        }
        let zero: LeadScore = serde_json::from_str("-0.0").unwrap();
        assert!(zero.value().is_sign_positive());
    }

    proptest::proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn a_score_is_the_same_after_it_was_written_and_read(value in -1e6..1e6_f64) {
            let score = LeadScore::new(value).unwrap();
            let text = serde_json::to_string(&score).unwrap();
            let read: LeadScore = serde_json::from_str(&text).unwrap();
            proptest::prop_assert_eq!(read.value().to_bits(), score.value().to_bits());
        }
    }
}
