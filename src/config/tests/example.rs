//! The example file is complete, valid, and true about defaults.

use std::collections::{BTreeMap, BTreeSet};

use super::super::reader::Known;
use super::super::{Config, Context, ParsedFile, Problem, ProblemSeverity, parse, read};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

fn context() -> Context {
    Context::in_directory("/etc/switchboard").without_secrets()
}

/// The example with every setting on that is off: `#key = …`, `#[section]`.
fn everything() -> String {
    let switch_on = |line: &'static str| match line.strip_prefix('#') {
        // Files of their own would hold what stands here.
        Some("file = \"/var/lib/switchboard/routing.toml\"" | "draft = \"draft.toml\"") => line,
        Some(setting) if setting.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            setting
        }
        Some(_) | None => line,
    };
    EXAMPLE
        .lines()
        .map(switch_on)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The section a line belongs to, given the one before; list elements are counted.
fn section_of(line: &str, seen: &mut Vec<String>) -> Option<String> {
    if let Some(name) = line.strip_prefix("[[").and_then(|l| l.strip_suffix("]]")) {
        let idx = seen.iter().filter(|other| *other == name).count();
        seen.push(name.to_owned());
        return Some(format!("{name}[{idx}]"));
    }
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    Some(name.to_owned())
}

fn is_optional(known: &Known, section: &str, name: &str) -> bool {
    known[section]
        .iter()
        .any(|key| key.name == name && key.optional)
}

#[test]
fn the_example_is_valid_and_earns_no_warning() {
    let loaded = parse(EXAMPLE, &context()).unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_setting_of_the_example_is_valid_when_switched_on() {
    let ParsedFile { problems, .. } = read(&everything(), &context());
    let messages: Vec<&str> = problems
        .iter()
        .map(|problem: &Problem| problem.message.as_str())
        .collect();
    assert_eq!(
        messages,
        ["server.acme cannot be used together with server.tls"]
    );
}

#[test]
fn every_known_key_stands_in_the_example() {
    let text = everything();
    let ParsedFile { known, .. } = read(&text, &context());
    let mut present = BTreeSet::new();
    let (mut section, mut seen) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(next) = section_of(line, &mut seen) {
            section = without_index(&next);
            present.insert(section.clone());
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            present.insert(format!("{section}.{name}"));
        }
    }
    // They stand there, and are not switched on beside the rest of the section.
    for name in ["file", "draft"] {
        assert!(text.contains(&format!("\n#{name} = ")), "{name}");
        present.insert(format!("routing.{name}"));
    }
    let stands = |path: &str| {
        present.iter().any(|other| {
            other == path
                || other
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    };
    let mut missing = BTreeSet::new();
    for (section, keys) in &known {
        // What inline tables hold stands in the line of their key; so does `when` where it is short.
        let inline = [
            "auth.oidc.roles",
            "twilio.shared_keys",
            "routing.missed_to",
            "routing.rules.when.",
            "routing.rules.prefer",
        ];
        let section = without_index(section);
        if inline.iter().any(|inline| section.starts_with(inline)) {
            continue;
        }
        for key in keys {
            let path = if section.is_empty() {
                key.name.to_owned()
            } else {
                format!("{section}.{}", key.name)
            };
            if !stands(&path) {
                missing.insert(path);
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

/// The elements of a list of sections are one section.
fn without_index(section: &str) -> String {
    let mut parts = section.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| {
        path + part.split_once(']').map_or(part, |(_, rest)| rest)
    })
}

#[test]
fn every_default_of_the_example_is_the_default() {
    let ParsedFile {
        config: expected,
        known,
        ..
    } = read(EXAMPLE, &context());
    let (mut section, mut seen) = (String::new(), Vec::new());
    let mut bare = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(next) = section_of(line, &mut seen) {
            section = next;
        }
        let name = line
            .split_once(" = ")
            .filter(|_| !line.starts_with('#'))
            .map(|(name, _)| name);
        // These differ from what they are without the line: a choice of the example, not a default.
        let is_choice = matches!(
            (section.as_str(), name),
            ("server", Some("trusted_proxies"))
                | ("twilio", Some("auth_token" | "number"))
                | ("routing.rules[0]", Some("tier" | "dialers"))
                | ("dialers.zendesk", Some("subdomain"))
        );
        if name.is_none_or(|name| is_choice || !is_optional(&known, &section, name)) {
            bare.push(line);
        }
    }
    assert!(bare.len() + 30 < EXAMPLE.lines().count());
    let ParsedFile {
        config, problems, ..
    } = read(&bare.join("\n"), &context());
    let is_information = |found: &Problem| found.severity == ProblemSeverity::Information;
    assert!(problems.iter().all(is_information), "{problems:?}");
    // Where a value stands is no part of it.
    let without_origins = |config: Option<Config>| {
        config.map(|config| Config {
            origins: BTreeMap::new(),
            digest: [0; 32],
            ..config
        })
    };
    assert_eq!(without_origins(config), without_origins(expected));
}

#[test]
fn a_damaged_example_is_refused_or_taken_but_always_answered() {
    let text = everything();
    let boundaries: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
    let mut n_refused = 0;
    for pair in boundaries.windows(12).step_by(41) {
        let (start, end) = (pair[0], pair[11]);
        let truncated = text[..start].to_owned();
        let cut = format!("{}{}", &text[..start], &text[end..]);
        let filled = format!("{}\n[[=\"{}", &text[..start], &text[end..]);
        for damaged in [truncated, cut, filled] {
            let ParsedFile { problems, .. } = read(&damaged, &context());
            let n_lines = damaged.split('\n').count();
            assert!(problems.iter().all(|problem| {
                problem
                    .line
                    .is_none_or(|line| (1..=n_lines).contains(&line))
            }));
            n_refused += usize::from(problems.iter().any(Problem::is_error));
        }
    }
    assert!(n_refused > 100);
}
