//! `[dialers.*]`: the platforms that take calls.

use std::time::Duration;

use super::http_dialer::{self, warn_of_call_records};
use super::twilio::refuse_half_a_pair;
use super::{Fault, Section, Value};
use crate::call::LAST_RESORT;
use crate::dialer::{Api, DialfireApi, Kind, Settings, Tenant, ZendeskTalkApi};
use crate::routing::DialerId;

/// The dialers as they were read.
pub(super) struct DialersSection {
    /// Every name of the file, also of a dialer with something wrong in it, so that no rule seems to miss it.
    pub(super) names: Vec<String>,
    pub(super) dialers: Vec<Settings>,
}

impl DialersSection {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let entries = section.entries();
        if entries.is_empty() {
            section.error(
                "",
                Fault::new("holds no dialer").hint("add a section like [dialers.sales]"),
            );
        }
        let mut names: Vec<String> = Vec::new();
        let mut dialers = Vec::new();
        for (name, value) in entries {
            if !is_name(name) {
                value.fail_at_name(
                    Fault::new("is not a name for a dialer")
                        .hint("use 1 to 32 letters, digits, _ and -"),
                );
            } else if name.eq_ignore_ascii_case("braze") {
                value.fail_at_name(
                    Fault::new("is what records call the look-up").hint("choose another name"),
                );
            } else if name.eq_ignore_ascii_case(LAST_RESORT) {
                value.fail_at_name(
                    Fault::new("is what records call the last-resort number")
                        .hint("choose another name"),
                );
            } else if let Some(twin) = names.iter().find(|other| other.eq_ignore_ascii_case(name)) {
                value.fail_at_name(
                    Fault::new(format!("differs from dialers.{twin} in case only"))
                        .hint("choose another name"),
                );
            }
            names.push(name.to_owned());
            dialers.extend(value.section(|section| read(section, name)));
        }
        Self { names, dialers }
    }
}

fn read(section: &mut Section<'_>, name: &str) -> Option<Settings> {
    let kinds = [Kind::Dialfire, Kind::ZendeskTalk, Kind::Http].map(|kind| (kind.as_str(), kind));
    let kind = section.required("kind", |value| value.one_of(&kinds));
    let connect = section.required("connect", Value::connect);
    let second = Duration::from_secs(1);
    let hour = Duration::from_hours(1);
    let api = match kind {
        Some(Kind::Dialfire) => dialfire(section).map(Api::Dialfire),
        Some(Kind::ZendeskTalk) => zendesk_talk(section).map(Api::ZendeskTalk),
        Some(Kind::Http) => http_dialer::read(section).map(Api::Http),
        None => {
            section.leave_unjudged();
            None
        }
    };
    Some(Settings {
        id: DialerId::new(name),
        timeout: section.or("timeout", Duration::from_millis(700), |value| {
            value.duration(Duration::from_millis(50)..=Duration::from_secs(10))
        }),
        probe_every: section.or("probe_every", Duration::from_secs(15), |value| {
            value.duration(second..=hour)
        }),
        open_for: section.or("open_for", Duration::from_secs(15), |value| {
            value.duration(second..=hour)
        }),
        connect: connect?,
        api: api?,
    })
}

fn dialfire(section: &mut Section<'_>) -> Option<DialfireApi> {
    let campaign = section.required("campaign", |value| {
        value.text_like("a campaign id of Dialfire like AB12CD34EF56GH78", |text| {
            (8..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    });
    let task = section.required("task", |value| {
        value.text_like(
            "the name of a task, which has no blanks and no / ? # %",
            is_path_segment,
        )
    });
    let token = section.required("token", Value::token);
    let tenant = section.optional("tenant", |value| {
        value.text_like("a tenant id of Dialfire like 0a1b2c3d", |text| {
            text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    });
    let tenant_token = section.optional("tenant_token", Value::token);
    refuse_half_a_pair(section, "tenant", "tenant_token");
    Some(DialfireApi {
        base_url: section.or(
            "base_url",
            "https://api.dialfire.com".to_owned(),
            Value::base_url,
        ),
        tenant: tenant
            .zip(tenant_token)
            .map(|(id, token)| Tenant { id, token }),
        campaign: campaign?,
        task: task?,
        token: token?,
    })
}

fn zendesk_talk(section: &mut Section<'_>) -> Option<ZendeskTalkApi> {
    let subdomain = section.optional("subdomain", subdomain);
    let base_url = section.optional("base_url", |value| {
        let url = value.base_url()?;
        warn_of_call_records(value, &url)?;
        Ok(url)
    });
    if !section.has("subdomain") && !section.has("base_url") {
        section.error(
            "subdomain",
            Fault::new("is missing")
                .hint("write subdomain = \"acme\" for https://acme.zendesk.com"),
        );
    }
    let email = section.required("email", |value| {
        if value.as_text().is_some_and(|text| text.ends_with("/token")) {
            return Err(
                Fault::new("must be the mail address alone").hint("leave /token out; it is added")
            );
        }
        value.mail_address()
    });
    let token = section.required("token", Value::token);
    let from_subdomain = subdomain.map(|name| ZendeskTalkApi::base_url_of(&name));
    Some(ZendeskTalkApi {
        min_agents: section.or("min_agents", 1, |value| value.integer(0..=100_000)),
        max_waiting: section.or("max_waiting", 20, |value| value.integer(0..=100_000)),
        base_url: base_url.or(from_subdomain)?,
        email: email?,
        token: token?,
    })
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn is_path_segment(text: &str) -> bool {
    text.chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && !"/?#%\\".contains(c))
}

fn subdomain(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let is_label = text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_label {
        return Ok(text);
    }
    Err(Fault::new("must be one word of letters, digits and -")
        .hint("write only what stands before .zendesk.com; for another host use base_url"))
}
