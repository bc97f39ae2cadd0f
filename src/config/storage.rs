//! `[storage]`: the database and how long records are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::secret::Secret;

const DAY: Duration = Duration::from_hours(24);

/// Audit records are never deleted younger than this: 90 days.
pub const MIN_RETENTION: Duration = Duration::from_hours(24 * 90);

/// The database and how long records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub path: PathBuf,
    /// How long audit records are kept. At least [`MIN_RETENTION`], which is also the default.
    pub retention: Duration,
    /// Where records wait while the database does not take them. Default: `<path>.spool`.
    pub spool: Option<PathBuf>,
    /// How large the spool is at most, in MiB; 0 for none.
    pub spool_mib: u32,
    /// How much room is kept on the disk for the day on which it is full, in MiB; 0 for none.
    pub ballast_mib: u32,
    /// Protects callers' data in the database. Default: kept in `<path>.secret`, made at the first start.
    pub secret: Option<Secret>,
    /// The file in which that is kept, where it is kept in one.
    pub secret_file: Option<PathBuf>,
    /// Signs audit checkpoints. Default: kept in `<path>.signing`, made at the first start.
    pub signing_key: Option<Secret>,
}

impl Storage {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let path = section.required("path", TomlValue::path);
        let secret = section.optional("secret", |value| {
            Ok((value.secret()?, value.file_of_secret()))
        });
        let (secret, secret_file) = secret.unzip();
        Some(Self {
            retention: section.or("retention", MIN_RETENTION, |value| {
                let retention = value.duration(Duration::ZERO..=DAY * 36_500)?;
                if retention < MIN_RETENTION {
                    return Err(Fault::new("must be at least 90d")
                        .hint("audit records are kept for 90 days or longer"));
                }
                Ok(retention)
            }),
            spool: section.optional("spool", TomlValue::path),
            spool_mib: section.or("spool_mib", 64, |value| value.integer(0..=16_384)),
            ballast_mib: section.or("ballast_mib", 64, |value| value.integer(0..=16_384)),
            secret,
            secret_file: secret_file.flatten(),
            signing_key: section.optional("signing_key", TomlValue::secret),
            path: path?,
        })
    }
}
