//! The list of calls of the REST API, page by page, and the alerts of the Monitor API.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Twilio;
use super::rest::{Entry, Ledger, call_json};
use crate::http_server::Answer;
use crate::requests::Request;

/// A call of the past, as the account would have seen it.
#[derive(Clone, Debug)]
pub struct PastCall {
    pub sid: String,
    pub from: String,
    pub to: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// The error that Twilio met with it.
    pub error_code: Option<u32>,
}

/// An alert of the Monitor API.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    call: String,
    code: u32,
    at: Timestamp,
}

impl Twilio {
    /// Makes up calls of the past, the oldest first.
    pub fn remember(&self, calls: impl IntoIterator<Item = PastCall>) {
        let ledger = &mut self.state().ledger;
        for call in calls {
            let seconds = call.ended_at.duration_since(call.started_at).as_secs();
            let entry = Entry {
                parent: None,
                from: call.from,
                to: call.to,
                direction: "inbound",
                status: "completed",
                duration_s: u64::try_from(seconds).ok(),
                started_at: call.started_at,
                ended_at: Some(call.ended_at),
            };
            if let Some(code) = call.error_code {
                ledger.alerts.push(Alert {
                    call: call.sid.clone(),
                    code,
                    at: call.started_at,
                });
            }
            ledger.open(&call.sid, entry);
        }
    }
}

/// A page of the calls, newest first. A page is found by its number, so that calls which come between two of them move the rest down, and the
/// next page begins with calls of the last.
pub(super) fn calls(request: &Request, ledger: &mut Ledger, account: &str, grows: bool) -> Answer {
    let (page, size) = paging(request);
    // On or after midnight of a date, and on or before it.
    let midnight = |name: &str| {
        let date = request.query(name)?.parse::<jiff::civil::Date>().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let (from, to) = (midnight("StartTime>"), midnight("StartTime<"));
    let called = request.query("To");
    let newest_first = ledger.oldest_first.iter().rev();
    let wanted: Vec<_> = newest_first
        .filter_map(|sid| Some((sid, ledger.calls.get(sid)?)))
        .filter(|(_, entry)| from.is_none_or(|from| entry.started_at >= from))
        .filter(|(_, entry)| to.is_none_or(|to| entry.started_at <= to))
        .filter(|(_, entry)| called.as_ref().is_none_or(|called| entry.to == *called))
        .collect();
    let found = wanted.iter().skip(page * size).take(size);
    let found: Vec<Value> = found
        .map(|(sid, entry)| call_json(sid, entry, account))
        .collect();
    let is_last = wanted.len() <= (page + 1) * size;
    let next = (!is_last).then(|| next_page(&request.target, page + 1));
    let newest = wanted.first().map(|(_, entry)| Entry::clone(entry));
    if let Some(newest) = newest.filter(|_| grows) {
        for n in 0..3 {
            let sid = format!("CA{:032x}", ledger.oldest_first.len() * 16 + n);
            let leg = Entry {
                direction: "outbound-dial",
                ..newest.clone()
            };
            ledger.open(&sid.replacen("CA0", "CAf", 1), leg);
        }
    }
    let body = json!({
        "calls": found, "page": page, "page_size": size, "next_page_uri": next,
        "uri": request.target, "first_page_uri": next_page(&request.target, 0), "previous_page_uri": null,
    });
    Answer::json(200, &body)
}

/// A page of the alerts, newest first.
pub(super) fn alerts(request: &Request, ledger: &Ledger, url: &str) -> Answer {
    let (page, size) = paging(request);
    let time = |name: &str| request.query(name)?.parse::<Timestamp>().ok();
    let (from, to) = (time("StartDate"), time("EndDate"));
    let alerts = ledger.alerts.iter().rev();
    let wanted: Vec<&Alert> = alerts
        .filter(|alert| from.is_none_or(|from| alert.at >= from))
        .filter(|alert| to.is_none_or(|to| alert.at <= to))
        .collect();
    let found = wanted.iter().skip(page * size).take(size);
    let found: Vec<Value> = found
        .map(|alert| {
            json!({
                "sid": alert.call.replacen("CA", "NO", 1), "resource_sid": alert.call, "log_level": "error",
                "error_code": alert.code.to_string(), "date_generated": alert.at.to_string(),
            })
        })
        .collect();
    let next = ((page + 1) * size < wanted.len())
        .then(|| format!("{url}{}", next_page(&request.target, page + 1)));
    let meta = json!({ "page": page, "page_size": size, "key": "alerts", "next_page_url": next });
    Answer::json(200, &json!({ "alerts": found, "meta": meta }))
}

/// The number of the page, from 0, and the rows of one.
fn paging(request: &Request) -> (usize, usize) {
    let number = |name: &str| request.query(name)?.parse::<usize>().ok();
    let size = number("PageSize").unwrap_or(50).clamp(1, 1_000);
    (number("Page").unwrap_or(0), size)
}

fn next_page(target: &str, page: usize) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let others = query.split('&').filter(|part| !part.starts_with("Page="));
    let others: Vec<&str> = others.filter(|part| !part.is_empty()).collect();
    format!("{path}?{}&Page={page}", others.join("&"))
}
