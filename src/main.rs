//! The `switchboard` command: arguments in, exit code out.

use std::process::ExitCode;

/// Calls allocate on one thread and free on another all the time; this allocator takes a fifth more calls through the same processors than the
/// system's (`cargo bench --bench call_path`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    switchboard::cli::main()
}
