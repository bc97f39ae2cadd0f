//! Twilio's REST API, as far as it is asked: what became of a call whose callbacks were lost.
//!
//! No caller waits for this. One request at a time, bounded in time and size; whoever asks keeps the pace that a 429 asks for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Url;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::NumberSettings;
use super::event::end_reason;
use super::structure::is_sid;
use crate::call::{CallId, CarrierAnswer};
use crate::clock::Clock;
use crate::outbound::{self, Again, Connections, Content, Unreadable};
use crate::resilience::{CredentialRefusal, RefusalCount, TriedBy};

/// What one request may take in all: connection, head and body.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is read beyond this: a page of a thousand calls has about 1.5 MB.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Pages of numbers that are read: 50 numbers each.
const PAGES: usize = 20;
/// The error code of a resource that is not there.
const NOT_FOUND: u64 = 20_404;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestSettings {
    pub base_url: String,
    /// Where its alerts are; `None`: beside `base_url`, `monitor.` in place of `api.`.
    pub monitor_url: Option<String>,
    /// The account whose calls are asked for.
    pub account_sid: String,
    /// Further accounts whose calls are listed.
    pub subaccounts: Vec<String>,
    /// Who asks, tried in this order until one is let in: during a rotation there are two tokens. Empty: nobody can.
    pub credentials: Vec<Credentials>,
}

/// An account with its token, or an API key with its secret. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    secret: Zeroizing<String>,
}

impl Credentials {
    /// `AC…` with the auth token, or `SK…` with the key's secret.
    pub fn new(user: &str, secret: &str) -> Self {
        Self {
            user: user.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// The address cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("api_base must be an http or https address with a host")]
pub struct UnusableBase;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was sent, or nothing that was sent will be let in.
    #[error(transparent)]
    CannotAsk(#[from] CannotAsk),
    /// Twilio cannot answer now, whichever call is asked for.
    #[error("{why}")]
    Later {
        /// How long it wants to be left alone, where it says so.
        retry_after: Option<Duration>,
        why: String,
    },
    /// The answer to this question means nothing; the next one may.
    #[error("{why}")]
    Unclear { why: String },
}

/// Why Twilio is not asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotAsk {
    /// There is neither an auth token nor an API key.
    #[error("there is no auth_token and no api_key_sid under [twilio]")]
    NoCredentials,
    /// Twilio refuses them, and will until the configuration changes.
    #[error(
        "Twilio refuses the credentials: check account_sid, auth_token and api_key_sid under [twilio]"
    )]
    Refused,
    /// The call came in by another door.
    #[error("not a call of Twilio's")]
    ForeignCall,
}

/// Asks Twilio. Cheap to clone; every clone learns of a reload and of refused credentials.
#[derive(Clone)]
pub struct Rest {
    http: Connections,
    pub(super) clock: Clock,
    pub(super) active: Arc<ArcSwap<RestCredentials>>,
}

/// Settings, and how Twilio takes the credentials in them.
pub(super) struct RestCredentials {
    pub(super) settings: RestSettings,
    base: Url,
    pub(super) monitor: Url,
    taken: Mutex<Taken>,
}

/// How Twilio takes the credentials.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// How far down the list the refusals have come.
    n_refused: usize,
    refusals: RefusalCount,
    /// When all of them are tried again, where all were refused.
    next_try: Option<Instant>,
    is_known: bool,
    status: u16,
}

