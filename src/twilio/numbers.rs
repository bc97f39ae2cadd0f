//! The settings of phone numbers at Twilio, and what they should be.

use std::time::Duration;

use serde::Deserialize;

use crate::twiml::{CallbackUrls, OVERRIDES};

/// A number of the account, as far as its settings matter here. What is not set is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NumberSettings {
    #[serde(deserialize_with = "text")]
    pub phone_number: String,
    #[serde(deserialize_with = "text")]
    pub voice_url: String,
    #[serde(deserialize_with = "text")]
    pub voice_method: String,
    /// Asked where the voice URL fails.
    #[serde(deserialize_with = "text")]
    pub voice_fallback_url: String,
    #[serde(deserialize_with = "text")]
    pub voice_fallback_method: String,
    /// Told of the end of a call.
    #[serde(deserialize_with = "text")]
    pub status_callback: String,
    #[serde(deserialize_with = "text")]
    pub status_callback_method: String,
    /// An application whose URLs count in place of these.
    #[serde(deserialize_with = "text")]
    pub voice_application_sid: String,
}

/// One thing that should be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberFault {
    /// Calls do not arrive, or are lost where something fails; otherwise somebody should only look.
    pub is_grave: bool,
    pub message: String,
    /// What to do, with the value to paste.
    pub hint: String,
}

const NO_FALLBACK: &str = "there is no fallback URL: where the voice URL fails, the caller hears an error and the call ends";
const SAME_MACHINE: &str = "the fallback URL leads to the same machine as the voice URL: it does not help when that is down";
const NO_MACHINE: &str = "the fallback URL leads to none of our machines: calls in hand of one that is down do not go on";
const INSTEAD: &str = "a second appliance, or a TwiML Bin that dials the default dialer";

impl NumberSettings {
    /// Whether calls to this number are announced under one of these public names, in whatever way.
    pub fn leads_to(&self, names: &[CallbackUrls]) -> bool {
        let mut urls = [&self.voice_url, &self.voice_fallback_url].into_iter();
        urls.any(|url| at_host_of(names, url).is_some())
    }

    /// What should be otherwise where calls are answered under these public names, that of this server first, each within `budget`.
    pub fn faults(&self, names: &[CallbackUrls], budget: Duration) -> Vec<NumberFault> {
        let mut faults = Vec::new();
        let mut fault = |is_grave, message: String, hint: String| {
            faults.push(NumberFault {
                is_grave,
                message,
                hint,
            });
        };
        if !self.voice_application_sid.is_empty() {
            fault(
                true,
                format!(
                    "the TwiML application {} is set, so the URLs of the number are ignored",
                    self.voice_application_sid
                ),
                "set \"Configure with\" to Webhook instead of TwiML App".to_owned(),
            );
        }
        let (voice, overrides) = apart(&self.voice_url);
        let exactly = names.iter().find(|urls| urls.inbound() == voice);
        let own = exactly.or_else(|| at_host_of(names, voice));
        let Some(own) = own.or(names.first()) else {
            return faults;
        };
        let other = names.iter().find(|urls| *urls != own);
        // A balancer waits half a second longer than the budget for one machine, then for the other.
        let longest = budget * 2 + Duration::from_millis(500);
        let needed = if other.is_some() { longest } else { budget };
        let hint = format!("\"A call comes in\": {}{OVERRIDES}", own.inbound());
        if voice != own.inbound() {
            let message = format!("the voice URL is {}", shown(&self.voice_url));
            fault(true, message, hint);
        } else if let Some(why) = unsuitable(overrides, needed) {
            let message = format!("the connection overrides of the voice URL {why}");
            fault(false, message, hint);
        }
        for (name, method) in [
            ("voice", &self.voice_method),
            ("fallback", &self.voice_fallback_method),
            ("status callback", &self.status_callback_method),
        ] {
            if method.eq_ignore_ascii_case("GET") {
                fault(
                    false,
                    format!("the {name} URL is asked by GET"),
                    "set the method to HTTP POST: fields in a URL end up in the logs of proxies"
                        .to_owned(),
                );
            }
        }
        if let Some((is_grave, message)) = self.fault_of_fallback(names, own, needed) {
            let wanted = match other {
                Some(other) => format!("{}{OVERRIDES}", other.inbound()),
                None => format!("{INSTEAD}; at the least {}{OVERRIDES}", own.fallback()),
            };
            let hint = format!("\"Primary handler fails\": {wanted}");
            fault(is_grave, message, hint);
        }
        let (status, _) = apart(&self.status_callback);
        if !names.iter().any(|urls| status == urls.number_status()) {
            let status = shown(&self.status_callback);
            let why = "the end of a call is then known late";
            let wanted = own.number_status();
            let hint = format!("\"Call status changes\": {wanted}{OVERRIDES}");
            fault(
                false,
                format!("the status callback is {status}: {why}"),
                hint,
            );
        }
        faults
    }

