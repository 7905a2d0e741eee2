//! Where a mount of the specification goes: the place is looked up when its turn has come, beneath
//! the root, and made if it is missing.
//!
//! What the image lacks is in a layer of ours already, so whatever is missing now is missing inside
//! another mount: our `/dev`, a tmpfs, a cache. Nothing is ever made in the root file system itself,
//! where it would end up in the step's layer.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fchmod, mkdirat, openat, statx};
use rustix::io::Errno;

use crate::inroot::{self, Located};

/// Opens `target`, and makes it a directory or an empty file if it is not there.
pub fn open(root: &OwnedFd, target: &Path, directory: bool) -> Result<OwnedFd, String> {
    match inroot::open(root.as_fd(), target, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(explain),
    }
    let at = inroot::locate(root.as_fd(), target).map_err(|e| e.to_string())?;
    make(root, &at, directory)?;
    inroot::open(root.as_fd(), target, OFlags::PATH).map_err(explain)
}

fn explain(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "it does not exist inside the mount above it".to_owned(),
        Errno::ROFS => {
            "it does not exist inside the mount above it, which is read-only: make it there, or mount elsewhere".to_owned()
        }
        Errno::LOOP => "its path leads through a link of /proc".to_owned(),
        other => other.to_string(),
    }
}

fn make(root: &OwnedFd, at: &Located, directory: bool) -> Result<(), String> {
    let Some((last, parents)) = at.missing.split_last() else {
        return Err(explain(Errno::NOENT));
    };
    let beneath = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = inroot::open(root.as_fd(), &at.exists, beneath).map_err(explain)?;
    if mount_of(&dir).map_err(explain)? == mount_of(root).map_err(explain)? {
        return Err("its path leads out of the mount above it".to_owned());
    }
    for name in parents {
        dir = make_directory(&dir, name).map_err(explain)?;
    }
    if directory {
        make_directory(&dir, last).map_err(explain)?;
        return Ok(());
    }
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&dir, last.as_os_str(), new, Mode::RUSR).map_err(explain)?;
    fchmod(&file, Mode::from_raw_mode(0o644)).map_err(explain)
}

/// Makes a directory of mode 0755, whatever the umask of the builder is, and opens it.
fn make_directory(dir: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<OwnedFd> {
    mkdirat(dir, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(dir, name, flags, Mode::empty())?;
    fchmod(&made, Mode::from_raw_mode(0o755))?;
    Ok(made)
}

fn mount_of(fd: &OwnedFd) -> rustix::io::Result<u64> {
    Ok(statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}