impl RestCredentials {
    fn try_new(settings: RestSettings, taken: Taken) -> Result<Self, UnusableBase> {
        let read = |url: &str| {
            let url = Url::parse(url).map_err(|_| UnusableBase)?;
            let is_usable = matches!(url.scheme(), "http" | "https") && url.has_host();
            is_usable.then_some(url).ok_or(UnusableBase)
        };
        let beside = settings.base_url.replacen("//api.", "//monitor.", 1);
        Ok(Self {
            base: read(&settings.base_url)?,
            monitor: read(settings.monitor_url.as_ref().unwrap_or(&beside))?,
            settings,
            taken: Mutex::new(taken),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing under this lock leaves it half-changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials to use, and their place. Where all were refused, the next question after a while tries them from the first.
    pub(super) fn credentials(&self, now: Instant) -> Result<(usize, &Credentials), CannotAsk> {
        let mut taken = self.taken();
        if taken.next_try.is_some_and(|at| at <= now) {
            taken.n_refused = 0;
            taken.next_try = None;
        }
        let place = taken.n_refused;
        match self.settings.credentials.get(place) {
            Some(credentials) => Ok((place, credentials)),
            None if self.settings.credentials.is_empty() => Err(CannotAsk::NoCredentials),
            None => Err(CannotAsk::Refused),
        }
    }

    /// Moves on from credentials that were refused; says so where they were the last.
    fn refuse(&self, place: usize, status: u16, now: Instant) {
        let mut taken = self.taken();
        if taken.n_refused != place {
            return;
        }
        taken.n_refused = place + 1;
        if taken.n_refused < self.settings.credentials.len() {
            return;
        }
        let pause = taken.refusals.again(now);
        taken.next_try = Some(now + pause);
        taken.is_known = true;
        taken.status = status;
        tracing::error!(
            event = "twilio.credentials_refused",
            status,
            next_try_s = pause.as_secs(),
            "Twilio's REST API refuses the credentials; calls whose end is not reported cannot be looked up until a further try is accepted"
        );
    }

    fn accepted(&self) {
        let mut taken = self.taken();
        taken.refusals.end();
        taken.is_known = true;
    }

    /// The address of something that belongs to an account.
    pub(super) fn url_of(&self, account: &str, path_in_account: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Fails only for addresses without a host, which `try_new` refuses.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend(["2010-04-01", "Accounts", account])
                .extend(path_in_account);
        }
        url.set_query(None);
        url.set_fragment(None);
        url
    }
}

impl Rest {
    /// Takes connections with redirects off; timeouts are kept here.
    pub fn new(
        settings: RestSettings,
        http: Connections,
        clock: Clock,
    ) -> Result<Self, UnusableBase> {
        Ok(Self {
            http,
            clock,
            active: Arc::new(ArcSwap::from_pointee(RestCredentials::try_new(
                settings,
                Taken::default(),
            )?)),
        })
    }

    /// Takes new settings. Credentials that were refused are tried with the next question, whether anything changed or not.
    pub fn reconfigure(&self, settings: RestSettings) -> Result<(), UnusableBase> {
        let before = self.active.load_full();
        let taken = if before.settings == settings {
            Taken {
                n_refused: 0,
                next_try: None,
                ..*before.taken()
            }
        } else {
            Taken::default()
        };
        self.active
            .store(Arc::new(RestCredentials::try_new(settings, taken)?));
        Ok(())
    }

    /// Whether there is any use in asking.
    pub fn can_ask(&self) -> Result<(), CannotAsk> {
        let now = self.clock.instant();
        self.active.load().credentials(now).map(|_| ())
    }

    /// The credentials, where Twilio refuses them; the inner `None`: it takes them, or there are none. `None` where nobody has asked yet.
    pub fn refused(&self) -> Option<Option<CredentialRefusal>> {
        let active = self.active.load();
        let taken = *active.taken();
        if !taken.is_known && !active.settings.credentials.is_empty() {
            return None;
        }
        let refused = (taken.refusals.count() > 0).then(|| CredentialRefusal {
            credential: "auth token or API key (twilio.auth_token, twilio.api_key_sid)".to_owned(),
            why: format!("unauthorized ({})", taken.status),
            count: taken.refusals.count(),
            next_try: taken.next_try.unwrap_or_else(|| self.clock.instant()),
            tried_by: TriedBy::Request,
        });
        Some(refused)
    }

    /// Asks what became of a call; `None`: it is queued, rings, or is in progress.
    pub async fn call(&self, call: &CallId) -> Result<Option<CarrierAnswer>, NoAnswer> {
        // Twilio's ids are no others.
        if !is_sid(call.as_str().as_bytes()) {
            return Err(CannotAsk::ForeignCall.into());
        }
        let active = self.active.load_full();
        let account = &active.settings.account_sid;
        let url = active.url_of(account, &["Calls", &format!("{call}.json")]);
        self.ask(&active, &url).await?.fate(call)
    }

    /// The settings of every number of the account.
    pub async fn numbers(&self) -> Result<Vec<NumberSettings>, NoAnswer> {
        let active = self.active.load_full();
        let account = &active.settings.account_sid;
        let mut url = active.url_of(account, &["IncomingPhoneNumbers.json"]);
        url.set_query(Some("PageSize=50"));
        let mut numbers = Vec::new();
        for _ in 0..PAGES {
            let page: NumberPage = self.ask(&active, &url).await?.read()?;
            numbers.extend(page.incoming_phone_numbers);
            // An address on another host would be given the credentials.
            let next = page.next_page_uri.filter(|next| next.starts_with('/'));
            match next.and_then(|next| active.base.join(&next).ok()) {
                Some(next) if next.origin() == active.base.origin() => url = next,
                Some(_) | None => return Ok(numbers),
            }
        }
        Ok(numbers)
    }

    /// The ids of the account's webhook rules that match this URL: their settings go before what stands behind its `#`. Only the first page is
    /// read. Source: Twilio's page on webhook rules, a public beta.
    pub async fn webhook_rules(&self, at: &str) -> Result<Vec<String>, NoAnswer> {
        let active = self.active.load_full();
        let base = active.base.as_str().replacen("//api.", "//webhooks.", 1);
        let url = Url::parse(&base).and_then(|base| base.join("/v1/Webhooks/Rules"));
        let url = url.map_err(|error| later(None, error.to_string()))?;
        let page: Value = self.ask(&active, &url).await?.read()?;
        // The rules stand beside what is said of the page.
        let parts = page.as_object().into_iter().flatten();
        let rules = parts.filter_map(|(_, part)| part.as_array()).flatten();
        let ids = rules.filter_map(|rule| {
            let text = |key: &str| rule.get(key).and_then(Value::as_str);
            let matches = match text("matchType")? {
                "EXACT_MATCH" => text("value")? == at,
                "PREFIX_MATCH" => at.starts_with(text("prefix")?),
                kind => kind == "DEFAULT",
            };
            matches.then(|| text("id").unwrap_or_default().to_owned())
        });
        Ok(ids.collect())
    }

    /// Asks with the credentials that are let in.
    pub(super) async fn ask(
        &self,
        active: &RestCredentials,
        url: &Url,
    ) -> Result<WholeAnswer, NoAnswer> {
        loop {
            let (place, credentials) = active.credentials(self.clock.instant())?;
            let answered = tokio::time::timeout(TIMEOUT, self.ask_as(credentials, url));
            let answer = match answered.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    self.http.failed();
                    return Err(later(None, describe(&error)));
                }
                Err(_) => {
                    self.http.failed();
                    let why = format!("no answer within {} s", TIMEOUT.as_secs());
                    return Err(later(None, why));
                }
            };
            self.http.answered(answer.status);
            if matches!(answer.status, 401 | 403) {
                active.refuse(place, answer.status, self.clock.instant());
                continue;
            }
            if answer.status < 500 && !matches!(answer.status, 408 | 425 | 429) {
                active.accepted();
            }
            return Ok(answer);
        }
    }

