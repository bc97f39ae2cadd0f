//! Files by their names alone: where they lie is nobody's business on the other side of the API, and a log is often read elsewhere.

use std::path::Path;

/// The name of a file, without the folder it lies in.
pub(super) fn file_name(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

/// The value of a setting; of one that is a path, the name of the file.
pub(super) fn shown(value: String) -> String {
    if value.starts_with('/') {
        file_name(Path::new(&value)).display().to_string()
    } else {
        value
    }
}

/// The same text with only the last part of every absolute path in it. A path is a word that begins with a slash.
pub(super) fn without_folders(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let name = word.trim_end_matches('/').rsplit('/').next();
        name.filter(|_| word.starts_with('/')).unwrap_or(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_path_only_the_name_is_left_and_nothing_else_changes() {
        let check = |text: &str, expected: &str| assert_eq!(without_folders(text), expected);
        check(
            "/etc/switchboard/config.toml:12:3: error: a.b cannot be read from /run/keys/braze: no such file; chmod 0600 /run/keys/braze",
            "config.toml:12:3: error: a.b cannot be read from braze: no such file; chmod 0600 braze",
        );
        check("/var/lib/switchboard/", "switchboard");
        for same in [
            "https://example.com/a/b",
            "a/b and/or c",
            "write { file = \"/path\" }",
            "",
        ] {
            check(same, same);
        }
        assert_eq!(shown("/srv/some calls/log.db".to_owned()), "log.db");
        assert_eq!(
            shown("Bitte warten /gleich/".to_owned()),
            "Bitte warten /gleich/"
        );
    }
}
