//! A program without namespaces: its root directory is a tree, and everything that keeps it there.
//!
//! In this order: the rules of the fence name the tree by a descriptor, so they are made first; the root
//! directory changes, and no descriptor that leads out of it is left; capabilities go, `SYS_CHROOT` among
//! them, by which it could leave; the fence and the filter close; last of all it gets its ids, which the
//! supervisor sees, so that it can still read the memory of the process afterwards.

use nix::unistd::Gid;

use super::program::{enter_directory, own_pipes};
use super::step;
use crate::capabilities::{self, Capabilities};
use crate::fence::{Fence, enclose};
use crate::owners;
use crate::sys;
use crate::wire::{Failure, Job};

/// Enters the tree of `job` and gives up what the program must not have.
pub fn enter(job: &Job, fence: Fence) -> Result<(), Failure> {
    let tree = sys::adopt(job.root).map_err(step("take over the root file system"))?;
    let rules = fence
        .around(std::os::fd::AsFd::as_fd(&tree))
        .map_err(step("make Landlock rules"))?;
    nix::unistd::fchdir(&tree)
        .and_then(|()| nix::unistd::chroot("."))
        .map_err(step("change the root directory"))?;
    drop(tree);
    enter_directory(&job.cwd).map_err(|why| Failure::WorkingDirectory {
        path: job.cwd.clone(),
        why,
    })?;
    own_pipes(job.uid).map_err(step("hand the standard streams to the user"))?;
    // Without it nothing that is installed below would be, and set-id programs could undo it.
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(step("give up new privileges"))?;
    bound(job.capabilities).map_err(step("drop bounding capabilities"))?;
    if let Some(groups) = &job.groups {
        let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        nix::unistd::setgroups(&groups).map_err(step("set the supplementary groups"))?;
    }
    if let Some(rules) = rules {
        enclose(rules).map_err(step("come under Landlock rules"))?;
    }
    sys::close_on_exec().map_err(step("mark descriptors to be closed"))?;
    let Some(fd) = job.supervised else {
        return Err(step("come under supervision")("there is no socket for it"));
    };
    let socket = sys::adopt(fd).map_err(step("take over the supervisor's socket"))?;
    let filter = seccomp::from_words(&job.filter);
    owners::submit(&filter, &socket.into()).map_err(step("come under supervision"))?;
    let pretends = job.groups.is_none();
    if !pretends {
        sys::set_ids(job.uid, job.gid)
            .map_err(step(&format!("become user {}:{}", job.uid, job.gid)))?;
    }
    let keep = if job.uid == 0 || pretends {
        job.capabilities
    } else {
        Capabilities::none()
    };
    capabilities::apply(keep).map_err(step("set the capabilities"))
}

/// Drops what is not in `keep` from the bounding set. Who may not do that gains nothing by it either,
/// having given up new privileges.
fn bound(keep: Capabilities) -> std::io::Result<()> {
    match capabilities::bound(keep) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        other => other,
    }
}
