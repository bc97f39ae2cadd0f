//! The firm rules of the code, as a test: what may import what, what the core must not know, and where one thing lives.
//!
//! Code is read as text. Test modules and comments are left out; everything else counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// Values in, values out. A folder may use what stands in its row, and itself.
const CORE: &[(&str, &[&str])] = &[
    ("phone", &[]),
    ("lead", &["phone"]),
    ("deadline", &[]),
    ("secret", &[]),
    ("resilience", &["routing"]),
    ("routing", &["lead", "phone"]),
    ("handoff", &["routing", "lead", "phone", "deadline"]),
    ("call", &["handoff", "routing", "lead", "phone"]),
    ("twiml", &["call", "handoff", "routing", "lead", "phone"]),
    (ALERTS_CORE, &["call", "resilience", "routing", "phone"]),
    (
        "audit",
        &[
            "alerts",
            "call",
            "handoff",
            "resilience",
            "routing",
            "lead",
            "phone",
        ],
    ),
];

/// The pure half of `alerts/`, as a folder of its own.
const ALERTS_CORE: &str = "alerts' core";
const ALERTS_CORE_FILES: &[&str] = &[
    "counters",
    "kinds",
    "mutes",
    "notification",
    "policy",
    "signals",
    "tracker",
];

/// The shell. `core` stands for all of the above.
const SHELL: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("files", &[]),
    ("lifecycle", &["clock"]),
    ("outbound", &["clock"]),
    ("telemetry", &["clock"]),
    (
        "config",
        &["core", "alerts", "braze", "dialer", "http", "oidc"],
    ),
    ("twilio", CLIENT),
    ("oidc", CLIENT),
    ("braze", CLIENT),
    // A kind of dialer reads its own section.
    ("dialer", &["core", "clock", "outbound", "config"]),
    ("store", &["core", "alerts", "clock", "files"]),
    (
        "alerts",
        &[
            "core",
            "clock",
            "lifecycle",
            "outbound",
            "dialer",
            "store",
            "flow",
        ],
    ),
    (
        "flow",
        &[
            "core", "alerts", "clock", "twilio", "braze", "dialer", "store",
        ],
    ),
    (
        "jobs",
        &[
            "core",
            "alerts",
            "clock",
            "lifecycle",
            "flow",
            "braze",
            "dialer",
            "store",
        ],
    ),
    (
        "http",
        &[
            "core",
            "alerts",
            "clock",
            "files",
            "lifecycle",
            "flow",
            "twilio",
            "oidc",
            "braze",
            "dialer",
            "store",
        ],
    ),
    (
        "admin",
        &[
            "core",
            "clock",
            "lifecycle",
            "flow",
            "braze",
            "store",
            "twilio",
        ],
    ),
];
const CLIENT: &[&str] = &["core", "clock", "outbound"];

/// Where everything meets, and what nobody imports.
const TOP: &[&str] = &["main", "lib", "core", "app", "cli", "demo"];

struct Ban {
    /// Folders (or single files) the ban is about; empty: all.
    within: &'static [&'static str],
    /// Paths below `src` it is not about; empty: none.
    except: &'static [&'static str],
    words: &'static [&'static str],
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        within: &[
            "phone",
            "lead",
            "deadline",
            "resilience",
            "routing",
            "handoff",
            "call",
            "twiml",
            "audit",
            ALERTS_CORE,
        ],
        except: &[],
        words: &[
            "async fn",
            "async move",
            ".await",
            "tokio::",
            "axum::",
            "rusqlite",
            "reqwest",
            "tracing::",
            "metrics::",
            "::now()",
            "rand::",
            "getrandom",
        ],
        instead: "the core is pure: take the value (time, chance, answer) as an argument and let the shell fetch or tell it",
    },
    Ban {
        within: &[],
        except: &["store/"],
        words: &["rusqlite", "r2d2", "SELECT ", "INSERT ", "DELETE FROM"],
        instead: "SQL lives in src/store: add a method there, named by its intent",
    },
    Ban {
        within: &["flow"],
        except: &[],
        words: &["axum::", "toml::"],
        instead: "a flow takes and returns values; HTTP belongs in src/http, configuration in src/config",
    },
    Ban {
        within: &["http"],
        except: &[],
        words: &["reqwest", "lettre"],
        instead: "a handler asks nobody outside: call a flow, or leave a row for a job",
    },
    Ban {
        within: &[],
        except: &["twiml/write.rs"],
        words: &["quick_xml"],
        instead: "only twiml/write.rs writes XML: build a VoiceResponse",
    },
    Ban {
        within: &[],
        except: &["lifecycle.rs", "clock.rs"],
        words: &["sleep("],
        instead: "wait with Lifecycle::pause, which ends at shutdown, with Clock::wait inside a call, or with a timeout around what is awaited",
    },
    Ban {
        within: &[],
        except: &["lifecycle.rs"],
        words: &["tokio::spawn(", "tokio::task::spawn("],
        instead: "start tasks with Lifecycle::spawn or spawn_transient, which track and supervise them",
    },
];

