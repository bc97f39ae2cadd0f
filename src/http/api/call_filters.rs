//! The filters of `/calls` beside the fields of a call, and who may search by digits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use utoipa::IntoParams;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{Object, Type};

use super::fields::CheckedFields;
use crate::store::{CallFilter, CallsAsked, Digits};

/// Different digits that one key may ask for in a minute: ten questions a digit would give a number away.
const SEARCHES: usize = 30;
const MINUTE: Duration = Duration::from_mins(1);

/// How calls came out, and whose they are.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct FilterParams {
    /// How they came out: `failed` is any routing failure; who is `unreached` talked to nobody, in this call or in the next hundred.
    #[param(schema_with = outcomes)]
    outcome: Option<String>,
    /// Why they failed, as `by_reason` of `/calls/metrics` counts it.
    #[param(schema_with = failures)]
    failure: Option<String>,
    /// The rule that took them, or `(default)`.
    #[param(min_length = 1, max_length = 64)]
    rule: Option<String>,
    failed_over: Option<bool>,
    held: Option<bool>,
    /// Routed in more than so many milliseconds.
    #[param(minimum = 0, maximum = 600_000)]
    slower_than: Option<u32>,
    /// The last digits of the caller's number, at least two, with or without the `0` of the national form; or the whole number with `+`.
    #[param(pattern = "^(\\+[1-9][0-9]{6,14}|[0-9]{2,15})$", example = "90")]
    caller: Option<String>,
    /// The same, of the number that was called.
    #[param(pattern = "^(\\+[1-9][0-9]{6,14}|[0-9]{2,15})$", example = "00")]
    called: Option<String>,
    /// Of this caller: the `caller_id` of a call.
    #[param(pattern = "^[1-9][0-9]{0,17}$", example = "17")]
    caller_id: Option<String>,
    /// Of this called number: the `called_id` of a row of `/quality`.
    #[param(pattern = "^[1-9][0-9]{0,17}$", example = "1")]
    called_id: Option<String>,
}

fn one_of(names: &'static str) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text.enum_values(Some(names.split(' '))).build()
}

fn outcomes() -> Object {
    one_of(CallFilter::OUTCOMES)
}

fn failures() -> Object {
    one_of(CallFilter::FAILURES)
}

/// Reads the filters.
pub(super) fn read(fields: &mut CheckedFields, asked: &mut CallsAsked) {
    for name in CallFilter::NAMES.split(' ') {
        fields.read(name, |text| asked.filter.set(name, text));
    }
    asked.search_whole();
}

/// When a key searched for which digits.
type DigitSearch = (Instant, Arc<str>, Digits);

/// The searches of the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct DigitSearches(Arc<Mutex<Vec<DigitSearch>>>);

impl DigitSearches {
    /// Whether the digits are new to the key in this minute; `None` where it has asked for too many.
    pub(super) fn is_new(&self, by: &Arc<str>, digits: &Digits, now: Instant) -> Option<bool> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(at, ..)| now.saturating_duration_since(*at) < MINUTE);
        let own = all.iter().filter(|(_, who, _)| who == by);
        if own.clone().any(|(.., known)| known == digits) {
            return Some(false);
        }
        if own.count() >= SEARCHES {
            return None;
        }
        all.push((now, Arc::clone(by), digits.clone()));
        Some(true)
    }
}
