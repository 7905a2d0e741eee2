//! Trials in a user namespace that somebody holds: the very calls with which a sandbox is made, in
//! their order, up to a root that moved.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::fs::{AtFlags, CWD, Mode as FileMode, OFlags, mkdirat, renameat, unlinkat};
use rustix::mount::MountAttrFlags;

use super::child::{self, Tell};
use super::facility::{Facility, Failed, Trials, step};
use super::outside;
use crate::enter::Mode;
use crate::error::Error;
use crate::mount::{Filesystem, INERT, attach, clone_tree, errno, set_inert, tmpfs};
use crate::needs::{check_calls, check_joining};
use crate::overlay::try_upper;
use crate::roots::Workspace;
use crate::sys;

/// Tries everything in the user namespace of the process `holder`. `scratch` are our directories, one
/// in each place, `name` a directory for us to make in each; `asked` says in which of them an overlay is to
/// be tried.
pub fn trials(
    holder: nix::unistd::Pid,
    scratch: &[PathBuf],
    name: &str,
    asked: &dyn Fn(usize) -> bool,
) -> io::Result<Trials> {
    child::run(|tell| {
        if let Err(missing) = check_joining() {
            tell.attempt(Facility::SystemCalls, || Err(missing.failed()));
            return;
        }
        let mut is_inside = false;
        let mounts = tell.attempt(Facility::MountNamespace, || {
            join(holder)?;
            is_inside = true;
            own_mounts()
        });
        if mounts {
            with_mounts(tell, scratch, name, asked);
        }
        if is_inside {
            // What is left for a namespace that cannot mount. There is no way back from it.
            outside::identity(tell);
        }
    })
}

/// As [`crate::enter`] does it.
fn join(holder: nix::unistd::Pid) -> Result<(), Failed> {
    let namespace = File::open(format!("/proc/{holder}/ns/user"));
    let namespace = namespace.map_err(step("open the user namespace"))?;
    setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(step("join the user namespace (setns)"))?;
    sys::set_ids(0, 0).map_err(step("become user 0 of the user namespace"))
}

fn own_mounts() -> Result<(), Failed> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace (unshare)"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(step("make the mounts private (mount)"))
}

fn with_mounts(tell: &mut Tell, scratch: &[PathBuf], name: &str, asked: &dyn Fn(usize) -> bool) {
    // By name, so that what fails below need not be guessed.
    let calls = tell.attempt(Facility::SystemCalls, || {
        check_calls(Mode::UsernsMany).map_err(|missing| missing.failed())
    });
    if !calls {
        return;
    }
    for (place, dir) in scratch
        .iter()
        .enumerate()
        .filter(|(place, _)| asked(*place))
    {
        let dir = dir.join(name);
        tell.attempt_in(Facility::Overlay, Some(place), || overlay(&dir));
    }
    tell.attempt(Facility::OuterProc, || bind("/proc"));
    tell.attempt(Facility::BindMount, || bind("/sys"));
    tell.attempt(Facility::FreshProc, fresh_proc);
    tell.attempt(Facility::HostNamespaces, || {
        unshare(CloneFlags::CLONE_NEWUTS).map_err(step("make a UTS namespace"))?;
        unshare(CloneFlags::CLONE_NEWIPC).map_err(step("make an IPC namespace"))?;
        unshare(CloneFlags::CLONE_NEWCGROUP).map_err(step("make a cgroup namespace"))
    });
    tell.attempt(Facility::NetworkNamespace, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(step("make a network namespace"))
    });
    // The rest puts another root over this one.
    let mut root = None;
    let made = tell.attempt(Facility::Tmpfs, || {
        root = Some(new_root()?);
        Ok(())
    });
    let Some((root, old)) = root.filter(|_| made) else {
        return;
    };
    let mut is_refused = false;
    tell.attempt(Facility::PivotRoot, || {
        nix::unistd::pivot_root(".", ".")
            .inspect_err(|errno| is_refused = matches!(*errno, Errno::EPERM | Errno::ENOSYS))
            .map_err(step("change the root (pivot_root)"))?;
        nix::unistd::fchdir(&old).map_err(step("go back to the old root"))?;
        umount2(".", MntFlags::MNT_DETACH).map_err(step("unmount the old root"))
    });
    if is_refused {
        tell.attempt(Facility::MoveRoot, || {
            nix::unistd::fchdir(&root).map_err(step("enter the new root"))?;
            nix::unistd::chroot(".").map_err(step("change the root (chroot)"))
        });
    }
}

