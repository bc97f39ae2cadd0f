//! Twilio's lists, page by page: the calls of a day, and the errors that it met with some of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use reqwest::Url;
use serde_json::Value;

use super::rest::{NoAnswer, Rest, describe, later, time};
use crate::audit::ListedCall;
use crate::call::CallId;

/// Rows of a page: the most that Twilio gives.
const PAGE: &str = "1000";
/// Pages of alerts that are read.
const ALERT_PAGES: usize = 500;

impl Rest {
    /// The accounts whose calls come here, the main one first.
    pub fn accounts(&self) -> Vec<String> {
        let settings = &self.active.load().settings;
        let mut accounts = vec![settings.account_sid.clone()];
        accounts.extend_from_slice(&settings.subaccounts);
        accounts
    }

    /// The inbound calls of a page of those of an account that began on a day, UTC: the first one, or that at `next`; and where the next one is.
    pub async fn calls_of_day(
        &self,
        account: &str,
        day: Date,
        next: Option<&str>,
    ) -> Result<(Vec<ListedCall>, Option<String>), NoAnswer> {
        let active = self.active.load_full();
        let mut url = active.url_of(account, &["Calls.json"]);
        url.query_pairs_mut()
            .append_pair("PageSize", PAGE)
            .append_pair("StartTime>", &day.to_string())
            .append_pair("StartTime<", &day.tomorrow().unwrap_or(day).to_string());
        if let Some(next) = next.and_then(|next| same_origin(&url, next)) {
            url = next;
        }
        let answer = self.ask(&active, &url).await?;
        if matches!(answer.status, 400 | 404) {
            let why = format!("Twilio refuses a page of its calls ({})", answer.status);
            return Err(NoAnswer::Unclear { why });
        }
        let page: Value = answer.read()?;
        let calls = rows(&page, "calls").filter_map(inbound).collect();
        Ok((calls, text(&page, "/next_page_uri").map(ToOwned::to_owned)))
    }

    /// The first error that Twilio met with each of these calls, by its alerts of a time; `None` where the credentials are not let in there.
    pub async fn errors_of(
        &self,
        calls: &BTreeSet<CallId>,
        [from, to]: [Timestamp; 2],
    ) -> Result<Option<BTreeMap<CallId, u32>>, NoAnswer> {
        let active = self.active.load_full();
        let (_, credentials) = active.credentials(self.clock.instant())?;
        let mut url = active.monitor.clone();
        url.set_path("/v1/Alerts");
        url.query_pairs_mut()
            .append_pair("LogLevel", "error")
            .append_pair("StartDate", &from.to_string())
            .append_pair("EndDate", &to.to_string())
            .append_pair("PageSize", PAGE);
        let mut found = BTreeMap::new();
        for _ in 0..ALERT_PAGES {
            let answer = self.ask_as(credentials, &url).await;
            let answer = answer.map_err(|error| later(None, describe(&error)))?;
            // A key need not be allowed here: nothing is learned of it.
            if matches!(answer.status, 401 | 403 | 404) {
                return Ok(None);
            }
            let page: Value = answer.read()?;
            // The newest come first, so that the first error of a call stays.
            for alert in rows(&page, "alerts") {
                let call = text(alert, "/resource_sid").map(CallId::parse);
                let code = text(alert, "/error_code").and_then(|code| code.parse().ok());
                if let (Some(Ok(call)), Some(code)) = (call, code)
                    && calls.contains(&call)
                {
                    found.insert(call, code);
                }
            }
            let next = text(&page, "/meta/next_page_url");
            match next.and_then(|next| same_origin(&url, next)) {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(Some(found))
    }
}

/// An address on another host would be given the credentials.
fn same_origin(base: &Url, next: &str) -> Option<Url> {
    let next = base.join(next).ok()?;
    (next.origin() == base.origin()).then_some(next)
}

fn rows<'v>(page: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    page.get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path)?.as_str()
}

/// A call that came in; every field may be null.
fn inbound(call: &Value) -> Option<ListedCall> {
    (text(call, "/direction")? == "inbound").then_some(())?;
    Some(ListedCall {
        id: CallId::parse(text(call, "/sid")?).ok()?,
        to: text(call, "/to").unwrap_or_default().to_owned(),
        started_at: time(text(call, "/start_time").or(text(call, "/date_created"))?)?,
        ended_at: text(call, "/end_time").and_then(time),
    })
}