    /// Whether it is grave, and what it is.
    fn fault_of_fallback(
        &self,
        names: &[CallbackUrls],
        own: &CallbackUrls,
        needed: Duration,
    ) -> Option<(bool, String)> {
        let (fallback, overrides) = apart(&self.voice_fallback_url);
        let is_other = |urls: &CallbackUrls| {
            urls != own && (fallback == urls.inbound() || fallback == urls.fallback())
        };
        Some(if fallback.is_empty() {
            (true, NO_FALLBACK.to_owned())
        } else if fallback == own.fallback() {
            (false, SAME_MACHINE.to_owned())
        } else if names.iter().any(is_other) {
            let why = unsuitable(overrides, needed)?;
            (
                false,
                format!("the connection overrides of the fallback URL {why}"),
            )
        } else if at_host_of(names, fallback).is_some() {
            (
                true,
                format!("the fallback URL is {}", self.voice_fallback_url),
            )
        } else {
            (names.len() > 1).then(|| (false, NO_MACHINE.to_owned()))?
        })
    }
}

fn at_host_of<'n>(names: &'n [CallbackUrls], url: &str) -> Option<&'n CallbackUrls> {
    let host = host_of(url);
    let mut names = names.iter();
    names.find(|urls| host_of(&urls.inbound()).eq_ignore_ascii_case(host))
}

/// Null and absent are empty.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
}