const NOT_A_THING: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "type", "types", "model", "models", "service",
    "services", "manager", "misc",
];

/// A file of the product, without its tests and comments.
struct Source {
    /// Below `src`, with slashes.
    path: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            code: production_code(text),
        }
    }

    /// The top-level module it belongs to.
    fn module(&self) -> &str {
        let module = self.path.split('/').next().unwrap_or_default();
        if module == "alerts" && ALERTS_CORE_FILES.contains(&self.stem()) {
            return ALERTS_CORE;
        }
        module.trim_end_matches(".rs")
    }

    fn stem(&self) -> &str {
        self.path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs")
    }
}

/// The text up to its inline test module, without comments.
fn production_code(text: &str) -> String {
    let mut lines = text.lines();
    let mut code = String::new();
    while let Some(line) = lines.next() {
        let is_test_module = |next: &&str| next.contains("mod ") && next.trim_end().ends_with('{');
        if line.trim() == "#[cfg(test)]" {
            let attributes = lines
                .clone()
                .take_while(|next| next.trim_start().starts_with("#["));
            if lines
                .clone()
                .nth(attributes.count())
                .as_ref()
                .is_some_and(is_test_module)
            {
                break;
            }
        }
        let line = if line.trim_start().starts_with("//") {
            ""
        } else {
            line
        };
        code.push_str(line.split(" // ").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// Paths of the modules that a file declares for tests only.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, stem) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = stem.trim_end_matches(".rs");
    let folder = match (folder, stem) {
        (_, "mod" | "lib" | "main") => folder.to_owned(),
        ("", _) => stem.to_owned(),
        _ => format!("{folder}/{stem}"),
    };
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let (_, name) = rest
            .lines()
            .next()?
            .trim()
            .strip_suffix(';')?
            .rsplit_once("mod ")?;
        Some(
            format!("{folder}/{name}")
                .trim_start_matches('/')
                .to_owned(),
        )
    });
    declared.collect()
}

/// Lines where a word begins, not merely ends another.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let begins = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            !word.starts_with(is_part) || !before.is_some_and(is_part)
        })
    };
    let numbered = code.lines().enumerate().filter(|(_, line)| begins(line));
    numbered.map(|(n, _)| n + 1).collect()
}

/// The top-level modules that code names: `crate::a::b`, `use crate::{a, b::c}`.
fn imports(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let name_at = |text: &str| text.chars().take_while(|&c| is_name(c)).collect::<String>();
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name_at(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut is_start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                c if is_start && depth == 0 && is_name(c) => {
                    found.push(name_at(group.get(at..).unwrap_or_default()));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    // `crate::Name` is a re-export of lib.rs and no module.
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found.sort();
    found.dedup();
    found
}

/// What is wrong with a file, each with what to do about it.
fn problems(source: &Source) -> Vec<String> {
    let path = &source.path;
    let module = source.module();
    let mut problems = Vec::new();
    if NOT_A_THING.contains(&source.stem()) {
        problems.push(format!(
            "src/{path}: name the file after the thing of the domain that it holds"
        ));
    }
    for ban in BANS {
        let applies = ban.within.is_empty() || ban.within.contains(&module);
        if !applies || ban.except.iter().any(|except| path.starts_with(except)) {
            continue;
        }
        for word in ban.words {
            for line in lines_with(&source.code, word) {
                problems.push(format!(
                    "src/{path}:{line}: `{}`: {}",
                    word.trim(),
                    ban.instead
                ));
            }
        }
    }
    if TOP.contains(&module) {
        return problems;
    }
    let Some((_, allowed)) = CORE.iter().chain(SHELL).find(|(name, _)| *name == module) else {
        problems.push(format!("src/{path}: `{module}` has no row in the table of imports; say in tests/it/tidy.rs what it may use"));
        return problems;
    };
    for import in imports(&source.code) {
        let is_core = CORE.iter().any(|(name, _)| *name == import);
        let may = import == module
            || allowed.contains(&import.as_str())
            || (is_core && allowed.contains(&"core"));
        if !may {
            problems.push(format!(
                "src/{path}: `{module}` must not use `{import}` (it may use {allowed:?}): move the meeting outwards, to flow or app"
            ));
        }
    }
    problems
}

/// The module that a file is: `http/api/mod.rs` is `http::api`.
fn module_of(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace('/', "::")
}

/// Every path in code, with the groups of `use` taken apart: `use a::{b, c::d};` is `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // What the paths of each open group begin with, and the path being read.
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
        let name: String = rest.chars().take_while(is_name).collect();
        rest = &rest[name.len().max(c.len_utf8())..];
        if !name.is_empty() {
            path.push(name);
            if let Some(group) = rest.strip_prefix("::{") {
                groups.push(path.clone());
                rest = group;
            } else if let Some(next) = rest.strip_prefix("::")
                && next.starts_with(|c| is_name(&c))
            {
                rest = next;
                continue;
            } else {
                found.push(path);
            }
        } else if c == '}' {
            groups.pop();
        }
        path = groups.last().cloned().unwrap_or_default();
    }
    found
}

