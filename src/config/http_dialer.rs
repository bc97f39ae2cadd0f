//! `kind = "http"`: any dialer that is told by one POST.

use super::nearest::nearest;
use super::url;
use super::{Fault, Secret, Section, Value};
use crate::dialer::{HttpApi, placeholders};

pub(super) fn read(section: &mut Section<'_>) -> Option<HttpApi> {
    let url = section.required("url", |value| {
        let url = value.request_url()?;
        warn_of_call_records(value, &url)?;
        Ok(url)
    });
    Some(HttpApi {
        health_url: section.optional("health_url", Value::request_url),
        headers: section.or("headers", Vec::new(), |value| value.map(header)),
        body: section.or("body", default_body(), |value| {
            value.map(|_, value| template(value))
        }),
        url: url?,
    })
}

/// Warns of the address that people take for the one that places calls.
pub(super) fn warn_of_call_records(value: &Value<'_>, url: &str) -> Result<(), Fault> {
    let path = url::Parts::split(url)?.path.trim_end_matches('/');
    let path = path.strip_suffix(".json").unwrap_or(path);
    if path.ends_with("/api/v2/calls") {
        value.warn(
            Fault::new(
                "ends in /api/v2/calls, which only stores a record of a call and rings nobody",
            )
            .hint("use kind = \"zendesk_talk\", which opens a ticket and connects the call"),
        );
    }
    Ok(())
}

/// Headers that every request has anyway.
const OURS: [&str; 5] = [
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "transfer-encoding",
];

/// A header; a value in plain text is judged as a secret where the name says that it is one.
fn header(name: &str, value: &Value<'_>) -> Result<Secret, Fault> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(Fault::new("is not a name for a header"));
    }
    let lower = name.to_ascii_lowercase();
    if OURS.contains(&lower.as_str()) {
        return Err(Fault::new("is a header that switchboard sets itself").hint("leave it out"));
    }
    let names_secret = [
        "auth",
        "cookie",
        "key",
        "pass",
        "secret",
        "token",
        "credential",
    ]
    .iter()
    .any(|word| lower.contains(word));
    if value.as_text().is_none() || names_secret {
        return value.token();
    }
    value
        .text_like("visible ASCII characters", |text| {
            text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        })
        .map(Secret::new)
}

/// Text with placeholders; what stands between braces must be one of them.
fn template(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.as_text().ok_or_else(|| {
        Fault::new(format!("must be a string, not {}", value.kind()))
            .hint("the body is a flat JSON object of strings")
    })?;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            return Err(Fault::new("holds { without }"));
        };
        if !placeholders().any(|known| known == name) {
            let known = || placeholders().collect::<Vec<_>>().join("}, {");
            let hint = nearest(name.trim(), placeholders()).map_or_else(
                || format!("the placeholders are {{{}}}", known()),
                |near| format!("did you mean {{{near}}}?"),
            );
            return Err(
                Fault::new(format!("holds {{{name}}}, which is not a placeholder")).hint(hint),
            );
        }
        rest = tail;
    }
    Ok(text.to_owned())
}

fn default_body() -> Vec<(String, String)> {
    [
        ("phone_number", "{caller}"),
        ("lead_score", "{score}"),
        ("tier", "{tier}"),
        ("call_sid", "{call_sid}"),
        ("request_id", "{request_id}"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
