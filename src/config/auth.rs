//! `[auth]`: who may use the API and the dashboard.

use super::pem;
use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::http::keys::{ApiKey, KeyHash, Role};
use crate::oidc::{OidcRoles, OidcSettings};

/// Who may use the API and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The keys, in the order of the file. Empty, and without `oidc`: nobody can log in.
    pub keys: Vec<ApiKey>,
    /// Where people sign in. Default: nowhere, with keys only.
    pub oidc: Option<OidcSettings>,
}

impl Auth {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut keys: Vec<ApiKey> = Vec::new();
        section.tables("keys", |section| {
            let key = read_key(section)?;
            if keys.iter().any(|other| other.name == key.name) {
                let fault = Fault::new(format!("is {}, which another key is called too", key.name));
                section.error("name", fault.hint("give every key a name of its own"));
            } else if keys.iter().any(|other| other.hash == key.hash) {
                let fault = Fault::new("is the hash of another key too");
                section.error(
                    "hash",
                    fault.hint("make one key per holder: switchboard key new"),
                );
            }
            keys.push(key);
            Some(())
        });
        Self {
            keys,
            oidc: section.optional_section("oidc", read_oidc),
        }
    }
}

fn read_oidc(section: &mut Section<'_>) -> Option<OidcSettings> {
    let issuer = section.required("issuer", TomlValue::request_url);
    let client_id = section.required("client_id", TomlValue::text);
    let client_secret = section.required("client_secret", TomlValue::token);
    let scopes = ["openid", "profile", "email"].map(str::to_owned).to_vec();
    let scopes = section.or("scopes", scopes, |value| value.list(TomlValue::text));
    let name_claim = section.or("name_claim", "name".to_owned(), TomlValue::text);
    let role_claim = section.or("role_claim", "groups".to_owned(), TomlValue::text);
    let roles = section.required_section("roles", |section| {
        let roles = OidcRoles {
            admin: section.list("admin", TomlValue::text),
            operator: section.list("operator", TomlValue::text),
            viewer: section.list("viewer", TomlValue::text),
        };
        if !["admin", "operator", "viewer"]
            .iter()
            .any(|role| section.has_some(role))
        {
            let fault = Fault::new("names no value of the claim, so that nobody could sign in");
            section.error(
                "",
                fault.hint("write admin = [\"…\"], operator = [\"…\"], viewer = [\"…\"]"),
            );
        }
        Some(roles)
    });
    let ca = pem::authorities(section, "ca");
    Some(OidcSettings {
        issuer: issuer?,
        client_id: client_id?,
        client_secret: client_secret?,
        scopes,
        name_claim,
        role_claim,
        roles: roles?,
        ca,
    })
}

fn read_key(section: &mut Section<'_>) -> Option<ApiKey> {
    let name = section.required("name", |value| {
        value.text_like("up to 64 characters without control characters", |text| {
            text.chars().count() <= 64 && !text.contains(char::is_control)
        })
    });
    let role = section.required("role", |value| {
        let roles = [Role::Admin, Role::Operator, Role::Viewer];
        value.one_of(&roles.map(|role| (role.as_str(), role)))
    });
    let hash = section.required("hash", |value| {
        KeyHash::from_hex(&value.text()?).ok_or_else(|| {
            Fault::new("must be a hash of 64 hexadecimal digits")
                .hint("make a key and its hash with: switchboard key new")
        })
    });
    Some(ApiKey {
        name: name?.into(),
        role: role?,
        hash: hash?,
    })
}
