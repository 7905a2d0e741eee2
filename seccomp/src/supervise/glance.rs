//! [`Glance`]: calls that the kernel may do as they are, found out with one look at the file.
//!
//! Nearly every call that is intercepted is about a file without a record, by a process that is still
//! root. For these there is nothing to open: the thread asks for the record by the path itself, with the
//! process's root directory as its own and `/proc` as its working directory, from where the process's
//! descriptors and directory are `TID/fd/N` and `TID/cwd`.
//!
//! What always holds:
//! - The only answer given here is to let the kernel do the call. Whatever is not plain (a record, a path
//!   that is long or goes through `/proc`, an error that might be our own, a process with another root)
//!   is left to the long way, so nothing is said here that is not said there.
//! - Links of `/proc` to open files are followed with our rights on the way, which the long way does not
//!   do. All that comes of it is whether what they lead to has a record, and that is asked again there.
//! - A path that means another file a moment later is the process's own doing, as anywhere.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, getxattr, lgetxattr, openat, statx,
};
use rustix::io::Errno;

use super::call::Call;
use super::create::{SET_GROUP, TMPFILE_BIT};
use super::files::KEEP;
use super::owners::RECORD;
use super::resolve::AT_FDCWD;
use super::tracee::{PAGE, Tracee};

const SET_IDS: u32 = 0o6000;
const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
const EMPTY: i32 = libc::AT_EMPTY_PATH;
/// `TID/fd/N/`, with the largest numbers.
const PREFIX: usize = 32;
/// Longer paths go the long way.
const MAX_PATH: usize = 192;

/// What a thread sees files with.
#[derive(Debug)]
pub struct Glance {
    /// Our `/proc`, this thread's working directory.
    proc: Option<OwnedFd>,
    inside: Inside,
}

/// Whether the processes' root directory is this thread's, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    NotYet,
    /// `named`: its `/proc` has this process, so that `/proc/self` would mean us.
    Yes {
        named: bool,
    },
    Cannot,
}

/// A path from this thread's working or root directory, with its end.
struct Short {
    bytes: [u8; PREFIX + MAX_PATH + 1],
    length: usize,
}

impl Short {
    fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_with_nul(self.bytes.get(..=self.length)?).ok()
    }

    /// The directory of what it names; none if the name is none, or a directory itself.
    fn parent(mut self) -> Option<Self> {
        let path = &self.bytes[..self.length];
        let slash = path.iter().rposition(|byte| *byte == b'/')?;
        if matches!(&path[slash + 1..], b"" | b"." | b"..") {
            return None;
        }
        self.length = slash + 1;
        self.bytes[self.length] = 0;
        Some(self)
    }
}

