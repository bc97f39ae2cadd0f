//! What the configuration says of a POST whose headers and body it chooses.

use super::problem::{Fault, nearest};
use super::section::TomlValue;
use crate::secret::Secret;

/// Headers that every request has anyway.
const OURS: [&str; 5] = [
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "transfer-encoding",
];

impl TomlValue<'_> {
    /// The value of a header of this name; one in plain text is judged as a secret where the name says that it is one.
    pub(crate) fn header(&self, name: &str) -> Result<Secret, Fault> {
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
        if self.as_text().is_none() || names_secret {
            return self.token();
        }
        self.text_like("visible ASCII characters", |text| {
            text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        })
        .map(Secret::new)
    }

    /// Text with placeholders; what stands between braces must be one of `placeholders`.
    pub(crate) fn template(&self, placeholders: &[&str]) -> Result<String, Fault> {
        let text = self.as_text().ok_or_else(|| {
            Fault::new(format!("must be a string, not {}", self.kind()))
                .hint("the body is a flat JSON object of strings")
        })?;
        let mut rest = text;
        while let Some((_, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}') else {
                return Err(Fault::new("holds { without }"));
            };
            if !placeholders.contains(&name) {
                let hint = nearest(name.trim(), placeholders.iter().copied()).map_or_else(
                    || format!("the placeholders are {{{}}}", placeholders.join("}, {")),
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
}