/// Which modules each module names, in `use` and in the middle of code. What a module only hands on (`pub use`) is named by whoever asks for it.
fn named_modules(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<String, &Source> = sources
        .iter()
        .filter(|source| !["main", "lib", "core"].contains(&source.module()))
        .map(|source| (module_of(&source.path), source))
        .collect();
    let mut handed_on: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut own: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for (module, source) in &modules {
        let mut code = String::new();
        for statement in source.code.split_inclusive(';') {
            let visible = ["pub use ", "pub(crate) use ", "pub(super) use "];
            let at = visible.iter().find_map(|start| statement.find(start));
            let (before, reexport) = statement.split_at(at.unwrap_or(statement.len()));
            code.push_str(before);
            for path in paths(reexport).into_iter().filter(|path| path.len() > 1) {
                let name = path.last().cloned().unwrap_or_default();
                handed_on.insert((module.clone(), name), absolute(module, &path, &modules));
            }
        }
        own.insert(module, paths(&code));
    }
    let resolve = |mut path: Vec<String>| {
        for _ in 0..8 {
            let known = (1..=path.len())
                .rev()
                .map(|n| first(&path, n).join("::"))
                .find(|module| modules.contains_key(module))?;
            let depth = known.split("::").count();
            let onward = path
                .get(depth)
                .and_then(|name| handed_on.get(&(known.clone(), name.clone())));
            match onward.filter(|onward| !onward.is_empty()) {
                Some(onward) => path = [onward, after(&path, depth + 1)].concat(),
                None => return Some(known),
            }
        }
        None
    };
    let mut named = BTreeMap::new();
    for (module, paths) in own {
        let of_module: BTreeSet<String> = paths
            .iter()
            .filter_map(|path| resolve(absolute(module, path, &modules)))
            .filter(|other| other != module)
            .collect();
        named.insert(module.to_owned(), of_module);
    }
    named
}

fn first(path: &[String], n: usize) -> &[String] {
    path.get(..n).unwrap_or_default()
}

fn after(path: &[String], n: usize) -> &[String] {
    path.get(n..).unwrap_or_default()
}

/// A path as seen from the root of the crate; empty where it leads to nothing of ours.
fn absolute(module: &str, path: &[String], modules: &BTreeMap<String, &Source>) -> Vec<String> {
    let here: Vec<String> = module.split("::").map(str::to_owned).collect();
    let n_super = path.iter().take_while(|name| *name == "super").count();
    // As in `pub(super)`.
    if n_super == path.len() || path == ["crate"] {
        return Vec::new();
    }
    match path.first().map(String::as_str) {
        Some("crate") => after(path, 1).to_vec(),
        Some("self") => [&here, after(path, 1)].concat(),
        Some("super") => {
            let above = here.len().saturating_sub(n_super);
            [first(&here, above), after(path, n_super)].concat()
        }
        Some(child) if path.len() > 1 && modules.contains_key(&format!("{module}::{child}")) => {
            [&here, path].concat()
        }
        _ => Vec::new(),
    }
}

/// The modules from which one comes back to where one was.
fn circles(named: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reaches = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut left: Vec<&String> = named.get(from).into_iter().flatten().collect();
        while let Some(next) = left.pop() {
            if reached.insert(next) {
                left.extend(named.get(next).into_iter().flatten());
            }
        }
        reached
    };
    let in_circle = named
        .keys()
        .filter(|module| reaches(module).contains(module));
    in_circle.cloned().collect()
}

