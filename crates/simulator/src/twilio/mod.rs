//! A stand-in for Twilio: whole phone calls, executed as `TwiML` says, against the webhooks of the product.
//!
//! It signs with its own code, reads answers with its own reader, and reports what the real one would only log.

mod call;
mod call_list;
mod callbacks;
mod dial;
mod door;
mod fields;
mod rest;
mod run;
mod signature;
mod story;
mod twiml;
mod webhook;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use call::{
    Call, CallResult, DialledLeg, Duplicate, LegStatus, LineBehaviour, Outcome, WebhookExchange,
};
pub use call_list::PastCall;
pub use callbacks::Disorder;
pub use story::{Heard, Moment};

use tokio::time::Instant;

use self::rest::Ledger;
use self::webhook::Webhook;
use super::chance::Chance;
use super::client;
use super::faults::Faults;
use super::form::Spaces;
use super::http_server::HttpServer;
use super::requests::Requests;

/// Where a call is announced.
const VOICE_PATH: &str = "/webhooks/twilio";

/// How the account and its number are set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where webhooks are really sent: `http://127.0.0.1:8080`, without a trailing slash.
    pub webhook_base: String,
    /// The URL as typed in the console, without a trailing slash; signatures are computed over it.
    pub public_url: String,
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Signs webhooks and opens the REST API.
    pub auth_token: String,
    /// Other public URLs, each with where its webhooks are really sent; both without a trailing slash.
    pub also_public: Vec<(String, String)>,
    /// Where a call is announced: a path under the public URL or a whole URL. May carry connection overrides, as the two that follow.
    pub voice_path: String,
    /// Where Twilio goes when that fails; without one the caller hears an error message.
    pub fallback_path: Option<String>,
    /// Whether Twilio goes there, too, when an `action` or a `<Redirect>` fails; else the call ends. No public source settles this.
    pub fallback_after_actions: bool,
    /// Where the end of a call is reported.
    pub status_path: Option<String>,
    /// Numbers of the account beside the one called; they may be used as caller ID.
    pub own_numbers: Vec<String>,
    /// Real time per phone time: 1 is as slow as a phone, 0 waits for nothing.
    pub time_scale: f64,
    /// Where phone time is taken from, in milliseconds, as it passes: for who makes up a past.
    pub late_ms: Option<Arc<AtomicI64>>,
    /// Twilio waits so many times longer than in life, for an appliance whose clock is as many times slower.
    pub machine_is_faster: u32,
    /// What goes wrong with status callbacks.
    pub disorder: Disorder,
    /// Of these, those whose webhooks are sent to somebody else.
    pub led_elsewhere: Vec<String>,
    /// Whether calls come in while their list is read.
    pub list_grows: bool,
    /// Whether the action URL is requested after the caller has hung up; its answer has no effect then. No public source settles this:
    /// tests should pass both ways.
    pub action_after_hang_up: bool,
}

impl Settings {
    /// The product's own paths, no waiting, no disorder.
    pub fn new(webhook_base: &str, public_url: &str, account_sid: &str, auth_token: &str) -> Self {
        Self {
            webhook_base: webhook_base.trim_end_matches('/').to_owned(),
            public_url: public_url.trim_end_matches('/').to_owned(),
            account_sid: account_sid.to_owned(),
            auth_token: auth_token.to_owned(),
            also_public: Vec::new(),
            voice_path: VOICE_PATH.to_owned(),
            fallback_path: Some("/webhooks/twilio/fallback".to_owned()),
            fallback_after_actions: true,
            status_path: Some("/webhooks/twilio/status".to_owned()),
            own_numbers: Vec::new(),
            time_scale: 0.0,
            late_ms: None,
            machine_is_faster: 1,
            disorder: Disorder::default(),
            led_elsewhere: Vec::new(),
            list_grows: false,
            action_after_hang_up: true,
        }
    }

    /// The public URL of a path; a whole URL is itself.
    pub(super) fn public(&self, path: &str) -> String {
        if path.contains("://") {
            return path.to_owned();
        }
        format!("{}{path}", self.public_url)
    }

    /// The URL that the number is set up with.
    pub(super) fn voice_url(&self) -> String {
        self.public(&self.voice_path)
    }

    /// What follows the public URL, without the overrides; the whole URL where it lies elsewhere.
    fn path_of(&self, url: &str) -> String {
        let url = signature::without_fragment(url);
        below(&self.public_url, url).unwrap_or(url).to_owned()
    }

    /// Where a webhook with this URL is really sent; none where it lies under no public URL.
    fn address_of(&self, url: &str) -> Option<String> {
        let url = signature::without_fragment(url);
        let others = self.also_public.iter().map(|(url, base)| (url, base));
        std::iter::once((&self.public_url, &self.webhook_base))
            .chain(others)
            .find_map(|(public, base)| Some(format!("{base}{}", below(public, url)?)))
    }
}

