//! SIGINT and SIGTERM: the first one ends the work in good order, the second one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `end` with the number of the first signal; ends the process at the second, and with it
/// every sandbox. Gives a cell that holds the first one's number, 0 before.
///
/// # Errors
/// When the signals cannot be watched.
pub(super) fn on_signal(end: impl Fn(i32) + Send + 'static) -> Result<Arc<AtomicI32>> {
    let seen = Arc::new(AtomicI32::new(0));
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let cell = Arc::clone(&seen);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if cell.swap(signal, Ordering::Relaxed) != 0 {
                    std::process::exit(128 + signal);
                }
                end(signal);
            }
        })
        .context("cannot start the thread that watches for signals")?;
    Ok(seen)
}
