//! The configuration: one TOML file, read whole and checked whole, before anything is bound or opened.
//!
//! [`load`] finds every problem at once, each with its line and column: text that is no TOML, keys that nobody knows,
//! values of the wrong kind, secrets that cannot be read or that others can read, and settings that contradict each
//! other. What comes out is typed; nobody else reads the environment or parses a setting.

mod alerts;
mod auth;
mod braze;
pub mod check;
mod consistency;
mod context;
mod dialers;
mod duration;
mod edit;
mod hours;
mod lists;
mod logging;
mod may_dial;
mod pem;
mod post;
pub(crate) mod problem;
mod reader;
mod routing;
mod routing_files;
mod rule_tests;
mod rules;
mod second;
mod secret;
pub(crate) mod section;
mod server;
mod show;
mod storage;
mod twilio;
pub(crate) mod url;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use toml::de::DeTable;

pub use alerts::Alerts;
pub use auth::Auth;
pub use context::Context;
pub use duration::parse as parse_duration;
pub use edit::{rules_alone, with_ruleset};
pub use logging::{LogFormat, Logging};
pub use problem::{Problem, ProblemSeverity, Rejected};
pub use routing::Routing;
pub use second::second_of;
pub use secret::PLACEHOLDER_SECRET;
pub use server::{Server, Tls};
pub use show::{Shown, ShownValue, show};
pub use storage::{MIN_RETENTION, Storage};
pub use twilio::{CallerId, Twilio};
pub use url::PublicUrl;

use crate::routing::{self as rules_of, DialerId, ListDefinition, RuleTest, Ruleset};
use context::ConfidentialFile;
use problem::Fault;
use reader::{Known, Reader};
use routing::RoutingSection;
use routing_files::{RoutingFile, RoutingPaths};
use section::Section;

/// Everything that the file says. Secrets are read; `Debug` hides them.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub storage: Storage,
    pub twilio: Twilio,
    pub braze: crate::braze::BrazeSettings,
    /// `[routing]` without tiers and rules, which are in `ruleset`.
    pub routing: Routing,
    /// `[dialers.*]`, in the order of the file; at least one.
    pub dialers: Vec<crate::dialer::DialerSettings>,
    pub alerts: Alerts,
    pub auth: Auth,
    pub logging: Logging,
    /// Tiers, rules and dialers, as decisions are made by them.
    pub ruleset: Ruleset,
    /// `[[routing.tests]]`, all of which come out as they expect.
    pub rule_tests: Vec<RuleTest>,
    /// What somebody should look at in the rules, a sentence each.
    pub lint: Vec<String>,
    /// `[routing.lists.*]`, by name.
    pub lists: BTreeMap<String, ListDefinition>,
    /// The line of every key that the file sets, by its whole name: `braze.timeout`, `auth.keys[0].name`. Everything else is a default.
    /// Of a key of `[routing]`, the line is that of the file that holds the section.
    pub origins: BTreeMap<String, usize>,
    /// The rule set of the draft that `[routing] draft` names, where nothing is wrong with it.
    pub draft: Option<Ruleset>,
    /// SHA-256 of the texts that it was read from: the main file, and that of `[routing]`.
    pub digest: [u8; 32],
}

impl Config {
    /// The dialer of that name.
    pub fn dialer(&self, name: &DialerId) -> Option<&crate::dialer::DialerSettings> {
        self.dialers.iter().find(|dialer| dialer.id == *name)
    }
}

/// A configuration that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    /// What somebody should look at, in the order of the file.
    pub warnings: Vec<Problem>,
    /// What `rules lint` tells beside, in the order of the file.
    pub information: Vec<Problem>,
}

/// The file that `$SWITCHBOARD_CONFIG` names.
pub fn from_environment() -> Option<PathBuf> {
    let named = context::environment("SWITCHBOARD_CONFIG").filter(|path| !path.is_empty());
    named.map(PathBuf::from)
}

