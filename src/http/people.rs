//! People who sign in at the provider: their way there and back, and asking again what they may do while they stay.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::http::{HeaderMap, HeaderValue};
use axum_extra::extract::cookie::SameSite;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::error::{ApiError, ErrorKind};
use super::keys::Holder;
use super::limit::ConcurrencyLimit;
use super::refusals::network;
use super::sessions::{Begun, CookieNames, KnownPerson, Sessions, TokenHash};
use crate::audit::{Access, Event, Record};
use crate::clock::Clock;
use crate::flow::Recorder;
use crate::lifecycle::Lifecycle;
use crate::oidc::{OidcError, OidcIdentity, OidcProvider, SignInAttempt};

/// Where people come back to.
pub(super) const CALLBACK: &str = "/login/callback";
/// What is remembered of an attempt meanwhile: in this browser alone, and sent with the way back from the provider.
const COOKIES: CookieNames = ["switchboard_sign_in", "__Host-switchboard_sign_in"];
const LONGEST_ATTEMPT: SignedDuration = SignedDuration::from_mins(10);
/// The provider is asked again before 15 minutes are over …
pub const CONFIRM_EVERY: SignedDuration = SignedDuration::from_mins(14);
/// … and looked for whom so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// People who begin or end a sign-in at the same time, and those of one network among them.
const SIGN_INS: usize = 8;
const SIGN_INS_OF_NETWORK: usize = 2;

/// Where people sign in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct People(Arc<PeopleState>);

#[derive(Debug)]
struct PeopleState {
    provider: ArcSwapOption<OidcProvider>,
    sessions: Sessions,
    recorder: Recorder,
    clock: Clock,
    sign_ins: ConcurrencyLimit,
}

/// What somebody brings back from the provider.
#[derive(Debug, Default, Deserialize)]
pub(super) struct BroughtBack {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
}

impl People {
    pub fn new(sessions: Sessions, recorder: Recorder, clock: Clock) -> Self {
        Self(Arc::new(PeopleState {
            provider: ArcSwapOption::empty(),
            sessions,
            recorder,
            clock,
            sign_ins: ConcurrencyLimit::shared(SIGN_INS, SIGN_INS_OF_NETWORK),
        }))
    }

    /// People sign in at `provider` from now on. Where that is another, or the same by other settings, everybody has to anew.
    pub fn replace(&self, provider: Option<OidcProvider>) {
        let current = self.provider();
        let is_same = match (&current, &provider) {
            (Some(one), Some(other)) => one.settings() == other.settings(),
            (one, other) => one.is_none() && other.is_none(),
        };
        if !is_same {
            self.0.provider.store(provider.map(Arc::new));
            self.0.sessions.end_people();
        }
    }

    fn provider(&self) -> Option<Arc<OidcProvider>> {
        self.0.provider.load_full()
    }

    /// What the provider is called on the page to sign in: its host.
    pub(super) fn provider_name(&self) -> Option<String> {
        let provider = self.provider()?;
        let host = provider.settings().issuer.split('/').nth(2);
        host.map(ToOwned::to_owned)
    }

    fn wanted(&self) -> Result<Arc<OidcProvider>, ApiError> {
        let none = || ApiError::not_found("People sign in with keys here.");
        self.provider().ok_or_else(none)
    }

    fn callback(&self) -> String {
        let site = self.0.sessions.site();
        format!("{}{}", site.origin, site.path(CALLBACK))
    }

    /// Where the provider is to be asked, and the cookie to remember it by.
    pub(super) async fn begin(
        &self,
        next: &str,
        source: IpAddr,
    ) -> Result<(String, HeaderValue), ApiError> {
        let provider = self.wanted()?;
        let permit = self.0.sign_ins.acquire_from(network(source)).await;
        let _permit = permit.ok_or_else(ApiError::busy)?;
        let begun = provider.begin(&self.callback()).await;
        let (address, attempt) = begun.map_err(|error| failed(&error))?;
        let pending = serde_json::to_vec(&(attempt, next)).map_err(|_| ApiError::internal())?;
        let cookie = self.cookie(&URL_SAFE_NO_PAD.encode(pending), Some(LONGEST_ATTEMPT));
        Ok((address, cookie))
    }

    /// The cookie of an attempt; without an age it takes the cookie away.
    pub(super) fn cookie(&self, value: &str, age: Option<SignedDuration>) -> HeaderValue {
        let sessions = &self.0.sessions;
        sessions.write_cookie(COOKIES, value, age, SameSite::Lax)
    }

