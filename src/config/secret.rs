//! Secrets: where the file says they are.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::context::{ConfidentialFile, Permissions};
use super::problem::{Fault, nearest};
use super::section::TomlValue;
use super::url;
use crate::secret::Secret;

/// Stands in the file of a secret until somebody puts the secret there.
pub const PLACEHOLDER_SECRET: &str = "REPLACE-ME";

const FORMS: [&str; 3] = ["file", "env", "credential"];
const HOW: &str = "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }";

impl TomlValue<'_> {
    /// A secret of any text, such as a key in several lines.
    pub(super) fn secret(&self) -> Result<Secret, Fault> {
        self.checked(|_| Ok(()))
    }

    /// A secret that travels in an HTTP header or a login: one line, no blanks around it.
    pub(crate) fn token(&self) -> Result<Secret, Fault> {
        self.checked(refuse_unsendable)
    }

    /// An address that is a secret: https, or http on a loopback host.
    pub(super) fn secret_url(&self) -> Result<Secret, Fault> {
        let url = self.token()?;
        if self.context().reads_files {
            url::Parts::split(url.expose())?.refuse_plain_http()?;
        }
        Ok(url)
    }

    /// The file that a secret is kept in, where it says `{ file = … }`.
    pub(super) fn file_of_secret(&self) -> Option<PathBuf> {
        let value = self.as_table()?.get("file")?;
        let place = self.child("file", value).text().ok()?;
        Some(self.context().resolve(&place))
    }

    fn checked(&self, check: Check) -> Result<Secret, Fault> {
        let secret = match self.as_text() {
            Some("") => Secret::new(""),
            Some(plain) => {
                check(bare(plain))?;
                self.plain_secret(bare(plain))?
            }
            None => self.referenced_secret(check)?,
        };
        if secret.expose().is_empty() {
            return Err(
                Fault::new("is an empty secret").hint("put the secret in, or leave the key out")
            );
        }
        if secret.expose() == PLACEHOLDER_SECRET {
            self.warn(
                Fault::new("is still the placeholder that init has written")
                    .hint("put the secret in its place"),
            );
        }
        Ok(secret)
    }

    fn plain_secret(&self, text: &str) -> Result<Secret, Fault> {
        let permissions = self.context().config_permissions;
        if permissions.open_to_all() {
            return Err(Fault::new(format!(
                "is a plain secret in a file that everybody on this machine can read (mode {permissions})"
            ))
            .hint(format!("{HOW}, or chmod the configuration to 0600")));
        }
        let readers = if permissions.open_to_group() {
            format!(", which its group can read (mode {permissions})")
        } else {
            String::new()
        };
        let why = format!("is a plain secret in the configuration file{readers}");
        self.warn(Fault::new(why).hint(HOW));
        Ok(Secret::new(text))
    }

    fn referenced_secret(&self, check: Check) -> Result<Secret, Fault> {
        let Some(table) = self.as_table() else {
            return Err(Fault::new(format!("must be a secret, not {}", self.kind())).hint(HOW));
        };
        let of = |form| Some((form, table.get(form)?));
        let known = FORMS.into_iter().find_map(of);
        let mut names = table.keys().map(|name| name.get_ref().as_ref());
        if let Some(unknown) = names.find(|name| !FORMS.contains(name)) {
            let near = nearest(unknown, FORMS).map(|form| format!("did you mean {form}? {HOW}"));
            let fault = Fault::new(format!("says {unknown}, which is no form of a secret"));
            return Err(fault.hint(near.unwrap_or_else(|| HOW.to_owned())));
        }
        if table.len() > 1 {
            return Err(Fault::new("names more than one place for the secret")
                .hint("keep one of file, env and credential"));
        }
        let Some((form, value)) = known else {
            return Err(Fault::new("does not say where the secret is").hint(HOW));
        };
        let place = self.child(form, value).text()?;
        if !self.context().reads_files {
            return Ok(Secret::new("not read"));
        }
        match form {
            "file" => {
                let file = ConfidentialFile::read(&self.context().resolve(&place));
                self.secret_of(file, |permissions| permissions, check)
            }
            "env" => self.read_variable(&place, check),
            _ => self.read_credential(&place, check),
        }
    }

    fn read_variable(&self, name: &str, check: Check) -> Result<Secret, Fault> {
        let Some(text) = self.context().variable(name) else {
            let why = format!("needs the environment variable {name}, which is not set");
            let hint = "set it for the service, or keep the secret in a file";
            return Err(Fault::new(why).hint(hint));
        };
        let text = Zeroizing::new(text);
        check(bare(&text))?;
        Ok(Secret::new(bare(&text)))
    }

    fn read_credential(&self, name: &str, check: Check) -> Result<Secret, Fault> {
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(Fault::new("is no name of a credential")
                .hint("write the name that LoadCredential= gives it"));
        }
        let Some(directory) = self.context().variable("CREDENTIALS_DIRECTORY") else {
            return Err(Fault::new(format!(
                "needs the credential {name}, but $CREDENTIALS_DIRECTORY is not set"
            ))
            .hint(format!(
                "add LoadCredential={name}:/path to the unit; systemd sets the variable for the service only"
            )));
        };
        let file = ConfidentialFile::read(&PathBuf::from(directory).join(name));
        // systemd shows the service's own access, an ACL, as group bits; they say nothing about the group.
        self.secret_of(file, Permissions::open_to_all_only, check)
    }

    fn secret_of(
        &self,
        file: Result<ConfidentialFile, String>,
        judged: fn(Permissions) -> Permissions,
        check: Check,
    ) -> Result<Secret, Fault> {
        let ConfidentialFile {
            path,
            text,
            permissions,
        } = file.map_err(|message| {
            Fault::new(message)
                .hint("the file must exist and be readable for the user that runs switchboard")
        })?;
        let path = path.display();
        let permissions = judged(permissions);
        let exposed = |to: &str| {
            let why = format!("is kept in {path}, which {to} can read (mode {permissions})");
            Fault::new(why).hint(format!("chmod 0600 {path}"))
        };
        if permissions.open_to_all() {
            return Err(exposed("everybody on this machine"));
        }
        if permissions.open_to_group() {
            self.warn(exposed("its group"));
        }
        let secret = bare(&text);
        if check(secret).is_err() {
            let skipped = text.find(secret).unwrap_or_default();
            let at = skipped + unsendable(secret).unwrap_or_default();
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            return Err(Fault::new(format!(
                "is kept in {path}, whose line {} holds a line break or a character that cannot be seen, so it cannot be sent",
                line + 1
            ))
            .hint("the file must hold the secret alone, in one line"));
        }
        Ok(Secret::new(secret))
    }
}

/// What a secret has to be beyond a text.
type Check = fn(&str) -> Result<(), Fault>;

/// The secret without what editors and shells put around it: line breaks, blanks, a byte order mark.
fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Where the first character is that neither a header nor a login can carry, or that nobody can see.
fn unsendable(text: &str) -> Option<usize> {
    text.find(|c: char| {
        c.is_control() || c == BYTE_ORDER_MARK || ('\u{200b}'..='\u{200f}').contains(&c)
    })
}

fn refuse_unsendable(text: &str) -> Result<(), Fault> {
    match unsendable(text) {
        None => Ok(()),
        Some(_) => Err(Fault::new(
            "holds a line break or another character that cannot be seen, so it cannot be sent",
        )
        .hint("the secret must stand alone, in one line")),
    }
}
