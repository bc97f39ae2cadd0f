//! `[routing.lists.*]`: lists of callers, in the configuration itself and in files of their own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::problem::Fault;
use super::rules::NamedRule;
use super::section::{Section, TomlValue};
use crate::routing::{Condition, ListDefinition, ListFile, ListedNumber, NumberSet, RuleAction};

/// Three million numbers, a line each.
const LARGEST: u64 = 48 * 1024 * 1024;
const HOW: &str = "write one number a line, like +4930123456, or the beginning of numbers, like +4930*; # begins a comment";

/// Every list by its name. What the rules do with a call says whether a list blocks.
pub(super) fn read_lists(
    section: &mut Section<'_>,
    rules: &[NamedRule],
) -> BTreeMap<String, ListDefinition> {
    let mut lists = BTreeMap::new();
    for (name, value) in section.entries() {
        if !is_name(name) {
            let fault = Fault::new("is not a name for a list");
            value.fail_at_name(fault.hint("use 1 to 64 letters, digits, _ and -"));
        }
        let list = value.section(|section| Some(read_list(section, blocks(rules, name))));
        lists.extend(list.map(|list| (name.to_owned(), list)));
    }
    lists
}

/// Whether a rule turns away whoever is on the list.
fn blocks(rules: &[NamedRule], list: &str) -> bool {
    let is_named = |condition: &Condition| {
        let Condition::List(names) = condition else {
            return false;
        };
        names.iter().any(|name| &**name == list)
    };
    rules.iter().map(|named| &named.rule).any(|rule| {
        let turns_away = matches!(rule.action, RuleAction::Reject(_) | RuleAction::Message(_));
        turns_away && rule.when.0.iter().any(|condition| is_named(condition))
    })
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn read_list(section: &mut Section<'_>, blocks: bool) -> ListDefinition {
    let numbers = section.list("numbers", |value| {
        let listed: Result<ListedNumber, _> = value.text()?.parse();
        listed.map_err(|error| Fault::new(format!("is {error}")))
    });
    ListDefinition {
        numbers: Arc::new(numbers.into_iter().collect()),
        file: section.optional("file", read_file),
        blocks,
    }
}

fn read_file(value: &TomlValue<'_>) -> Result<ListFile, Fault> {
    let path = value.path()?;
    let numbers = if value.context().reads_files {
        let numbers = numbers_of(&path)?;
        if numbers.is_empty() {
            let message = format!("names {}, which holds no number", path.display());
            value.warn(Fault::new(message).hint(HOW));
        }
        numbers
    } else {
        NumberSet::default()
    };
    Ok(ListFile {
        path,
        numbers: Arc::new(numbers),
    })
}

/// The numbers of a file. What is wrong with it is said by the number of the line, and never by what stands there.
fn numbers_of(path: &Path) -> Result<NumberSet, Fault> {
    let refused =
        |why: String| Fault::new(format!("cannot be read from {}: {why}", path.display()));
    let unreadable = |error: std::io::Error| refused(error.to_string());
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refused("it is no file".to_owned()));
    }
    if metadata.len() > LARGEST {
        return Err(refused(format!(
            "it is larger than {} MiB",
            LARGEST / 1024 / 1024
        )));
    }
    let (mut listed, mut wrong) = (Vec::new(), Vec::new());
    for (line, number) in BufReader::new(file.take(LARGEST))
        .split(b'\n')
        .zip(1_usize..)
    {
        let line = line.map_err(unreadable)?;
        match read_line(&line) {
            Ok(found) => listed.extend(found),
            Err(()) => wrong.push(number),
        }
    }
    let Some(first) = wrong.first() else {
        return Ok(listed.into_iter().collect());
    };
    let more = match wrong.len() {
        1 => String::new(),
        n => format!(", and of {} more", n - 1),
    };
    let message = format!(
        "names {}, whose line {first} is no number{more}",
        path.display()
    );
    Err(Fault::new(message).hint(HOW))
}

