//! Calls that only the kernel can do, for a path that it cannot follow: it is given another one.
//!
//! The path is overwritten in the memory of the process with one that leads to the same place without
//! links of `/proc`, no longer than the old one; if there is none, with the name of a link among the
//! stubs. Another thread that uses the same string at that moment sees the new path, which leads to the
//! same place.

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::find::{Spot, link_target};
use super::node::Node;
use super::{Served, as_caller, who};
use crate::supervise::call::Call;
use crate::supervise::resolve::AT_FDCWD;
use crate::supervise::tracee::Tracee;
use crate::supervise::{Answer, Answered};

const KERNEL: Answered = Ok(Answer::Continue);

/// `execve` and `execveat`: `/proc/self/exe` and the like.
pub fn execve(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    let (dir, argument, flags) = match call {
        Call::Execve => (AT_FDCWD, 0, 0),
        _ => (tracee.int(0), 1, tracee.int(4)),
    };
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let Ok(path) = tracee.path(argument) else {
        return KERNEL;
    };
    let target = match served.find(tracee, dir, &path, follow)? {
        None => return KERNEL,
        Some(Spot::Virtual(path, _)) => {
            served.node(tracee, &path)?;
            return Err(Errno::ACCESS);
        }
        Some(Spot::Held(link)) => leads_to(served, tracee, &link)?,
        Some(Spot::Real(path)) => path,
    };
    lead(served, tracee, argument, &path, &target)
}

/// `chdir`.
pub fn chdir(served: &Served, tracee: &Tracee<'_>) -> Answered {
    let Ok(path) = tracee.path(0) else {
        return KERNEL;
    };
    let target = match served.find(tracee, AT_FDCWD, &path, true)? {
        None => return KERNEL,
        Some(Spot::Virtual(target, _)) => {
            if !matches!(served.node(tracee, &target)?, Node::Directory(_)) {
                return Err(Errno::NOTDIR);
            }
            served.stub(&target)?;
            target
        }
        Some(Spot::Held(link)) => leads_to(served, tracee, &link)?,
        Some(Spot::Real(path)) => path,
    };
    lead(served, tracee, 0, &path, &target)
}

/// Where a link of `/proc` to an open file leads in the tree.
fn leads_to(served: &Served, tracee: &Tracee<'_>, link: &[u8]) -> Result<Vec<u8>, Errno> {
    let Node::Magic(link) = served.node(tracee, link)? else {
        return Err(Errno::NOENT);
    };
    let target = as_caller(who(tracee)?, || link_target(&link))?;
    let inside = super::find::beneath(&served.top, &target).ok_or(Errno::NOENT)?;
    Ok(inside.to_vec())
}

/// Lets the kernel go to `target` where the process said `path`, in an argument of its call.
pub fn lead(
    served: &Served,
    tracee: &Tracee<'_>,
    argument: usize,
    path: &[u8],
    target: &[u8],
) -> Answered {
    if path == target {
        return KERNEL;
    }
    // It leads nowhere: that is told without touching anything.
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    served.open_beneath(target, flags, ResolveFlags::NO_MAGICLINKS)?;
    let short;
    let new = if target.len() <= path.len() {
        target
    } else {
        short = served.short(target)?;
        if short.len() > path.len() {
            return Err(Errno::NOENT);
        }
        short.as_bytes()
    };
    let mut bytes = new.to_vec();
    bytes.push(0);
    tracee.write_anywhere(tracee.pointer(argument), &bytes)?;
    KERNEL
}