    pub(super) async fn ask_as(
        &self,
        credentials: &Credentials,
        url: &Url,
    ) -> reqwest::Result<WholeAnswer> {
        let request = |client: &reqwest::Client| {
            client
                .get(url.clone())
                .basic_auth(&credentials.user, Some(credentials.secret.as_str()))
                .header(ACCEPT, "application/json")
                .header(ACCEPT_ENCODING, outbound::ACCEPTED_CODINGS)
        };
        let response = self.http.send(request, Again::Always).await?;
        let status = response.status().as_u16();
        let retry_after = outbound::retry_after(response.headers(), self.clock.now());
        // Who is refused is not told why in a way that would change anything.
        let json = if matches!(status, 401 | 403) {
            None
        } else {
            match Content::of(response, MAX_BODY).whole().await {
                Ok(body) => serde_json::from_slice(&body).ok(),
                Err(Unreadable::Transport(error)) => return Err(error),
                Err(Unreadable::TooLong(_) | Unreadable::Packed) => None,
            }
        };
        Ok(WholeAnswer {
            status,
            retry_after,
            json,
        })
    }
}

/// A page of the account's numbers.
#[derive(Deserialize)]
struct NumberPage {
    incoming_phone_numbers: Vec<NumberSettings>,
    #[serde(default)]
    next_page_uri: Option<String>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rest")
            .field(&self.active.load().settings)
            .finish()
    }
}

