//! The webhook by which Braze reports that a profile changed. Its body is made from a template by hand, so values have
//! loose types. Braze does not repeat what is refused, so that only a body is that says of nobody that they changed.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::cache::{Entry, Known};
use super::request::BrazeInner;
use super::wire::{self, Object};
use crate::audit::ProfileAction;
use crate::phone::{self, E164};
use crate::routing::Profile;

/// A push from further in the future than this has a wrong clock; it counts as sent then.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, PartialEq)]
pub struct Push {
    /// Whose, as Braze writes it; empty where it writes nothing.
    pub phone: String,
    /// What Braze calls the caller.
    pub external_id: Option<String>,
    /// The routing fields. Without any, the remembered profile is dropped.
    pub profile: Profile,
    /// When it was sent. An older push loses against a newer one.
    pub sent_at: Option<Timestamp>,
}

/// The body cannot be used; said in words for a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error("the body is no JSON object; check the template for blank or quote-carrying values")]
    Json,
    #[error("the body has neither phone nor external_id")]
    Nobody,
}

impl Push {
    /// Reads the body of the webhook.
    pub fn parse(body: &[u8]) -> Result<Self, PushError> {
        let object: Object<'_> = serde_json::from_slice(body).map_err(|_| PushError::Json)?;
        let phone = wire::text(&object, "phone");
        let external_id = wire::external_id(&object);
        if phone.is_none() && external_id.is_none() {
            return Err(PushError::Nobody);
        }
        Ok(Self {
            phone: phone.unwrap_or_default(),
            external_id,
            profile: Profile {
                score: wire::score(&object, "lead_score"),
                tier: wire::tier(&object, "lead_tier")
                    .or_else(|| wire::tier(&object, "lead_score_tier")),
                ..Profile::default()
            },
            sent_at: wire::text(&object, "sent_at").and_then(|at| sent_at(&at)),
        })
    }
}

impl BrazeInner {
    pub(super) async fn apply_push(&self, push: Push) -> ProfileAction {
        let now = self.clock.now();
        let entered_at = self.clock.instant();
        let sent_at = push
            .sent_at
            .map(|at| at.min(now.saturating_add(MAX_CLOCK_SKEW).unwrap_or(now)));
        let region = self.active.load().settings.region;
        let Ok(phone) = E164::read(&push.phone, region) else {
            return self
                .drop_profiles_of(push.external_id.as_deref(), sent_at)
                .await;
        };
        // A push says nothing of other attributes: those that are known stay, and where none are, Braze is asked anew.
        let asks_for_more = !self.active.load().settings.attributes.is_empty();
        let mut drops = push.profile.score.is_none() && push.profile.tier.is_none();
        let mut is_outdated = false;
        let newest = |present: Option<&Entry>| present.and_then(|entry| entry.changed_at);
        let requests = &self.requests;
        let phone = &phone;
        self.profiles
            .put(phone, |present| {
                is_outdated = sent_at.is_some_and(|at| newest(present).is_some_and(|n| at < n));
                if is_outdated {
                    return None;
                }
                // A request that ends from here on must not overwrite the push.
                requests.supersede(phone);
                let known_as = present.and_then(|entry| entry.external_id.clone());
                let known = present.and_then(|entry| entry.known.profile());
                drops |= asks_for_more && known.is_none();
                Some(Entry {
                    known: if drops {
                        Known::Dropped
                    } else {
                        Known::Profile(Profile {
                            attributes: known
                                .map(|known| known.attributes.clone())
                                .unwrap_or_default(),
                            ..push.profile.clone()
                        })
                    },
                    external_id: push.external_id.clone().or(known_as),
                    fetched_at: now,
                    changed_at: sent_at.or(newest(present)),
                    entered_at,
                    age_before: Duration::ZERO,
                })
            })
            .await;
        match (is_outdated, drops) {
            (true, _) => ProfileAction::Outdated,
            (false, true) => ProfileAction::Dropped,
            (false, false) => ProfileAction::Replaced,
        }
    }

