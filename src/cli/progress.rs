//! A progress bar, where somebody watches: on a terminal, and not with `-q`.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::frame::Global;

/// How far a command has come; nothing where nobody watches.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Begins at nothing of `total`.
    pub(super) fn start(global: &Global, total: u64, unit: &'static str) -> Self {
        if global.quiet > 0 || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let template =
            format!("{{bar:40}} {{human_pos}} of {{human_len}} {unit}, {{per_sec}}, {{eta}} left");
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        Self(Some(bar.with_style(style)))
    }

    pub(super) fn set(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// So much is to be done, as is known now.
    pub(super) fn set_total(&self, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