/// An answer that came whole.
#[derive(Debug)]
pub(super) struct WholeAnswer {
    pub(super) status: u16,
    retry_after: Option<Duration>,
    /// The body, where it is JSON and not longer than a body may be.
    json: Option<Value>,
}

impl WholeAnswer {
    /// The body of a good answer.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, NoAnswer> {
        match (self.status, self.json) {
            (200, Some(json)) => serde_json::from_value(json)
                .map_err(|error| later(None, format!("an answer that is not Twilio's: {error}"))),
            (200, None) => Err(later(None, "an answer that is not Twilio's")),
            (status, _) => Err(later(
                self.retry_after,
                format!("Twilio's REST API refuses the question ({status})"),
            )),
        }
    }

    fn fate(&self, call: &CallId) -> Result<Option<CarrierAnswer>, NoAnswer> {
        let code = self
            .json
            .as_ref()
            .and_then(|json| json.get("code")?.as_u64());
        match (self.status, &self.json) {
            (200, Some(json)) => fate(json, call),
            // A 404 of a proxy, or of a wrong address, says nothing of the call.
            (404, _) if code == Some(NOT_FOUND) => Ok(Some(CarrierAnswer::NotFound)),
            (400..=499, Some(_)) if code.is_some() && !matches!(self.status, 408 | 425 | 429) => {
                let why = format!("Twilio refuses the question ({})", self.status);
                Err(NoAnswer::Unclear { why })
            }
            (429, _) => Err(later(self.retry_after, "Twilio limits our requests (429)")),
            (200, None) => Err(later(None, "an answer that is not Twilio's")),
            (status, _) => {
                let why = format!("Twilio's REST API fails ({status})");
                Err(later(self.retry_after, why))
            }
        }
    }
}

/// Reads a call. Every field may be null; a status that is not known yet decides nothing.
fn fate(json: &Value, call: &CallId) -> Result<Option<CarrierAnswer>, NoAnswer> {
    let text = |key: &str| json.get(key).and_then(Value::as_str);
    if text("sid").is_some_and(|sid| sid != call.as_str()) {
        let why = "the answer is about another call".to_owned();
        return Err(NoAnswer::Unclear { why });
    }
    let status = text("status").unwrap_or_default();
    if matches!(status, "queued" | "initiated" | "ringing" | "in-progress") {
        return Ok(None);
    }
    let Some(end) = end_reason(status) else {
        let why = "the call has a status that is not known here".to_owned();
        return Err(NoAnswer::Unclear { why });
    };
    let duration = json.get("duration");
    let duration_s = match duration {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_u64().and_then(|n| u32::try_from(n).ok()),
        None => None,
    };
    Ok(Some(CarrierAnswer::Ended {
        end,
        duration_s,
        at: text("end_time").and_then(time),
    }))
}