/// All Rust files below a folder, as path and text.
fn rust_files(root: &Path, below: &str, found: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type()?.is_dir() {
            rust_files(root, &path, found)?;
        } else if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "rs")
        {
            let text = std::fs::read_to_string(entry.path())?;
            found.push((path, text));
        }
    }
    Ok(())
}

fn read(folder: &str) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    rust_files(&root, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn product() -> io::Result<Vec<Source>> {
    let files = read("src")?;
    let for_tests: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| test_modules(path, text))
        .collect();
    let is_for_tests = |path: &str| {
        let path = path.trim_end_matches(".rs");
        for_tests
            .iter()
            .any(|module| path == module || path.starts_with(&format!("{module}/")))
    };
    let kept = files.iter().filter(|(path, _)| !is_for_tests(path));
    Ok(kept.map(|(path, text)| Source::new(path, text)).collect())
}

#[test]
fn the_code_keeps_the_firm_rules() {
    let found: Vec<String> = product().unwrap().iter().flat_map(problems).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_file_uses_what_uses_it() {
    let named = named_modules(&product().unwrap());
    assert_eq!(circles(&named), Vec::<String>::new());
}

#[test]
fn a_circle_is_found() {
    let found = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source::new(path, text))
            .collect();
        circles(&named_modules(&sources))
    };
    let keys = ("http/keys.rs", "use super::site::Site;");
    let site = (
        "http/site.rs",
        "use crate::{clock::Clock, http::{error::Error, keys::{Keys, Role}}};",
    );
    assert_eq!(found(&[keys, site]), ["http::keys", "http::site"]);
    assert!(found(&[keys, ("http/site.rs", "use super::error::Error;")]).is_empty());
    let face = ("http/mod.rs", "mod keys;\npub use keys::{Keys, Role};");
    assert!(
        found(&[
            face,
            ("http/keys.rs", "fn a() {}"),
            ("http/site.rs", "use super::Keys;")
        ])
        .is_empty()
    );
    let inline = ("http/site.rs", "fn a() { super::Keys::new() }");
    assert_eq!(found(&[face, keys, inline]), ["http::keys", "http::site"]);
    let parent = ("http/mod.rs", "mod keys;\nuse keys::Keys;\nfn b() {}");
    assert_eq!(
        found(&[parent, ("http/keys.rs", "fn a() { super::b() }")]),
        ["http", "http::keys"]
    );
}

#[test]
fn one_place_starts_tasks() {
    let sources = product().unwrap();
    let places = sources
        .iter()
        .flat_map(|source| lines_with(&source.code, "tokio::spawn("));
    assert_eq!(
        places.count(),
        1,
        "tasks are started in src/lifecycle.rs, in one place, and nowhere else"
    );
}

#[test]
fn a_function_is_named_for_what_it_does() {
    let sources = product().unwrap();
    for source in &sources {
        for vague in ["note", "tell", "keep", "take", "words"] {
            let lines = lines_with(&source.code, &format!("fn {vague}("));
            assert!(
                lines.is_empty(),
                "{}:{lines:?}: {vague} says nothing",
                source.path
            );
        }
    }
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in product().unwrap() {
        for line in source.code.lines() {
            let mut words = line
                .split_whitespace()
                .skip_while(|word| word.starts_with("pub"));
            if matches!(words.next(), Some("struct" | "enum" | "trait")) {
                let name = words.next().unwrap_or_default();
                let end = name.find(|c: char| !c.is_alphanumeric());
                let name = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
                let place = places.entry(name.to_owned()).or_default();
                place.push(source.path.clone());
            }
        }
    }
    assert!(places.len() > 500, "only {} types found", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:?}");
}

#[test]
fn the_stand_ins_share_nothing_with_the_product() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("crates/simulator/Cargo.toml")).unwrap();
    assert!(
        !manifest.contains("path = ") && !manifest.contains("switchboard ="),
        "what the simulator shares with the product can hide one mistake in both"
    );
    for (path, text) in read("crates/simulator/src").unwrap() {
        for elsewhere in ["include!", "include_str!", "#[path"] {
            assert!(!text.contains(elsewhere), "{path}: {elsewhere}");
        }
    }
}

#[test]
fn no_test_waits_by_the_clock() {
    for (path, text) in read("tests").unwrap() {
        let is_this_file = path.ends_with("tidy.rs");
        let lines = lines_with(&production_code(&text), "sleep(");
        assert!(
            is_this_file || lines.is_empty(),
            "tests/{path}:{lines:?}: wait for what you expect, or pause the time"
        );
    }
}