impl Glance {
    /// For a thread with a working and root directory of its own, which is in `/proc` already; for others
    /// `usable` is false, and nothing is ever decided here.
    pub fn new(usable: bool) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || openat(CWD, ".", flags, Mode::empty()).ok();
        Self {
            proc: usable.then(open).flatten(),
            inside: Inside::NotYet,
        }
    }

    /// Whether the kernel may do the call; false if that takes more than a glance to know.
    pub fn is_the_kernels(&mut self, tracee: &Tracee<'_>) -> bool {
        self.proc.is_some() && self.look(tracee).unwrap_or(false)
    }

    fn look(&mut self, tracee: &Tracee<'_>) -> Option<bool> {
        use Call as C;
        let int = |argument| tracee.int(argument);
        match tracee.call()? {
            C::Fstat => plain(tracee, &descriptor(tracee, int(0))?, true),
            C::Stat => self.stat(tracee, AT_FDCWD, 0, 0),
            C::Lstat => self.stat(tracee, AT_FDCWD, 0, NOFOLLOW),
            C::Fstatat => self.stat(tracee, int(0), 1, int(3)),
            C::Statx => self.stat(tracee, int(0), 1, int(2)),
            C::Fchown => chown(tracee, &descriptor(tracee, int(0))?, true, 1),
            C::Chown => self.chown(tracee, AT_FDCWD, 0, 0),
            C::Lchown => self.chown(tracee, AT_FDCWD, 0, NOFOLLOW),
            C::Fchownat => self.chown(tracee, int(0), 1, int(4)),
            C::Open | C::Creat | C::Mkdir => self.make(tracee, AT_FDCWD, 0),
            C::Openat if int(2) & TMPFILE_BIT != 0 => None,
            C::Openat | C::Mkdirat => self.make(tracee, int(0), 1),
            C::Symlink if !tracee.owners().has_table() => self.make(tracee, AT_FDCWD, 1),
            C::Symlinkat if !tracee.owners().has_table() => self.make(tracee, int(1), 2),
            C::Execve => self.execve(tracee),
            _ => None,
        }
    }

    /// A call by path, whose first three arguments but for `flags` begin at the descriptor's.
    fn stat(&mut self, tracee: &Tracee<'_>, dir: i32, path: usize, flags: i32) -> Option<bool> {
        if flags & EMPTY != 0 {
            return plain(tracee, &itself(tracee, dir, path)?, true);
        }
        let follow = flags & NOFOLLOW == 0;
        plain(tracee, &self.path(tracee, dir, path, follow)?, follow)
    }

    fn chown(&mut self, tracee: &Tracee<'_>, dir: i32, path: usize, flags: i32) -> Option<bool> {
        if flags & !NOFOLLOW != 0 {
            return None;
        }
        let follow = flags & NOFOLLOW == 0;
        let file = self.path(tracee, dir, path, follow)?;
        chown(tracee, &file, follow, path + 1)
    }

    /// Whether what is made there belongs to root: root makes it, and no directory says otherwise.
    fn make(&mut self, tracee: &Tracee<'_>, dir: i32, path: usize) -> Option<bool> {
        if tracee.credentials().maker() != (0, 0) {
            return None;
        }
        let parent = self.path(tracee, dir, path, false)?.parent()?;
        Some(mode(&parent, true)? & SET_GROUP == 0)
    }

    fn execve(&mut self, tracee: &Tracee<'_>) -> Option<bool> {
        let now = tracee.credentials();
        if now.executed(None, None) != *now {
            return None;
        }
        let program = self.path(tracee, AT_FDCWD, 0, true)?;
        Some(mode(&program, true)? & SET_IDS == 0)
    }

    /// A path that the process gives, as this thread reaches it.
    fn path(
        &mut self,
        tracee: &Tracee<'_>,
        dir: i32,
        argument: usize,
        follow: bool,
    ) -> Option<Short> {
        match self.enter(tracee) {
            Inside::Yes { named } if !(named && follow) => {}
            _ => return None,
        }
        let mut short = Short {
            bytes: [0; PREFIX + MAX_PATH + 1],
            length: 0,
        };
        let address = tracee.pointer(argument);
        let rest = usize::try_from(PAGE - address % PAGE).unwrap_or(MAX_PATH);
        let room = &mut short.bytes[PREFIX..PREFIX + MAX_PATH.min(rest)];
        let count = tracee.peek(address, room).ok()?;
        let length = room[..count].iter().position(|byte| *byte == 0)?;
        let path = &room[..length];
        let begin = match path.first()? {
            b'/' if is_own(path) => return None,
            b'/' => 0,
            _ => directory(&mut short.bytes[..PREFIX], tracee, dir)?,
        };
        short.bytes.copy_within(PREFIX..=PREFIX + length, begin);
        short.length = begin + length;
        Some(short)
    }

    /// Takes the processes' root directory for this thread's, while they have only one.
    fn enter(&mut self, tracee: &Tracee<'_>) -> Inside {
        if tracee.common_root().is_none() {
            return Inside::Cannot;
        }
        if self.inside == Inside::NotYet {
            self.inside = match self.proc.as_ref().map(|proc| change_root(tracee, proc)) {
                Some(Ok(named)) => Inside::Yes { named },
                _ => Inside::Cannot,
            };
        }
        self.inside
    }
}

