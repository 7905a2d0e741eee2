//! Trials of the process as it is, outside of every namespace of ours.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::unistd::{chroot, setgroups};
use rustix::fs::{Access, AtFlags, CWD, FileType, FlockOperation, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::child::{self, Tell};
use super::facility::{Facility, Failed, Trials, step};
use crate::owners::{everything, protect};
use crate::sys;

/// Nobody's id, which everybody but the caller is different from.
const SOMEBODY_ELSE: u32 = 65_534;
/// A file capability that nothing has: version 2, no bits.
const NO_CAPABILITY: [u8; 20] = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// All of them. `scratch` are our empty directories, one in each place.
pub fn trials(scratch: &[PathBuf]) -> std::io::Result<Trials> {
    let mut all = child::run(|tell| {
        files(tell, scratch);
        // Last, since there is no way back from them.
        filters(tell);
    })?;
    all.0.extend(child::run(identity)?.0);
    Ok(all)
}

/// Root directory and ids, as `chroot` mode changes them for every step.
pub fn identity(tell: &mut Tell) {
    tell.attempt(Facility::Chroot, || {
        chroot("/").map_err(step("change the root directory"))
    });
    tell.attempt(Facility::SetIds, || {
        let other = nix::unistd::Gid::from_raw(1);
        setgroups(&[other]).map_err(step("set supplementary groups (setgroups)"))?;
        sys::set_ids(1, 1).map_err(step("become another user (setresuid)"))
    });
}

fn files(tell: &mut Tell, scratch: &[PathBuf]) {
    for (place, dir) in scratch.iter().enumerate() {
        let place = Some(place);
        tell.attempt_in(Facility::ChangeOwner, place, || {
            let to = (Uid::from_raw(SOMEBODY_ELSE), Gid::from_raw(SOMEBODY_ELSE));
            let path = file(dir, "chown")?;
            rustix::fs::chownat(CWD, &path, Some(to.0), Some(to.1), AtFlags::empty())
                .map_err(step("give a file to another user (chown)"))
        });
        tell.attempt_in(Facility::DeviceNode, place, || node(dir, "null", (1, 3)));
        tell.attempt_in(Facility::Whiteout, place, || node(dir, "whiteout", (0, 0)));
        tell.attempt_in(Facility::FileCapability, place, || {
            let path = file(dir, "capability")?;
            attribute(&path, "security.capability", &NO_CAPABILITY)
                .map_err(step("set a file's capabilities"))
        });
        tell.attempt_in(Facility::UserAttributes, place, || {
            let path = file(dir, "attribute")?;
            attribute(&path, "user.lapstrake", b"x").map_err(step("set a user attribute"))
        });
        tell.attempt_in(Facility::Locks, place, || {
            let file = File::open(file(dir, "lock")?).map_err(step("open a file"))?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(step("lock a file (flock)"))
        });
        tell.attempt_in(Facility::Programs, place, || {
            let path = file(dir, "program")?;
            rustix::fs::chmodat(CWD, &path, Mode::RWXU, AtFlags::empty())
                .and_then(|()| rustix::fs::accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS))
                .map_err(step("execute a file there"))
        });
        tell.attempt_in(Facility::Reflink, place, || {
            let from = File::open(file(dir, "from")?).map_err(step("open a file"))?;
            let options = OpenOptions::new().write(true).open(file(dir, "to")?);
            let to = options.map_err(step("open a file"))?;
            rustix::fs::ioctl_ficlone(to.as_fd(), from.as_fd())
                .map_err(step("share a file's blocks (FICLONE)"))
        });
    }
}

fn file(dir: &Path, name: &str) -> Result<PathBuf, Failed> {
    let path = dir.join(name);
    fs::write(&path, "x").map_err(step("write a file in the store"))?;
    Ok(path)
}

fn attribute(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty())
}

fn node(dir: &Path, name: &str, (major, minor): (u32, u32)) -> Result<(), Failed> {
    let device = rustix::fs::makedev(major, minor);
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, dir.join(name), FileType::CharacterDevice, mode, device).map_err(
        match major {
            0 => step("make a whiteout (mknod 0:0)"),
            _ => step("make a device node (mknod)"),
        },
    )
}

fn filters(tell: &mut Tell) {
    tell.attempt(Facility::Landlock, || {
        sys::restrict_nothing().map_err(step("restrict a process with Landlock"))
    });
    tell.attempt(Facility::SeccompFilter, || {
        let filter = seccomp::compile(&everything())
            .map_err(|error| Failed::said("compile a filter", error.to_string()))?;
        seccomp::install(&filter).map_err(step("install a seccomp filter"))
    });
    tell.attempt(Facility::SeccompNotification, || {
        let mut profile = everything();
        protect(&mut profile);
        let filter = seccomp::compile(&profile)
            .map_err(|error| Failed::said("compile a filter", error.to_string()))?;
        seccomp::install_notifying(&filter)
            .map(drop)
            .map_err(step("hear of system calls (seccomp user notification)"))
    });
}