#[track_caller]
fn check(path: &str, text: &str, expected: &str) {
    let found = problems(&Source::new(path, text)).join("\n");
    let is_expected = if expected.is_empty() {
        found.is_empty()
    } else {
        found.contains(expected)
    };
    assert!(
        is_expected,
        "{path}: {text:?}: found {found:?}, expected {expected:?}"
    );
}

#[test]
fn an_impure_core_is_found() {
    check(
        "routing/decide.rs",
        "async fn decide() {}",
        "src/routing/decide.rs:1: `async fn`: the core is pure",
    );
    check(
        "phone.rs",
        "\nlet at = Timestamp::now();",
        "src/phone.rs:2: `::now()`",
    );
    check("call/state.rs", "tracing::info!(\"x\");", "`tracing::`");
    check("call/state.rs", "let operand::X = y; my_metrics::z();", "");
    check("flow/inbound.rs", "pub async fn answer() { x.await }", "");
    check("alerts/tracker.rs", "tracing::info!(\"x\");", "`tracing::`");
    check(
        "alerts/signals.rs",
        "use crate::clock::Clock;",
        "must not use `clock`",
    );
    check("alerts/watch.rs", "use crate::clock::Clock; x.await", "");
}

#[test]
fn comments_and_tests_do_not_count() {
    check(
        "routing/decide.rs",
        "// the shell does the `.await`\n/// tokio::x\nfn a() {} // .await",
        "",
    );
    check(
        "routing/decide.rs",
        "fn a() {}\n#[cfg(test)]\nmod tests {\n  use tokio::x;\n}",
        "",
    );
    check(
        "routing/decide.rs",
        "#[cfg(test)]\nmod tests;\nuse tokio::x;",
        "`tokio::`",
    );
    assert_eq!(
        test_modules("http/server.rs", "#[cfg(test)]\nmod tests;\n"),
        ["http/server/tests"]
    );
    assert_eq!(
        test_modules("dialer/mod.rs", "#[cfg(test)]\npub(crate) mod stand_in;\n"),
        ["dialer/stand_in"]
    );
    assert!(test_modules("a.rs", "mod b;\n#[cfg(test)]\nfn c() {}\n").is_empty());
}

#[test]
fn imports_against_the_direction_are_found() {
    check(
        "lead.rs",
        "use crate::routing::Rule;",
        "`lead` must not use `routing`",
    );
    check(
        "routing/plan.rs",
        "use crate::lead::Tier;\nuse crate::routing::Rule;",
        "",
    );
    check(
        "handoff/run.rs",
        "let x = crate::call::Leg;",
        "`handoff` must not use `call`",
    );
    check(
        "braze/client.rs",
        "use crate::{clock::Clock, dialer::{self, Fleet}};",
        "`braze` must not use `dialer`",
    );
    check(
        "braze/client.rs",
        "use crate::{clock::Clock, lead::{Tier, Score}};",
        "",
    );
    check(
        "store/mod.rs",
        "use crate::config::Storage;",
        "`store` must not use `config`",
    );
    check(
        "http/api/calls.rs",
        "use crate::app::App;",
        "`http` must not use `app`",
    );
    check("app.rs", "use crate::config::Config;", "");
    check("surprise/mod.rs", "", "has no row");
}

#[test]
fn things_in_the_wrong_place_are_found() {
    check(
        "http/mod.rs",
        "let q = \"SELECT 1\";",
        "SQL lives in src/store",
    );
    check("store/calls.rs", "let q = \"SELECT 1\";", "");
    check(
        "http/voice.rs",
        "tokio::spawn(async {});",
        "Lifecycle::spawn",
    );
    check(
        "jobs/probe.rs",
        "tokio::time::sleep(second).await;",
        "Lifecycle::pause",
    );
    check("jobs/probe.rs", "tokio::time::sleep_until(then).await;", "");
    check(
        "twiml/answer.rs",
        "use quick_xml::Writer;",
        "build a VoiceResponse",
    );
    check("twiml/write.rs", "use quick_xml::Writer;", "");
    check(
        "http/api.rs",
        "reqwest::get(url);",
        "a handler asks nobody outside",
    );
    check(
        "flow/inbound.rs",
        "use axum::Json;",
        "a flow takes and returns values",
    );
    check("store/utils.rs", "", "name the file after the thing");
}
