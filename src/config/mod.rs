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
mod hours;
mod lists;
mod logging;
mod pem;
pub(crate) mod problem;
mod reader;
mod routing;
mod rule_tests;
mod rules;
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

use toml::de::DeTable;

pub use alerts::Alerts;
pub use auth::Auth;
pub use context::Context;
pub use duration::parse as parse_duration;
pub use logging::{LogFormat, Logging};
pub use problem::{Problem, ProblemSeverity, Rejected};
pub use routing::Routing;
pub use secret::PLACEHOLDER_SECRET;
pub use server::{Server, Tls};
pub use show::{Shown, ShownValue, show};
pub use storage::{MIN_RETENTION, Storage};
pub use twilio::{CallerId, Twilio};
pub use url::PublicUrl;

use crate::routing::{DialerId, ListDefinition, RuleTest, Ruleset};
use context::ConfidentialFile;
use reader::{Known, Reader};
use routing::RoutingSection;
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
    /// `[routing.lists.*]`, by name.
    pub lists: BTreeMap<String, ListDefinition>,
    /// The line of every key that the file sets, by its whole name: `braze.timeout`, `auth.keys[0].name`. Everything else is a default.
    pub origins: BTreeMap<String, usize>,
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
}

/// Which file to load: the one given, or that of `$SWITCHBOARD_CONFIG`, whether it exists or not; otherwise
/// `./config.toml` where that exists, and `/etc/switchboard/config.toml` where it does not.
pub fn find(explicit: Option<&Path>) -> PathBuf {
    let from_environment =
        || context::environment("SWITCHBOARD_CONFIG").filter(|path| !path.is_empty());
    let here = Path::new("config.toml");
    explicit
        .map(Path::to_owned)
        .or_else(|| from_environment().map(PathBuf::from))
        .or_else(|| here.exists().then(|| here.to_owned()))
        .unwrap_or_else(|| PathBuf::from("/etc/switchboard/config.toml"))
}

/// Reads and checks the file, and the secrets that it names. Relative paths are relative to the directory of the file.
pub fn load(path: &Path) -> Result<Loaded, Rejected> {
    let (file, context) = open(path)?;
    parse(&file.text, &context)
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
    match config {
        Some(config) if !problems.iter().any(Problem::is_error) => Ok(Loaded {
            config,
            warnings: problems,
        }),
        Some(_) | None => Err(Rejected { problems }),
    }
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
    let config = Section::root(&reader, root.get_ref()).read(read_sections);
    let origins = reader.origins();
    let config = config.map(|config| Config { origins, ..config });
    let (found, known) = reader.finish();
    problems.extend(found);
    problems.sort_by_key(|problem| (problem.line, problem.column));
    ParsedFile {
        config,
        problems,
        known,
    }
}

fn read_sections(root: &mut Section<'_>) -> Option<Config> {
    let storage = root.required_section("storage", Storage::read);
    let state_directory = storage
        .as_ref()
        .and_then(|storage| storage.path.parent())
        .map_or_else(|| root.reader().context().resolve(""), Path::to_owned);
    let server = root.required_section("server", |section| Server::read(section, &state_directory));
    let twilio = root.required_section("twilio", Twilio::read);
    let mut braze = root.required_section("braze", braze::read);
    let routing = root.required_section("routing", RoutingSection::read);
    let dialers = root.required_section("dialers", |section| Some(dialers::read(section)));
    let alerts = root.optional_section("alerts", |section| Some(Alerts::read(section)));
    let auth = root.optional_section("auth", |section| Some(Auth::read(section)));
    let logging = root.optional_section("logging", |section| Some(Logging::read(section)));

    let reader = root.reader();
    if let (Some(server), Some(twilio)) = (&server, &twilio) {
        consistency::check_signatures(reader, server, twilio);
    }
    consistency::warn_of_placeholders(reader);
    if let (Some(braze), Some(routing)) = (&mut braze, &routing) {
        consistency::fit_lookup(reader, braze, &routing.routing);
    }
    if let Some(routing) = &routing {
        consistency::check_tiers(reader, routing);
        consistency::check_rules(reader, routing);
        consistency::check_tests(reader, routing);
    }
    if let (Some(routing), Some(dialers)) = (&routing, &dialers) {
        // Also those of dialers with something wrong in them, so that no rule seems to miss one.
        let names = root.names_in("dialers");
        consistency::check_dialer_names(reader, routing, &names);
        consistency::check_limits(reader, routing, &names);
        consistency::check_dialer_timeouts(reader, &routing.routing, dialers);
        if let Some(twilio) = &twilio {
            consistency::check_shown_number(reader, twilio, &routing.routing, dialers);
            let of_rules = routing.rules.iter().map(|rule| rule.dialers.len());
            let longest = of_rules.max().unwrap_or(0).max(dialers.len());
            consistency::check_ringing(reader, twilio, longest);
        }
    }
    let (server, routing, dialers) = (server?, routing?, dialers?);
    let ruleset = routing.ruleset(dialers.iter().map(|dialer| dialer.id.clone()).collect());
    // What is wrong already makes more of itself here.
    if !reader.has_errors() {
        let named_tiers = braze
            .as_ref()
            .is_some_and(|braze| braze.tier_attribute.is_some());
        let rules = ruleset.clone().into();
        consistency::check_reachability(reader, &routing, &rules, named_tiers);
        consistency::run_tests(reader, &routing, &rules);
    }
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
        routing: routing.routing,
        dialers,
        alerts: alerts.unwrap_or_default(),
        auth: auth.unwrap_or_default(),
        logging: logging.unwrap_or_default(),
        ruleset,
        lists: routing.lists,
        origins: BTreeMap::new(),
    })
}
