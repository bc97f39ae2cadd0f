//! `[[auth.keys]]`: who may use the API and the dashboard.

use super::problem::Fault;
use super::section::Section;
use crate::http::keys::{ApiKey, KeyHash, Role};

/// Who may use the API and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The keys, in the order of the file. Empty: nobody can log in.
    pub keys: Vec<ApiKey>,
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
        Self { keys }
    }
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
