//! [`Child`]: a running sandbox, how it is ended and how it ended.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::process::{WaitId, WaitIdOptions};

use crate::error::{Error, Exit};
use crate::owners::Watch;
use crate::tree::Placed;
use crate::wire::{self, Report};

/// A running sandbox. Dropping it without [`Child::wait`] kills it.
#[derive(Debug)]
pub struct Child {
    handle: KillHandle,
    ended: bool,
    pub(crate) watch: Option<Watch>,
    /// What was put into its tree; goes last.
    pub(crate) placed: Option<Placed>,
}

/// Kills a sandbox from any thread, also after it ended.
#[derive(Debug, Clone)]
pub struct KillHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pidfd: OwnedFd,
    control: UnixStream,
}

impl KillHandle {
    /// Ends every process of the sandbox. Returns at once; [`Child::wait`] sees `Signal(9)`.
    pub fn kill(&self) {
        // Init takes the end of its lifeline for the order to kill everything, with or without a
        // PID namespace. A socket that is down already means that it is over.
        if let Err(error) = self.shared.control.shutdown(Shutdown::Write) {
            debug_assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
    }
}

impl Child {
    pub(crate) fn new(pidfd: OwnedFd, control: UnixStream) -> Self {
        let shared = Arc::new(Shared { pidfd, control });
        Self {
            handle: KillHandle { shared },
            ended: false,
            watch: None,
            placed: None,
        }
    }

    /// The socket to its init.
    pub(crate) fn control(&self) -> &UnixStream {
        &self.handle.shared.control
    }

    /// A handle to kill it with.
    pub fn kill_handle(&self) -> KillHandle {
        self.handle.clone()
    }

    /// The process id of its init, as this process sees it, while it lives: all its processes are
    /// below that one.
    pub fn pid(&self) -> Option<u32> {
        let fd = self.handle.shared.pidfd.as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        pid.trim().parse().ok()
    }

    /// Ends every process of the sandbox.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Ends it; why its supervisor did not work, if it did not.
    pub(crate) fn unsupervised(mut self) -> Option<io::Error> {
        self.kill();
        // That init is gone is all that counts.
        drop(self.reap());
        self.watch.take().and_then(|watch| watch.end().err())
    }

    /// Waits until the program has ended and no process of the sandbox is left.
    pub fn wait(mut self) -> Result<Exit, Error> {
        let mut control = &self.handle.shared.control;
        let report = wire::receive::<Report>(&mut control);
        let exit = self.reap()?;
        if let Some(watch) = self.watch.take() {
            watch
                .end()
                .map_err(|error| Error::Init(format!("cannot supervise it: {error}")))?;
        }
        if let Some(placed) = self.placed.take() {
            placed.remove()?;
        }
        match report {
            Ok(Some(Report::Ended(exit))) => Ok(exit),
            // Killed from outside: there was nobody left to tell us.
            Ok(None) => exit.ok_or_else(|| Error::Init("it broke off".to_owned())),
            Ok(Some(other)) => Err(Error::Init(format!("it said {other:?} out of turn"))),
            Err(error) => Err(Error::Init(format!("cannot read its report: {error}"))),
        }
    }

    /// Takes the init process off the process table; its signal, if one ended it.
    fn reap(&mut self) -> Result<Option<Exit>, Error> {
        self.ended = true;
        let fd = self.handle.shared.pidfd.as_fd();
        loop {
            match rustix::process::waitid(WaitId::PidFd(fd), WaitIdOptions::EXITED) {
                Ok(status) => {
                    return Ok(status
                        .and_then(|s| s.terminating_signal())
                        .map(Exit::Signal));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Init(format!("cannot wait for it: {error}"))),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            // Nobody asked how it ended.
            drop(self.reap());
            drop(self.watch.take().map(Watch::end));
        }
    }
}
