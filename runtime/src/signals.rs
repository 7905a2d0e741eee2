//! Signals and the file creation mask as a process is usually started with, whatever its parent had in mind.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::stat::{Mode, umask};

use crate::sys;

/// Makes this process one that can wait for its children, be cancelled, and be told of a limit.
///
/// Ignored and blocked signals are inherited: where `SIGCHLD` is ignored no child's status can be had, and
/// blocked signals cancel nothing. `SIGXFSZ` is ignored, so that a file that may grow no further is an error
/// and not the end. Other dispositions stay, `SIGHUP` of `nohup` for one. A step's program starts with none of
/// this.
///
/// # Errors
/// When the kernel refuses.
pub fn usual_signals() -> io::Result<()> {
    sys::usual_dispositions()?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Lets the owner of new files do with them what the program asks for: a mask that takes that away would have
/// directories made that nothing can be put into. What others may do stays the caller's choice.
pub fn usual_mask() {
    let asked = umask(Mode::empty());
    umask(asked & !Mode::S_IRWXU);
}
