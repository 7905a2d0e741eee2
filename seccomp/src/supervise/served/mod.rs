//! [`Served`]: `/proc`, `/sys` and devices for processes in a tree that has none of them.
//!
//! ```text
//!   path of a call ──▶ find ── not ours ──▶ let the kernel do it, beneath the tree
//!                        │
//!                        ├─ Virtual: a path below /proc, /sys, /dev ──▶ node: what is there
//!                        ├─ Held: a link of /proc to what a process has open
//!                        └─ Real: a file of the tree that only such a link leads to
//! ```
//!
//! The kernel confines these processes, by their root directory and by Landlock; here something is only
//! added to what they see. So where a call cannot be understood (the process is closed to us) the kernel
//! does it, and finds the stubs.
//!
//! # What always holds
//!
//! - No directory of the machine's `/proc`, `/sys` or `/dev` is handed out: from one, `..` leads out of the
//!   tree, and neither the root directory nor Landlock keeps a process from asking for metadata there. A
//!   process that opens a directory gets the tree's own, in which the names are made as stubs at that
//!   moment (`stubs`): empty files, empty directories, links.
//! - Of processes, those are shown that descend from the sandbox's init, each through a directory that was
//!   opened before the check, so that a number that is used again shows nobody else.
//! - Files are opened, and permissions checked, as the user that the process is.
//! - What tells of the machine or changes it is not there ([`HIDDEN`]), and nothing can be written but a
//!   few files of processes ([`WRITABLE`]).
//! - Whatever is opened in the tree on behalf of a process is resolved beneath the tree.

mod calls;
mod change;
mod device;
mod find;
mod node;
mod rewrite;
mod stubs;
mod text;
mod tops;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::call::Call;
use super::memory::{AsUser, FileIds};
use super::resolve::link_of;
use super::tracee::Tracee;
use super::{Answer, Answered, processes};

/// Below `/proc` and `/sys`: what is for the machine's administrator.
const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/irq",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/kernel/vmcoreinfo",
];

/// Files of a process that a process may open for writing.
const WRITABLE: [&str; 7] = [
    "clear_refs",
    "comm",
    "coredump_filter",
    "loginuid",
    "oom_adj",
    "oom_score_adj",
    "timerslack_ns",
];

/// What the processes of one tree are shown.
pub struct Served {
    tree: OwnedFd,
    /// Where the tree is, as links of `/proc` say it.
    top: Vec<u8>,
    proc: OwnedFd,
    sys: OwnedFd,
    init: u32,
    hostname: String,
    masked: bool,
    /// The tree's `/dev` has real nodes.
    nodes: bool,
    stubs: Mutex<stubs::Stubs>,
    terminals: Mutex<device::Terminals>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", String::from_utf8_lossy(&self.top))
    }
}

impl Served {
    /// For the directory `tree`, whose `/proc`, `/sys` and `/dev` are the sandbox's, and processes below
    /// `init`. `masked`: without what tells of the machine. `nodes`: devices are there as real nodes.
    ///
    /// # Errors
    /// When there is no `/proc` or `/sys` to be shown.
    pub fn new(
        tree: OwnedFd,
        init: i32,
        hostname: &str,
        masked: bool,
        nodes: bool,
    ) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let served = Self {
            top: link_of(tree.as_fd())?,
            tree,
            proc: openat(CWD, "/proc", flags, Mode::empty())?,
            sys: openat(CWD, "/sys", flags, Mode::empty())?,
            init: u32::try_from(init).map_err(io::Error::other)?,
            hostname: hostname.to_owned(),
            masked,
            nodes,
            stubs: Mutex::default(),
            terminals: Mutex::default(),
        };
        for top in ["/proc", "/sys"] {
            served.fill(top.as_bytes(), None)?;
        }
        Ok(served)
    }

    /// Answers one call; [`Answer::Continue`] where the kernel, or somebody else, is to.
    pub(super) fn answer(&self, tracee: &Tracee<'_>, call: Call) -> Answered {
        use Call as C;
        match call {
            C::Open | C::Openat | C::Openat2 | C::Creat => calls::open(self, tracee, call),
            C::Stat | C::Lstat | C::Fstatat | C::Statx => calls::stat(self, tracee, call),
            C::Access | C::Faccessat | C::Faccessat2 => calls::access(self, tracee, call),
            C::Readlink | C::Readlinkat => calls::readlink(self, tracee, call),
            C::Statfs => calls::statfs(self, tracee),
            C::Chdir => rewrite::chdir(self, tracee),
            C::Execve | C::Execveat => {
                let answer = rewrite::execve(self, tracee, call);
                tracee.memory().forget(tracee.tid());
                answer
            }
            C::Setuid
            | C::Setgid
            | C::Setreuid
            | C::Setregid
            | C::Setresuid
            | C::Setresgid
            | C::Setfsuid
            | C::Setfsgid
            | C::Prctl => {
                tracee.memory().keep(tracee.tid());
                Ok(Answer::Continue)
            }
            C::Chmod
            | C::Fchmodat
            | C::Fchmodat2
            | C::Chown
            | C::Fchownat
            | C::Utimensat
            | C::Linkat
            | C::Getxattr
            | C::Lgetxattr
            | C::Setxattr
            | C::Listxattr
            | C::Llistxattr => change::answer(self, tracee, call),
            C::Rmdir | C::Unlinkat | C::Rename | C::Renameat => tops::answer(self, tracee, call),
            C::Uname => calls::uname(self, tracee),
            C::Kill | C::Process(_) | C::Priority(_) => processes::answer(tracee, self.init, call),
            _ => Ok(Answer::Continue),
        }
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        let below = |hidden: &str| {
            path.strip_prefix(hidden.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.masked && HIDDEN.iter().any(|hidden| below(hidden))
    }

    /// The directory in `/proc` of a process of the sandbox.
    fn process(&self, pid: u32) -> Result<OwnedFd, Errno> {
        processes::descendant(self.init, pid).map_err(|_| Errno::NOENT)
    }

    /// Where a path of the machine is for a process; itself if that is nowhere.
    fn shown(&self, path: Vec<u8>) -> Vec<u8> {
        match find::beneath(&self.top, &path) {
            Some(inside) => inside.to_vec(),
            None => path,
        }
    }
}

/// Who asks, for the file system.
fn who(tracee: &Tracee<'_>) -> Result<FileIds, Errno> {
    tracee.file_ids().ok_or(Errno::SRCH)
}

/// Does something as the one who asks.
fn as_caller<T>(who: FileIds, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let _ids = AsUser::new(who.uid, who.gid);
    act()
}

#[cfg(test)]
mod tests;
