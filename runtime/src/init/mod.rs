//! The first process of a sandbox: our own program, started again from memory.
//!
//! It builds the tree, starts the program as its child, reaps whatever is orphaned, and ends
//! everything when the program ends or when the builder lets go of the control socket, which also
//! happens when the builder dies. `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that
//! started us ends. Without a PID namespace init is a subreaper, so it finds every descendant too.

mod device;
mod in_tree;
mod place;
mod program;
mod tree;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::error::Exit;
use crate::spawn::INIT_NAME;
use crate::sys;
use crate::wire::{self, Failure, Job, Report};

/// If this process is a sandbox's init, runs it and never returns. Must be the first statement of
/// `main` in every program that calls [`crate::spawn`].
pub fn init_if_reexecuted() {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::new(INIT_NAME)) {
        return;
    }
    let fd = args
        .next()
        .and_then(|word| word.to_str()?.parse::<RawFd>().ok());
    let ended = fd.map_or(Err(io::ErrorKind::InvalidInput.into()), run);
    // The builder sees the socket end without a report.
    sys::exit_now(if ended.is_ok() { 0 } else { 125 });
}

/// Why the set-up stopped.
enum Stop {
    ProcRefused,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Names the step of an error.
fn step<E: ToString>(doing: &str) -> impl Fn(E) -> Failure {
    let doing = doing.to_owned();
    move |error| Failure::Setup {
        doing: doing.clone(),
        why: error.to_string(),
    }
}

fn run(fd: RawFd) -> io::Result<()> {
    let mut control = UnixStream::from(sys::adopt(fd)?);
    sys::prctl(libc::PR_SET_DUMPABLE, 0)?;
    let Some(job) = wire::receive::<Job>(&mut control)? else {
        return Ok(());
    };
    let started = prepare(&job).and_then(|signals| Ok((start(&job)?, signals)));
    let report = match started {
        Err(Stop::ProcRefused) => Report::ProcRefused,
        Err(Stop::Failed(failure)) => {
            end_all(job.own_pids)?;
            Report::Failed(failure)
        }
        Ok((main, signals)) => {
            wire::send(&mut control, &Report::Started)?;
            let exit = supervise(main, &control, &signals)?;
            end_all(job.own_pids)?;
            Report::Ended(exit)
        }
    };
    wire::send(&mut control, &report)
}

/// Everything up to the tree.
fn prepare(job: &Job) -> Result<SignalFd, Stop> {
    if job.in_tree.is_some() {
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(step("become a subreaper"))?;
        return Ok(hear_of_children()?);
    }
    match nix::unistd::sethostname(&job.hostname) {
        // The filter of the container that we are in may refuse it: then the outer name stays.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(step("set the host name")(errno).into()),
    }
    if !job.own_pids {
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(step("become a subreaper"))?;
    }
    if job.own_network {
        sys::loopback_up().map_err(step("bring the loopback interface up"))?;
    }
    tree::build(job)?;
    Ok(hear_of_children()?)
}

/// Blocks signals, and makes a descriptor that tells of the end of children.
fn hear_of_children() -> Result<SignalFd, Failure> {
    // A key on the terminal must not end us before what we look after; the program unblocks all.
    SigSet::all()
        .thread_block()
        .map_err(step("block signals"))?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&mask, flags).map_err(step("make a signal descriptor"))
}

/// Forks the program; returns when it has been executed.
fn start(job: &Job) -> Result<Pid, Stop> {
    let (mut heard, tell) = io::pipe().map_err(step("make a pipe"))?;
    let Some(main) = sys::fork_single().map_err(step("fork"))? else {
        drop(heard);
        program::become_it(job, tell);
    };
    drop(tell);
    if let Some(fd) = job.supervised {
        drop(sys::adopt(fd).map_err(step("close the supervisor's socket"))?);
    }
    match wire::receive::<Failure>(&mut heard) {
        Ok(None) => Ok(main),
        Ok(Some(failure)) => Err(failure.into()),
        Err(error) => Err(step("hear from the program's process")(error).into()),
    }
}

/// Reaps until the program has ended or the builder lets go.
fn supervise(main: Pid, control: &UnixStream, signals: &SignalFd) -> io::Result<Exit> {
    loop {
        if let Some(exit) = reap_ready(main)? {
            return Ok(exit);
        }
        let mut wait = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wait, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if wait[0].any() == Some(true) && at_end(control)? {
            return Ok(Exit::Signal(libc::SIGKILL));
        }
        while signals.read_signal()?.is_some() {}
    }
}

/// The builder sends nothing after the job, so whatever arrives is the end.
fn at_end(mut control: &UnixStream) -> io::Result<bool> {
    match control.read(&mut [0]) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Ok(_) | Err(_) => Ok(true),
    }
}

/// Reaps all that has ended; the program's exit if it is among them.
fn reap_ready(main: Pid) -> io::Result<Option<Exit>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return Ok(Some(Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                return Ok(Some(Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Err(io::Error::other("the program is not our child")),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Kills and reaps every process that is left.
fn end_all(own_pids: bool) -> io::Result<()> {
    loop {
        if own_pids {
            match kill(Pid::from_raw(-1), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        } else {
            // Killing a child makes its children ours, so this goes through the whole tree.
            for child in children()? {
                match kill(child, Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        match waitpid(None, None) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Our children, by the parent that `/proc/PID/stat` names.
fn children() -> io::Result<Vec<Pid>> {
    let me = getpid();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // A process may end while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if parent_of(&stat) == Some(me.as_raw()) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// The fourth field; the second, the name in parentheses, may hold anything.
fn parent_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::parent_of;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_of("12 (sh) S 7 12 12"), Some(7));
        assert_eq!(parent_of("12 (a) S 1 b)) R 9 0"), Some(9));
        assert_eq!(parent_of("nonsense"), None);
    }
}
