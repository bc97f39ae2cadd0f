//! Where the files go, and who may read them.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use zeroize::Zeroizing;

/// The directory of a packaged installation, and where its database lies.
const SYSTEM: &str = "/etc/switchboard";
const SYSTEM_DATABASE: &str = "/var/lib/switchboard/switchboard.db";
/// The user that the package makes.
const USER: &str = "switchboard";

#[derive(Debug)]
pub(super) struct InitPaths {
    pub(super) config: PathBuf,
    pub(super) database: PathBuf,
}

impl InitPaths {
    /// The file that is asked for; without one, that of the system for root, and one in this directory for everybody else.
    pub(super) fn new(config: Option<&Path>, database: Option<&Path>) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let usual = if is_root {
            Path::new(SYSTEM).join("config.toml")
        } else {
            PathBuf::from("config.toml")
        };
        let config = config.map_or(usual, Path::to_owned);
        let config = std::path::absolute(&config).unwrap_or(config);
        let beside = if config.parent() == Some(Path::new(SYSTEM)) {
            PathBuf::from(SYSTEM_DATABASE)
        } else {
            PathBuf::from("switchboard.db")
        };
        Self {
            database: database.map_or(beside, |path| {
                std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
            }),
            config,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    pub(super) fn secrets(&self) -> PathBuf {
        self.directory().join("secrets")
    }

    /// Writes the secrets by their names, then the configuration. A secret that is there already stays. Returns the files of secrets that were written.
    pub(super) fn write(
        &self,
        text: &str,
        secrets: &[(&str, Zeroizing<String>)],
    ) -> anyhow::Result<Vec<PathBuf>> {
        let cannot = |path: &Path| format!("cannot write {}", path.display());
        let directory = self.secrets();
        DirBuilder::new()
            .recursive(true)
            .create(self.directory())
            .with_context(|| cannot(self.directory()))?;
        let made = DirBuilder::new().mode(0o700).create(&directory);
        match made {
            Ok(()) => give_to_service(&directory, true)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| cannot(&directory)),
        }
        let mut written = Vec::new();
        for (name, secret) in secrets {
            let path = directory.join(name);
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match created {
                Ok(mut file) => {
                    writeln!(file, "{}", secret.trim_end()).with_context(|| cannot(&path))?;
                    give_to_service(&path, true)?;
                    written.push(path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| cannot(&path)),
            }
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&self.config)
            .with_context(|| cannot(&self.config))?;
        file.write_all(text.as_bytes())
            .with_context(|| cannot(&self.config))?;
        // Whatever the mask of the shell is.
        fs::set_permissions(&self.config, Permissions::from_mode(0o640))?;
        give_to_service(&self.config, false)?;
        Ok(written)
    }
}

/// Run by root on a machine with the package's user: secrets are that user's own, the configuration is root's and readable to its group.
pub(super) fn give_to_service(path: &Path, entirely: bool) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some((user, group)) = ids(&fs::read_to_string("/etc/passwd").unwrap_or_default()) else {
        return Ok(());
    };
    chown(path, entirely.then_some(user), Some(group))
        .with_context(|| format!("cannot give {} to the user {USER}", path.display()))
}

fn ids(passwd: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, user, group, ..] if *name == USER => {
                Some((user.parse().ok()?, group.parse().ok()?))
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_service_is_found_by_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nswitchboard:x:998:997::/:/usr/sbin/nologin\n";
        assert_eq!(ids(passwd), Some((998, 997)));
        assert_eq!(ids("root:x:0:0:root:/root:/bin/bash\n"), None);
    }

    #[test]
    fn the_database_lies_beside_a_configuration_of_ones_own() {
        let place = InitPaths::new(Some(Path::new("/srv/calls/config.toml")), None);
        assert_eq!(place.database, Path::new("switchboard.db"));
        assert_eq!(place.secrets(), Path::new("/srv/calls/secrets"));
        let place = InitPaths::new(Some(Path::new("/etc/switchboard/config.toml")), None);
        assert_eq!(place.database, Path::new(SYSTEM_DATABASE));
    }
}
