//! `[routing]` in a file of its own, and the draft beside it.

use std::path::PathBuf;

use toml::de::DeTable;

use super::context::{ConfidentialFile, Context};
use super::problem::Fault;
use super::section::{Section, TomlValue};

/// A file that holds all of `[routing]`.
pub(super) struct RoutingFile {
    pub(super) path: PathBuf,
    /// What is wrong where it cannot be read, as a predicate of the key that names the file.
    pub(super) text: Result<String, String>,
}

/// What the main file says of `[routing]` where that stands elsewhere, or may.
#[derive(Default)]
pub(super) struct RoutingPaths {
    pub(super) file: Option<PathBuf>,
    pub(super) draft: Option<PathBuf>,
}

impl RoutingFile {
    /// The one that is read in place of the section of the main file; `None` where that holds the section itself.
    pub(super) fn of(root: &DeTable<'_>, context: &Context) -> Option<Self> {
        if let Some((path, text)) = &context.routing {
            return Some(Self {
                path: path.clone(),
                text: Ok(text.clone()),
            });
        }
        let section = root.get("routing")?.get_ref().as_table()?;
        let path = context.resolve(section.get("file")?.get_ref().as_str()?);
        let file = ConfidentialFile::read(&path);
        Some(Self {
            text: file.map(|file| file.text.to_string()),
            path,
        })
    }
}

impl RoutingPaths {
    /// Reads the keys that name files.
    pub(super) fn read(section: &mut Section<'_>, file: Option<&RoutingFile>) -> Self {
        Self {
            file: section.optional("file", |value| match file.map(|file| &file.text) {
                Some(Err(unreadable)) => Err(Fault::new(unreadable.as_str())),
                Some(Ok(_)) | None => value.path(),
            }),
            draft: section.optional("draft", TomlValue::path),
        }
    }

    /// The same where the rest of the section stands in `file`: beside its name nothing else stands here.
    pub(super) fn read_alone(section: &mut Section<'_>, file: &RoutingFile) -> Self {
        let paths = Self::read(section, Some(file));
        section.leave_unjudged();
        if section.has("file") {
            let own = ["file", "draft"];
            for name in section.names() {
                if !own.contains(&name) {
                    let fault = Fault::new("cannot stand beside routing.file");
                    section.error(
                        name,
                        fault.hint("that file holds all of [routing]: move it there"),
                    );
                }
            }
        }
        paths
    }
}