    /// Whose profile it was that changed cannot be read: what is remembered under the same id is out of date, and goes.
    async fn drop_profiles_of(
        &self,
        external_id: Option<&str>,
        sent_at: Option<Timestamp>,
    ) -> ProfileAction {
        let mut action = ProfileAction::Unreadable;
        let Some(external_id) = external_id else {
            return action;
        };
        for (phone, changed_at) in self.profiles.of_external_id(external_id) {
            if sent_at.is_some_and(|at| changed_at.is_some_and(|newest| at < newest)) {
                action = ProfileAction::Outdated;
                continue;
            }
            self.requests.supersede(&phone);
            self.profiles.remove(&phone).await;
            action = ProfileAction::Dropped;
        }
        action
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("phone", &phone::mask(&self.phone))
            .field("profile", &self.profile)
            .field("sent_at", &self.sent_at)
            .finish_non_exhaustive()
    }
}

/// ISO 8601, or Unix seconds.
fn sent_at(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .or_else(|| Timestamp::from_second(text.parse().ok()?).ok())
}

/// Whether the `Authorization` header carries the secret. Compared as digests, so that neither its content nor its length
/// shows in the time it takes. An empty secret fits nothing.
pub fn authorized(header: Option<&str>, secret: &str) -> bool {
    let Some((scheme, token)) = header.and_then(|header| header.trim().split_once(' ')) else {
        return false;
    };
    let same = Sha256::digest(token.trim_start()).ct_eq(&Sha256::digest(secret));
    scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty() && same.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lead::LeadScore;

    #[test]
    fn both_documented_bodies_are_read() {
        let push = Push::parse(
            br#"{"external_id":"c1","phone":"+4930123456","lead_score":"87","lead_tier":"hot","sent_at":"2026-01-02T03:04:05Z","more":[{}]}"#,
        )
        .unwrap();
        assert_eq!(push.phone, "+4930123456");
        assert_eq!(push.external_id.as_deref(), Some("c1"));
        assert_eq!(push.profile.score, LeadScore::new(87.0));
        assert_eq!(push.profile.tier.as_deref(), Some("hot"));
        assert_eq!(push.sent_at, Some("2026-01-02T03:04:05Z".parse().unwrap()));
        let template = Push::parse(
            br#"{"event":"lead_score_changed","external_id":7,"braze_id":"b","phone":" +4930123456 ","lead_score_tier":2,"sent_at":1767323045}"#,
        )
        .unwrap();
        assert_eq!(template.external_id.as_deref(), Some("7"));
        assert_eq!(template.profile.tier.as_deref(), Some("2"));
        assert_eq!(template.sent_at, push.sent_at);
    }

    #[test]
    fn fields_of_odd_types_count_as_missing() {
        let push = Push::parse(
            br#"{"external_id":null,"phone":"+4930123456","lead_score":true,"lead_tier":"","lead_score_tier":[],"sent_at":"soon"}"#,
        )
        .unwrap();
        assert_eq!(push.profile, Profile::default());
        assert_eq!((push.external_id, push.sent_at), (None, None));
    }

    #[test]
    fn a_body_that_names_nobody_is_refused() {
        for (body, error) in [
            ("", PushError::Json),
            ("[]", PushError::Json),
            (r#"{"phone":"+4930123456","lead_score":}"#, PushError::Json),
            ("{}", PushError::Nobody),
            (r#"{"phone":""}"#, PushError::Nobody),
            (r#"{"phone":{},"external_id":null}"#, PushError::Nobody),
        ] {
            assert_eq!(Push::parse(body.as_bytes()), Err(error), "{body}");
        }
    }

    #[test]
    fn only_the_very_secret_opens_the_webhook() {
        for (header, fits) in [
            (Some("Bearer s3cret"), true),
            (Some("bearer  s3cret"), true),
            (Some("Bearer s3creT"), false),
            (Some("Bearer s3cret2"), false),
            (Some("Bearer "), false),
            (Some("Basic s3cret"), false),
            (Some("s3cret"), false),
            (None, false),
        ] {
            assert_eq!(authorized(header, "s3cret"), fits, "{header:?}");
        }
        assert!(!authorized(Some("Bearer "), ""));
    }

    #[test]
    fn debug_output_hides_the_number() {
        let push = Push::parse(br#"{"phone":"+4930123456","external_id":"c1"}"#).unwrap();
        let shown = format!("{push:?}");
        assert!(!shown.contains("4930123456") && !shown.contains("c1"));
    }
}
