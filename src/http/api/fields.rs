//! Fields of a query, read one by one, so that each can be told what is wrong with it.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::http::error::{ApiError, Kind};
use crate::phone::E164;

/// What is wrong with the fields of a request.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Reads a field; what is wrong with it is kept.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(text?) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.0.push((name, wrong));
                None
            }
        }
    }

    /// A whole number within a range.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        self.read(name, text, |text| {
            Some(text)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("must be {} to {}", range.start(), range.end()))
        })
    }

    /// `true` or `false`; false where it is not there.
    pub(super) fn flag(&mut self, name: &'static str, text: Option<&str>) -> bool {
        let flag = self.read(name, text, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        });
        flag.unwrap_or_default()
    }

    /// One of a closed list.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.read(name, text, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("must be one of: {}", words.join(", "))
            })
        })
    }

    /// A time as ISO 8601 with its offset. A `+` that was not escaped arrives as a space.
    pub(super) fn time(&mut self, name: &'static str, text: Option<&str>) -> Option<Timestamp> {
        self.read(name, text, |text| {
            text.trim().replace(' ', "+").parse().map_err(|_| {
                "must be a time like 2026-11-26T12:00:00Z, with Z or an offset".to_owned()
            })
        })
    }

    /// A text of the API's own alphabet that is not empty and not longer than `max` characters.
    pub(super) fn text(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        max: usize,
    ) -> Option<String> {
        self.read(name, text, |text| {
            let text = text.trim();
            let fits = (1..=max).contains(&text.chars().count());
            if fits && !text.contains(char::is_control) {
                Ok(text.to_owned())
            } else {
                Err(format!("must be 1 to {max} characters"))
            }
        })
    }

    /// Everything is as it should be, or every field is told what is wrong with it.
    pub(super) fn verdict(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let error = ApiError::new(
            Kind::Validation,
            "The request cannot be read: see details for what is wrong with each field.",
        );
        let add = |error: ApiError, (name, what): (&str, String)| error.with(name, what);
        Err(self.0.into_iter().fold(error, add))
    }
}

/// A number as people write it: with `+` or `00`, spaces, dots, dashes, slashes and brackets. In a query, a `+` that was not escaped arrives as
/// a space.
pub(super) fn number(text: &str) -> Option<E164> {
    let text = text.trim_start();
    let is_punctuation = |c: char| " -./()\u{a0}".contains(c);
    let plain: String = text.chars().filter(|&c| !is_punctuation(c)).collect();
    let digits = plain
        .strip_prefix('+')
        .or_else(|| plain.strip_prefix("00"))
        .unwrap_or(&plain);
    E164::parse(&format!("+{digits}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let check = |text: &str, expected: Option<&str>| {
            let found = number(text);
            assert_eq!(found.as_ref().map(E164::as_str), expected, "{text:?}");
        };
        check("+4930123456", Some("+4930123456"));
        check(" 4930123456", Some("+4930123456"));
        check("004930123456", Some("+4930123456"));
        check("+49 (30) 12-34.56", Some("+4930123456"));
        check("0301234567", None);
        check("anonymous", None);
        check("+49", None);
        check("", None);
    }

    #[test]
    fn times_need_an_offset() {
        let mut fields = Fields::default();
        let expected: Timestamp = "2026-11-26T11:00:00Z".parse().unwrap();
        for text in [
            "2026-11-26T11:00:00Z",
            "2026-11-26T12:00:00+01:00",
            "2026-11-26T12:00:00 01:00",
        ] {
            assert_eq!(fields.time("from", Some(text)), Some(expected), "{text}");
        }
        assert!(fields.0.is_empty());
        for wrong in [
            "yesterday",
            "2026-11-26",
            "2026-11-26T12:00:00",
            "1790000000",
        ] {
            assert_eq!(fields.time("from", Some(wrong)), None, "{wrong}");
        }
        assert_eq!(fields.0.len(), 4);
    }
}
