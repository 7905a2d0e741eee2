//! Paths inside a root file system, resolved by the kernel beneath a directory descriptor.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// Opens `path` as if `root` were `/`. Never follows a magic link (`/proc/self/fd/N`).
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let relative = relative(path);
    for _ in 0..32 {
        match openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // A rename elsewhere in the system disturbed the walk past a `..`: look again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// `path` without its leading slash; the root itself is `.`.
pub fn relative(path: &Path) -> &Path {
    let stripped = path.strip_prefix("/").unwrap_or(path);
    if stripped.as_os_str().is_empty() {
        Path::new(".")
    } else {
        stripped
    }
}

/// Where a path leads, symbolic links followed beneath the root, even if its end does not exist.
#[derive(Debug, PartialEq, Eq)]
pub struct Located {
    /// The part that exists: relative to the root, free of symbolic links and `..`.
    pub exists: PathBuf,
    /// What would have to be created below it, in order.
    pub missing: Vec<OsString>,
}

impl Located {
    /// The whole path, relative to the root.
    pub fn path(&self) -> PathBuf {
        let mut path = self.exists.clone();
        path.extend(&self.missing);
        path
    }
}

/// Follows `path` from `root`; dangling links are followed to where they point.
pub fn locate(root: BorrowedFd<'_>, path: &Path) -> io::Result<Located> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    let mut at = PathBuf::new();
    let mut missing: Vec<OsString> = Vec::new();
    let mut links = 0;
    push_front(&mut todo, path);
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if missing.pop().is_none() {
                at.pop();
            }
            continue;
        }
        if !missing.is_empty() {
            missing.push(name);
            continue;
        }
        match step(root, &at, &name)? {
            Step::Missing => missing.push(name),
            Step::Entry => at.push(name),
            Step::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.is_absolute() {
                    at = PathBuf::new();
                }
                push_front(&mut todo, &target);
            }
        }
    }
    Ok(Located {
        exists: at,
        missing,
    })
}

enum Step {
    Missing,
    Entry,
    Link(PathBuf),
}

fn step(root: BorrowedFd<'_>, at: &Path, name: &OsStr) -> io::Result<Step> {
    let dir = open(root, at, OFlags::PATH | OFlags::DIRECTORY)?;
    let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Step::Missing),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(Step::Entry);
    }
    let target = readlinkat(&dir, name, Vec::new())?;
    Ok(Step::Link(PathBuf::from(OsStr::from_bytes(
        target.as_bytes(),
    ))))
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn locate_follows_links_beneath_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("etc/real")).unwrap();
        std::fs::write(root.join("etc/file"), "").unwrap();
        symlink("../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/../../../../etc/passwd", root.join("etc/escape")).unwrap();
        symlink("/etc/real", root.join("abs")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = std::fs::File::open(root).unwrap();
        for (path, exists, missing) in [
            ("/", "", vec![]),
            ("/etc/file", "etc/file", vec![]),
            ("/etc/resolv.conf", "", vec!["run", "resolve", "stub.conf"]),
            ("/etc/escape", "etc", vec!["passwd"]),
            ("/abs/x", "etc/real", vec!["x"]),
            ("/../../etc", "etc", vec![]),
            ("/no/../etc/./file", "etc/file", vec![]),
            ("/a/b/../c", "", vec!["a", "c"]),
        ] {
            let got = locate(fd.as_fd(), Path::new(path)).unwrap();
            assert_eq!(got.exists, Path::new(exists), "{path}");
            assert_eq!(got.missing, missing, "{path}");
        }
        let errno = |path: &str| {
            locate(fd.as_fd(), Path::new(path))
                .unwrap_err()
                .raw_os_error()
        };
        assert_eq!(errno("/loop"), Some(libc::ELOOP));
        assert_eq!(errno("/etc/file/x"), Some(libc::ENOTDIR));
    }
}