/// Whether `/proc/self` is somebody there afterwards.
fn change_root(tracee: &Tracee<'_>, proc: &OwnedFd) -> Result<bool, Errno> {
    rustix::process::fchdir(&*tracee.root()?)?;
    let changed = rustix::process::chroot(".");
    rustix::process::fchdir(proc)?;
    changed?;
    Ok(rustix::fs::readlink("/proc/self", Vec::new()).is_ok())
}

/// Paths that may be something of the process's own; the long way knows.
fn is_own(path: &[u8]) -> bool {
    let name = &path[path.iter().take_while(|byte| **byte == b'/').count()..];
    [&b"proc"[..], b"dev"]
        .iter()
        .any(|top| name.starts_with(top))
}

/// `TID/fd/N/` or `TID/cwd/`; its length.
fn directory(into: &mut [u8], tracee: &Tracee<'_>, number: i32) -> Option<usize> {
    let size = into.len();
    let mut rest = into;
    match number {
        AT_FDCWD => write!(rest, "{}/cwd/", tracee.tid()).ok()?,
        0.. => write!(rest, "{}/fd/{number}/", tracee.tid()).ok()?,
        _ => return None,
    }
    Some(size - rest.len())
}

/// One of the process's descriptors.
fn descriptor(tracee: &Tracee<'_>, number: i32) -> Option<Short> {
    let mut bytes = [0; PREFIX + MAX_PATH + 1];
    // The slash would ask for a directory.
    let length = directory(&mut bytes[..PREFIX], tracee, number)? - 1;
    bytes[length] = 0;
    Some(Short { bytes, length })
}

/// The descriptor of a call with an empty path.
fn itself(tracee: &Tracee<'_>, dir: i32, path: usize) -> Option<Short> {
    let address = tracee.pointer(path);
    let mut first = [1];
    if address != 0 && (tracee.peek(address, &mut first).ok()? != 1 || first != [0]) {
        return None;
    }
    descriptor(tracee, dir)
}

/// Whether a file has no record, or there is none.
fn plain(tracee: &Tracee<'_>, file: &Short, follow: bool) -> Option<bool> {
    let path = file.as_c_str()?;
    let mut value = [0_u8; 1];
    let mut record = |follow| match follow {
        true => getxattr(path, RECORD, &mut value[..]),
        false => lgetxattr(path, RECORD, &mut value[..]),
    };
    match record(follow) {
        Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
        // A link that leads nowhere may lead to something of the process's own.
        Err(Errno::NOENT) => return Some(!follow || record(false) == Err(Errno::NOENT)),
        Err(Errno::NOTDIR) => return Some(true),
        _ => return None,
    }
    let owners = tracee.owners();
    if owners.are_attributes() {
        return Some(true);
    }
    let holds_attributes = !owners.attributes_refused();
    Some(
        holds_attributes
            && matches!(
                mode(file, follow)? & libc::S_IFMT,
                libc::S_IFREG | libc::S_IFDIR
            ),
    )
}

/// Whether giving a file away does not: it is root's, has no record, and is to be root's.
fn chown(tracee: &Tracee<'_>, file: &Short, follow: bool, first: usize) -> Option<bool> {
    let to_root = |argument| matches!(tracee.id(argument), 0 | KEEP);
    if !to_root(first) || !to_root(first + 1) || tracee.credentials().maker().0 != 0 {
        return None;
    }
    if !plain(tracee, file, follow)? {
        return None;
    }
    let stat = look_at(file, follow)?;
    Some((stat.stx_uid, stat.stx_gid) == (0, 0))
}

/// Type and permission bits.
fn mode(file: &Short, follow: bool) -> Option<u32> {
    Some(look_at(file, follow)?.stx_mode.into())
}

fn look_at(file: &Short, follow: bool) -> Option<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID | StatxFlags::GID;
    let flags = match follow {
        true => AtFlags::empty(),
        false => AtFlags::SYMLINK_NOFOLLOW,
    };
    statx(CWD, file.as_c_str()?, flags, wanted).ok()
}
