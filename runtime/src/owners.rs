//! Owners in a namespace with one id: whether the kernel lets us supervise, and the supervisor of one
//! sandbox.
//!
//! The program installs the filter itself, last thing before it is executed, and sends the filter's
//! listener through a socket that the builder made for it. The builder answers from threads of its own,
//! outside of every namespace of the step; they are gone when [`crate::Child::wait`] returns.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use seccomp::supervise::{self, Configuration, OWNERS, Supervisor};
use seccomp::{Action, Profile};

use crate::diagnose::{SUPERVISED, UNSUPERVISED};
use crate::sys;

static SUPERVISION: OnceLock<Result<(), String>> = OnceLock::new();

/// Whether programs can be shown owners that the namespace has not: why not.
///
/// Known once [`crate::enter`] has found one id; asked anywhere else the answer is no.
pub fn supervision() -> Result<(), &'static str> {
    match SUPERVISION.get() {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => Err(why),
        None => Err("it is not needed where there are many ids"),
    }
}

/// Takes over what a probe has found: why not, or none if it works.
pub(crate) fn assume(why_not: Option<String>) {
    SUPERVISION.get_or_init(|| why_not.map_or(Ok(()), Err));
}

/// Tries it in a child. The process must have one thread.
pub(crate) fn probe() -> Result<(), String> {
    let tried = SUPERVISION.get_or_init(|| match try_listening() {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            Err(format!("{SUPERVISED} ({error}): {UNSUPERVISED}"))
        }
        Err(error) => Err(format!(
            "the kernel refuses to tell of system calls: {error}"
        )),
    });
    tried.clone()
}

fn try_listening() -> io::Result<()> {
    let Some(child) = sys::fork_single()? else {
        let mut profile = everything();
        protect(&mut profile);
        let listening = seccomp::compile(&profile)
            .map_err(io::Error::other)
            .and_then(|filter| seccomp::install_notifying(&filter));
        let code = match listening {
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EINVAL),
        };
        sys::exit_now(code);
    };
    loop {
        match nix::sys::wait::waitpid(child, None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(nix::sys::wait::WaitStatus::Exited(_, errno)) => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            Ok(other) => return Err(io::Error::other(format!("the attempt ended: {other:?}"))),
            Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A profile of a program that may do everything.
pub(crate) fn everything() -> Profile {
    Profile {
        rules: Vec::new(),
        refused: Action::Allow,
        unknown: Action::Allow,
    }
}

/// Makes `profile` that of a supervised program.
pub(crate) fn protect(profile: &mut Profile) {
    supervise::protect(profile, OWNERS);
}

/// Puts the calling process under `filter` and so under supervision, through `socket`.
pub(crate) fn submit(filter: &[libc::sock_filter], socket: &UnixStream) -> io::Result<()> {
    let listener = seccomp::install_notifying(filter).map_err(|error| {
        if error.raw_os_error() == Some(libc::EBUSY) {
            io::Error::other(format!("{error}: {SUPERVISED}: {UNSUPERVISED}"))
        } else {
            error
        }
    })?;
    let fds = [listener.as_raw_fd()];
    let message = [IoSlice::new(&[0])];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &message,
        &rights,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// The builder's side of one sandbox.
#[derive(Debug)]
pub(crate) struct Watch(Option<JoinHandle<io::Result<Option<Supervisor>>>>);

impl Watch {
    /// Waits in the background for the listener, and then answers.
    pub fn begin(socket: UnixStream, configuration: Configuration) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name("supervision".to_owned());
        let handle = thread.spawn(move || match receive(&socket)? {
            Some(listener) => Supervisor::start(listener, configuration).map(Some),
            None => Ok(None),
        })?;
        Ok(Self(Some(handle)))
    }

    /// Waits until nothing is answered any more. Every process of the sandbox must be gone.
    pub fn end(mut self) -> io::Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> io::Result<()> {
        match self.0.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(supervisor)) => supervisor.map(drop),
            Some(Err(_)) => Err(io::Error::other("it panicked")),
        }
    }
}

/// The listener; none if the program's process ended before it had one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part
            && let Some(fd) = fds.first()
        {
            return sys::adopt(*fd).map(Some);
        }
    }
    Ok(None)
}
