//! What the dashboard's files may be: small, ours alone, and without a way to make markup from text.

use std::path::{Path, PathBuf};

/// All files together, in bytes.
const MOST: u64 = 250 * 1_024;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn assets() -> Vec<PathBuf> {
    let found = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"));
    assert!(found.len() > 10, "{found:?}");
    found
}

#[test]
fn all_files_together_are_small() {
    let sizes = assets();
    let sizes = sizes.iter().map(|path| path.metadata().unwrap().len());
    let total: u64 = sizes.sum();
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn no_line_of_a_script_is_longer_than_120_characters() {
    for path in assets() {
        let text = std::fs::read_to_string(&path).unwrap();
        let longest = text.lines().map(|line| line.chars().count()).max();
        let is_script = path.extension().is_some_and(|end| end == "js");
        assert!(!is_script || longest <= Some(120), "{}", path.display());
    }
}

#[test]
fn no_file_makes_markup_or_code_from_text_or_names_a_foreign_host() {
    const BANNED: [&str; 16] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "DOMParser",
        "createContextualFragment",
        "document.write",
        "setHTMLUnsafe",
        "eval(",
        "Function(",
        "javascript:",
        "import(",
        "style=",
        "<script",
        "@import",
        "http://",
        "https://",
    ];
    // The name of SVG's namespace looks like an address and is none.
    const NAMESPACE: &str = "http://www.w3.org/2000/svg";
    for path in assets() {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace(NAMESPACE, "");
        for word in BANNED {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
        let protocol_relative = text.contains("\"//") || text.contains("url(//");
        assert!(!protocol_relative, "{}", path.display());
    }
}
