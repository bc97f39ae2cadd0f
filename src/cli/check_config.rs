//! `switchboard check-config`: the whole file is parsed and validated; nothing is bound or opened.

use super::frame::{Exit, Global};
use super::output;
use crate::config;

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref());
    let report = config::check::report(&path);
    if global.json {
        output::document(&report)?;
    } else {
        let text = report.to_text();
        if !text.is_empty() {
            output::complain(text.trim_end());
        }
        let verdict = if report.ok {
            "is valid"
        } else {
            "is not valid"
        };
        output::line(&format!("{} {verdict}", path.display()));
    }
    Ok(if report.ok {
        Exit::Done
    } else {
        Exit::Configuration
    })
}
