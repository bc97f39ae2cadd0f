//! The settings of phone numbers at Twilio, and what they should be.

use serde::Deserialize;

use crate::twiml::CallbackUrls;

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

/// Twilio waits 5 s for a connection and 15 s for an answer unless the URL says otherwise, and never repeats an answer that failed. With this
/// behind the URL it gives up on an attempt after 4 s and makes up to two more within the caller's patience.
pub const OVERRIDES: &str = "#ct=2000&rt=4000&tt=13000&rc=2&rp=ct,rt,5xx";

impl NumberSettings {
    /// Whether calls to this number are announced to the appliance behind these URLs, in whatever way.
    pub fn leads_to(&self, urls: &CallbackUrls) -> bool {
        let inbound = urls.inbound();
        let ours = host_of(&inbound);
        [&self.voice_url, &self.voice_fallback_url]
            .iter()
            .any(|url| !url.is_empty() && host_of(url).eq_ignore_ascii_case(ours))
    }

    pub fn faults(&self, urls: &CallbackUrls) -> Vec<NumberFault> {
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
        let (voice, voice_overrides) = apart(&self.voice_url);
        if voice != urls.inbound() {
            fault(
                true,
                format!("the voice URL is {}", shown(&self.voice_url)),
                format!("\"A call comes in\": {}{OVERRIDES}", urls.inbound()),
            );
        } else if let Some(why) = unsuitable(voice_overrides) {
            fault(
                false,
                format!("the connection overrides of the voice URL {why}"),
                format!("\"A call comes in\": {}{OVERRIDES}", urls.inbound()),
            );
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
        let (fallback, _) = apart(&self.voice_fallback_url);
        if fallback.is_empty() {
            fault(
                true,
                "there is no fallback URL: where the voice URL fails, the caller hears an error and the call ends".to_owned(),
                format!(
                    "\"Primary handler fails\": a second appliance or a TwiML Bin that dials the default dialer; at the least {}",
                    urls.fallback()
                ),
            );
        } else if fallback != urls.fallback() && host_of(fallback) == host_of(&urls.inbound()) {
            fault(
                true,
                format!("the fallback URL is {}", shown(&self.voice_fallback_url)),
                format!("\"Primary handler fails\": {}", urls.fallback()),
            );
        } else if fallback == urls.fallback() {
            fault(
                false,
                "the fallback URL leads to the same machine as the voice URL: it does not help when that is down".to_owned(),
                "\"Primary handler fails\": better a second appliance, or a TwiML Bin that dials the default dialer".to_owned(),
            );
        }
        let (status, _) = apart(&self.status_callback);
        if status != urls.number_status() {
            fault(
                false,
                format!(
                    "the status callback is {}: the end of a call is then known late",
                    shown(&self.status_callback)
                ),
                format!("\"Call status changes\": {}", urls.number_status()),
            );
        }
        faults
    }
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

/// Why overrides let a caller wait in vain; `None` where they do not.
fn unsuitable(overrides: &str) -> Option<String> {
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
    if rt <= 2_000 {
        return Some(format!(
            "give up after {rt} ms, and an answer may take the whole budget"
        ));
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

    fn urls() -> CallbackUrls {
        CallbackUrls::new("https://calls.example.com")
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
        assert_eq!(right().faults(&urls()), []);
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
                "rt=4000",
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
                "second appliance",
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
            let faults = number.faults(&urls());
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].is_grave, is_grave, "{faults:?}");
            assert!(faults[0].message.contains(message), "{faults:?}");
            assert!(faults[0].hint.contains(hint), "{faults:?}");
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
