//! Daily log files, the last two weeks of them. One that somebody took away is made anew within a second or so.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};

use crate::clock::Clock;

/// Days of log files that are kept, today included.
const KEPT: usize = 14;
/// How often it is looked whether today's file is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PREFIX: &str = "switchboard";
const SUFFIX: &str = "log";

/// Writes into the file of the day.
pub(super) struct Files {
    directory: PathBuf,
    clock: Clock,
    file: RollingFileAppender,
    looked_at: Instant,
}

impl Files {
    /// Opens the file of today, and makes the directory where there is none.
    pub(super) fn open(directory: &Path, clock: Clock) -> Result<Self, InitError> {
        Ok(Self {
            directory: directory.to_owned(),
            file: appender(directory)?,
            looked_at: clock.instant(),
            clock,
        })
    }

    /// Begins a new file where today's is not there: the day is new, or somebody took it away.
    fn look(&mut self) {
        let now = self.clock.instant();
        if now.saturating_duration_since(self.looked_at) < LOOK_EVERY {
            return;
        }
        self.looked_at = now;
        let today = self.clock.now().strftime("%Y-%m-%d");
        let path = self.directory.join(format!("{PREFIX}.{today}.{SUFFIX}"));
        if !path.exists()
            && let Ok(file) = appender(&self.directory)
        {
            self.file = file;
        }
    }
}

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn appender(directory: &Path) -> Result<RollingFileAppender, InitError> {
    // The appender complains on standard error, and not in JSON, about a directory that it then makes. What is wrong with the directory, it
    // says itself.
    drop(fs::create_dir_all(directory));
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(PREFIX)
        .filename_suffix(SUFFIX)
        .max_log_files(KEPT)
        .build(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_in(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn files_are_daily() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("logs");
        let mut files = Files::open(&inside, Clock::system()).unwrap();
        files.write_all(b"{}\n").unwrap();
        let [file] = &files_in(&inside)[..] else {
            panic!("{:?}", files_in(&inside));
        };
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("switchboard.20"), "{name}");
    }

    #[test]
    fn a_file_or_directory_that_was_taken_away_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("logs");
        let clock = Clock::stopped(Clock::system().now());
        let mut files = Files::open(&inside, clock.clone()).unwrap();
        for n in 0..3 {
            fs::remove_dir_all(&inside).unwrap();
            files.write_all(b"into the void\n").unwrap();
            assert!(!inside.exists());
            clock.advance(LOOK_EVERY);
            let line = format!("{n}\n");
            files.write_all(line.as_bytes()).unwrap();
            let [file] = &files_in(&inside)[..] else {
                panic!("{:?}", files_in(&inside));
            };
            assert_eq!(fs::read_to_string(file).unwrap(), line);
        }
    }
}
