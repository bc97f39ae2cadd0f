//! `switchboard erase`: forgets one person; the audit log still verifies.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use super::frame::{Exit, Global, as_owner, errln, load, outln, refused, runtime};
use crate::admin::{self, AskError, ControlRequest};
use crate::app;
use crate::clock::Clock;
use crate::phone::Caller;
use crate::routing::ListDefinition;
use crate::store::Erased;

#[derive(Debug, clap::Args)]
pub(super) struct EraseArguments {
    /// The person: a number with its country code, or a SIP address as calls bring it
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    caller: String,
    /// Say what is known of them, and erase nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask on the terminal whether this is meant
    #[arg(long)]
    yes: bool,
}

/// A national number has this many digits at least: fewer are the beginning of one.
const DIGITS: usize = 6;

pub(super) fn run(arguments: &EraseArguments, global: &Global) -> anyhow::Result<Exit> {
    let caller = written_plainly(&arguments.caller);
    let mut is_national = false;
    match Caller::classify(&caller) {
        Caller::Number(_) | Caller::Sip { .. } | Caller::Client(_) => {}
        Caller::National(digits) if digits.len() < DIGITS => {
            errln!("this is the beginning of a number: write it as +4930123456");
            return Ok(Exit::Usage);
        }
        Caller::National(_) => {
            errln!(
                "the country code is not known: write the number as +4930123456; erased is what was recorded in exactly this form"
            );
            is_national = true;
        }
        Caller::Withheld | Caller::Unreadable(_) => {
            errln!("this is no number: write it as +4930123456");
            return Ok(Exit::Usage);
        }
    }
    let loaded = load(global)?;
    let path = &loaded.config.storage.path;
    if !path.exists() {
        errln!("there is no database at {}", path.display());
        return Ok(Exit::Failed);
    }
    if !arguments.dry_run && !arguments.yes && !is_meant(&caller) {
        errln!("nothing was erased");
        return Ok(Exit::Failed);
    }
    let request = ControlRequest::Erase {
        caller: caller.clone(),
        dry_run: arguments.dry_run,
    };
    let mut erased: Erased = match admin::ask(path, &request, |_| {}) {
        Ok(document) => serde_json::from_value(document)?,
        Err(AskError::Nobody { .. }) => {
            let _acting = as_owner(path)?;
            let store =
                app::store(&loaded.config, &Clock::system()).map_err(super::serve::refuse)?;
            let erased = runtime()?.block_on(async {
                let caller = Caller::classify(&caller);
                let lists = loaded.config.lists.iter();
                let blocks = lists.filter(|(_, list)| list.blocks);
                let blocks: Vec<_> = blocks.map(|(name, _)| name.clone()).collect();
                let erased = if arguments.dry_run {
                    store.known_of(&caller, &blocks).await
                } else {
                    store.erase(&caller, &blocks).await
                };
                store.close().await;
                erased
            })?;
            erased.unwrap_or_default()
        }
        Err(error) => return Ok(refused(error)),
    };
    erased.named_in = named_in(&loaded.config.lists, &caller);
    advise(&erased);
    global.print(&erased, print)?;
    if is_national && !erased.erased && !erased.known {
        // Whoever calls under the number with its country code is known all the same.
        return Ok(Exit::Failed);
    }
    Ok(match (erased.wal_emptied, erased.named_in.is_empty()) {
        (false, _) => Exit::TryAgain,
        (true, is_whole) => Exit::of_check(is_whole),
    })
}

/// Where lists of the configuration name the number: Switchboard never writes there.
fn named_in(lists: &BTreeMap<String, ListDefinition>, caller: &str) -> Vec<String> {
    let caller = Caller::classify(caller);
    let Some(number) = caller.number() else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for (name, list) in lists {
        if list.numbers.names(number) {
            places.push(format!("routing.lists.{name}.numbers"));
        }
        let file = list.file.iter().filter(|file| file.numbers.names(number));
        places.extend(file.map(|file| file.path.display().to_string()));
    }
    places
}

fn print(erased: &Erased) {
    if !erased.erased && !erased.known {
        outln!("nothing was known of this caller");
        return;
    }
    let verb = if erased.erased {
        "erased"
    } else {
        "would be erased"
    };
    let profile = if erased.profile { ", a profile" } else { "" };
    let (calls, answers) = (erased.calls, erased.answers);
    let count = |n: u64, what: &str| match n {
        0 => String::new(),
        n => format!(", {n} {what}"),
    };
    let entries = count(erased.list_entries, "entries of lists");
    let blocks = count(erased.blocks, "blocks that stay as keyed hashes");
    outln!("{verb}: {calls} calls, {answers} answers{profile}{entries}{blocks}");
}

/// Asks on a terminal; where nobody can be asked, it is meant.
fn is_meant(caller: &str) -> bool {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return true;
    }
    errln!("everything that is known of {caller} will be unreadable for good; type `yes` to go on");
    let mut answer = String::new();
    stdin.read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// What is left to do by hand.
fn advise(erased: &Erased) {
    if !erased.wal_emptied {
        errln!(
            "another program reads the database for long, so that old pages stay in its write-ahead log: end that program, and erase again"
        );
    }
    for place in &erased.named_in {
        errln!("{place} still names this number: take it out there, and reload");
    }
    for copy in &erased.copies {
        errln!(
            "{} is a copy from before a migration and still knows the callers of its time: delete it when it is not needed any more",
            copy.display()
        );
    }
    if erased.erased {
        errln!("backups that were made before still know this caller");
    }
}

/// A number as people write it, with blanks and brackets. Nothing is guessed: without its country code it stays as it is.
pub(super) fn written_plainly(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('+') {
        text.chars()
            .filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.' | '/' | '\u{a0}'))
            .collect()
    } else {
        text.to_owned()
    }
}
