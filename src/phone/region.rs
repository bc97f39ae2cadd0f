//! Numbers as people and systems write them, read by the numbering plan of a region.
//!
//! Sources: the national numbering plans as communicated to the ITU (ITU-T E.129), and Braze's page on phone numbers, by which ten digits
//! without a plus are a number of North America.

use std::fmt;

use super::{E164, NotE164};

/// A region whose national numbers can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(&'static NumberingPlan);

/// How national numbers are written.
#[derive(Debug, PartialEq, Eq)]
struct NumberingPlan {
    name: &'static str,
    code: &'static str,
    national: National,
}

#[derive(Debug, PartialEq, Eq)]
enum National {
    /// Behind this prefix, which is left out after a country code.
    Behind(&'static str),
    /// So many digits, at least and at most, all of which follow a country code.
    Digits(usize, usize),
}

use National::{Behind, Digits};

const fn plan(name: &'static str, code: &'static str, national: National) -> NumberingPlan {
    NumberingPlan {
        name,
        code,
        national,
    }
}

const PLANS: &[NumberingPlan] = &[
    plan("AE", "971", Behind("0")),
    plan("AT", "43", Behind("0")),
    plan("AU", "61", Behind("0")),
    plan("BE", "32", Behind("0")),
    plan("BG", "359", Behind("0")),
    plan("CA", "1", Digits(10, 10)),
    plan("CH", "41", Behind("0")),
    plan("CY", "357", Digits(8, 8)),
    plan("CZ", "420", Digits(9, 9)),
    plan("DE", "49", Behind("0")),
    plan("DK", "45", Digits(8, 8)),
    plan("EE", "372", Digits(7, 8)),
    plan("ES", "34", Digits(9, 9)),
    plan("FI", "358", Behind("0")),
    plan("FR", "33", Behind("0")),
    plan("GB", "44", Behind("0")),
    plan("GR", "30", Digits(10, 10)),
    plan("HR", "385", Behind("0")),
    plan("HU", "36", Behind("06")),
    plan("IE", "353", Behind("0")),
    plan("IL", "972", Behind("0")),
    plan("IN", "91", Behind("0")),
    plan("IS", "354", Digits(7, 7)),
    plan("IT", "39", Digits(6, 11)),
    plan("JP", "81", Behind("0")),
    plan("LI", "423", Digits(7, 7)),
    plan("LT", "370", Behind("0")),
    plan("LU", "352", Digits(5, 9)),
    plan("LV", "371", Digits(8, 8)),
    plan("MT", "356", Digits(8, 8)),
    plan("MX", "52", Digits(10, 10)),
    plan("NL", "31", Behind("0")),
    plan("NO", "47", Digits(8, 8)),
    plan("NZ", "64", Behind("0")),
    plan("PL", "48", Digits(9, 9)),
    plan("PT", "351", Digits(9, 9)),
    plan("RO", "40", Behind("0")),
    plan("RS", "381", Behind("0")),
    plan("SE", "46", Behind("0")),
    plan("SG", "65", Digits(8, 8)),
    plan("SI", "386", Behind("0")),
    plan("SK", "421", Behind("0")),
    plan("TR", "90", Behind("0")),
    plan("UA", "380", Behind("0")),
    plan("US", "1", Digits(10, 10)),
    plan("ZA", "27", Behind("0")),
];

/// So many digits without any prefix are a number with its country code: no plan that omits the code has numbers so long, but one.
const INTERNATIONAL_FROM: usize = 11;

impl Region {
    /// The region of that name: two letters of ISO 3166. `None` where its numbering plan is not known here.
    pub fn parse(name: &str) -> Option<Self> {
        PLANS.iter().find(|plan| plan.name == name).map(Self)
    }

    /// The names of all regions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PLANS.iter().map(|plan| plan.name)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl E164 {
    /// Reads a number with a country code, with or without its plus, whatever separates its digits; one without a country code only where
    /// `region` says whose it is. Nothing is guessed: of two possible readings, none is taken.
    pub fn read(text: &str, region: Option<Region>) -> Result<Self, NotE164> {
        let text = text.trim();
        let text = text.strip_prefix("tel:").unwrap_or(text);
        // The national prefix is often noted beside the country code, which replaces it.
        let (text, noted) = match text.split_once("(0)") {
            Some((code, rest)) if !code.is_empty() => (format!("{code}{rest}"), true),
            Some(_) | None => (text.to_owned(), false),
        };
        let (has_plus, rest) = match text.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let is_separator = |c: char| c.is_whitespace() || "-–‐‑./()".contains(c);
        let digits: String = rest.chars().filter(|c| !is_separator(*c)).collect();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotE164);
        }
        let with_code = |digits: &str| Self::parse(&format!("+{digits}"));
        if has_plus {
            return with_code(&digits);
        }
        let abroad = match region.map(|region| region.0.name) {
            Some("US" | "CA") => digits.strip_prefix("011"),
            Some("AU") => digits.strip_prefix("0011"),
            Some("JP") => digits.strip_prefix("010"),
            Some(_) | None => None,
        };
        if let Some(rest) = abroad.or_else(|| digits.strip_prefix("00")) {
            return with_code(rest);
        }
        if noted {
            return Err(NotE164);
        }
        match region {
            Some(Region(plan)) => plan.read(&digits),
            None if is_north_american(&digits) => with_code(&format!("1{digits}")),
            None if digits.len() >= INTERNATIONAL_FROM => with_code(&digits),
            None => Err(NotE164),
        }
    }
}