/// A layer with a file and a directory, over it an overlay in which they are renamed and replaced: the upper
/// must hold the whiteouts and the attributes that overlayfs writes into it.
fn overlay(dir: &Path) -> Result<(), Failed> {
    let doing = "mount an overlay with its upper directory there";
    let refused = |error: io::Error| match errno(&error) {
        Some(errno) => Failed::new(doing, errno),
        None => Failed::said(doing, error.to_string()),
    };
    // A file system that can never hold one is refused as soon as it is named, before anything is made there.
    let place = dir.parent().unwrap_or(dir);
    try_upper(place).map_err(refused)?;
    let lower = dir.join("lower");
    let work = dir.join("workspace");
    for dir in [dir, &lower, &lower.join("dir"), &work] {
        fs::create_dir(dir).map_err(step("make a directory in the store"))?;
    }
    fs::write(lower.join("file"), "").map_err(step("write a file in the store"))?;
    let explained = |error: Error| match error {
        Error::Overlay { source, .. } | Error::Io { source, .. } => refused(source),
        other => Failed::said(doing, other.to_string()),
    };
    let workspace = Workspace::overlay(&[lower], &work).map_err(explained)?;
    let root = workspace.root();
    renameat(root, "file", root, "moved")
        .map_err(step("rename a file of a layer in an overlay"))?;
    unlinkat(root, "dir", AtFlags::REMOVEDIR)
        .and_then(|()| mkdirat(root, "dir", FileMode::RWXU))
        .map_err(step("replace a directory of a layer in an overlay"))?;
    workspace.finish().map(drop).map_err(explained)
}

fn bind(path: &str) -> Result<(), Failed> {
    let copy = clone_tree(CWD, path, true).map_err(step("bind (open_tree)"))?;
    set_inert(copy.as_fd()).map_err(step("make a mount read-only (mount_setattr)"))
}

/// In a process of a new PID namespace.
fn fresh_proc() -> Result<(), Failed> {
    let doing = "mount a /proc of its own PID namespace";
    unshare(CloneFlags::CLONE_NEWPID).map_err(step("make a PID namespace"))?;
    let forked = sys::fork_single().map_err(step("start a process in a new PID namespace"))?;
    let Some(first) = forked else {
        let mounted = Filesystem::open("proc").and_then(|fs| fs.mount(INERT));
        sys::exit_now(mounted.err().map_or(0, |e| errno(&e).unwrap_or(libc::EIO)));
    };
    loop {
        match waitpid(first, None) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(Failed::new(doing, errno)),
            Err(nix::Error::EINTR) => {}
            other => return Err(Failed::said(doing, format!("{other:?}"))),
        }
    }
}

/// A tmpfs over the root, entered; and the root beneath it.
fn new_root() -> Result<(OwnedFd, OwnedFd), Failed> {
    let old = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, FileMode::empty())
        .map_err(step("open the root"))?;
    let root = tmpfs(0o755, Some(1 << 20), MountAttrFlags::MOUNT_ATTR_NOSUID)
        .map_err(step("mount a tmpfs (fsopen)"))?;
    attach(root.as_fd(), old.as_fd()).map_err(step("attach a mount (move_mount)"))?;
    nix::unistd::fchdir(&root).map_err(step("enter a mount"))?;
    Ok((root, old))
}