/// Which file to load: the one given, or that of `$SWITCHBOARD_CONFIG`, whether it exists or not; otherwise
/// `./config.toml` where that exists, and `/etc/switchboard/config.toml` where it does not.
pub fn find(explicit: Option<&Path>) -> PathBuf {
    let here = Path::new("config.toml");
    explicit
        .map(Path::to_owned)
        .or_else(from_environment)
        .or_else(|| here.exists().then(|| here.to_owned()))
        .unwrap_or_else(|| PathBuf::from("/etc/switchboard/config.toml"))
}

/// Reads and checks the file, and the secrets that it names. Relative paths are relative to the directory of the file.
pub fn load(path: &Path) -> Result<Loaded, Rejected> {
    let (file, context) = open(path)?;
    parse(&file.text, &context)
}

/// The same with this text in place of what the file says of `[routing]`: rules that are to be published, or a draft. Its problems are
/// those of the file `name`, beside the main one where `[routing]` has no file of its own.
pub fn load_with_rules(path: &Path, name: &Path, text: &str) -> Result<Loaded, Rejected> {
    let (file, context) = open(path)?;
    let name = context.resolve(&name.to_string_lossy());
    parse(&file.text, &context.with_routing(&name, text))
}

/// Where the database lies that the file names, even where something else in it is wrong: a running server is found by it.
pub fn database_of(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let (root, _) = DeTable::parse_recoverable(&text);
    let storage = root.get_ref().get("storage")?.get_ref().as_table()?;
    let database = storage.get("path")?.get_ref().as_str()?;
    let absolute = std::path::absolute(path).ok()?;
    Some(absolute.parent()?.join(database))
}

/// The same for a start: certificates and keys are opened and read, too. A reload leaves those to whoever watches them.
pub fn load_to_start(path: &Path) -> Result<Loaded, Rejected> {
    let (file, context) = open(path)?;
    parse(&file.text, &context.opening_files())
}

/// Reads and checks the text of a file.
pub fn parse(text: &str, context: &Context) -> Result<Loaded, Rejected> {
    let ParsedFile {
        config, problems, ..
    } = read(text, context);
    let is_information = |found: &Problem| found.severity == ProblemSeverity::Information;
    let (information, mut problems): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(is_information);
    match config {
        Some(mut config) if !problems.iter().any(Problem::is_error) => {
            if let (Some(path), None) = (&config.routing.draft, &context.routing) {
                let (draft, found) = read_draft(text, path, context, &config.origins);
                config.draft = draft;
                problems.extend(found);
            }
            let of_rules = problems.iter().filter(|problem| problem.is_of_rules());
            let told = of_rules.chain(&information);
            config.lint = told.map(|problem| problem.message.clone()).collect();
            Ok(Loaded {
                config,
                warnings: problems,
                information,
            })
        }
        Some(_) | None => Err(Rejected { problems }),
    }
}

/// The rule set of a draft, and what is wrong with it: as warnings, because a draft decides nothing, and calls are answered without it.
fn read_draft(
    text: &str,
    path: &Path,
    context: &Context,
    origins: &BTreeMap<String, usize>,
) -> (Option<Ruleset>, Vec<Problem>) {
    let file = match ConfidentialFile::read(path) {
        Ok(file) => file,
        Err(unreadable) => {
            let problem = Problem {
                severity: ProblemSeverity::Warning,
                key: "routing.draft".to_owned(),
                line: origins.get("routing.draft").copied(),
                column: Some(1),
                ..Problem::of_file(format!("routing.draft {unreadable}"), None)
            };
            return (None, vec![problem]);
        }
    };
    let ParsedFile {
        config, problems, ..
    } = read(text, &context.clone().with_routing(path, &file.text));
    let own = problems
        .into_iter()
        .filter(|problem| problem.file.as_deref() == Some(path))
        .filter(|problem| problem.severity != ProblemSeverity::Information);
    let mut own: Vec<Problem> = own.collect();
    let is_sound = !own.iter().any(Problem::is_error);
    for problem in &mut own {
        problem.severity = ProblemSeverity::Warning;
    }
    let draft = config.map(|config| config.ruleset);
    (draft.filter(|_| is_sound), own)
}

