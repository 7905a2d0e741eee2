//! Entries of trees that nobody else writes: finding, listing, copying and deleting them.
//!
//! Paths are relative to a root, the root itself is the empty path. They were put together from
//! names that were listed, so they hold neither `..` nor a link; the kernel is told so all the same.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, UTIME_OMIT, Uid, chmodat,
    chownat, fstat, futimens, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::attributes;
use crate::content::Copier;

/// Longer paths are walked in pieces; the kernel takes 4095 bytes.
const LONGEST: usize = 3840;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the directory `path` beneath `root` for reading.
pub fn open_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut rest = path;
    let mut dir: Option<OwnedFd> = None;
    loop {
        let (piece, left) = split(rest);
        let at = dir.as_ref().map_or(root, AsFd::as_fd);
        let name = if piece.as_os_str().is_empty() {
            Path::new(".")
        } else {
            piece
        };
        let next = openat2(at, name, DIRECTORY, Mode::empty(), how)?;
        if left.as_os_str().is_empty() {
            return Ok(next);
        }
        (dir, rest) = (Some(next), left);
    }
}

/// A beginning of the path that is short enough, and the rest.
fn split(path: &Path) -> (&Path, &Path) {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= LONGEST {
        return (path, Path::new(""));
    }
    let cut = bytes[..LONGEST].iter().rposition(|byte| *byte == b'/');
    let (piece, rest) = bytes.split_at(cut.unwrap_or(LONGEST));
    let path = |bytes| Path::new(OsStr::from_bytes(bytes));
    (path(piece), path(rest.strip_prefix(b"/").unwrap_or(rest)))
}

/// The directory that holds `path`, and the name in it. The root has none.
pub fn open_parent(root: BorrowedFd<'_>, path: &Path) -> io::Result<(OwnedFd, CString)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::BUSY.into());
    };
    Ok((open_dir(root, parent)?, c_name(name)?))
}

pub fn c_name(name: &OsStr) -> io::Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}

pub fn as_path(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// A path of an open file that the kernel follows to that very file.
pub fn magic(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// `dir` and a name in it, as a path.
pub fn join(dir: &Path, name: &CStr) -> PathBuf {
    dir.join(as_path(name))
}

/// What is in a directory, in no order.
pub fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(CString, Stat)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            entries.push((name.to_owned(), stat(dir, name)?));
        }
    }
    Ok(entries)
}

pub fn stat(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Stat> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The mark of a deletion in an overlay. A tree never holds one.
pub fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Copies what is no directory to a name that is free: content, owner, mode, times, attributes.
pub fn copy(
    copier: &mut Copier,
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    as_name: &CStr,
) -> io::Result<()> {
    let found = stat(from, name)?;
    let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
    match kind(&found) {
        FileType::RegularFile => return copy_file(copier, from, name, to, as_name),
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(&target, to, as_name)?;
        }
        FileType::Directory => return Err(Errno::ISDIR.into()),
        other => mknodat(to, as_name, other, Mode::RUSR, found.st_rdev)?,
    }
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    chownat(to, as_name, Some(uid), Some(gid), nofollow)?;
    if kind(&found) != FileType::Symlink {
        chmodat(to, as_name, mode, AtFlags::empty())?;
    }
    utimensat(to, as_name, &attributes::times(&found), nofollow)?;
    Ok(())
}

fn copy_file(
    copier: &mut Copier,
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    as_name: &CStr,
) -> io::Result<()> {
    let plain = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = File::from(openat(from, name, OFlags::RDONLY | plain, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | plain;
    let dest = File::from(openat(to, as_name, flags, Mode::RUSR | Mode::WUSR)?);
    copier.copy(&source, &dest)?;
    attributes::copy(source.as_fd(), dest.as_fd())
}

/// Makes an empty directory, which nobody but us can enter until it gets its attributes.
pub fn make_dir(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(mkdirat(dir, name, Mode::RWXU)?)
}

/// Deletes an entry and everything below it; whether there was one. Nothing is followed.
pub fn remove(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        // EPERM is what POSIX wants for a directory; Linux says EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inside = openat(dir, name, DIRECTORY, Mode::empty())?;
    empty(inside.as_fd())?;
    unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

/// Deletes everything in an open directory.
pub fn empty(dir: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        remove(dir, &name)?;
    }
    Ok(())
}

/// Does something in an open directory and sets its time of modification back to what it was.
pub fn unnoticed<T>(dir: BorrowedFd<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = fstat(dir)?;
    let done = act()?;
    let mut times = attributes::times(&before);
    times.last_access.tv_nsec = UTIME_OMIT;
    futimens(dir, &times)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_longer_than_the_kernel_takes_are_walked_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let name = c_name(OsStr::new(&"d".repeat(250))).unwrap();
        let mut path = PathBuf::new();
        for _ in 0..40 {
            let parent = open_dir(root.as_fd(), &path).unwrap();
            make_dir(parent.as_fd(), &name).unwrap();
            path = join(&path, &name);
        }
        let (deepest, last) = open_parent(root.as_fd(), &path).unwrap();
        assert_eq!(
            kind(&stat(deepest.as_fd(), &last).unwrap()),
            FileType::Directory
        );
        assert!(open_parent(root.as_fd(), Path::new("")).is_err());
        assert!(remove(root.as_fd(), &name).unwrap());
        assert!(!remove(root.as_fd(), &name).unwrap());
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        assert!(open_dir(root.as_fd(), Path::new("link")).is_err());
        assert!(open_dir(root.as_fd(), Path::new("../x")).is_err());
    }
}
