//! Opens a file that nobody vouches for, to read it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::evidence::Evidence;
use crate::audit::FindingKind;
use crate::store::error::OpenError;
use crate::store::migrations::STEPS;
use crate::store::{connection, file, schema};

/// Why there is nothing to verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no database of ours at that path, or it may not be read.
    #[error("cannot verify {path}", path = .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
    /// The rows could not be read in a thread of their own.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// Opens a database to read it. Where nobody has it open, nothing is written beside it either.
pub(super) fn open_file(path: &Path) -> Result<Connection, OpenError> {
    file::must_exist(path)?;
    let is_open = file::beside(path, "-wal").exists();
    let mut connection = if is_open {
        Connection::open_with_flags(path, connection::reader_flags())?
    } else {
        let flags = connection::reader_flags() | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable(path), flags)?
    };
    connection::prepare_reader(&mut connection)?;
    connection::bound(&connection, path)?;
    Ok(connection)
}

/// Compares the schema before anything is read by it: what is not a table of ours is not asked. Whether the tables are there that are read here.
pub(super) fn examine_schema(
    connection: &Connection,
    path: &Path,
    evidence: &mut Evidence,
) -> Result<bool, OpenError> {
    let version = file::claimed_version(connection, path, STEPS)?;
    let differences = schema::differences(connection, version, STEPS)?;
    for difference in &differences {
        let what = format!("the schema is not what this program makes: {difference}");
        evidence.wrong(FindingKind::SchemaChanged, what);
    }
    Ok(differences.is_empty() || schema::is_readable(connection, version, STEPS)?)
}

/// The address of a file that nobody changes.
fn immutable(path: &Path) -> String {
    let mut address = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            address.push(char::from(*byte));
        } else {
            address.push('%');
            address.push_str(&hex::encode([*byte]));
        }
    }
    address.push_str("?immutable=1");
    address
}
