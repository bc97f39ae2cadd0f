//! Fields of a request, of its query or its body, read one by one, so that the answer says what is wrong with each.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::http::error::{ApiError, ErrorKind};
use crate::phone::E164;
use crate::twilio::{self, BodyError};

/// The largest body; real ones have a few hundred bytes.
pub(super) const LIMIT: usize = 16 * 1024;
/// A body is read within this time, or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The fields of a query, and what is wrong with those that were read; by default there is no query.
#[derive(Debug, Default)]
pub(super) struct CheckedFields {
    query: Vec<(String, String)>,
    wrong: Vec<(&'static str, String)>,
    /// A field that was read is there twice.
    is_ambiguous: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for CheckedFields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = Query::try_from_uri(&parts.uri).map(|Query(query)| query);
        Ok(Self {
            query: query.unwrap_or_default(),
            ..Self::default()
        })
    }
}

impl CheckedFields {
    #[cfg(test)]
    pub(super) fn of_query<'a>(query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let query = query.into_iter();
        Self {
            query: query
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect(),
            ..Self::default()
        }
    }

    /// The value of a field; what is wrong with it is kept for the answer.
    pub(super) fn check<T>(&mut self, name: &'static str, value: Result<T, String>) -> Option<T> {
        value.map_err(|wrong| self.wrong.push((name, wrong))).ok()
    }

    /// A field of the query.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut same = self.query.iter().filter(|(known, _)| known == name);
        let (_, text) = same.next()?;
        self.is_ambiguous |= same.next().is_some();
        let value = read(text);
        self.check(name, value)
    }

    /// A whole number within a range.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.read(name, |text| {
            Some(text)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("must be {} to {}", range.start(), range.end()))
        })
    }

    /// `true` or `false`; false where it is not there.
    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        let flag = self.read(name, |text| {
            let flag = text.parse();
            flag.map_err(|_| "must be true or false".to_owned())
        });
        flag.unwrap_or_default()
    }

    /// One of a closed list.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        all: &[T],
        as_str: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        self.read(name, |text| one_of(text, all, as_str))
    }

    /// A time as ISO 8601 with its offset. A `+` that was not escaped arrives as a space.
    pub(super) fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        self.read(name, |text| {
            text.trim().replace(' ', "+").parse().map_err(|_| {
                "must be a time like 2026-11-26T12:00:00Z, with Z or an offset".to_owned()
            })
        })
    }

    /// A text of the API's own alphabet that is not empty and not longer than `max` characters.
    pub(super) fn text(&mut self, name: &'static str, max: usize) -> Option<String> {
        self.read(name, |text| {
            let text = text.trim();
            let fits = (1..=max).contains(&text.chars().count());
            if fits && !text.contains(char::is_control) {
                Ok(text.to_owned())
            } else {
                Err(format!("must be 1 to {max} characters"))
            }
        })
    }

    /// Nothing is wrong with what was read so far.
    pub(super) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Fails where anything is wrong with the fields that were read.
    pub(super) fn verdict(self) -> Result<(), ApiError> {
        if self.is_ambiguous {
            return Err(ApiError::unreadable());
        }
        if self.is_right() {
            return Ok(());
        }
        Err(self.failure("The request cannot be read"))
    }

    /// The failure that says what is wrong with each field, after what cannot be done because of it.
    pub(super) fn failure(self, what: &str) -> ApiError {
        let message = format!("{what}: see details for what is wrong with each field.");
        let error = ApiError::new(ErrorKind::Validation, message);
        let add = |error: ApiError, (name, wrong): (&str, String)| error.with(name, wrong);
        self.wrong.into_iter().fold(error, add)
    }
}

/// The one of a closed list that has this name.
pub(super) fn one_of<T: Copy>(
    text: &str,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    let found = all.iter().copied().find(|one| as_str(*one) == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().copied().map(as_str).collect();
        format!("must be one of: {}", names.join(", "))
    })
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

/// A body that is a JSON object. What its fields have to be, the handler says.
#[derive(Debug)]
pub(super) struct JsonObject(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        Self::parse(&whole_body(request.into_body(), LIMIT).await?)
    }
}

/// The whole of a body, bounded in size and time.
pub(super) async fn whole_body(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let collected = twilio::collect(body, limit, TIMEOUT).await;
    collected.map_err(|error| refused(error, limit))
}

fn refused(error: BodyError, limit: usize) -> ApiError {
    let message = match error {
        BodyError::TooLarge => {
            let message = format!(
                "The body is larger than {} KiB; send only what is asked for.",
                limit / 1024
            );
            return ApiError::new(ErrorKind::PayloadTooLarge, message).with("limit_bytes", limit);
        }
        BodyError::TimedOut => "The body did not arrive in time; send it in one piece.",
        BodyError::Broken => "The body broke off; send it again.",
    };
    ApiError::new(ErrorKind::Validation, message)
}

impl JsonObject {
    /// Reads a whole body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        const WANTED: &str = "send a JSON object, such as {\"caller\": \"+4930123456\"}";
        let wrong = |what| ApiError::new(ErrorKind::Validation, format!("{what}; {WANTED}."));
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(wrong("The body is JSON, but no object")),
            Err(error) => Err(wrong("The body is not valid JSON")
                .with("line", error.line())
                .with("column", error.column())),
        }
    }

    /// What its fields say, none of which is null or unknown.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let wrong = |why: String| ApiError::new(ErrorKind::Validation, format!("The body: {why}."));
        if let Some((name, _)) = self.0.iter().find(|(_, value)| value.is_null()) {
            return Err(wrong(format!("`{name}` is null; leave it out")));
        }
        serde_json::from_value(Value::Object(self.0)).map_err(|error| wrong(error.to_string()))
    }

    /// Whether a field is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field that has to be there, as text without white space at its ends. What is wrong with it, in words.
    pub(super) fn text(&self, name: &str, max_chars: usize) -> Result<&str, String> {
        let text = match self.0.get(name) {
            None | Some(Value::Null) => return Err("is missing".to_owned()),
            Some(Value::String(text)) => text.trim(),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err("must be a string".to_owned());
            }
        };
        if text.is_empty() {
            Err("is empty".to_owned())
        } else if text.chars().count() > max_chars {
            Err(format!("is longer than {max_chars} characters"))
        } else if text.contains(char::is_control) {
            Err("contains control characters".to_owned())
        } else {
            Ok(text)
        }
    }
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
        let expected: Timestamp = "2026-11-26T11:00:00Z".parse().unwrap();
        let time = |text: &str| {
            let mut fields = CheckedFields::of_query([("from", text)]);
            (fields.time("from"), fields.wrong.len())
        };
        for text in [
            "2026-11-26T11:00:00Z",
            "2026-11-26T12:00:00+01:00",
            "2026-11-26T12:00:00 01:00",
        ] {
            assert_eq!(time(text), (Some(expected), 0), "{text}");
        }
        for wrong in [
            "yesterday",
            "2026-11-26",
            "2026-11-26T12:00:00",
            "1790000000",
        ] {
            assert_eq!(time(wrong), (None, 1), "{wrong}");
        }
    }
}
