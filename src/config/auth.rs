//! `[[auth.keys]]`: who may use the API and the dashboard.

use super::problem::Fault;
use super::section::Section;
use crate::http::keys::{KeyHash, Role};

/// Who may use the API and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The keys, in the order of the file. Empty: nobody can log in.
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who holds it; stands in the audit trail.
    pub name: String,
    pub role: Role,
    /// The hash of the key, as `switchboard key new` prints it in hexadecimal digits.
    pub hash: KeyHash,
}

impl Auth {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut keys: Vec<Key> = Vec::new();
        for key in section.tables("keys", |section| {
            Key::read(section).map(|key| (section.key("name"), section.key("hash"), key))
        }) {
            let (name_path, hash_path, key) = key;
            if keys.iter().any(|other| other.name == key.name) {
                let fault = Fault::new(format!("is {}, which another key is called too", key.name));
                section
                    .reader()
                    .error_at(&name_path, fault.hint("give every key a name of its own"));
            } else if keys.iter().any(|other| other.hash == key.hash) {
                let fault = Fault::new("is the hash of another key too");
                section.reader().error_at(
                    &hash_path,
                    fault.hint("make one key per holder: switchboard key new"),
                );
            }
            keys.push(key);
        }
        Self { keys }
    }
}

impl Key {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let name = section.required("name", |value| {
            value.text_like("up to 64 characters without control characters", |text| {
                text.chars().count() <= 64 && !text.contains(char::is_control)
            })
        });
        let role = section.required("role", |value| {
            value.one_of(&[("admin", Role::Admin), ("viewer", Role::Viewer)])
        });
        let hash = section.required("hash", |value| {
            KeyHash::from_hex(&value.text()?).ok_or_else(|| {
                Fault::new("must be a hash of 64 hexadecimal digits")
                    .hint("make a key and its hash with: switchboard key new")
            })
        });
        Some(Self {
            name: name?,
            role: role?,
            hash: hash?,
        })
    }
}
