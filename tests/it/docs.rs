//! The documentation says only what is true of the binary: its commands, flags, configuration keys, tests and links exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every document that people read, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
        .collect();
    paths.push(root.join("README.md"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A piece of code of a document: the language of a block (empty for `inline`), and its text.
struct Code {
    language: String,
    text: String,
}

/// All code of a document: fenced blocks, and inline code.
fn code_of(text: &str) -> Vec<Code> {
    let mut found = Vec::new();
    let mut block: Option<(String, Vec<&str>)> = None;
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut block, fence) {
            (None, Some(language)) => block = Some((language.trim().to_owned(), Vec::new())),
            (Some(_), Some(_)) => {
                let (language, lines) = block.take().unwrap();
                let text = lines.join("\n");
                found.push(Code { language, text });
            }
            (Some((_, lines)), None) => lines.push(line),
            (None, None) => {
                let pieces = line.split('`').skip(1).step_by(2);
                found.extend(pieces.map(|piece| Code {
                    language: "inline".to_owned(),
                    text: piece.to_owned(),
                }));
            }
        }
    }
    assert!(block.is_none(), "a block of code has no end");
    found
}

/// What is asked of `switchboard` in a line of shell: the words after the program's name, up to the end of the command.
fn invocations(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let mut found = Vec::new();
    for command in line.split(['|', ';', '&', '(', ')']) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| {
            *word == "switchboard" || word.ends_with("/bin/switchboard") || *word == "./switchboard"
        }) else {
            continue;
        };
        // `install -o switchboard`, `systemctl restart switchboard`, `sudo -u switchboard`: a user or a unit, not the program.
        let before = words.get(..at).unwrap_or_default();
        let is_name = before.iter().any(|word| {
            [
                "systemctl",
                "journalctl",
                "install",
                "chown",
                "apt",
                "apt-get",
                "dpkg",
                "adduser",
                "id",
                "systemd-analyze",
            ]
            .contains(word)
        }) || before
            .last()
            .is_some_and(|word| ["-u", "-g", "-o"].contains(word));
        let rest = words.get(at + 1..).unwrap_or_default();
        if is_name {
            // `sudo -u switchboard switchboard prune`
            if rest.first() == Some(&"switchboard") {
                found.push(rest.iter().skip(1).map(|word| (*word).to_owned()).collect());
            }
            continue;
        }
        found.push(rest.iter().map(|word| (*word).to_owned()).collect());
    }
    found
}

