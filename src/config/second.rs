//! The file of a second machine, made from that of the first: what has to differ is put in, and every comment stays.

use std::path::Path;

use serde_json::{Value as Json, json};
use toml_edit::{DocumentMut, Item, TomlError};

use super::edit::set;
use super::url::Parts;
use super::{Config, PublicUrl};

/// The text of the first machine's file with name and public URL of the second, half of the requests to Braze, and the secret of
/// the first in the file `secret`, where its own text names none. Each machine draws a signing key of its own.
pub fn second_of(
    text: &str,
    first: &Config,
    (node, public_url): (&str, &str),
    secret: Option<&Path>,
) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let mut put = |section: &str, key: &str, value: Json| {
        let table = document.get_mut(section).and_then(Item::as_table_like_mut);
        if let Some(table) = table {
            set(table, key, &value);
        }
    };
    let (server, requests) = (&first.server, first.braze.requests_per_minute);
    let names = [&server.public_url].into_iter().chain(&server.also_public);
    let names = names.map(PublicUrl::as_str);
    let others = names.filter(|url| *url != public_url);
    put("server", "also_public", others.collect());
    put("server", "node", json!(node));
    put("server", "public_url", json!(public_url));
    put("storage", "signing_key", Json::Null);
    put("braze", "requests_per_minute", json!((requests / 2).max(1)));
    if let (None, Some(secret)) = (&first.storage.secret, secret) {
        put("storage", "secret", json!({ "file": secret }));
    }
    let server = document.get_mut("server");
    let acme = server.and_then(|server| server.get_mut("acme")?.as_table_like_mut());
    if let Some((acme, url)) = acme.zip(Parts::split(public_url).ok()) {
        set(acme, "domains", &json!([url.host]));
    }
    Ok(document.to_string())
}
