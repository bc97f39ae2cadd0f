//! One stand-in by itself, and what has to be known to use it.

use std::future::Future;
use std::io;
use std::pin::Pin;

use serde_json::{Value, json};

use super::braze::Braze;
use super::callers::Callers;
use super::dialfire::{Account, Dialfire};
use super::http_dialer::HttpDialer;
use super::made_up;
use super::smtp::Smtp;
use super::twilio::{Settings, Twilio};
use super::zendesk_talk::ZendeskTalk;

/// How many people Braze knows.
const PEOPLE: usize = 1_000;

/// What serves until it is dropped.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Listens on `address` as this stand-in; gives what has to be known to use it.
pub fn braze(address: &str, seed: u64) -> io::Result<(Value, Serving)> {
    let (braze, serve) = Braze::bind(address, made_up::BRAZE_KEY)?;
    let mut callers = Callers::seeded(seed);
    let people: Vec<String> = (0..PEOPLE).map(|_| callers.next(&braze).from).collect();
    let known = json!({ "url": braze.url(), "api_key": made_up::BRAZE_KEY, "score_attribute": "lead_score", "callers": people.get(..10) });
    Ok((known, Box::pin(serve)))
}

/// Listens on `address` as Dialfire, with one campaign.
pub fn dialfire(address: &str) -> io::Result<(Value, Serving)> {
    let account = Account::made_up();
    let known = json!({
        "campaign": account.campaign, "token": account.campaign_token, "tenant": account.tenant,
        "tenant_token": account.tenant_token, "tasks": account.tasks,
    });
    let (dialfire, serve) = Dialfire::bind(address, account)?;
    Ok((with_url(known, &dialfire.url()), Box::pin(serve)))
}

/// Listens on `address` as Zendesk Talk.
pub fn zendesk(address: &str) -> io::Result<(Value, Serving)> {
    let (email, token) = (made_up::ZENDESK_EMAIL, made_up::ZENDESK_TOKEN);
    let (zendesk, serve) = ZendeskTalk::bind(address, email, token)?;
    let known = json!({ "email": email, "token": token });
    Ok((with_url(known, &zendesk.url()), Box::pin(serve)))
}

/// Listens on `address` as a dialer of the kind `http`.
pub fn http_dialer(address: &str) -> io::Result<(Value, Serving)> {
    let (dialer, serve) = HttpDialer::bind(address)?;
    let known =
        json!({ "url": dialer.calls_url(), "health_url": format!("{}/health", dialer.url()) });
    Ok((known, Box::pin(serve)))
}

/// Listens on `address` as a mail server that takes every message.
pub fn smtp(address: &str) -> io::Result<(Value, Serving)> {
    let (smtp, serve) = Smtp::bind(address, None)?;
    Ok((json!({ "url": smtp.url() }), Box::pin(serve)))
}

/// Listens on `address` as Twilio's REST API and on `door` for who orders calls; webhooks of `public_url` go to `webhook_base`. Phones take the time
/// that they take in life.
pub fn twilio(
    address: &str,
    door: &str,
    public_url: &str,
    webhook_base: &str,
    seed: u64,
) -> io::Result<(Value, Serving)> {
    let (account, token) = (made_up::ACCOUNT_SID, made_up::AUTH_TOKEN);
    let mut settings = Settings::new(webhook_base, public_url, account, token);
    settings.own_numbers = vec![made_up::CALLED.to_owned()];
    settings.time_scale = 1.0;
    let (twilio, serve) = Twilio::bind(address, settings, seed)?;
    let (door, serve_door) = twilio.open_door(door)?;
    let known = json!({
        "url": twilio.url(), "control": door, "account_sid": account, "auth_token": token,
        "number": made_up::CALLED, "public_url": public_url, "webhook_base": webhook_base,
    });
    let both = async move {
        tokio::join!(serve, serve_door);
    };
    Ok((known, Box::pin(both)))
}

fn with_url(mut known: Value, url: &str) -> Value {
    if let Some(known) = known.as_object_mut() {
        known.insert("url".to_owned(), url.into());
    }
    known
}
