//! What goes to Braze and what comes back. Reading is tolerant: values have loose types, keys come and go, and only a
//! missing `users` array makes an answer unreadable.
//!
//! Values that are not needed are skipped as raw text, never built, so that neither their types nor their depth matter.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::lead::LeadScore;
use crate::routing::Profile;

/// An external id is at most so long; Braze allows 997 bytes.
const MAX_EXTERNAL_ID: usize = 1_024;
/// A tier's name or another attribute is at most so long; whatever is longer is none.
const MAX_TIER: usize = 128;
/// An unknown id that a probe asks for.
const PROBE_ID: &str = "__callrouter_probe__";

/// A JSON object whose values are read one by one, as needed. The last of equal keys counts.
pub(super) type Object<'a> = HashMap<String, &'a RawValue>;

/// A question to Braze, its keys in the documented order.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Question {
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_ids: Option<[&'static str; 1]>,
    fields_to_export: &'static [&'static str],
}

impl Question {
    /// The question for one number. With `phone` masked it is also what the record shows.
    pub(super) fn by_phone(phone: &str) -> Self {
        Self {
            phone: Some(phone.to_owned()),
            external_ids: None,
            fields_to_export: &["external_id", "braze_id", "created_at", "custom_attributes"],
        }
    }

    /// The question that costs least: an id that nobody has.
    pub(super) fn for_probe() -> Self {
        Self {
            phone: None,
            external_ids: Some([PROBE_ID]),
            fields_to_export: &["braze_id"],
        }
    }

    pub(super) fn to_body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn to_value(&self) -> Value {
        serde_json::json!(self)
    }
}

/// Which custom attributes are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a> {
    pub(super) score: &'a str,
    pub(super) tier: Option<&'a str>,
    /// Those that rules may ask for.
    pub(super) others: &'a [String],
}

impl Attributes<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        name == self.score
            || Some(name) == self.tier
            || self.others.iter().any(|other| other == name)
    }
}

/// What Braze knows of a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProfileExport {
    /// So many profiles share the number.
    pub(super) n_users: usize,
    /// The best of them; `None` where there is none.
    pub(super) best: Option<User>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct User {
    pub(super) external_id: Option<String>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) profile: Profile,
}

/// Not JSON, or without a `users` array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnreadableProfile;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    users: Vec<&'a RawValue>,
}

/// Reads the answer to [`Question::by_phone`].
pub(super) fn read_export(
    body: &[u8],
    wanted: Attributes<'_>,
) -> Result<ProfileExport, UnreadableProfile> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|_| UnreadableProfile)?;
    let users = body.users.iter().filter_map(|raw| User::read(raw, wanted));
    Ok(ProfileExport {
        n_users: body.users.len(),
        best: users.reduce(User::better),
    })
}

/// Reads the answer to [`Question::for_probe`]: whether Braze calls it a success.
pub(super) fn is_success(body: &[u8]) -> bool {
    serde_json::from_slice::<Object<'_>>(body)
        .ok()
        .and_then(|object| text(&object, "message"))
        .is_some_and(|message| message == "success")
}

impl User {
    fn read(raw: &RawValue, wanted: Attributes<'_>) -> Option<Self> {
        let user: Object<'_> = serde_json::from_str(raw.get()).ok()?;
        let attributes: Object<'_> = user
            .get("custom_attributes")
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        Some(Self {
            external_id: external_id(&user),
            created_at: text(&user, "created_at").and_then(|at| created_at(&at)),
            profile: Profile {
                score: score(&attributes, wanted.score),
                tier: wanted.tier.and_then(|key| tier(&attributes, key)),
                attributes: others(&attributes, wanted.others),
            },
        })
    }

    /// Braze's phones are not unique. A profile with one of the attributes beats one without, then one with an external id,
    /// then the higher score, then the newer; of equals the first. (Named tiers have no order that Braze knows.)
    fn better(self, other: Self) -> Self {
        let rank = |user: &Self| {
            (
                user.profile.score.is_some() || user.profile.tier.is_some(),
                user.external_id.is_some(),
                user.profile.score,
                user.created_at,
            )
        };
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }
}

