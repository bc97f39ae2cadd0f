//! The part of Twilio's REST API that the product reads: calls, the account, the settings of a number.

use std::collections::{HashMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call_list::{self, Alert};
use super::{Settings, State, Twilio};
use crate::http_server::Answer;
use crate::requests::Request;

/// The oldest calls are forgotten beyond this many.
const KEPT: usize = 300_000;

/// The calls that the account has seen.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) calls: HashMap<String, Entry>,
    pub(super) oldest_first: VecDeque<String>,
    pub(super) alerts: Vec<Alert>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) parent: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) direction: &'static str,
    pub(super) status: &'static str,
    pub(super) duration_s: Option<u64>,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
}

impl Ledger {
    pub(super) fn open(&mut self, sid: &str, entry: Entry) {
        if self.calls.insert(sid.to_owned(), entry).is_none() {
            self.oldest_first.push_back(sid.to_owned());
        }
        if self.calls.len() > KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }

    pub(super) fn set_status(&mut self, sid: &str, status: &'static str) {
        if let Some(entry) = self.calls.get_mut(sid) {
            entry.status = status;
        }
    }

    pub(super) fn close(&mut self, sid: &str, status: &'static str, duration_s: u64) {
        if let Some(entry) = self.calls.get_mut(sid) {
            entry.status = status;
            entry.duration_s = Some(duration_s);
            entry.ended_at = Some(Timestamp::now());
        }
    }
}

impl Twilio {
    pub(super) fn rest(&self, request: &Request) -> Answer {
        let mut state = self.state();
        let State {
            settings, ledger, ..
        } = &mut *state;
        let expected = STANDARD.encode(format!("{}:{}", settings.account_sid, settings.auth_token));
        if request.header("authorization") != Some(format!("Basic {expected}").as_str()) {
            return error(401, 20003, "Authenticate");
        }
        let path: Vec<&str> = request.path().trim_matches('/').split('/').collect();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["2010-04-01", "Accounts", account, "Calls", call])
                if *account == settings.account_sid =>
            {
                let Some(sid) = call.strip_suffix(".json") else {
                    return xml("<TwilioResponse/>");
                };
                match ledger.calls.get(sid) {
                    Some(entry) => Answer::json(200, &call_json(sid, entry, &settings.account_sid)),
                    None => not_found(request),
                }
            }
            ("GET", ["2010-04-01", "Accounts", account, "Calls.json"])
                if *account == settings.account_sid =>
            {
                call_list::calls(request, ledger, account, settings.list_grows)
            }
            ("GET", ["v1", "Alerts"]) => call_list::alerts(request, ledger, &self.url()),
            ("GET", ["2010-04-01", "Accounts", account])
                if account.strip_suffix(".json") == Some(&settings.account_sid) =>
            {
                let body = json!({
                    "sid": settings.account_sid, "status": "active", "type": "Full",
                    "friendly_name": "Stand-in",
                });
                Answer::json(200, &body)
            }
            (
                "GET",
                [
                    "2010-04-01",
                    "Accounts",
                    account,
                    "IncomingPhoneNumbers.json",
                ],
            ) if *account == settings.account_sid => {
                Answer::json(200, &number_json(request, settings))
            }
            _ => not_found(request),
        }
    }
}

pub(super) fn call_json(sid: &str, entry: &Entry, account: &str) -> Value {
    json!({
        "sid": sid,
        "parent_call_sid": entry.parent,
        "account_sid": account,
        "from": entry.from,
        "to": entry.to,
        "status": entry.status,
        "direction": entry.direction,
        "start_time": rfc2822(entry.started_at),
        "end_time": entry.ended_at.map(rfc2822),
        "date_created": rfc2822(entry.started_at),
        "date_updated": rfc2822(entry.ended_at.unwrap_or(entry.started_at)),
        "duration": entry.duration_s.map_or_else(String::new, |seconds| seconds.to_string()),
        "price": null,
        "forwarded_from": null,
        "caller_name": null,
        "api_version": "2010-04-01",
        "uri": format!("/2010-04-01/Accounts/{account}/Calls/{sid}.json"),
    })
}

fn number_json(request: &Request, settings: &Settings) -> Value {
    let number = request.query("PhoneNumber");
    let numbers: Vec<Value> = settings
        .own_numbers
        .iter()
        .filter(|own| number.as_ref().is_none_or(|number| number == *own))
        .map(|own| {
            json!({
                "phone_number": own,
                "voice_url": if settings.led_elsewhere.contains(own) {
                    "https://elsewhere.example/voice".to_owned()
                } else {
                    settings.voice_url()
                },
                "voice_method": "POST",
                "voice_fallback_url": settings.fallback_path.as_ref().filter(|_| !settings.led_elsewhere.contains(own)).map(|path| settings.public(path)),
                "voice_fallback_method": "POST",
                "status_callback": settings.status_path.as_ref().map(|path| settings.public(path)),
                "status_callback_method": "POST",
                "voice_application_sid": null,
            })
        })
        .collect();
    json!({ "incoming_phone_numbers": numbers, "page": 0, "page_size": 50 })
}

/// Without `.json` the API answers XML.
fn xml(body: &'static str) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type", "application/xml".to_owned())],
        body: body.into(),
    }
}

fn not_found(request: &Request) -> Answer {
    let message = format!("The requested resource {} was not found", request.path());
    error(404, 20404, &message)
}

fn error(status: u16, code: u32, message: &str) -> Answer {
    let body = json!({
        "code": code, "message": message, "status": status,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
    });
    Answer::json(status, &body)
}

/// `Tue, 01 Nov 2016 01:59:13 +0000`
pub(super) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
