//! The file that holds the installation's secret, and how another one takes its place: drawn beside it as `….next`, put in its place when
//! everything is under it, and the one before kept as `….old`. Each step is whole at any time, also after a power cut.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::files::{self, beside};

/// More than any secret is long, in bytes.
const LONGEST: u64 = 64 * 1024;

#[derive(Clone, Debug)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the secret of before lies.
    pub fn old_path(&self) -> PathBuf {
        beside(&self.0, ".old")
    }

    fn next_path(&self) -> PathBuf {
        beside(&self.0, ".next")
    }

    /// The secret that is to take the place of this one, while a rotation is under way.
    pub fn next(&self) -> io::Result<Option<Zeroizing<String>>> {
        read(&self.next_path())
    }

    /// The secret of before the last rotation.
    pub fn old(&self) -> io::Result<Option<Zeroizing<String>>> {
        read(&self.old_path())
    }

    /// The next secret: the one that lies there, or a new one.
    pub fn draw_next(&self) -> io::Result<Zeroizing<String>> {
        if let Some(next) = self.next()? {
            return Ok(next);
        }
        let next = draw()?;
        let line = Zeroizing::new(format!("{}\n", *next));
        files::replace(&self.next_path(), files::PRIVATE, line.as_bytes())?;
        Ok(next)
    }

    /// Puts the next secret in the place of this one, which stays as the old one. Does nothing where there is no next one.
    pub fn put_next_in_place(&self) -> io::Result<()> {
        if self.next()?.is_none() {
            return Ok(());
        }
        let current = read(&self.0)?.ok_or(ErrorKind::NotFound)?;
        let line = Zeroizing::new(format!("{}\n", *current));
        files::replace(&self.old_path(), files::PRIVATE, line.as_bytes())?;
        files::rename(&self.next_path(), &self.0)
    }
}

/// A new secret: 256 random bits, in hexadecimal.
pub fn draw() -> io::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(io::Error::other)?;
    Ok(Zeroizing::new(hex::encode(random.as_slice())))
}

/// The secret in a file, without blanks around it; an empty file is none of ours.
fn read(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let Some(bytes) = files::read(path, LONGEST)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(io::Error::other)?;
    match text.trim() {
        "" => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("{} is empty", path.display()),
        )),
        text => Ok(Some(Zeroizing::new(text.to_owned()))),
    }
}
