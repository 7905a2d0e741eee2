//! Calls that take a directory away or give a file another name: `/proc`, `/sys` and `/dev` are busy, as mount
//! points are.
//!
//! The kernel does all others by itself, so what is here is as little as can be: the last name of each path,
//! which such calls never follow, is one of three, or the call is none of ours.

use std::os::fd::AsFd;

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Served, as_caller, who};
use crate::supervise::call::Call;
use crate::supervise::resolve::AT_FDCWD;
use crate::supervise::tracee::Tracee;
use crate::supervise::{Answer, Answered, sys};

const KERNEL: Answered = Ok(Answer::Continue);

/// Answers one of them.
pub fn answer(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    let first = (tracee.int(0), 1);
    let (one, other) = match call {
        Call::Rmdir => ((AT_FDCWD, 0), None),
        Call::Unlinkat => (first, None),
        Call::Rename => ((AT_FDCWD, 0), Some((AT_FDCWD, 1))),
        _ => (first, Some((tracee.int(2), 3))),
    };
    for (dir, argument) in [Some(one), other].into_iter().flatten() {
        let Ok(path) = tracee.path(argument) else {
            return KERNEL;
        };
        if served.is_top(tracee, dir, &path) {
            // Who may not write there is told so by the kernel.
            let root = served.tree.as_fd();
            let may = as_caller(who(tracee)?, || sys::access(root, libc::W_OK | libc::X_OK));
            return may.map_or(KERNEL, |()| Err(Errno::BUSY));
        }
    }
    KERNEL
}

impl Served {
    /// Whether a path, its last link not followed, is one of the directories right below the root that are ours.
    fn is_top(&self, tracee: &Tracee<'_>, dir: i32, path: &[u8]) -> bool {
        let end = path.iter().rposition(|byte| *byte != b'/');
        let path = &path[..end.map_or(0, |at| at + 1)];
        let name = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = path.split_at(name.map_or(0, |at| at + 1));
        if !matches!(name, b"proc" | b"sys" | b"dev") {
            return false;
        }
        let parent = match parent.first() {
            Some(b'/') => parent.to_vec(),
            _ => match self.base(tracee, dir) {
                Some(base) => [base.as_slice(), b"/", parent].concat(),
                None => return false,
            },
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let found = self.open_beneath(&parent, flags, ResolveFlags::NO_MAGICLINKS);
        found.is_ok_and(|found| self.inside(found.as_fd()).is_some_and(|path| path == b"/"))
    }
}