fn shown(url: &str) -> &str {
    if url.is_empty() { "not set" } else { url }
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// The URL and what stands behind its `#`.
fn apart(url: &str) -> (&str, &str) {
    url.split_once('#').unwrap_or((url, ""))
}

/// Why overrides let a caller wait in vain where an answer may take as long as `needed`; `None` where they do not.
fn unsuitable(overrides: &str, needed: Duration) -> Option<String> {
    let value = |name: &str| {
        let mut pairs = overrides.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let number =
        |name: &str, default: u64| value(name).map_or(Some(default), |value| value.parse().ok());
    let repeats = value("rp").unwrap_or("ct");
    let repeats: Vec<&str> = repeats.split(',').map(str::trim).collect();
    let is_repeated = |event: &str| repeats.contains(&event) || repeats.contains(&"all");
    let Some((rt, rc)) = number("rt", 15_000).zip(number("rc", 1)) else {
        return Some("cannot be read".to_owned());
    };
    let patience = rt.min(number("tt", 15_000).unwrap_or(0));
    if Duration::from_millis(patience) <= needed {
        let needed = needed.as_millis();
        let why = format!("give up after {patience} ms, and an answer may take {needed} ms");
        return Some(why);
    }
    if rc == 0 || !is_repeated("ct") {
        return Some("do not try again where the connection fails".to_owned());
    }
    (!is_repeated("5xx") || !is_repeated("rt"))
        .then(|| "do not try again after a failure or silence (rp has no 5xx or no rt)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(2);

    fn names(urls: &[&str]) -> Vec<CallbackUrls> {
        urls.iter().map(|url| CallbackUrls::new(url)).collect()
    }

    fn urls() -> Vec<CallbackUrls> {
        names(&["https://calls.example.com"])
    }

    fn right() -> NumberSettings {
        NumberSettings {
            phone_number: "+4930900900".to_owned(),
            voice_url: format!("https://calls.example.com/webhooks/twilio{OVERRIDES}"),
            voice_method: "POST".to_owned(),
            voice_fallback_url: "https://handler.twilio.com/twiml/EH1".to_owned(),
            voice_fallback_method: "POST".to_owned(),
            status_callback: "https://calls.example.com/webhooks/twilio/status".to_owned(),
            status_callback_method: "POST".to_owned(),
            voice_application_sid: String::new(),
        }
    }

    #[test]
    fn a_number_that_is_set_as_advised_has_no_fault() {
        assert_eq!(right().faults(&urls(), BUDGET), []);
    }

    #[test]
    fn every_wrong_setting_is_named_with_what_to_paste() {
        type Change = fn(&mut NumberSettings);
        let cases: [(Change, bool, &str, &str); 9] = [
            (
                |n| n.voice_url = "https://calls.example.com/webhooks/twilio/".to_owned(),
                true,
                "the voice URL is https://calls.example.com/webhooks/twilio/",
                "https://calls.example.com/webhooks/twilio#",
            ),
            (
                |n| n.voice_url = "https://calls.example.com/webhooks/twilio".to_owned(),
                false,
                "do not try again after a failure or silence",
                "#ct=2000",
            ),
            (
                |n| {
                    n.voice_url =
                        "https://calls.example.com/webhooks/twilio#rt=1500&rc=2&rp=all".to_owned();
                },
                false,
                "give up after 1500 ms",
                "rt=6000",
            ),
            (
                |n| n.voice_method = "GET".to_owned(),
                false,
                "by GET",
                "HTTP POST",
            ),
            (
                |n| n.voice_fallback_url.clear(),
                true,
                "no fallback URL",
                "/webhooks/twilio/fallback",
            ),
            (
                |n| n.voice_fallback_url = "https://calls.example.com/fallback".to_owned(),
                true,
                "the fallback URL is https://calls.example.com/fallback",
                "/webhooks/twilio/fallback",
            ),
            (
                |n| {
                    n.voice_fallback_url =
                        "https://calls.example.com/webhooks/twilio/fallback".to_owned();
                },
                false,
                "the same machine",
                "a second appliance",
            ),
            (
                |n| n.status_callback.clear(),
                false,
                "the status callback is not set",
                "/webhooks/twilio/status",
            ),
            (
                |n| n.voice_application_sid = "AP1".to_owned(),
                true,
                "TwiML application AP1",
                "Webhook",
            ),
        ];
        for (change, is_grave, message, hint) in cases {
            let mut number = right();
            change(&mut number);
            let faults = number.faults(&urls(), BUDGET);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].is_grave, is_grave, "{faults:?}");
            assert!(faults[0].message.contains(message), "{faults:?}");
            assert!(faults[0].hint.contains(hint), "{faults:?}");
        }
    }

    #[test]
    fn with_two_machines_the_fallback_is_the_other_one_and_the_times_nest() {
        const A: &str = "https://calls.example.com/webhooks/twilio";
        const B: &str = "https://calls-b.example.com/webhooks/twilio";
        let both = ["https://calls.example.com", "https://calls-b.example.com"];
        let paste = |url: &str| format!("{url}#ct=2000&rt=6000&rc=1&rp=ct,rt,5xx");
        let cases = [
            (paste(A), paste(B), None),
            (paste(A), paste(&format!("{B}/fallback")), None),
            (paste(B), paste(A), None),
            (
                paste(A),
                format!("{A}/fallback"),
                Some(("the same machine", paste(B))),
            ),
            (
                paste(A),
                A.to_owned(),
                Some(("the fallback URL is", paste(B))),
            ),
            (paste(B), String::new(), Some(("no fallback URL", paste(A)))),
            (
                paste(A),
                "https://handler.twilio.com/twiml/EH1".to_owned(),
                Some(("none of our machines", paste(B))),
            ),
            (
                format!("{A}#ct=2000&rt=4000&rc=1&rp=all"),
                paste(B),
                Some((
                    "give up after 4000 ms, and an answer may take 4500 ms",
                    paste(A),
                )),
            ),
            (
                format!("{A}#rt=6000&tt=2000&rc=1&rp=all"),
                paste(B),
                Some(("give up after 2000 ms", paste(A))),
            ),
            (
                paste(A),
                B.to_owned(),
                Some(("overrides of the fallback URL", paste(B))),
            ),
        ];
        for (voice_url, voice_fallback_url, expected) in cases {
            let number = NumberSettings {
                voice_url,
                voice_fallback_url,
                ..right()
            };
            // Each machine says the same.
            for urls in [both, [both[1], both[0]]] {
                let faults = number.faults(&names(&urls), BUDGET);
                match &expected {
                    None => assert_eq!(faults, []),
                    Some((message, pasted)) => {
                        assert_eq!(faults.len(), 1, "{faults:?}");
                        assert!(faults[0].message.contains(message), "{faults:?}");
                        assert!(faults[0].hint.ends_with(pasted.as_str()), "{faults:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_that_lead_elsewhere_are_told_apart() {
        assert!(right().leads_to(&urls()));
        let other = NumberSettings {
            voice_url: "https://demo.twilio.com/welcome".to_owned(),
            ..NumberSettings::default()
        };
        assert!(!other.leads_to(&urls()));
        assert!(!NumberSettings::default().leads_to(&urls()));
    }

    #[test]
    fn null_and_absent_fields_are_empty() {
        let json = serde_json::json!({ "phone_number": "+1", "voice_url": null });
        let number: NumberSettings = serde_json::from_value(json).unwrap();
        assert_eq!(
            (number.voice_url.as_str(), number.status_callback.as_str()),
            ("", "")
        );
    }
}