/// The file itself, and what its text is to be read against.
fn open(path: &Path) -> Result<(ConfidentialFile, Context), Rejected> {
    let refused = |message: String, hint: &str| Rejected {
        problems: vec![Problem::of_file(message, Some(hint.to_owned()))],
    };
    let file = ConfidentialFile::read(path).map_err(|message| {
        refused(
            format!("the configuration {message}"),
            "name another file with --config, or write one with: switchboard init",
        )
    })?;
    let absolute = std::path::absolute(path).map_err(|error| {
        refused(
            format!("the directory of {} is unknown: {error}", path.display()),
            "name the file with its whole path",
        )
    })?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    let context = Context::in_directory(directory).with_permissions(file.permissions);
    Ok((file, context))
}

/// What came of reading a text.
struct ParsedFile {
    /// `None` where something is wrong that leaves a hole.
    config: Option<Config>,
    problems: Vec<Problem>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "compared with the example file by a test")
    )]
    known: Known,
}

fn read(text: &str, context: &Context) -> ParsedFile {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut problems = problem::problems_of_syntax(text, &errors);
    if problem::is_broken(&errors) {
        return ParsedFile {
            config: None,
            problems,
            known: Known::new(),
        };
    }
    let reader = Reader::new(text, root.get_ref(), context);
    let beside = RoutingFile::of(root.get_ref(), context);
    let beside_text = beside.as_ref().and_then(|file| file.text.as_deref().ok());
    let beside_text = beside_text.unwrap_or_default();
    let (beside_root, errors) = DeTable::parse_recoverable(beside_text);
    let beside_path = beside.as_ref().map_or(Path::new(""), |file| &file.path);
    let beside_context = context.clone().of_file(beside_path);
    let beside_reader =
        Reader::new(beside_text, beside_root.get_ref(), &beside_context).of_file(beside_path);
    let syntax = problem::problems_of_syntax(beside_text, &errors).into_iter();
    problems.extend(syntax.map(|problem| Problem {
        file: Some(beside_path.to_owned()),
        ..problem
    }));
    let place = beside.as_ref().map(|file| RoutingPlace {
        file,
        reader: (file.text.is_ok() && !problem::is_broken(&errors)).then_some(&beside_reader),
    });
    let config = Section::root(&reader).read(|root| read_sections(root, place));
    let mut origins = reader.origins();
    origins.extend(beside_reader.origins());
    let digest = Sha256::new()
        .chain_update(Sha256::digest(text))
        .chain_update(beside_text);
    let config = config.map(|config| Config {
        origins,
        digest: digest.finalize().into(),
        ..config
    });
    let (found, mut known) = reader.finish();
    problems.extend(found);
    let (found, known_beside) = beside_reader.finish();
    problems.extend(found);
    known.extend(known_beside);
    problems.sort_by(|a, b| {
        let place = |problem: &Problem| (problem.file.clone(), problem.line, problem.column);
        place(a).cmp(&place(b))
    });
    ParsedFile {
        config,
        problems,
        known,
    }
}

/// Where `[routing]` is read that stands in no main file.
#[derive(Clone, Copy)]
struct RoutingPlace<'a> {
    file: &'a RoutingFile,
    /// `None` where nothing of it can be read.
    reader: Option<&'a Reader<'a>>,
}

/// Reads `[routing]` where it stands, and what the main file says of that.
fn read_routing(
    root: &mut Section<'_>,
    place: Option<RoutingPlace<'_>>,
) -> (Option<RoutingSection>, RoutingPaths) {
    let of_alerts = root.reader().text_at("alerts.time_zone");
    let zone = of_alerts
        .and_then(rules_of::time_zone)
        .unwrap_or(TimeZone::UTC);
    let mut paths = RoutingPaths::default();
    let routing = match place {
        None => root.required_section("routing", |section| {
            paths = RoutingPaths::read(section, None);
            RoutingSection::read(section, zone)
        }),
        Some(place) => {
            root.optional_section("routing", |section| {
                paths = RoutingPaths::read_alone(section, place.file);
                Some(())
            });
            place.reader.and_then(|reader| {
                Section::root(reader).read(|root| {
                    root.required_section("routing", |section| {
                        for name in ["file", "draft"] {
                            let fault = Fault::new("is a key of the main file");
                            let fault = fault.hint("take it out here");
                            section.optional::<()>(name, |_| Err(fault));
                        }
                        RoutingSection::read(section, zone)
                    })
                })
            })
        }
    };
    (routing, paths)
}