    /// The attempt of a browser, and the page that was asked for.
    fn pending(&self, headers: &HeaderMap) -> Option<(SignInAttempt, String)> {
        let cookie = self.0.sessions.read_cookie(headers, COOKIES)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cookie).ok()?).ok()
    }

    /// The session of somebody who comes back, and the page they asked for.
    pub(super) async fn finish(
        &self,
        headers: &HeaderMap,
        brought: BroughtBack,
        source: IpAddr,
    ) -> Result<(Begun, String), ApiError> {
        let provider = self.wanted()?;
        let pending = self.pending(headers);
        let is_ours =
            |(attempt, _): &(SignInAttempt, _)| brought.state.as_ref() == Some(&attempt.state);
        let Some((attempt, next)) = pending.filter(is_ours) else {
            let message = "This sign-in was not begun in this browser, or more than 10 minutes ago: begin again.";
            let kind = ErrorKind::Authentication;
            return Err(ApiError::refused(kind, message, "sign_in", None));
        };
        let Some(code) = brought.code.filter(|_| brought.error.is_none()) else {
            let error = brought.error.unwrap_or_default();
            return Err(failed(&OidcError::Refused(error)));
        };
        let permit = self.0.sign_ins.acquire_from(network(source)).await;
        let _permit = permit.ok_or_else(ApiError::busy)?;
        let now = self.0.clock.now();
        let identity = provider.finish(&self.callback(), code, attempt).await;
        let identity = identity.map_err(|error| failed(&error))?;
        let name = name_of(&identity);
        let Some(person) = person(identity, now) else {
            let message = format!(
                "{name} has no role here. Ask an administrator of the provider for one of the values of {} that give a role, or one of Switchboard for a key.",
                provider.settings().role_claim
            );
            let (kind, who) = (ErrorKind::Permission, Some(name.into()));
            return Err(ApiError::refused(kind, message, "no_role", who));
        };
        Ok((self.0.sessions.begin_person(person).await?, next))
    }

    /// Asks the provider again what people may do, after [`CONFIRM_EVERY`] but in tests, until the process is to stop.
    pub async fn run(self, lifecycle: Lifecycle, confirm_every: SignedDuration) {
        let every = LOOK_EVERY.min(confirm_every.unsigned_abs());
        while lifecycle.pause(every).await {
            let Some(provider) = self.provider() else {
                continue;
            };
            let now = self.0.clock.now();
            for (session, known) in self.0.sessions.unconfirmed(now - confirm_every) {
                let name = &known.holder.name;
                match provider.renew(&known.identity).await {
                    Ok(identity) => match person(identity, now) {
                        Some(person) => self.0.sessions.confirm(session, Some(person)),
                        None => self.end(session, name, "no role any more").await,
                    },
                    Err(OidcError::Refused(why)) => self.end(session, name, &why).await,
                    // The session ends by itself where that lasts.
                    Err(error) => {
                        tracing::warn!(event = "auth.unconfirmed", person = &**name, error = %error, "a person who signed in is not confirmed");
                    }
                }
            }
        }
    }

    async fn end(&self, session: TokenHash, by: &str, why: &str) {
        self.0.sessions.confirm(session, None);
        tracing::info!(
            event = "auth.session_ended",
            person = by,
            why,
            "the provider does not vouch for a person any more"
        );
        let (by, why) = (by.to_owned(), why.to_owned());
        let event = Event::Accessed(Access::SessionEnded { by, why });
        let record = Record::of_service(self.0.clock.now(), event);
        self.0.recorder.append_one(record).await;
    }
}

/// As records name somebody: no key that is made here can have such a name.
fn name_of(identity: &OidcIdentity) -> String {
    let OidcIdentity { name, subject, .. } = identity;
    let subject: String = subject.chars().filter(char::is_ascii_graphic).collect();
    format!("{name} (oidc {subject})").trim_start().to_owned()
}

fn person(identity: OidcIdentity, confirmed_at: Timestamp) -> Option<KnownPerson> {
    let name = name_of(&identity).into();
    let role = identity.role?;
    Some(KnownPerson {
        holder: Holder { name, role },
        identity,
        confirmed_at,
    })
}

fn failed(error: &OidcError) -> ApiError {
    tracing::warn!(event = "auth.provider", error = %error, "nobody could sign in at the provider");
    if matches!(error, OidcError::Unavailable(_)) {
        let message = "The provider does not answer as it should. Try again in a moment, or sign in with a key.";
        return ApiError::new(ErrorKind::Integration, message);
    }
    let message = "The provider did not let you in, or its answer does not hold. Begin again; the log says why.";
    ApiError::refused(ErrorKind::Permission, message, "sign_in", None)
}
