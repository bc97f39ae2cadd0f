//! `switchboard completions` and `switchboard man`: from the same declarations as `--help`.

use std::fmt::Write;

use clap::{Arg, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::frame::{Exit, outln};

/// The day of this version.
const DATE: &str = "2026-11-26";

/// What the declarations do not say.
const REST: &str = ".SH EXIT STATUS
.TP
0
Done, or the check passed.
.TP
1
The check or the operation failed.
.TP
2
The command was used wrongly.
.TP
75
A temporary failure: the port or the database is in use, or nobody could be reached. It may work later.
.TP
78
The configuration is invalid, or the database was made by a newer version.
.SH FILES
.TP
.I /etc/switchboard/config.toml
The configuration. Relative paths in it start at its directory.
.TP
.I /var/lib/switchboard/switchboard.db
The database. Beside it lie
.IR .lock ,
.IR .sock ,
.IR .secret ,
.I .signing
and copies made before a migration.
.SH SIGNALS
.TP
SIGHUP
The configuration and its secrets are read again. A file with an error is refused as a whole, and the old settings stay.
.TP
SIGTERM, SIGINT
Nothing new is taken, and what is in hand is finished. A second one ends the process at once.
.SH ENVIRONMENT
.TP
SWITCHBOARD_CONFIG
The configuration file, where
.B \\-\\-config
is not given.
.TP
NO_COLOR
No colors.
.TP
NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, CREDENTIALS_DIRECTORY
As systemd sets them: readiness and signs of life, a given socket, secrets.
";

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut command: Command,
) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, "switchboard", &mut script);
    outln!("{}", String::from_utf8(script)?.trim_end_matches('\n'));
    Ok(Exit::Done)
}

pub(super) fn man(command: Command) -> anyhow::Result<Exit> {
    outln!("{}", page(command)?.trim_end_matches('\n'));
    Ok(Exit::Done)
}

fn page(mut command: Command) -> anyhow::Result<String> {
    command.build();
    let man = Man::new(command.clone())
        .date(DATE)
        .manual("Switchboard manual");
    let mut head = Vec::new();
    man.render_title(&mut head)?;
    man.render_name_section(&mut head)?;
    man.render_synopsis_section(&mut head)?;
    man.render_description_section(&mut head)?;
    man.render_options_section(&mut head)?;
    let mut page = String::from_utf8(head)?;
    page.push_str(".SH COMMANDS\n");
    for subcommand in command.get_subcommands() {
        describe(&mut page, subcommand, "switchboard")?;
    }
    page.push_str(REST);
    Ok(page)
}

/// A command with its arguments, then the commands below it.
fn describe(page: &mut String, command: &Command, parent: &str) -> anyhow::Result<()> {
    if command.is_hide_set() {
        return Ok(());
    }
    let name = format!("{parent} {}", command.get_name());
    writeln!(page, ".SS \"{}\"", escape(&name))?;
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        paragraph(page, &about.to_string())?;
    }
    let own = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !argument.is_hide_set())
        .filter(|argument| argument.get_id() != "help");
    for argument in own {
        writeln!(page, ".TP\n{}", usage(argument))?;
        if let Some(help) = argument.get_long_help().or(argument.get_help()) {
            paragraph(page, &help.to_string())?;
        }
    }
    for subcommand in command.get_subcommands() {
        describe(page, subcommand, &name)?;
    }
    Ok(())
}

fn usage(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.first().map_or_else(
        || argument.get_id().to_string().to_uppercase(),
        ToString::to_string,
    );
    let value = format!("\\fI{}\\fR", escape(&value));
    match argument.get_long() {
        Some(long) if takes_value => format!("\\fB{}\\fR {value}", escape(&format!("--{long}"))),
        Some(long) => format!("\\fB{}\\fR", escape(&format!("--{long}"))),
        None => value,
    }
}

/// A line of its own for every sentence is no matter here, but no line may begin like a request.
fn paragraph(page: &mut String, text: &str) -> std::fmt::Result {
    for line in text.lines() {
        let line = escape(line);
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        writeln!(page, "{guard}{line}")?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::CommandLine;
    use super::*;

    #[test]
    fn the_page_names_every_command_option_and_exit_code() {
        let page = page(CommandLine::command()).unwrap();
        assert!(
            page.starts_with(".ie \\n(.g") || page.contains(".TH"),
            "{page}"
        );
        assert!(
            page.contains(DATE) || page.contains("2026\\-11\\-26"),
            "{page}"
        );
        for wanted in [
            "\"switchboard doctor signature\"",
            "\\fB\\-\\-offline\\fR",
            "\"switchboard init\"",
            "\n75\n",
            "\n78\n",
            ".SH SYNOPSIS",
        ] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
    }
}
