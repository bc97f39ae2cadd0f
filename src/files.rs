//! Files beside the database, and whose hand writes them.
//!
//! Their folder belongs to the service, and commands are run by root: what lies there is not followed. A file is made anew under a name that
//! is free (`O_EXCL`, `O_NOFOLLOW`), by the descriptor of its folder, with an explicit mode; it is given to whoever owns the folder; and it gets its
//! name when it is whole. Where it can, root becomes the owner of the folder first.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::{fs, process, thread};

/// Only its owner reads and writes it.
pub const PRIVATE: u32 = 0o600;
pub const PUBLIC: u32 = 0o644;

/// The folder of a file, held open: what is renamed above it meanwhile does not matter.
struct Folder {
    descriptor: OwnedFd,
    /// Whom new files are given to; `None` where they belong to whoever makes them.
    heir: Option<(Uid, Gid)>,
}

impl Folder {
    /// The folder of the file at `path`, and its name there.
    fn of(path: &Path) -> io::Result<(Self, &OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let descriptor = fs::open(folder(path), flags, Mode::empty())?;
        let heir = owner_to_become(&descriptor)?;
        Ok((Self { descriptor, heir }, name))
    }

    fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL;
        let file = self.open(name, flags | OFlags::RDWR, mode)?;
        // Whatever the mask of the shell is.
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        self.bequeath(&file)?;
        Ok(file)
    }

    fn open(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = Mode::from_raw_mode(mode);
        Ok(File::from(fs::openat(&self.descriptor, name, flags, mode)?))
    }

    fn bequeath(&self, file: &File) -> io::Result<()> {
        if let Some((user, group)) = self.heir {
            fs::fchown(file, Some(user), Some(group))?;
        }
        Ok(())
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        match fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::renameat(&self.descriptor, from, &self.descriptor, to)?;
        fs::fsync(&self.descriptor)?;
        Ok(())
    }
}

/// The folder that holds the file at `path`.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// The path with `suffix` at its end.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A new file, for writing and reading. Fails where there is anything of that name, a link included.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let (folder, name) = Folder::of(path)?;
    folder.create(name, mode)
}

/// The file of that name, for writing and reading, or a new one. What is no file of its own is refused: a link, a second name of another file,
/// a pipe.
pub fn open_or_create(path: &Path, mode: u32, flags: OFlags) -> io::Result<File> {
    let (folder, name) = Folder::of(path)?;
    let file = folder.open(name, flags | OFlags::CREATE | OFlags::RDWR, mode)?;
    let found = fs::fstat(&file)?;
    let is_file = fs::FileType::from_raw_mode(found.st_mode) == fs::FileType::RegularFile;
    if !is_file || found.st_nlink > 1 {
        let what = "something else lies under that name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    folder.bequeath(&file)?;
    Ok(file)
}

/// Puts a file in place of what is there, whole at any time, also after a power cut.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    let mut unfinished = OsString::from(name);
    unfinished.push(".new");
    folder.remove(&unfinished)?;
    let mut file = folder.create(&unfinished, mode)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // What is wrong has been said; half a file is of no use.
        drop(folder.remove(&unfinished));
        return Err(error);
    }
    folder.rename(&unfinished, name)
}

/// Gives a finished file in the same folder its name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (folder, to) = Folder::of(to)?;
    let from = from.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let file = folder.open(from, OFlags::RDONLY, 0)?;
    file.sync_all()?;
    folder.rename(from, to)
}

/// Removes a file; a link goes itself, and not what it points to. Fine where there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    folder.remove(name)
}

/// What a file holds; `None` where there is none. What is no plain file, or larger than `limit` bytes, is refused.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.len() > limit {
        let what = "it is no plain file, or far too large";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// While this is held, a process of root acts as the owner of a folder; nothing changes for any other process.
#[derive(Debug)]
#[must_use]
pub struct Acting {
    groups: Vec<Gid>,
}

