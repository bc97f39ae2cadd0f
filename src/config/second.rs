//! The file of a second machine, made from that of the first: what has to differ is put in, and every comment stays.

use std::path::Path;

use serde_json::{Value as Json, json};
use toml_edit::visit_mut::{self, VisitMut};
use toml_edit::{DocumentMut, Item, KeyMut, TableLike, TomlError};

use super::Config;
use super::edit::set;
use super::url::Parts;

/// Keys whose value is a file that is read.
const FILES: [&str; 6] = [
    "file",
    "certificate",
    "private_key",
    "ca",
    "draft",
    "calendar",
];

/// The text of the first machine's file with the name and the public URL of the second, half of the requests to Braze, and the
/// secret of the first in the file `secret`, where its own text names none. A signing key of its own is drawn by each machine.
pub fn second_of(
    text: &str,
    first: &Config,
    (node, public_url): (&str, &str),
    secret: Option<&Path>,
) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let mut put = |section: &str, key: &str, value: &Json| {
        if let Some(table) = table_of(document.get_mut(section)) {
            set(table, key, value);
        }
    };
    put("server", "node", &json!(node));
    put("server", "public_url", &json!(public_url));
    let names = std::iter::once(&first.server.public_url).chain(&first.server.also_public);
    let others = names
        .map(super::PublicUrl::as_str)
        .filter(|url| *url != public_url);
    put("server", "also_public", &others.collect());
    put("storage", "signing_key", &Json::Null);
    if let (None, Some(secret)) = (&first.storage.secret, secret) {
        put("storage", "secret", &json!({ "file": secret }));
    }
    let requests = first.braze.requests_per_minute / 2;
    put("braze", "requests_per_minute", &json!(requests.max(1)));
    let server = document.get_mut("server");
    let acme = table_of(server.and_then(|server| server.get_mut("acme")));
    if let Some((acme, url)) = acme.zip(Parts::split(public_url).ok()) {
        set(acme, "domains", &json!([url.host]));
    }
    Ok(document.to_string())
}

fn table_of(item: Option<&mut Item>) -> Option<&mut dyn TableLike> {
    item?.as_table_like_mut()
}

/// What a file needs beside it, as it is written there.
#[derive(Debug, Default)]
pub struct NeededBeside {
    /// Files, perhaps relative to the directory of the file that names them.
    pub files: Vec<String>,
    /// Secrets from the environment or the service manager, like `credential twilio`.
    pub given: Vec<String>,
}

impl NeededBeside {
    /// Of this text; nothing of one that is no TOML.
    pub fn of(text: &str) -> Self {
        let mut needed = Self::default();
        if let Ok(mut document) = text.parse::<DocumentMut>() {
            needed.visit_document_mut(&mut document);
        }
        needed
    }
}

impl VisitMut for NeededBeside {
    fn visit_table_like_kv_mut(&mut self, key: KeyMut<'_>, item: &mut Item) {
        match (key.get(), item.as_str()) {
            (key, Some(path)) if FILES.contains(&key) => self.files.push(path.to_owned()),
            (form @ ("env" | "credential"), Some(name)) => {
                self.given.push(format!("{form} {name}"))
            }
            (_, Some(_) | None) => {}
        }
        visit_mut::visit_table_like_kv_mut(self, key, item);
    }
}