impl NumberingPlan {
    /// Reads digits that begin with no prefix for abroad.
    fn read(&self, digits: &str) -> Result<E164, NotE164> {
        let national = match self.national {
            Behind(prefix) => digits.strip_prefix(prefix),
            Digits(least, most) => (least..=most).contains(&digits.len()).then_some(digits),
        };
        if let Some(national) = national {
            return E164::parse(&format!("+{}{national}", self.code));
        }
        let rest = digits.strip_prefix(self.code);
        let is_ours = rest.is_some_and(|rest| match self.national {
            Behind(_) => rest.len() >= 7,
            Digits(least, most) => (least..=most).contains(&rest.len()),
        });
        if is_ours || digits.len() >= INTERNATIONAL_FROM {
            return E164::parse(&format!("+{digits}"));
        }
        Err(NotE164)
    }
}

/// Ten digits of which neither the area nor the exchange begins with 0 or 1.
fn is_north_american(digits: &str) -> bool {
    let begins = |at: usize| {
        digits
            .as_bytes()
            .get(at)
            .is_some_and(|b| (b'2'..=b'9').contains(b))
    };
    digits.len() == 10 && begins(0) && begins(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, region: Option<&str>) -> Option<String> {
        let region = region.map(|name| Region::parse(name).unwrap());
        let number = E164::read(text, region).ok();
        number.map(|number| number.as_str().to_owned())
    }

    #[test]
    fn a_number_with_its_country_code_is_read_however_it_is_written() {
        for text in [
            "+4915112345678",
            "4915112345678",
            "+49 151 12345678",
            "+49 (151) 123-456.78",
            "+49 (0)151 12345678",
            "0049 151 12345678",
            "00491511234 5678",
            "tel:+49-151-12345678",
            " +49\u{a0}151/12345678 ",
        ] {
            for region in [None, Some("DE"), Some("FR")] {
                let expected = Some("+4915112345678".to_owned());
                assert_eq!(read(text, region), expected, "{text:?} in {region:?}");
            }
        }
        for text in [
            "+1 (724) 123-4567",
            "17241234567",
            "1-724-123-4567",
            "0017241234567",
        ] {
            for region in [None, Some("US"), Some("DE")] {
                let expected = Some("+17241234567".to_owned());
                assert_eq!(read(text, region), expected, "{text:?} in {region:?}");
            }
        }
    }

    #[test]
    fn a_national_number_is_read_by_the_plan_of_its_region() {
        for (text, region, number) in [
            ("0151 12345678", "DE", "+4915112345678"),
            ("(030) 123456", "DE", "+4930123456"),
            ("4930123456", "DE", "+4930123456"),
            ("06 12 34 56 78", "FR", "+33612345678"),
            ("07700 900123", "GB", "+447700900123"),
            ("06 1 234 5678", "HU", "+3612345678"),
            ("06 1234 5678", "IT", "+390612345678"),
            ("333 123 4567", "IT", "+393331234567"),
            ("612 345 678", "ES", "+34612345678"),
            ("34612345678", "ES", "+34612345678"),
            ("22 123 45 67", "PL", "+48221234567"),
            ("(724) 123-4567", "US", "+17241234567"),
            ("011 49 151 12345678", "US", "+4915112345678"),
            ("0011 49 151 12345678", "AU", "+4915112345678"),
            ("4915112345678", "US", "+4915112345678"),
        ] {
            assert_eq!(
                read(text, Some(region)).as_deref(),
                Some(number),
                "{text} in {region}"
            );
        }
        assert_eq!(read("724 223 4567", None).as_deref(), Some("+17242234567"));
    }

    #[test]
    fn what_may_mean_several_numbers_or_none_is_not_read() {
        for (text, region) in [
            ("030 123456", None),
            ("4930123456", None),
            ("123456", None),
            ("123456", Some("DE")),
            ("12345678", Some("DE")),
            ("1234567", Some("US")),
            ("", None),
            ("+", Some("DE")),
            ("+0151123456", Some("DE")),
            ("000151123456", None),
            ("+4915112345678901", None),
            ("0151 CALL ME", Some("DE")),
            ("+49 151 12345678 ext. 9", None),
            ("(0)151 12345678", None),
            ("anonymous", Some("DE")),
            ("0\u{661}\u{662}\u{663}4567", Some("DE")),
        ] {
            assert_eq!(read(text, region), None, "{text:?} in {region:?}");
        }
    }

    #[test]
    fn every_region_is_found_by_its_name_and_stands_once() {
        let names: Vec<_> = Region::names().collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        for name in names {
            assert_eq!(Region::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Region::parse("de"), None);
    }

    #[test]
    fn regions_are_named_and_found_by_their_name() {
        assert!(Region::names().count() > 40);
        for name in Region::names() {
            assert_eq!(Region::parse(name).unwrap().to_string(), name);
        }
        assert!(E164::read("(0)301234567", None).is_err(), "no country code");
    }

    proptest::proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn whatever_is_read_is_a_number_with_the_same_digits(text in r"[+0-9 ()./-]{0,20}") {
            for region in [None, Region::parse("DE"), Region::parse("US"), Region::parse("IT")] {
                if let Ok(number) = E164::read(&text, region) {
                    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                    let tail = &number.as_str()[number.as_str().len() - 5..];
                    proptest::prop_assert!(digits.ends_with(tail), "{text} {number:?}");
                }
            }
        }
    }
}