fn read_sections(root: &mut Section<'_>, place: Option<RoutingPlace<'_>>) -> Option<Config> {
    let storage = root.required_section("storage", Storage::read);
    let state_directory = storage
        .as_ref()
        .and_then(|storage| storage.path.parent())
        .map_or_else(|| root.reader().context().resolve(""), Path::to_owned);
    let server = root.required_section("server", |section| Server::read(section, &state_directory));
    let twilio = root.required_section("twilio", Twilio::read);
    let mut braze = root.required_section("braze", braze::read);
    let (routing, paths) = read_routing(root, place);
    let dialers = root.required_section("dialers", |section| Some(dialers::read(section)));
    let alerts = root.optional_section("alerts", |section| Some(Alerts::read(section)));
    let auth = root.optional_section("auth", |section| Some(Auth::read(section)));
    let logging = root.optional_section("logging", |section| Some(Logging::read(section)));

    let reader = root.reader();
    let of_rules = place.and_then(|place| place.reader).unwrap_or(reader);
    if let (Some(server), Some(twilio)) = (&server, &twilio) {
        consistency::check_signatures(reader, server, twilio);
    }
    consistency::warn_of_placeholders(reader);
    if let (Some(braze), Some(routing)) = (&mut braze, &routing) {
        consistency::fit_lookup([reader, of_rules], braze, &routing.routing);
    }
    if let Some(routing) = &routing {
        consistency::check_tiers(of_rules, routing);
        consistency::check_rules(of_rules, routing);
        consistency::check_tests(of_rules, routing);
    }
    if let (Some(routing), Some(dialers)) = (&routing, &dialers) {
        // Also those of dialers with something wrong in them, so that no rule seems to miss one.
        let names = root.names_in("dialers");
        consistency::check_dialer_names(of_rules, routing, &names);
        consistency::check_limits(of_rules, routing, &names);
        consistency::check_dialer_timeouts(reader, &routing.routing, dialers);
        if let Some(twilio) = &twilio {
            let is_beside = place.is_some();
            let may_dial = may_dial::beginnings(twilio.may_dial.as_deref(), is_beside, reader);
            may_dial::check(of_rules, routing, may_dial.as_deref());
            consistency::check_shown_number(reader, twilio, &routing.routing, dialers);
            let of_rules = routing.rules.iter().map(|rule| rule.dialers.len());
            let longest = of_rules.max().unwrap_or(0).max(dialers.len());
            consistency::check_ringing(reader, twilio, longest);
        }
    }
    let (server, routing, dialers) = (server?, routing?, dialers?);
    let ruleset = routing.ruleset(dialers.iter().map(|dialer| dialer.id.clone()).collect());
    // What is wrong already makes more of itself here.
    if !reader.has_errors() && !of_rules.has_errors() {
        let named_tiers = braze
            .as_ref()
            .is_some_and(|braze| braze.tier_attribute.is_some());
        let rules = ruleset.clone().into();
        consistency::check_reachability(of_rules, &routing, &rules, named_tiers);
        consistency::run_tests(of_rules, &routing, &rules);
    }
    let routing_settings = Routing {
        file: paths.file,
        draft: paths.draft,
        ..routing.routing
    };
    Some(Config {
        braze: crate::braze::BrazeSettings {
            region: server.region,
            attributes: routing.attributes.clone(),
            ..braze?
        },
        server,
        storage: storage?,
        twilio: twilio?,
        rule_tests: routing.tests.into_iter().map(|named| named.test).collect(),
        lint: Vec::new(),
        routing: routing_settings,
        dialers,
        alerts: alerts.unwrap_or_default(),
        auth: auth.unwrap_or_default(),
        logging: logging.unwrap_or_default(),
        ruleset,
        lists: routing.lists,
        origins: BTreeMap::new(),
        draft: None,
        digest: [0; 32],
    })
}
