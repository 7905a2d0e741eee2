//! Copies what a file or directory is (owner, mode, times, extended attributes) without what is in it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fstat, futimens,
};
use rustix::io::Errno;

/// Names of attributes that belong to a directory's content as images know it. Those of overlayfs
/// itself and the labels that a security module gives by itself must not be copied.
fn travels(name: &str) -> bool {
    (name.starts_with("user.") && !name.starts_with("user.overlay."))
        || name.starts_with("system.posix_acl_")
        || name == "security.capability"
}

/// Makes the file or directory `to` look like `from`, but for its content; both are open for reading.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fstat(from)?;
    fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    Ok(futimens(to, &times(&stat))?)
}

/// As [`copy`] for something that was already there: attributes that `from` has not go.
pub fn make_same(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let (wanted, found) = (names(from)?, names(to)?);
    for name in found.iter().filter(|name| !wanted.contains(name)) {
        rustix::fs::fremovexattr(to, name.as_str())?;
    }
    copy(from, to)
}

/// The times of a file, to be given to another one.
pub fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime as _,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as _,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in names(from)? {
        let name = name.as_str();
        rustix::fs::fsetxattr(to, name, &value(from, name)?, XattrFlags::empty())?;
    }
    Ok(())
}

/// The names of the attributes that count.
fn names(fd: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let names = match list(fd) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let names = names
        .split(|byte| *byte == 0)
        .filter_map(|name| std::str::from_utf8(name).ok());
    let names = names.filter(|name| travels(name));
    Ok(names.map(str::to_owned).collect())
}

fn list(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    loop {
        match rustix::fs::flistxattr(fd, &mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e),
        }
    }
}

fn value(fd: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Vec<u8>> {
    // The kernel's largest value.
    let mut buffer = vec![0; 65_536];
    let n = rustix::fs::fgetxattr(fd, name, &mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}