fn below<'a>(public_url: &str, url: &'a str) -> Option<&'a str> {
    url.strip_prefix(public_url)
        .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// The answer to a single webhook sent with [`Twilio::post`].
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub elapsed: Duration,
}

/// The stand-in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Twilio {
    server: HttpServer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    lines: Vec<(String, LineBehaviour)>,
    chance: Chance,
    ledger: Ledger,
    /// By how long they try to connect.
    clients: HashMap<Duration, reqwest::Client>,
}

impl Twilio {
    /// Serves the REST API on `address`; the future serves until it is dropped. Calls work without it.
    pub fn bind(
        address: &str,
        settings: Settings,
        seed: u64,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let twilio = Self {
            server: HttpServer::bind(address)?,
            state: Arc::new(Mutex::new(State {
                settings,
                lines: Vec::new(),
                chance: Chance::seeded(seed),
                ledger: Ledger::default(),
                clients: HashMap::new(),
            })),
        };
        let service = twilio.clone();
        let serve = twilio.server.serve(move |request| service.rest(request));
        Ok((twilio, serve))
    }

    /// The REST API's host, without a trailing slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The script of faults of the REST API.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// What the REST API was asked.
    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    /// The settings of now; calls in progress keep those they began with.
    pub fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// Changes the settings for calls that begin from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Says what lines do whose number or SIP address begins with `prefix`; the longest prefix wins.
    pub fn set_line(&self, prefix: &str, behaviour: LineBehaviour) {
        let mut state = self.state();
        state.lines.retain(|(known, _)| known != prefix);
        state.lines.push((prefix.to_owned(), behaviour));
    }

    /// Makes a whole call and tells what became of it.
    pub async fn call(&self, call: Call) -> CallResult {
        run::Run::new(self, call).finish().await
    }

    /// Sends one signed webhook, whatever its fields, once.
    pub async fn post(
        &self,
        path_and_query: &str,
        fields: &[(String, String)],
    ) -> Result<Response, String> {
        let started = Instant::now();
        let (settings, token) = {
            let mut state = self.state();
            (state.settings.clone(), token(&mut state.chance))
        };
        let webhook = Webhook {
            url: settings.public(path_and_query),
            fields: fields.to_vec(),
            spaces: Spaces::Plus,
            token,
        };
        let attempt = self
            .attempt(
                &settings,
                &webhook,
                client::CONNECT_LIMIT,
                client::HARD_LIMIT,
            )
            .await
            .map_err(|failure| failure.into_refused().message)?;
        let headers = attempt.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Response {
            status: attempt.status,
            headers: headers.collect(),
            body: String::from_utf8_lossy(&attempt.body).into_owned(),
            elapsed: started.elapsed(),
        })
    }

    /// What Twilio would refuse or warn about in an answer, with its error codes; nothing where it is content.
    pub fn complaints(content_type: Option<&str>, body: &[u8]) -> Vec<String> {
        match twiml::read(content_type, body) {
            Ok(document) => document.warnings,
            Err(refused) => vec![format!("{}: {}", refused.code, refused.message)],
        }
    }

    /// The fields of the first webhook of a call, for tests that send it themselves.
    pub fn inbound_fields(&self, call_sid: &str, from: &str, to: &str) -> Vec<(String, String)> {
        let call = Call::new(from, to);
        run::inbound_fields(&self.settings().account_sid, call_sid, &call, "stand-in")
    }

    /// A new id: two letters and 32 hexadecimal digits.
    pub fn new_sid(&self, letters: &str) -> String {
        format!("{letters}{}", self.state().chance.hex(32))
    }

    /// What the line at this address does this time.
    fn behaviour_of(&self, address: &str) -> LineBehaviour {
        let state = self.state();
        let lines = state.lines.iter();
        lines
            .filter(|(prefix, _)| address.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .map_or_else(
                || LineBehaviour::answer(Duration::from_mins(1)),
                |(_, behaviour)| behaviour.clone(),
            )
    }

    /// The client that tries so long to connect.
    fn client(&self, connect: Duration) -> reqwest::Result<reqwest::Client> {
        let mut state = self.state();
        if let Some(client) = state.clients.get(&connect) {
            return Ok(client.clone());
        }
        let client = client::connecting_within(connect)?;
        state.clients.insert(connect, client.clone());
        Ok(client)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An idempotency token, in the shape of a UUID.
fn token(chance: &mut Chance) -> String {
    [8, 4, 4, 4, 12].map(|digits| chance.hex(digits)).join("-")
}

#[cfg(test)]
mod tests;