impl Acting {
    /// Becomes the owner of the folder that holds the file at `path`. For this thread and those that it starts; `None` where that is not root's
    /// to do, or the folder is root's own.
    pub fn as_owner_of_folder(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        let descriptor = match fs::open(folder(path), flags, Mode::empty()) {
            // There is nothing in a folder that is not there.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            opened => opened?,
        };
        let Some((user, group)) = owner_to_become(&descriptor)? else {
            return Ok(None);
        };
        let acting = Self {
            groups: process::getgroups()?,
        };
        thread::set_thread_groups(&[group])?;
        thread::set_thread_res_gid(None, Some(group), None)?;
        thread::set_thread_res_uid(None, Some(user), None)?;
        Ok(Some(acting))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let back = thread::set_thread_res_uid(None, Some(Uid::ROOT), None)
            .and_then(|()| thread::set_thread_res_gid(None, Some(Gid::ROOT), None))
            .and_then(|()| thread::set_thread_groups(&self.groups));
        if let Err(error) = back {
            tracing::warn!(event = "files.not_root_again", error = %error, "root's rights did not come back");
        }
    }
}

/// The owner of a folder, where root works in it and it is not root's.
fn owner_to_become(folder: &OwnedFd) -> io::Result<Option<(Uid, Gid)>> {
    if !process::geteuid().is_root() {
        return Ok(None);
    }
    let found = fs::fstat(folder)?;
    let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    Ok(Some(owner).filter(|(user, _)| !user.is_root()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_lies_there_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("precious"), "precious").unwrap();
        for name in ["a", "b", "c", "d.new"] {
            symlink(at("precious"), at(name)).unwrap();
        }
        assert!(create(&at("a"), PRIVATE).is_err());
        assert!(open_or_create(&at("b"), PRIVATE, OFlags::empty()).is_err());
        std::fs::hard_link(at("precious"), at("second")).unwrap();
        assert!(open_or_create(&at("second"), PRIVATE, OFlags::empty()).is_err());
        replace(&at("c"), PUBLIC, b"new").unwrap();
        replace(&at("d"), PRIVATE, b"new").unwrap();
        assert_eq!(std::fs::read(at("precious")).unwrap(), b"precious");
        for (name, mode) in [("c", PUBLIC), ("d", PRIVATE)] {
            let made = std::fs::symlink_metadata(at(name)).unwrap();
            assert!(made.is_file(), "{name}");
            assert_eq!(made.permissions().mode() & 0o777, mode, "{name}");
            assert_eq!(std::fs::read(at(name)).unwrap(), b"new");
        }
        rename(&at("c"), &at("a")).unwrap();
        assert_eq!(std::fs::read(at("a")).unwrap(), b"new");
        assert_eq!(std::fs::read(at("precious")).unwrap(), b"precious");
    }

    #[test]
    fn only_plain_files_of_a_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(read(&at("absent"), 5).unwrap(), None);
        std::fs::write(at("file"), "12345").unwrap();
        assert_eq!(read(&at("file"), 5).unwrap().unwrap(), b"12345");
        assert!(read(&at("file"), 4).is_err());
        assert!(read(folder.path(), 5).is_err());
        fs::mknodat(
            fs::CWD,
            at("pipe"),
            fs::FileType::Fifo,
            Mode::from_raw_mode(PRIVATE),
            0,
        )
        .unwrap();
        assert!(read(&at("pipe"), 5).is_err(), "a pipe is not waited for");
    }

    #[test]
    #[expect(
        clippy::print_stderr,
        reason = "says by name that it is skipped: only root can become another"
    )]
    fn root_acts_as_the_owner_of_the_folder() {
        if !process::geteuid().is_root() {
            eprintln!("skipped: root_acts_as_the_owner_of_the_folder needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (user, group) = (Uid::from_raw(64_200), Gid::from_raw(64_300));
        fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        let path = folder.path().join("file");
        replace(&path, PRIVATE, b"given").unwrap();
        let made = std::fs::metadata(&path).unwrap();
        assert_eq!((made.uid(), made.gid()), (64_200, 64_300));
        // In a thread of its own, as every test is.
        let acting = Acting::as_owner_of_folder(&path).unwrap().unwrap();
        assert_eq!(process::geteuid(), user);
        assert!(std::fs::write("/etc/switchboard-test", "").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"given");
        drop(acting);
        assert!(process::geteuid().is_root() && process::getegid().is_root());
    }
}