/// What a line says; nothing where it is empty or a comment.
fn read_line(line: &[u8]) -> Result<Option<ListedNumber>, ()> {
    let text = std::str::from_utf8(line).map_err(|_| ())?;
    let text = text.trim_start_matches('\u{feff}');
    let text = text.split('#').next().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Config, Context, Problem, parse};
    use super::*;
    use crate::phone::E164;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

    /// The example with these sections, its secrets unread; a folder for what they name.
    fn read(folder: &Path, sections: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let text = EXAMPLE.replace("{ file = \"/etc/switchboard/secrets/", "{ env = \"");
        let text = format!("{text}\n{sections}");
        let names = [
            "twilio_auth_token",
            "braze_api_key",
            "dialfire_token",
            "zendesk_token",
        ];
        let variables = names.map(|name| (name, "made-up"));
        let context = Context::in_directory(folder).with_variables(variables);
        match parse(&text, &context) {
            Ok(loaded) => Ok((loaded.config, loaded.warnings)),
            Err(rejected) => Err(rejected.problems),
        }
    }

    fn number(text: &str) -> E164 {
        E164::parse(text).unwrap()
    }

    #[test]
    fn a_list_is_what_the_configuration_and_its_file_name() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "\u{feff}# ours\n+49 30 1234567\r\n\n+44207*   # London\n+493012345\n";
        fs::write(folder.path().join("vip.txt"), lines).unwrap();
        let sections = "[routing.lists.vip]\nnumbers = [\"+4915112345678\"]\nfile = \"vip.txt\"\n\
                        [routing.lists.blocked]\n";
        let (config, warnings) = read(folder.path(), sections).unwrap();
        assert_eq!(warnings, []);
        let names: Vec<&str> = config.lists.keys().map(String::as_str).collect();
        assert_eq!(names, ["blocked", "vip"]);
        let vip = &config.lists["vip"];
        assert_eq!(vip.summary().numbers, 4);
        let file = vip.file.as_ref().unwrap();
        assert_eq!(file.path, folder.path().join("vip.txt"));
        assert!(vip.numbers.names(&number("+4915112345678")));
        assert!(file.numbers.names(&number("+49301234567")));
        assert!(!file.numbers.names(&number("+442071234567")));
        assert!(config.lists["blocked"].numbers.is_empty());
        let recorded = serde_json::to_string(&config.ruleset).unwrap();
        assert!(
            recorded.contains(r#""lists":{"blocked":{"numbers":0},"vip":{"numbers":4}}"#),
            "{recorded}"
        );
        assert!(!recorded.contains("4915112345678"), "{recorded}");
    }

    #[test]
    fn a_list_blocks_where_a_rule_turns_its_callers_away() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |name: &str, when: &str, action: &str| {
            format!("[[routing.rules]]\nname = \"{name}\"\nwhen = {{ {when} }}\n{action}\n")
        };
        let sections = [
            rule("a", "list = [\"spam\", \"rude\"]", "reject = \"busy\""),
            rule(
                "b",
                "list = \"gone\", lookup = \"known\"",
                "message = \"No longer.\"",
            ),
            rule(
                "c",
                "not_list = \"vip\", lookup = \"unknown\"",
                "reject = \"rejected\"",
            ),
            rule("d", "list = \"press\"", "dialers = [\"zendesk\"]"),
            ["spam", "rude", "gone", "vip", "press", "idle"]
                .map(|name| format!("[routing.lists.{name}]\n"))
                .concat(),
        ];
        let (config, _) = read(folder.path(), &sections.concat()).unwrap();
        let blocks = config.lists.iter().filter(|(_, list)| list.blocks);
        let blocks: Vec<&str> = blocks.map(|(name, _)| name.as_str()).collect();
        assert_eq!(blocks, ["gone", "rude", "spam"]);
        let wrong = rule("e", "list = \"spams\"", "reject = \"busy\"");
        let problems = read(folder.path(), &format!("{wrong}[routing.lists.spam]\n")).unwrap_err();
        assert!(
            problems.iter().any(|problem| {
                problem
                    .message
                    .ends_with("is spams, which is not a list of [routing]")
                    && problem.hint.as_deref() == Some("did you mean spam?")
            }),
            "{problems:?}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said_with_its_line_and_without_its_numbers() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("wrong.txt"),
            "+4930123456\n030 9876543\n+49\n",
        )
        .unwrap();
        fs::write(folder.path().join("binary.txt"), b"\xff\n").unwrap();
        fs::write(folder.path().join("empty.txt"), "# nobody yet\n").unwrap();
        let check = |list: &str, expected: &str| {
            let problems = match read(folder.path(), list) {
                Ok((_, warnings)) => warnings,
                Err(problems) => problems,
            };
            let [problem] = problems.as_slice() else {
                panic!("{list}: {problems:?}");
            };
            let message = problem.message.replace(folder.path().to_str().unwrap(), "");
            assert!(message.contains(expected), "{list}: {message}");
            assert!(!message.contains("9876543"), "{message}");
            assert!(
                problem.line.is_some() && problem.column.is_some(),
                "{problem:?}"
            );
        };
        let vip = |lines: &str| format!("[routing.lists.vip]\n{lines}\n");
        check(
            &vip("file = \"wrong.txt\""),
            "routing.lists.vip.file names /wrong.txt, whose line 2 is no number, and of 1 more",
        );
        check(&vip("file = \"binary.txt\""), "whose line 1 is no number");
        check(&vip("file = \"none.txt\""), "cannot be read from /none.txt");
        check(&vip("file = \"empty.txt\""), "which holds no number");
        check(&vip("file = \".\""), "it is no file");
        check(
            &vip("numbers = [\"+4930123456\", \"030\"]"),
            "routing.lists.vip.numbers[1] is no number with its country code",
        );
        check(&vip("number = \"+4930123456\""), "is not a known key");
        check("[routing.lists.\"v i p\"]\n", "is not a name for a list");
        let long = format!("[routing.lists.{}]\n", "x".repeat(65));
        check(&long, "is not a name for a list");
    }
}
