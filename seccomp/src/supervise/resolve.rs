//! From what a process names to an open file, beneath that process's root directory.
//!
//! The kernel resolves: absolute paths with `openat2` and `RESOLVE_IN_ROOT` beneath the process's root,
//! relative ones with `RESOLVE_BENEATH` beneath its directory, and where that leads out of it, as an
//! absolute path. No link of `/proc` to an open file is followed on the way (`RESOLVE_NO_MAGICLINKS`),
//! since it would be followed with our rights. The exceptions, by name, are those that a process has to
//! its own: `/proc/self/fd/N`, `exe`, `cwd` and `root`, which are opened as what they are for it.
//!
//! `/proc/self` itself means us here. So whatever lies in a `/proc` is left to the kernel ([`is_proc`]).

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::tracee::Tracee;

/// As the kernel counts.
const MAX_LINKS: usize = 40;
/// How often a resolution is tried that lost a race against a rename.
const TRIES: usize = 16;
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A place where a file is, or is to be.
pub struct Place {
    /// Its directory, a mere path.
    pub dir: OwnedFd,
    /// Its name in it, neither empty nor `.` nor `..`.
    pub name: Vec<u8>,
}

/// The current directory in place of a descriptor.
pub const AT_FDCWD: i32 = libc::AT_FDCWD;

impl Tracee<'_> {
    /// One of its own descriptors as a mere path, or its current directory.
    pub fn descriptor(&self, number: i32) -> Result<OwnedFd, Errno> {
        let name = match number {
            AT_FDCWD => "cwd".to_owned(),
            n if n < 0 => return Err(Errno::BADF),
            n => format!("fd/{n}"),
        };
        self.of_its_own(&name).map_err(|errno| match errno {
            Errno::NOENT if number >= 0 => Errno::BADF,
            other => other,
        })
    }

    fn of_its_own(&self, name: &str) -> Result<OwnedFd, Errno> {
        let path = in_proc(format_args!("{}/{name}", self.tid()));
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<Arc<OwnedFd>, Errno> {
        let Some(common) = self.common_root() else {
            return Ok(Arc::new(self.of_its_own("root")?));
        };
        if let Some(root) = common.get() {
            return Ok(Arc::clone(root));
        }
        let root = Arc::new(self.of_its_own("root")?);
        self.still_there()?;
        Ok(Arc::clone(common.get_or_init(|| root)))
    }

    /// The file that `path` means, relative to the descriptor `dir`; the last link is followed if
    /// `follow`. An empty path is the descriptor itself if `empty`.
    pub fn file(&self, dir: i32, path: &[u8], follow: bool, empty: bool) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return if empty {
                self.descriptor(dir)
            } else {
                Err(Errno::NOENT)
            };
        }
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, !follow);
        match self.walk(dir, path, flags) {
            // Perhaps a link to something of its own, /dev/stdout.
            Err(errno @ (Errno::NOENT | Errno::LOOP | Errno::XDEV)) if follow => {
                self.chase(dir, path).unwrap_or(Err(errno))
            }
            other => other,
        }
    }

    /// Where `path` is or would be, the last link not followed.
    pub fn place(&self, dir: i32, path: &[u8]) -> Result<Place, Errno> {
        let end = path.iter().rposition(|byte| *byte != b'/');
        let path = &path[..end.map_or(0, |end| end + 1)];
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::EXIST);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok(Place {
            dir: self.walk(dir, parent, flags)?,
            name: name.to_vec(),
        })
    }

    fn walk(&self, dir: i32, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if let Some(own) = own_link(path) {
            if flags.contains(OFlags::NOFOLLOW) {
                return Err(Errno::LOOP);
            }
            return self.of_its_own(own);
        }
        if path.first() == Some(&b'/') {
            return self.in_root(path, flags);
        }
        let base = self.descriptor(dir)?;
        match resolve(base.as_fd(), path, flags, ResolveFlags::BENEATH) {
            Err(Errno::XDEV | Errno::AGAIN) => {
                let mut absolute = self.name_of(base.as_fd())?;
                absolute.push(b'/');
                absolute.extend_from_slice(path);
                self.in_root(&absolute, flags)
            }
            other => other,
        }
    }

    fn in_root(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.root()?;
        resolve(root.as_fd(), path, flags, ResolveFlags::IN_ROOT)
    }

    /// The path of a directory beneath the process's root; fails if it has none, or another
    /// directory has it by now.
    fn name_of(&self, dir: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let path = self.inside(dir)?;
        let same = self.in_root(&path, OFlags::PATH | OFlags::DIRECTORY)?;
        if identity(same.as_fd())? != identity(dir)? {
            return Err(Errno::XDEV);
        }
        Ok(path)
    }

    /// Where an open file is said to be, from the process's root.
    fn inside(&self, file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let top = link_of(self.root()?.as_fd())?;
        let path = link_of(file)?;
        match top.as_slice() {
            b"/" => Ok(path),
            top => Ok(path.strip_prefix(top).ok_or(Errno::XDEV)?.to_vec()),
        }
    }

    /// The place of an open symbolic link; fails if that is another file's by now.
    pub fn place_of(&self, link: BorrowedFd<'_>) -> Result<Place, Errno> {
        let place = self.place(AT_FDCWD, &self.inside(link)?)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = OsStr::from_bytes(&place.name);
        let there = openat(&place.dir, name, flags, Mode::empty())?;
        if identity(there.as_fd())? != identity(link)? {
            return Err(Errno::XDEV);
        }
        Ok(place)
    }

    /// Follows links that end in one of the process's own; none if they do not.
    fn chase(&self, dir: i32, path: &[u8]) -> Option<Result<OwnedFd, Errno>> {
        let mut path = path.to_vec();
        for _ in 0..MAX_LINKS {
            if let Some(own) = own_link(&path) {
                return Some(self.of_its_own(own));
            }
            path = self.target(dir, &path)?;
        }
        None
    }

    /// What the link at `path` says, as a path from the same directory; none if it is no link.
    pub fn target(&self, dir: i32, path: &[u8]) -> Option<Vec<u8>> {
        let place = self.place(dir, path).ok()?;
        let name = OsStr::from_bytes(&place.name);
        let link = readlinkat(&place.dir, name, Vec::new()).ok()?;
        let link = link.as_bytes();
        if link.first() == Some(&b'/') {
            return Some(link.to_vec());
        }
        let parent = path.iter().rposition(|byte| *byte == b'/');
        let mut joined = path[..parent.map_or(0, |slash| slash + 1)].to_vec();
        joined.extend_from_slice(link);
        Some(joined)
    }
}

