//! The `switchboard` command: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::cli::main()
}
