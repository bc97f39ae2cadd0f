//! The form fields of voice webhooks, in the order and with the gaps of recorded traffic.

use super::call::Call;

pub(super) type Fields = Vec<(String, String)>;

/// The standard set of a call leg; `status` is that of the leg.
pub(super) fn of_leg(leg: &Leg<'_>) -> Fields {
    let from = place_of(leg.from);
    let to = place_of(leg.to);
    let pairs: [(&str, &str); 25] = [
        ("Called", leg.to),
        ("ToState", ""),
        ("CallerCountry", from.country),
        ("Direction", leg.direction),
        ("CallerState", from.state),
        ("ToZip", ""),
        ("CallSid", leg.sid),
        ("To", leg.to),
        ("CallerZip", from.zip),
        ("ToCountry", to.country),
        ("CalledZip", ""),
        ("ApiVersion", "2010-04-01"),
        ("CalledCity", ""),
        ("CallStatus", leg.status),
        ("From", leg.from),
        ("AccountSid", leg.account_sid),
        ("CalledCountry", to.country),
        ("CallerCity", from.city),
        ("ToCity", ""),
        ("FromCountry", from.country),
        ("Caller", leg.from),
        ("FromCity", from.city),
        ("CalledState", ""),
        ("FromZip", from.zip),
        ("FromState", from.state),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A leg, as far as its webhooks name it.
pub(super) struct Leg<'a> {
    pub(super) sid: &'a str,
    pub(super) account_sid: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) direction: &'a str,
    pub(super) status: &'a str,
}

/// What only the caller's own leg carries.
pub(super) fn add_inbound(fields: &mut Fields, call: &Call, call_token: &str) {
    if call.from.starts_with("sip:") {
        let host = call.to.split_once('@').map_or("", |(_, host)| host);
        push(fields, "SipDomain", host);
        push(fields, "SipCallId", &format!("{call_token}@198.51.100.7"));
        push(fields, "SipSourceIp", "198.51.100.7");
    } else {
        if call.from.starts_with("+1") {
            push(fields, "StirVerstat", "TN-Validation-Passed-A");
        }
        let token = format!("%7B%22parentCallInfoToken%22%3A%22{call_token}%22%7D");
        push(fields, "CallToken", &token);
    }
}

pub(super) fn push(fields: &mut Fields, name: &str, value: &str) {
    fields.push((name.to_owned(), value.to_owned()));
}

/// Changes a field that is there.
pub(super) fn set(fields: &mut Fields, name: &str, value: &str) {
    for (known, old) in fields.iter_mut() {
        if known == name {
            value.clone_into(old);
        }
    }
}

struct Place {
    country: &'static str,
    state: &'static str,
    city: &'static str,
    zip: &'static str,
}

fn place_of(number: &str) -> Place {
    let (country, state, city, zip) = match number {
        n if n.starts_with("+1415") => ("US", "CA", "SAN FRANCISCO", "94105"),
        n if n.starts_with("+1") => ("US", "", "", ""),
        n if n.starts_with("+4930") => ("DE", "", "Berlin", ""),
        n if n.starts_with("+4989") => ("DE", "", "München", ""),
        n if n.starts_with("+49") => ("DE", "", "", ""),
        n if n.starts_with("+43") => ("AT", "", "", ""),
        n if n.starts_with("+41") => ("CH", "", "", ""),
        n if n.starts_with("+44") => ("GB", "", "", ""),
        n if n.starts_with("+33") => ("FR", "", "", ""),
        _ => ("", "", "", ""),
    };
    Place {
        country,
        state,
        city,
        zip,
    }
}
