//! Calls that change a file, or look at its attributes, by a path that a link of `/proc` is part of: how C
//! libraries and archivers reach a file that they have open as a mere path.
//!
//! They are done here, to the very file that is open, as the user who asks. Nothing of `/proc` and `/sys`
//! itself can be changed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::find::Spot;
use super::{Served, as_caller, calls, who};
use crate::supervise::call::Call;
use crate::supervise::resolve::{AT_FDCWD, own_path};
use crate::supervise::tracee::Tracee;
use crate::supervise::{Answer, Answered, DONE};

const KERNEL: Answered = Ok(Answer::Continue);
const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
/// The kernel takes no longer value and no longer list.
const MAX_VALUE: u64 = 65_536;

/// Answers one of them.
pub fn answer(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    use Call as C;
    if tracee.layout().is_32() && call == C::Utimensat {
        return KERNEL;
    }
    let (dir, argument, flags) = match call {
        C::Fchmodat | C::Fchmodat2 => (tracee.int(0), 1, last_flags(tracee, call)),
        C::Utimensat => (tracee.int(0), 1, tracee.int(3)),
        C::Fchownat => (tracee.int(0), 1, tracee.int(4)),
        C::Linkat => (tracee.int(0), 1, linked_flags(tracee.int(4))),
        C::Lgetxattr | C::Llistxattr => (AT_FDCWD, 0, NOFOLLOW),
        _ => (AT_FDCWD, 0, 0),
    };
    if tracee.pointer(argument) == 0 {
        return KERNEL;
    }
    let Ok(path) = tracee.path(argument) else {
        return KERNEL;
    };
    let follow = flags & NOFOLLOW == 0;
    let spot = match served.find(tracee, dir, &path, follow)? {
        None => return KERNEL,
        Some(Spot::Virtual(path, _)) => return untouchable(served, tracee, call, &path),
        Some(spot) => spot,
    };
    tracee.still_there()?;
    if let (C::Linkat, Spot::Held(link)) = (call, &spot) {
        return link_to(served, tracee, link);
    }
    let file = calls::open_spot(served, tracee, spot, follow)?;
    // Read before this thread becomes somebody else.
    let change = Change::read(tracee, call)?;
    let ids = who(tracee)?;
    let answer = as_caller(ids, || change.apply(&file))?;
    change.give(tracee, answer)
}

fn last_flags(tracee: &Tracee<'_>, call: Call) -> i32 {
    match call {
        Call::Fchmodat2 => tracee.int(3),
        _ => 0,
    }
}

/// A link is followed by `linkat` only if that is asked for.
fn linked_flags(flags: i32) -> i32 {
    match flags & libc::AT_SYMLINK_FOLLOW {
        0 => NOFOLLOW,
        _ => 0,
    }
}

/// What is ours has no attributes and cannot be changed; of devices there are stubs, which can.
fn untouchable(served: &Served, tracee: &Tracee<'_>, call: Call, path: &[u8]) -> Answered {
    if path.starts_with(b"/dev/") {
        return KERNEL;
    }
    served.node(tracee, path)?;
    match call {
        Call::Listxattr | Call::Llistxattr => DONE,
        Call::Getxattr | Call::Lgetxattr | Call::Setxattr => Err(Errno::OPNOTSUPP),
        Call::Linkat => Err(Errno::XDEV),
        _ => Err(Errno::PERM),
    }
}

/// What is done to a file, its arguments read.
enum Change {
    Mode(Mode),
    Owner(Option<Uid>, Option<Gid>),
    Times(Timestamps),
    Set(Vec<u8>, Vec<u8>, XattrFlags),
    Get { name: Vec<u8>, to: u64, size: u64 },
    List { to: u64, size: u64 },
    Nothing,
}

