//! The `lapstrake` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: this process may be a sandbox's init, executed anew from the same binary.
    runtime::init_if_reexecuted();
    if let Err(error) = runtime::usual_signals() {
        eprintln!("error: cannot set the dispositions of signals: {error}");
        return ExitCode::from(6);
    }
    runtime::usual_mask();
    lapstrake::cli::main()
}
