//! Calls that make files: a file belongs to its maker, in a set-group-id directory to the directory's
//! group, and a device is a file with a record.
//!
//! What root makes in an ordinary directory is the kernel's business. Everything else is made here,
//! under the mask of the process and never where something is already; whatever is in the way, or goes
//! wrong, the kernel finds out by itself and tells.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::call::Call;
use super::owners::{Device, Record};
use super::resolve::{AT_FDCWD, Place, is_proc};
use super::stat::Metadata;
use super::sys;
use super::tracee::Tracee;
use super::{Answer, Answered, DONE};

/// Links that lead to a file yet to be made, one after the other.
const MAX_LINKS: usize = 40;
/// What `O_TMPFILE` has besides `O_DIRECTORY`.
pub const TMPFILE_BIT: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// The bit of a directory that hands on its group.
pub const SET_GROUP: u32 = 0o2000;
const KERNEL: Answered = Ok(Answer::Continue);

/// What an open asks for.
pub struct Open {
    pub dir: i32,
    pub path: Vec<u8>,
    pub flags: i32,
    pub mode: u32,
    /// How `openat2` resolves; our way is the usual one only.
    pub usual: bool,
}

/// `open` and its like with a file to be made.
pub fn open(tracee: &Tracee<'_>, call: Call) -> Answered {
    match request(tracee, call).and_then(|open| opened(tracee, open)) {
        Ok(Some((fd, closes))) => Ok(Answer::Descriptor(fd, closes)),
        Ok(None) | Err(_) => KERNEL,
    }
}

/// Reads the arguments of one of them.
pub fn request(tracee: &Tracee<'_>, call: Call) -> Result<Open, Errno> {
    let (dir, path, flags, mode) = match call {
        Call::Open => (AT_FDCWD, 0, tracee.int(1), tracee.id(2)),
        Call::Openat => (tracee.int(0), 1, tracee.int(2), tracee.id(3)),
        Call::Creat => {
            let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
            (AT_FDCWD, 0, flags, tracee.id(1))
        }
        _ => {
            let mut how = [0; 24];
            tracee.read(tracee.pointer(2), &mut how)?;
            let word =
                |at: usize| u64::from_ne_bytes(how[at..at + 8].try_into().unwrap_or_default());
            let flags = u32::try_from(word(0)).map_err(|_| Errno::INVAL)?;
            return Ok(Open {
                dir: tracee.int(0),
                path: tracee.path(1)?,
                flags: flags.cast_signed(),
                mode: u32::try_from(word(8)).map_err(|_| Errno::INVAL)?,
                usual: word(16) == 0,
            });
        }
    };
    Ok(Open {
        dir,
        path: tracee.path(path)?,
        flags,
        mode,
        usual: true,
    })
}

/// The new file, and whether its descriptor closes on exec; none if the kernel is to do it.
fn opened(tracee: &Tracee<'_>, open: Open) -> Result<Option<(OwnedFd, bool)>, Errno> {
    let makes = open.flags & (libc::O_CREAT | TMPFILE_BIT) != 0;
    if !makes || !open.usual || open.flags & libc::O_PATH != 0 {
        return Ok(None);
    }
    let closes = open.flags & libc::O_CLOEXEC != 0;
    let mode = open.mode & 0o7777;
    if open.flags & TMPFILE_BIT != 0 {
        let dir = tracee.file(open.dir, &open.path, true, false)?;
        let Some(record) = owner_in(tracee, &dir)? else {
            return Ok(None);
        };
        let make = || sys::open_at(dir.as_fd(), c".", open.flags, mode);
        let file = tracee.under_its_mask(make)??;
        tracee.owners().set(file.as_fd(), record)?;
        return Ok(Some((file, closes)));
    }
    let mut path = open.path;
    for _ in 0..MAX_LINKS {
        if path.last() == Some(&b'/') {
            return Ok(None);
        }
        let place = tracee.place(open.dir, &path)?;
        let Some(record) = owner_in(tracee, &place.dir)? else {
            return Ok(None);
        };
        let name = name(&place)?;
        let flags = open.flags | libc::O_EXCL | libc::O_NOFOLLOW;
        let make = || sys::open_at(place.dir.as_fd(), &name, flags, mode);
        match tracee.under_its_mask(make)? {
            Ok(file) => {
                tracee.owners().set(file.as_fd(), record)?;
                return Ok(Some((file, closes)));
            }
            Err(Errno::EXIST) if open.flags & (libc::O_EXCL | libc::O_NOFOLLOW) == 0 => {}
            Err(errno) => return Err(errno),
        }
        // A link to what is not there yet is followed, and the file made where it leads.
        match tracee.target(open.dir, &path) {
            Some(target) => path = target,
            None => return Ok(None),
        }
    }
    Err(Errno::LOOP)
}

/// Whom a new file in `dir` belongs to; none if the kernel's own idea, root, is right.
fn owner_in(tracee: &Tracee<'_>, dir: &OwnedFd) -> Result<Option<Record>, Errno> {
    let (uid, mut gid) = tracee.credentials().maker();
    if Metadata::open(dir.as_fd())?.mode() & SET_GROUP != 0 {
        gid = match tracee.owners().get(dir.as_fd())? {
            Some(record) => record.gid,
            None => 0,
        };
    }
    if (uid, gid) == (0, 0) || is_proc(dir.as_fd())? {
        return Ok(None);
    }
    Ok(Some(Record::new(uid, gid)))
}