/// `--help` of a command; `None` where there is no such command.
fn help_of(
    cache: &mut BTreeMap<Vec<String>, Option<String>>,
    command: &[String],
) -> Option<String> {
    cache
        .entry(command.to_vec())
        .or_insert_with(|| {
            let output = Command::new(env!("CARGO_BIN_EXE_switchboard"))
                .args(command)
                .arg("--help")
                .output()
                .unwrap();
            output
                .status
                .success()
                .then(|| String::from_utf8(output.stdout).unwrap())
        })
        .clone()
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        && !text.starts_with('-')
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> BTreeSet<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn every_command_and_flag_that_is_named_exists() {
    let mut cache = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (path, text) in documents() {
        for code in code_of(&text) {
            if code.language == "toml" || code.language == "xml" || code.language == "yaml" {
                continue;
            }
            let joined = code.text.replace("\\\n", " ");
            for words in joined.lines().flat_map(invocations) {
                // `switchboard` alone is a name.
                if words.is_empty() {
                    continue;
                }
                let mut command: Vec<String> = Vec::new();
                let mut help = help_of(&mut cache, &command).unwrap();
                let mut skip_value = false;
                for word in &words {
                    if skip_value {
                        skip_value = false;
                        continue;
                    }
                    if let Some(flag) = word.strip_prefix("--") {
                        let flag = flag.split('=').next().unwrap_or_default();
                        let flag = flag.trim_end_matches(['.', ',', '`']);
                        checked += 1;
                        if !help.contains(&format!("--{flag}")) && flag != "version" {
                            wrong.push(format!("{}: --{flag} in {words:?}", name(&path)));
                        }
                        skip_value = flag == "config";
                        continue;
                    }
                    let listed = subcommands(&help);
                    if !listed.is_empty() && is_word(word) {
                        checked += 1;
                        if listed.contains(word.as_str()) {
                            command.push(word.clone());
                            help = help_of(&mut cache, &command).unwrap();
                        } else {
                            wrong
                                .push(format!("{}: no command {word:?} in {words:?}", name(&path)));
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 50, "only {checked} words were looked at");
}

/// Sections whose keys are names that somebody gives.
const NAMED: [&str; 6] = [
    "dialers",
    "routing.limits",
    "routing.hours",
    "routing.lists",
    "routing.rules.dialers",
    "routing.rules.when.attribute",
];

/// The path with `*` in place of such names.
fn without_names(path: &str) -> String {
    let parts = path.split('.');
    parts.fold(String::new(), |whole, part| {
        let part = if NAMED.contains(&whole.as_str()) {
            "*"
        } else {
            part
        };
        if whole.is_empty() {
            part.to_owned()
        } else {
            format!("{whole}.{part}")
        }
    })
}

/// The paths of keys that a TOML document sets, with names of dialers and places in lists left out.
fn keys_of(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let secret = ["file", "env", "credential"].contains(&key.as_str());
                let free =
                    ["headers", "body"].contains(&path.rsplit('.').next().unwrap_or_default());
                if secret || free {
                    continue;
                }
                let inner = if path.is_empty() {
                    key.clone()
                } else {
                    without_names(&format!("{path}.{key}"))
                };
                found.insert(inner.clone());
                keys_of(value, &inner, found);
            }
        }
        toml::Value::Array(list) => list.iter().for_each(|value| keys_of(value, path, found)),
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

/// Every key of the example file, switched on or off.
fn known_keys() -> BTreeSet<String> {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml"))
            .unwrap();
    let mut found = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            Some(_) => continue,
            None => line,
        };
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            section = without_names(name.trim_matches(['[', ']']));
            let mut whole = String::new();
            for part in section.split('.') {
                whole = if whole.is_empty() {
                    part.to_owned()
                } else {
                    format!("{whole}.{part}")
                };
                found.insert(whole.clone());
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            found.insert(format!("{section}.{key}"));
            if let Ok(table) = format!("v = {}", value.trim()).parse::<toml::Table>() {
                let path = format!("{section}.{key}");
                table
                    .values()
                    .for_each(|value| keys_of(value, &path, &mut found));
            }
        }
    }
    found
}

#[test]
fn every_configuration_key_that_is_named_exists() {
    let known = known_keys();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (path, text) in documents() {
        for code in code_of(&text) {
            let mut named = BTreeSet::new();
            if code.language == "toml" {
                match code.text.parse::<toml::Table>() {
                    Ok(table) => keys_of(&toml::Value::Table(table), "", &mut named),
                    Err(error) => wrong.push(format!("{}: {error}: {}", name(&path), code.text)),
                }
            } else if code.language == "inline" {
                // `[section] key`
                let pair = code
                    .text
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once("] "));
                if let Some((section, key)) = pair {
                    let key = key.split([' ', '=']).next().unwrap_or_default();
                    named.insert(format!("{section}.{key}"));
                } else if let Some(section) = code
                    .text
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'))
                {
                    let section = section.trim_matches(['[', ']']);
                    if section
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c == '.' || c == '_')
                    {
                        named.insert(section.to_owned());
                    }
                }
            }
            for key in named {
                checked += 1;
                let key = without_names(&key);
                if !known.contains(&key) {
                    wrong.push(format!("{}: {key}", name(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 40, "only {checked} keys were looked at");
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (path, text) in documents() {
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, section) = target
                .split_once('#')
                .map_or((target, None), |(file, section)| (file, Some(section)));
            let there = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            if !there.exists() {
                wrong.push(format!("{}: {target}", name(&path)));
                continue;
            }
            if let Some(section) = section {
                let other = fs::read_to_string(&there).unwrap();
                let has = other
                    .lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|heading| anchor(heading.trim_start_matches('#')) == section);
                if !has {
                    wrong.push(format!("{}: {target}", name(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 10, "only {checked} links were looked at");
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let code: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        for (at, file) in code.iter().enumerate() {
            let is_file = ["src/", "tests/", "packaging/", ".ci/"]
                .iter()
                .any(|folder| file.starts_with(folder));
            if !is_file {
                continue;
            }
            checked += 1;
            let Ok(content) = fs::read_to_string(root.join(file)) else {
                wrong.push(format!("{file} does not exist"));
                continue;
            };
            if Path::new(file).extension().is_some_and(|ext| ext == "rs") {
                let test = code.get(at + 1).copied().unwrap_or_default();
                if !content.contains(&format!("fn {test}(")) {
                    wrong.push(format!("{file} has no {test:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 20, "only {checked} were looked at");
}

#[test]
fn every_file_that_the_drills_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 150, "it is read in one sitting");
    let (_, drills) = text.split_once("## Three drills").unwrap();
    let (drills, _) = drills.split_once("\n## ").unwrap();
    let files: Vec<&str> = drills
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains('.') || name.contains('/'))
        .collect();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        assert!(root.join(file).exists(), "{file}");
    }
}
