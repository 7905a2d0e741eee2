//! The `lapstrake` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: this process may be a sandbox's init, executed anew from the same binary.
    runtime::init_if_reexecuted();
    lapstrake::cli::main()
}
