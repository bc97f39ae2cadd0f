//! What surrounds a configuration file: its directory, its permissions, the environment, the files of secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zeroize::Zeroizing;

/// No secret, configuration or calendar is longer; a larger file is a mistake.
const LONGEST: u64 = 1024 * 1024;

/// What the text of a configuration file is read against.
#[derive(Clone)]
pub struct Context {
    pub(super) directory: PathBuf,
    pub(super) config_permissions: Permissions,
    /// Secrets, calendars and lists are read.
    pub(super) reads_files: bool,
    /// Certificates and keys are opened.
    pub(super) opens_files: bool,
    /// Values that are those of the example file are told.
    pub(super) tells_placeholders: bool,
    /// What divides the past from what is to come in opening hours.
    pub(super) now: Timestamp,
    /// A text to be read in place of what the main file says of `[routing]`, and the file that it is or may become.
    pub(super) routing: Option<(PathBuf, String)>,
    variables: Option<BTreeMap<String, String>>,
}

impl Context {
    /// A file in `directory`, read now: relative paths are relative to it, and the environment is that of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "which days of a calendar are to come is judged when the file is read"
    )]
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            config_permissions: Permissions::default(),
            reads_files: true,
            opens_files: false,
            tells_placeholders: false,
            now: Timestamp::now(),
            routing: None,
            variables: None,
        }
    }

    /// Takes these environment variables in place of those of this process.
    #[cfg(test)]
    #[must_use]
    pub fn with_variables<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.variables = Some(variables.collect());
        self
    }

    /// Takes this moment in place of that of reading.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// Does not read secrets, for which placeholders stand, nor calendars. For checking a file on a machine without them.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        self.reads_files = false;
        self
    }

    /// Takes this text of the file at `path` in place of what the main file says of `[routing]`.
    #[must_use]
    pub(super) fn with_routing(mut self, path: &Path, text: &str) -> Self {
        self.routing = Some((path.to_owned(), text.to_owned()));
        self
    }

    /// The same for a file that lies elsewhere: its relative paths are relative to its own directory.
    #[must_use]
    pub(super) fn of_file(mut self, path: &Path) -> Self {
        let directory = path.parent().unwrap_or(Path::new("/"));
        directory.clone_into(&mut self.directory);
        self
    }

    /// Opens certificates and keys as well.
    #[must_use]
    pub(super) fn opening_files(mut self) -> Self {
        self.opens_files = true;
        self
    }

    /// Tells values that nobody has replaced.
    #[must_use]
    pub(super) fn telling_placeholders(mut self) -> Self {
        self.tells_placeholders = true;
        self
    }

    /// Takes the mode bits of the configuration file, which decide whether it may hold plain secrets.
    #[must_use]
    pub(super) fn with_permissions(mut self, permissions: Permissions) -> Self {
        self.config_permissions = permissions;
        self
    }

    /// A path of the file, made absolute by the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        match &self.variables {
            Some(variables) => variables.get(name).cloned(),
            None => environment(name),
        }
    }
}

/// A variable of the environment of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Who else may read or change a file. Empty where the system has no mode bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Permissions(u32);

impl Permissions {
    #[cfg(test)]
    pub(super) fn of_mode(mode: u32) -> Self {
        Self(mode & 0o7777)
    }

    #[cfg(unix)]
    pub(super) fn of_file(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::PermissionsExt;
        Self(metadata.permissions().mode() & 0o7777)
    }

    #[cfg(not(unix))]
    pub(super) fn of_file(_: &std::fs::Metadata) -> Self {
        Self::default()
    }

    pub(super) fn open_to_all(self) -> bool {
        self.0 & 0o006 != 0
    }

    pub(super) fn open_to_group(self) -> bool {
        self.0 & 0o060 != 0
    }

    /// The same without what the group may do.
    pub(super) fn open_to_all_only(self) -> Self {
        Self(self.0 & !0o060)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A file that holds a secret: one alone, or a configuration that may hold some.
pub(super) struct ConfidentialFile {
    pub(super) path: PathBuf,
    pub(super) text: Zeroizing<String>,
    pub(super) permissions: Permissions,
}

impl ConfidentialFile {
    /// Reads a file; the message of a failure is a predicate of the key that names the file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let (bytes, permissions) = read_file(path)?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| unreadable(path, &"it is no UTF-8 text"))?;
        Ok(Self {
            path: path.to_owned(),
            text: Zeroizing::new(text.to_owned()),
            permissions,
        })
    }
}

/// Reads a file of at most 1 MiB; the message of a failure is a predicate of the key that names the file.
pub(super) fn read_file(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Permissions), String> {
    let refused = |error: std::io::Error| unreadable(path, &error);
    let file = File::open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if metadata.is_dir() {
        return Err(unreadable(path, &"it is a directory"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let mut file = file.take(LONGEST + 1);
    file.read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > LONGEST {
        return Err(unreadable(path, &"it is larger than 1 MiB"));
    }
    Ok((bytes, Permissions::of_file(&metadata)))
}

fn unreadable(path: &Path, why: &dyn fmt::Display) -> String {
    format!("cannot be read from {}: {why}", path.display())
}