pub(super) fn later(retry_after: Option<Duration>, why: impl Into<String>) -> NoAnswer {
    NoAnswer::Later {
        retry_after,
        why: why.into(),
    }
}

pub(super) fn time(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// An error and its sources, without the URL: it names the account and the call.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut words = if error.is_connect() {
        "cannot connect to Twilio's REST API".to_owned()
    } else {
        "the connection to Twilio's REST API broke".to_owned()
    };
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        words.push_str(": ");
        words.push_str(&error.to_string());
        source = error.source();
    }
    words.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::EndReason;

    const SID: &str = "CA00000000000000000000000000000001";

    fn call() -> CallId {
        CallId::parse(SID).unwrap()
    }

    fn answer(status: u16, json: Option<Value>) -> Result<Option<CarrierAnswer>, NoAnswer> {
        let answer = WholeAnswer {
            status,
            retry_after: None,
            json,
        };
        answer.fate(&call())
    }

    fn settings(credentials: Vec<Credentials>) -> RestSettings {
        RestSettings {
            base_url: "http://127.0.0.1:9/base/?a=b#c".to_owned(),
            monitor_url: None,
            subaccounts: Vec::new(),
            account_sid: "AC1".to_owned(),
            credentials,
        }
    }

    #[test]
    fn a_call_is_read_whatever_is_null_or_new() {
        let ended = |end, duration_s, at| {
            Some(CarrierAnswer::Ended {
                end,
                duration_s,
                at,
            })
        };
        let at = Timestamp::from_second(1_477_965_553).unwrap();
        let cases = [
            (json!({"status": "queued"}), Some(None)),
            (json!({"status": "ringing", "duration": ""}), Some(None)),
            (json!({"status": "in-progress", "sid": SID}), Some(None)),
            (
                json!({"status": "completed", "duration": "47", "end_time": "Tue, 01 Nov 2016 01:59:13 +0000"}),
                Some(ended(EndReason::Completed, Some(47), Some(at))),
            ),
            (
                json!({"status": "completed", "duration": 47, "end_time": null}),
                Some(ended(EndReason::Completed, Some(47), None)),
            ),
            (
                json!({"status": "no-answer", "duration": "", "end_time": "yesterday"}),
                Some(ended(EndReason::NoAnswer, None, None)),
            ),
            (
                json!({"status": "busy", "duration": null}),
                Some(ended(EndReason::Busy, None, None)),
            ),
            (
                json!({"status": "failed", "duration": "-1"}),
                Some(ended(EndReason::Failed, None, None)),
            ),
            (
                json!({"status": "canceled"}),
                Some(ended(EndReason::Canceled, None, None)),
            ),
            (json!({"status": "something-new"}), None),
            (json!({"status": null}), None),
            (json!({}), None),
            (json!([1, 2]), None),
            (json!({"sid": "CA2", "status": "completed"}), None),
        ];
        for (json, expected) in cases {
            let found = answer(200, Some(json.clone()));
            match expected {
                Some(fate) => assert_eq!(found, Ok(fate), "{json}"),
                None => assert!(matches!(found, Err(NoAnswer::Unclear { .. })), "{json}"),
            }
        }
    }

    #[test]
    fn only_twilios_own_404_says_that_there_is_no_such_call() {
        let body = |code: u64| Some(json!({"code": code, "message": "…", "status": 404}));
        assert_eq!(answer(404, body(20_404)), Ok(Some(CarrierAnswer::NotFound)));
        let is_later = |answer| matches!(answer, Err(NoAnswer::Later { .. }));
        assert!(is_later(answer(404, None)));
        assert!(is_later(answer(404, Some(json!({"error": "no route"})))));
        for status in [200, 204, 302, 408, 429, 500, 503] {
            assert!(is_later(answer(status, None)), "{status}");
        }
        assert!(is_later(answer(429, body(20_429))));
        let refused = answer(400, body(20_001));
        assert!(matches!(refused, Err(NoAnswer::Unclear { .. })));
    }

    fn active(credentials: Vec<Credentials>) -> RestCredentials {
        RestCredentials::try_new(settings(credentials), Taken::default()).unwrap()
    }

    #[test]
    fn the_next_credentials_follow_refused_ones_and_after_the_last_the_first_again_when_it_is_time()
    {
        let two = vec![
            Credentials::new("AC1", "old"),
            Credentials::new("AC1", "new"),
        ];
        let now = Clock::system().instant();
        let active = active(two);
        assert_eq!(active.credentials(now).unwrap().0, 0);
        active.refuse(0, 401, now);
        // Two who were refused at the same time move on once.
        active.refuse(0, 401, now);
        assert_eq!(active.credentials(now).unwrap().0, 1);
        let mut now = now;
        for pause in [30, 60, 120, 240, 300, 300] {
            active.refuse(1, 403, now);
            let later = now + Duration::from_secs(pause - 1);
            assert_eq!(active.credentials(later).unwrap_err(), CannotAsk::Refused);
            now += Duration::from_secs(pause);
            assert_eq!(active.credentials(now).unwrap().0, 0);
            active.refuse(0, 401, now);
        }
        active.accepted();
        active.refuse(1, 401, now);
        let next = now + Duration::from_secs(30);
        assert_eq!(active.credentials(next).unwrap().0, 0, "it begins anew");
        let none = self::active(Vec::new());
        assert_eq!(none.credentials(now).unwrap_err(), CannotAsk::NoCredentials);
    }

    #[test]
    fn refused_credentials_are_told_once_they_are_known_and_tried_after_any_reload() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let clock = Clock::system();
        let settings = settings(vec![Credentials::new("AC1", "secret")]);
        let make = || {
            reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .build()
        };
        let http = Connections::new(Arc::new(make), Clock::system()).unwrap();
        let rest = Rest::new(settings.clone(), http, clock.clone()).unwrap();
        assert_eq!(rest.refused(), None, "nobody has asked");
        rest.active.load().refuse(0, 401, clock.instant());
        let told = rest.refused().unwrap().unwrap();
        assert_eq!((told.why.as_str(), told.count), ("unauthorized (401)", 1));
        assert_eq!(rest.can_ask(), Err(CannotAsk::Refused));
        rest.reconfigure(settings.clone()).unwrap();
        assert_eq!(rest.can_ask(), Ok(()), "though nothing has changed");
        rest.active.load().refuse(0, 401, clock.instant());
        assert!(rest.refused().unwrap().unwrap().is_confirmed());
        let other = RestSettings {
            credentials: vec![Credentials::new("AC1", "another")],
            ..settings
        };
        rest.reconfigure(other).unwrap();
        assert_eq!(rest.refused(), None);
        rest.active.load().accepted();
        assert_eq!(rest.refused(), Some(None));
    }

    #[test]
    fn the_address_names_account_and_call_and_no_secret_is_shown() {
        let settings = settings(vec![Credentials::new("SK1", "very-secret")]);
        assert!(!format!("{settings:?}").contains("very-secret"));
        let active = RestCredentials::try_new(settings, Taken::default()).unwrap();
        assert_eq!(
            active
                .url_of("AC1", &["Calls", &format!("{SID}.json")])
                .as_str(),
            format!("http://127.0.0.1:9/base/2010-04-01/Accounts/AC1/Calls/{SID}.json")
        );
    }

    #[test]
    fn calls_of_other_doors_are_not_asked_for() {
        assert!(is_sid(call().as_str().as_bytes()));
        for id in ["CA1", "api-7f", "CAzz000000000000000000000000000001"] {
            assert!(!is_sid(id.as_bytes()), "{id}");
        }
    }
}
