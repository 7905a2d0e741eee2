//! The `chown` family, and what giving a file to somebody means.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fstat,
    openat, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::call::Call;
use super::owners::Record;
use super::resolve::{AT_FDCWD, is_proc, own_path};
use super::stat::Metadata;
use super::tracee::Tracee;
use super::{Answered, DONE};

/// "Leave it alone".
pub const KEEP: u32 = u32::MAX;

/// Answers one of them.
pub fn chown(tracee: &Tracee<'_>, call: Call) -> Answered {
    let (file, first) = match call {
        Call::Chown => (tracee.file(AT_FDCWD, &tracee.path(0)?, true, false)?, 1),
        Call::Lchown => (tracee.file(AT_FDCWD, &tracee.path(0)?, false, false)?, 1),
        Call::Fchown => (tracee.descriptor(tracee.int(0))?, 1),
        _ => {
            let flags = tracee.int(4);
            if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
                return Err(Errno::INVAL);
            }
            let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
            let empty = flags & libc::AT_EMPTY_PATH != 0;
            let path = match tracee.pointer(1) {
                0 if empty => Vec::new(),
                _ => tracee.path(1)?,
            };
            (tracee.file(tracee.int(0), &path, follow, empty)?, 2)
        }
    };
    let wanted = |argument| Some(tracee.id(argument)).filter(|id| *id != KEEP);
    give(tracee, file.as_fd(), wanted(first), wanted(first + 1))?;
    DONE
}

/// Gives a file to an owner and a group. The kernel does the rest of a change of owner: it copies up,
/// sets the time, takes set-id bits and capabilities away, and refuses where a file cannot be changed.
fn give(
    tracee: &Tracee<'_>,
    file: BorrowedFd<'_>,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), Errno> {
    if is_proc(file)? {
        return Err(Errno::PERM);
    }
    tracee.still_there()?;
    let old = tracee.owners().get(file)?;
    let disk = Metadata::open(file)?.owner();
    let was = old.map_or(disk, |record| (record.uid, record.gid));
    if !tracee.credentials().may_chown(was, uid, gid) {
        return Err(Errno::PERM);
    }
    let same = (
        uid.map(|_| Uid::from_raw(disk.0)),
        gid.map(|_| Gid::from_raw(disk.1)),
    );
    chownat(file, "", same.0, same.1, AtFlags::EMPTY_PATH)?;
    let new = Record {
        uid: uid.unwrap_or(was.0),
        gid: gid.unwrap_or(was.1),
        device: old.and_then(|record| record.device),
    };
    // A file that never had a record needs none to belong to whom the disk says.
    if old.is_none() && (new.uid, new.gid) == disk {
        return Ok(());
    }
    let owners = tracee.owners();
    let is_link = Metadata::open(file)?.kind() == FileType::Symlink;
    if is_link && !owners.in_table(file)? {
        match renewed(tracee, file) {
            Ok(fresh) => return owners.set(fresh.as_fd(), new),
            // It was renamed meanwhile, or lies where nobody may write.
            Err(_) => return owners.set(file, new),
        }
    }
    owners.set(file, new)
}

/// Makes a symbolic link anew, as it is, in an inode of its own: that of a link which an overlay has
/// copied up is shown under the number of the lower one, until the kernel forgets that.
fn renewed(tracee: &Tracee<'_>, link: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let place = tracee.place_of(link)?;
    let name = OsStr::from_bytes(&place.name);
    let old = statat(&place.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if old.st_nlink != 1 {
        return Err(Errno::MLINK);
    }
    let above = fstat(&place.dir)?;
    let target = readlinkat(&place.dir, name, Vec::new())?;
    let fresh = format!(".lapstrake-link-{}", tracee.tid());
    symlinkat(&target, &place.dir, &fresh)?;
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    let done = utimensat(&place.dir, &fresh, &times(&old), no_follow)
        .and_then(|()| renameat(&place.dir, &fresh, &place.dir, name));
    if let Err(errno) = done {
        unlinkat(&place.dir, &fresh, AtFlags::empty())?;
        return Err(errno);
    }
    utimensat(
        CWD,
        own_path(place.dir.as_fd()),
        &times(&above),
        AtFlags::empty(),
    )?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&place.dir, name, flags, Mode::empty())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