impl Change {
    fn read(tracee: &Tracee<'_>, call: Call) -> Result<Self, Errno> {
        use Call as C;
        let id = |at: usize| Some(tracee.id(at)).filter(|id| *id != u32::MAX);
        let owner = |at| Self::Owner(id(at).map(Uid::from_raw), id(at + 1).map(Gid::from_raw));
        Ok(match call {
            C::Chmod => Self::Mode(Mode::from_raw_mode(tracee.id(1) & 0o7777)),
            C::Fchmodat | C::Fchmodat2 => Self::Mode(Mode::from_raw_mode(tracee.id(2) & 0o7777)),
            C::Chown => owner(1),
            C::Fchownat => owner(2),
            C::Utimensat => Self::Times(times(tracee)?),
            C::Setxattr => {
                let size = tracee.pointer(3);
                if size > MAX_VALUE {
                    return Err(Errno::TOOBIG);
                }
                let mut value = vec![0; usize::try_from(size).map_err(|_| Errno::TOOBIG)?];
                tracee.read(tracee.pointer(2), &mut value)?;
                let flags = XattrFlags::from_bits_retain(tracee.id(4));
                Self::Set(tracee.path(1)?, value, flags)
            }
            C::Getxattr | C::Lgetxattr => Self::Get {
                name: tracee.path(1)?,
                to: tracee.pointer(2),
                size: tracee.pointer(3),
            },
            C::Listxattr | C::Llistxattr => Self::List {
                to: tracee.pointer(1),
                size: tracee.pointer(2),
            },
            _ => Self::Nothing,
        })
    }

    /// Does it; what there is to give back.
    fn apply(&self, file: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let path = own_path(file.as_fd());
        match self {
            Self::Mode(mode) => rustix::fs::chmod(path, *mode)?,
            Self::Owner(uid, gid) => rustix::fs::chown(path, *uid, *gid)?,
            Self::Times(times) => rustix::fs::utimensat(CWD, path, times, AtFlags::empty())?,
            Self::Set(name, value, flags) => {
                rustix::fs::setxattr(path, OsStr::from_bytes(name), value, *flags)?;
            }
            Self::Get { name, .. } => {
                let mut value = vec![0; MAX_VALUE as usize];
                let name = OsStr::from_bytes(name);
                let length = rustix::fs::getxattr(path, name, &mut value[..])?;
                value.truncate(length);
                return Ok(value);
            }
            Self::List { .. } => {
                let mut list = vec![0; MAX_VALUE as usize];
                let length = rustix::fs::listxattr(path, &mut list[..])?;
                list.truncate(length);
                return Ok(list);
            }
            Self::Nothing => return Err(Errno::NOSYS),
        }
        Ok(Vec::new())
    }

    fn give(&self, tracee: &Tracee<'_>, bytes: Vec<u8>) -> Answered {
        let (Self::Get { to, size, .. } | Self::List { to, size }) = self else {
            return DONE;
        };
        let length = bytes.len() as u64;
        if *size != 0 {
            if *size < length {
                return Err(Errno::RANGE);
            }
            if !bytes.is_empty() {
                tracee.write(*to, &bytes)?;
            }
        }
        Ok(Answer::Value(length.cast_signed()))
    }
}

fn times(tracee: &Tracee<'_>) -> Result<Timestamps, Errno> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let mut words = [0; 32];
    if tracee.pointer(2) == 0 {
        return Ok(Timestamps {
            last_access: now,
            last_modification: now,
        });
    }
    tracee.read(tracee.pointer(2), &mut words)?;
    let word = |at: usize| i64::from_ne_bytes(words[at..at + 8].try_into().unwrap_or_default());
    let time = |at: usize| Timespec {
        tv_sec: word(at),
        tv_nsec: word(at + 8),
    };
    Ok(Timestamps {
        last_access: time(0),
        last_modification: time(16),
    })
}

/// `linkat` of an open file, perhaps one that has no name yet.
fn link_to(served: &Served, tracee: &Tracee<'_>, link: &[u8]) -> Answered {
    let new = tracee.path(3)?;
    let new = match new.first() {
        Some(b'/') => new,
        Some(_) => {
            let base = served.base(tracee, tracee.int(2)).ok_or(Errno::NOENT)?;
            [base.as_slice(), b"/", &new].concat()
        }
        None => return Err(Errno::NOENT),
    };
    let slash = new.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let (parent, name) = (&new[..=slash], &new[slash + 1..]);
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::EXIST);
    }
    let (process, rest) = calls::process_of(served, link)?;
    as_caller(who(tracee)?, || {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = served.open_beneath(parent, flags, ResolveFlags::NO_MAGICLINKS)?;
        let name = OsStr::from_bytes(name);
        rustix::fs::linkat(&process, &rest, &dir, name, AtFlags::SYMLINK_FOLLOW)
    })?;
    DONE
}