fn name(place: &Place) -> Result<CString, Errno> {
    CString::new(place.name.clone()).map_err(|_| Errno::INVAL)
}

/// Opens what has just been made, as a mere path.
fn made(place: &Place, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&place.dir, name, flags, Mode::empty())
}

/// `mkdir` and `mkdirat`.
pub fn mkdir(tracee: &Tracee<'_>, call: Call) -> Answered {
    let (dir, path, mode) = match call {
        Call::Mkdir => (AT_FDCWD, 0, tracee.id(1)),
        _ => (tracee.int(0), 1, tracee.id(2)),
    };
    let Ok(place) = tracee.path(path).and_then(|path| tracee.place(dir, &path)) else {
        return KERNEL;
    };
    let Some(record) = owner_in(tracee, &place.dir)? else {
        return KERNEL;
    };
    let name = name(&place)?;
    let mode = Mode::from_raw_mode(mode & 0o1777);
    tracee.under_its_mask(|| mkdirat(&place.dir, &name, mode))??;
    tracee.owners().set(made(&place, &name)?.as_fd(), record)?;
    DONE
}

/// `symlink` and `symlinkat`.
pub fn symlink(tracee: &Tracee<'_>, call: Call) -> Answered {
    let (dir, path) = match call {
        Call::Symlink => (AT_FDCWD, 1),
        _ => (tracee.int(1), 2),
    };
    let Ok(path) = tracee.path(path) else {
        return KERNEL;
    };
    // A slash at its end asks for a directory, which a link is not.
    let place = match tracee.place(dir, &path) {
        Ok(place) if path.last() != Some(&b'/') => place,
        _ => return KERNEL,
    };
    let record = owner_in(tracee, &place.dir)?;
    if record.is_none() && !tracee.owners().has_table() {
        return KERNEL;
    }
    let (target, name) = (tracee.path(0)?, name(&place)?);
    tracee.still_there()?;
    symlinkat(&target[..], &place.dir, &name)?;
    settle(tracee, &place, &name, record)
}

/// `mknod` and `mknodat`.
pub fn mknod(tracee: &Tracee<'_>, call: Call) -> Answered {
    let (dir, path, mode, device) = match call {
        Call::Mknod => (AT_FDCWD, 0, tracee.id(1), tracee.id(2)),
        _ => (tracee.int(0), 1, tracee.id(2), tracee.id(3)),
    };
    let kind = mode & libc::S_IFMT;
    let is_device = matches!(kind, libc::S_IFCHR | libc::S_IFBLK);
    let path = tracee.path(path)?;
    let place = match tracee.place(dir, &path) {
        Ok(place) if path.last() != Some(&b'/') => place,
        Err(errno) if is_device => return Err(errno),
        Ok(_) if is_device => return Err(Errno::NOENT),
        _ => return KERNEL,
    };
    let record = owner_in(tracee, &place.dir)?;
    let name = name(&place)?;
    if is_device {
        if !tracee.credentials().privileged() {
            return Err(Errno::PERM);
        }
        let device = stand_in(kind, device)?;
        let record = Record {
            device: Some(device),
            ..record.unwrap_or(Record::new(0, 0))
        };
        return make_device(tracee, &place, &name, mode, record);
    }
    let usual = matches!(kind, 0 | libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK);
    if !usual || (record.is_none() && !tracee.owners().has_table()) {
        return KERNEL;
    }
    let file_type = if kind == 0 { libc::S_IFREG } else { kind };
    let make = || {
        rustix::fs::mknodat(
            &place.dir,
            &name,
            rustix::fs::FileType::from_raw_mode(file_type),
            Mode::from_raw_mode(mode & 0o7777),
            0,
        )
    };
    tracee.under_its_mask(make)??;
    settle(tracee, &place, &name, record)
}

/// The device that a call asks for.
fn stand_in(kind: u32, device: u32) -> Result<Device, Errno> {
    let block = kind == libc::S_IFBLK;
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & !0xff),
    );
    // In an overlay this is the mark of a deleted file, and so it is for those who read layers.
    if !block && (major, minor) == (0, 0) {
        return Err(Errno::PERM);
    }
    Ok(Device {
        block,
        major,
        minor,
    })
}

/// Makes an empty file that stands for a device.
fn make_device(
    tracee: &Tracee<'_>,
    place: &Place,
    name: &CStr,
    mode: u32,
    record: Record,
) -> Answered {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
    let make = || sys::open_at(place.dir.as_fd(), name, flags, mode & 0o7777);
    let file = tracee.under_its_mask(make)??;
    if let Err(errno) = tracee.owners().set(file.as_fd(), record) {
        unlinkat(&place.dir, name, AtFlags::empty())?;
        return Err(errno);
    }
    DONE
}

/// Records a new file that holds no attribute; an older one's record is not its.
fn settle(tracee: &Tracee<'_>, place: &Place, name: &CStr, record: Option<Record>) -> Answered {
    let file = made(place, name)?;
    match record {
        Some(record) => tracee.owners().set(file.as_fd(), record)?,
        None => tracee.owners().forget(file.as_fd())?,
    }
    DONE
}
