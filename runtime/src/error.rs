//! What can go wrong between a specification and the end of its process.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A sandbox could not be made, or its process not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An ordinary file operation on a host path.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which host path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused the overlay mount.
    #[error("cannot mount an overlay with its upper directory in {}: {source}: {advice}", dir.display())]
    Overlay {
        /// The directory of the workspace.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
        /// What to do about it.
        advice: String,
    },
    /// Something that must be a mount point is not fit to be one.
    #[error("cannot mount on {}: {why}", target.display())]
    MountPoint {
        /// The path inside the root file system.
        target: PathBuf,
        /// Why not.
        why: String,
    },
    /// The process would have an id that does not exist in this user namespace.
    #[error(
        "cannot run as {kind} {id}: only {available} {kind} id(s) can be used here: subordinate ids are needed (an entry for you in /etc/subuid and /etc/subgid, and newuidmap)"
    )]
    UnmappedId {
        /// `user` or `group`.
        kind: &'static str,
        /// The id.
        id: u32,
        /// How many ids there are.
        available: u64,
    },
    /// A resource limit has an unknown name.
    #[error("unknown resource limit {0:?}")]
    UnknownLimit(String),
    /// Something that only namespaces and mounts can do.
    #[error(
        "{what} needs namespaces, and this process runs steps without any (sandbox chroot): {advice}"
    )]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// A process could not be started at all.
    #[error("cannot start a process in new namespaces: {source}: {advice}")]
    Clone {
        /// Why not.
        source: io::Error,
        /// What to do about it.
        advice: String,
    },
    /// The init process ended or broke off without a word.
    #[error("the sandbox's init process failed: {0}")]
    Init(String),
    /// A step of the set-up inside the sandbox failed.
    #[error("cannot {doing} in the sandbox: {why}")]
    Setup {
        /// The step.
        doing: String,
        /// Why not.
        why: String,
    },
    /// The working directory cannot be entered.
    #[error("cannot enter the working directory {}: {why}", path.display())]
    WorkingDirectory {
        /// The path inside the root file system.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The program could not be executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path: path.clone(),
            source,
        }
    }
}

/// The program of a step could not be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("cannot run {}: {}", Path::new(path).display(), self.why())]
pub struct ExecError {
    /// The program as it was named, or the file in which it was found.
    pub path: OsString,
    /// What `execve` said.
    pub errno: i32,
    /// The file is there, so `ENOENT` speaks of its interpreter.
    pub exists: bool,
}

impl ExecError {
    /// The exit status that a shell gives for the same failure.
    pub fn exit_code(&self) -> i32 {
        if self.errno == libc::ENOENT && !self.exists {
            127
        } else {
            126
        }
    }

    fn why(&self) -> String {
        match self.errno {
            libc::ENOENT if self.exists => {
                "the file is there, but its interpreter or dynamic loader is not".to_owned()
            }
            libc::ENOENT => "no such program in the root file system".to_owned(),
            libc::ENOEXEC => {
                "not a program for this machine (exec format error; a script needs a #! line)"
                    .to_owned()
            }
            errno => io::Error::from_raw_os_error(errno).to_string(),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Whether the status is 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The status as a shell shows it: 128 + n for signal n.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}