/// The part after the process's directory of `/proc`, if `path` is by its name a link that the process
/// has to something of its own.
fn own_link(path: &[u8]) -> Option<&str> {
    let fd = |number: &[u8]| !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    for before in [&b"/proc/self/"[..], b"/proc/thread-self/"] {
        if let Some(rest) = path.strip_prefix(before) {
            let own = matches!(rest, b"exe" | b"cwd" | b"root")
                || rest.strip_prefix(b"fd/").is_some_and(fd);
            return std::str::from_utf8(rest).ok().filter(|_| own);
        }
    }
    let number = path.strip_prefix(b"/dev/")?;
    let own = number.strip_prefix(b"fd/").is_some_and(fd);
    std::str::from_utf8(number).ok().filter(|_| own)
}

fn resolve(
    base: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match openat2(base, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // Something was renamed while `..` was looked at.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The path of an open file from the root of its mount namespace.
pub fn link_of(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let link = readlinkat(CWD, own_path(fd), Vec::new())?;
    Ok(link.into_bytes())
}

/// A path by which we reach an open file of ours, a mere path included.
pub fn own_path(fd: BorrowedFd<'_>) -> String {
    let number = fd.as_raw_fd();
    match IN_PROC.get() {
        Some(own) => format!("{own}/fd/{number}"),
        None => format!("/proc/self/fd/{number}"),
    }
}

/// A path in our `/proc`, which this thread's root directory may have no more.
pub fn in_proc(path: std::fmt::Arguments<'_>) -> String {
    match IN_PROC.get() {
        Some(_) => path.to_string(),
        None => format!("/proc/{path}"),
    }
}

/// Makes `/proc` the current directory of this thread, which must have one of its own, so that it finds
/// its way there whatever its root directory is, and sooner. Whether it worked.
pub fn go_to_proc() -> bool {
    let own = readlinkat(CWD, "/proc/self", Vec::new()).ok();
    let own = own.and_then(|name| name.to_str().ok()?.parse().ok());
    IN_PROC.set(own.filter(|_: &u32| rustix::process::chdir("/proc").is_ok()));
    IN_PROC.get().is_some()
}

thread_local! {
    /// The number of our process in `/proc`, if that is this thread's current directory.
    static IN_PROC: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Whether a file lies in a `/proc`.
pub fn is_proc(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    #[allow(clippy::unnecessary_cast)] // the type differs between machines
    Ok(fstatfs(fd)?.f_type as i64 == PROC_SUPER_MAGIC)
}

fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = super::stat::Metadata::open(fd)?;
    Ok((stat.device(), stat.inode()))
}

#[cfg(test)]
mod tests {
    use super::own_link;

    #[test]
    fn only_links_to_what_is_the_process_own_are_its_own() {
        for (path, own) in [
            ("/proc/self/fd/12", Some("fd/12")),
            ("/proc/thread-self/fd/1", Some("fd/1")),
            ("/dev/fd/3", Some("fd/3")),
            ("/proc/self/root", Some("root")),
            ("/proc/self/exe", Some("exe")),
            ("/proc/self/root/etc", None),
            ("/proc/self/cwd/..", None),
            ("/proc/self/fd/3/..", None),
            ("/proc/self/fd/", None),
            ("/proc/self/fd/-1", None),
            ("/proc/self/../1/root", None),
            ("/proc/1/root", None),
            ("/dev/fd/../x", None),
            ("/dev/null", None),
        ] {
            assert_eq!(own_link(path.as_bytes()), own, "{path}");
        }
    }
}