/// The score under that key: a number, or text that is one. Anything else is no score.
pub(super) fn score(object: &Object<'_>, key: &str) -> Option<LeadScore> {
    match scalar(object.get(key)?)? {
        Value::Number(number) => number.as_f64().and_then(LeadScore::new),
        Value::String(text) => LeadScore::parse(&text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The tier's name under that key: text, or a number as text.
pub(super) fn tier(object: &Object<'_>, key: &str) -> Option<String> {
    text(object, key).filter(|tier| tier.len() <= MAX_TIER && !tier.chars().any(char::is_control))
}

/// The attributes of these names as text; those that are absent, or no scalars, are left out.
fn others(object: &Object<'_>, names: &[String]) -> BTreeMap<String, String> {
    let value = |name: &String| {
        let value = match scalar(object.get(name)?)? {
            Value::Bool(truth) => truth.to_string(),
            Value::Null
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => text(object, name)?,
        };
        (value.len() <= MAX_TIER && !value.chars().any(char::is_control)).then_some(value)
    };
    let found = names
        .iter()
        .filter_map(|name| Some((name.clone(), value(name)?)));
    found.collect()
}

/// The external id: text, or a number as text.
pub(super) fn external_id(object: &Object<'_>) -> Option<String> {
    text(object, "external_id").filter(|id| id.len() <= MAX_EXTERNAL_ID)
}

/// Text or a number under that key, without surrounding blanks; `None` where nothing is left.
pub(super) fn text(object: &Object<'_>, key: &str) -> Option<String> {
    let text = match scalar(object.get(key)?)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// The value, unless it is an array or an object: those are not even built.
fn scalar(raw: &RawValue) -> Option<Value> {
    if raw.get().starts_with(['[', '{']) {
        return None;
    }
    serde_json::from_str(raw.get()).ok()
}

/// Two forms occur: `2020-07-10 15:00:00.000 UTC` and `2020-06-17T20:01:33.385Z`.
fn created_at(text: &str) -> Option<Timestamp> {
    match text.strip_suffix(" UTC") {
        Some(bare) => format!("{bare}Z").parse().ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WANTED: Attributes<'static> = Attributes {
        score: "lead_score",
        tier: Some("lead_tier"),
        others: &[],
    };

    fn read(body: &str) -> Result<ProfileExport, UnreadableProfile> {
        read_export(body.as_bytes(), WANTED)
    }

    fn profile(attributes: &str) -> Profile {
        let body = format!(r#"{{"users":[{{"custom_attributes":{attributes}}}]}}"#);
        read(&body).unwrap().best.unwrap().profile
    }

    #[test]
    fn the_question_is_exactly_the_documented_one() {
        for (question, body) in [
            (
                Question::by_phone("+442071838750"),
                r#"{"phone":"+442071838750","fields_to_export":["external_id","braze_id","created_at","custom_attributes"]}"#,
            ),
            (
                Question::for_probe(),
                r#"{"external_ids":["__callrouter_probe__"],"fields_to_export":["braze_id"]}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(question.to_body()).unwrap(), body);
        }
    }

    #[test]
    fn the_documented_answer_is_read() {
        let answer = read(
            r#"{"users":[{"created_at":"2020-07-10 15:00:00.000 UTC","external_id":"A8i3mkd99","appboy_id":"x",
                "braze_id":"5fbd99bac125ca40511f2cb1","user_aliases":[{"alias_name":"user_123"}],
                "custom_attributes":{"loyaltyPoints":"321","lead_score":87,"lead_tier":" hot "}}],"message":"success"}"#,
        )
        .unwrap();
        let user = answer.best.unwrap();
        assert_eq!(answer.n_users, 1);
        assert_eq!(user.external_id.as_deref(), Some("A8i3mkd99"));
        assert_eq!(
            user.created_at,
            Some("2020-07-10T15:00:00Z".parse().unwrap())
        );
        assert_eq!(user.profile.score, LeadScore::new(87.0));
        assert_eq!(user.profile.tier.as_deref(), Some("hot"));
    }

    #[test]
    fn scores_of_any_type_are_read_or_left_out() {
        for (value, score) in [
            ("87", Some(87.0)),
            ("\" 87.5 \"", Some(87.5)),
            ("87.25", Some(87.25)),
            ("1e2", Some(100.0)),
            ("-3", Some(-3.0)),
            ("1000000", Some(1_000_000.0)),
            ("18446744073709551616", None),
            ("1.8e49", None),
            ("1e999", None),
            ("\"hot\"", None),
            ("\"\"", None),
            ("true", None),
            ("null", None),
            ("[87]", None),
            ("{\"value\":87}", None),
        ] {
            let profile = profile(&format!(r#"{{"lead_score":{value}}}"#));
            assert_eq!(
                profile.score,
                score.and_then(LeadScore::new),
                "lead_score: {value}"
            );
        }
    }

    #[test]
    fn tiers_are_text_or_numbers() {
        let long = format!("\"{}\"", "x".repeat(200));
        for (value, tier) in [
            ("\"hot\"", Some("hot")),
            ("1", Some("1")),
            ("\" \"", None),
            ("\"a\\u0000b\"", None),
            (long.as_str(), None),
            ("false", None),
            ("[\"hot\"]", None),
        ] {
            let profile = profile(&format!(r#"{{"lead_tier":{value}}}"#));
            assert_eq!(profile.tier.as_deref(), tier, "lead_tier: {value}");
        }
    }

    #[test]
    fn odd_shapes_around_the_attributes_do_no_harm() {
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        for user in [
            "{}".to_owned(),
            r#"{"custom_attributes":null}"#.to_owned(),
            r#"{"custom_attributes":[1]}"#.to_owned(),
            r#"{"external_id":{"a":1},"created_at":7,"custom_attributes":"none"}"#.to_owned(),
            format!(r#"{{"devices":{deep},"custom_attributes":{{"lead_score":{deep}}}}}"#),
        ] {
            let answer = read(&format!(r#"{{"users":[{user}],"invalid_user_ids":7}}"#)).unwrap();
            assert_eq!(answer.best, Some(User::default()), "{user}");
        }
        let numeric = read(r#"{"users":[{"external_id":42}]}"#).unwrap();
        assert_eq!(numeric.best.unwrap().external_id.as_deref(), Some("42"));
    }

    #[test]
    fn no_profile_is_an_answer_and_no_users_array_is_none() {
        let nobody = ProfileExport {
            n_users: 0,
            best: None,
        };
        assert_eq!(
            read(r#"{"users":[],"invalid_user_ids":["x"],"message":"success"}"#),
            Ok(nobody)
        );
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"users":null}"#,
            r#"{"users":{}}"#,
            r#"{"users":[{"#,
            r#"{"message":"queued"}"#,
        ] {
            assert_eq!(read(body), Err(UnreadableProfile), "{body:?}");
        }
    }

    #[test]
    fn the_best_of_several_profiles_is_taken() {
        let best = |users: &str| {
            let answer = read(&format!(r#"{{"users":[{users}]}}"#)).unwrap();
            answer.best.unwrap().external_id
        };
        let cases = [
            (
                "an attribute beats none",
                r#"{"external_id":"no"},{"external_id":"yes","custom_attributes":{"lead_score":1}}"#,
            ),
            (
                "an external id beats a higher score",
                r#"{"custom_attributes":{"lead_score":99}},{"external_id":"yes","custom_attributes":{"lead_score":1}}"#,
            ),
            (
                "the higher score",
                r#"{"external_id":"no","created_at":"2024-01-01T00:00:00Z","custom_attributes":{"lead_score":"9"}},{"external_id":"yes","custom_attributes":{"lead_score":10}}"#,
            ),
            (
                "then the newer, in either format",
                r#"{"external_id":"no","created_at":"2020-06-17T20:01:33.385Z","custom_attributes":{"lead_score":10}},{"external_id":"yes","created_at":"2020-07-10 15:00:00.000 UTC","custom_attributes":{"lead_score":10}}"#,
            ),
            (
                "then the first",
                r#"{"external_id":"yes","custom_attributes":{"lead_tier":"a"}},{"external_id":"no","custom_attributes":{"lead_tier":"b"}}"#,
            ),
        ];
        for (rule, users) in cases {
            assert_eq!(best(users).as_deref(), Some("yes"), "{rule}");
        }
    }

    #[test]
    fn a_probe_wants_the_word_success() {
        assert!(is_success(br#"{"users":[],"message":"success"}"#));
        assert!(!is_success(br#"{"users":[],"message":"queued"}"#));
        assert!(!is_success(b"success"));
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>, text in r#"[\[\]{}",:a-z0-9 ]{0,200}"#) {
            prop_assert!(read_export(&body, WANTED).is_err() || !body.is_empty());
            let wrapped = format!(r#"{{"users":[{text}]}}"#);
            if let Ok(answer) = read(&wrapped) {
                prop_assert!(answer.best.is_none() || answer.n_users > 0);
            }
        }
    }
}
