//! [`RootDir`]: the one place where a path inside a root file system becomes a file.
//!
//! Every lookup is `openat2` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`: the kernel resolves
//! symbolic links and `..` as if the directory were `/`, so nothing outside can be reached even
//! while another process renames things. Where `openat2` is missing, a walk by components with
//! `O_PATH | O_NOFOLLOW` does the same for trees that nobody else changes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::RootPath;

/// How often a lookup that raced with a rename is tried again before the error is given back.
const RACE_RETRIES: usize = 128;
/// The kernel's own limit of symbolic links in one lookup.
const MAX_LINKS: usize = 40;

/// What to do with a symbolic link in the last component of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Resolve it, inside the root.
    Yes,
    /// Stop at the link itself.
    No,
}

/// A directory that stands for `/` while paths are resolved.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    /// Takes a directory descriptor as the root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens a directory of the host as a root.
    ///
    /// # Errors
    /// Those of opening a directory at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(openat(CWD, path, flags, Mode::empty())?))
    }

    /// A second handle on the same root.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// Opens `path` with `flags` beneath this root; `O_CLOEXEC` is added.
    ///
    /// `flags` decides whether a link in the last component is followed (`O_NOFOLLOW`), and `mode`
    /// is used with `O_CREAT`.
    ///
    /// # Errors
    /// The kernel's, with no path in it: the caller knows what it was doing.
    pub fn open_at(&self, path: &RootPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACE_RETRIES {
            match openat2(&self.fd, path.relative(), flags, mode, resolve) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => return self.walk(path, flags, mode),
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Resolves `path` to an `O_PATH` descriptor, the handle for `fstat` and `*at` calls.
    ///
    /// # Errors
    /// As [`RootDir::open_at`].
    pub fn resolve(&self, path: &RootPath, follow: Follow) -> io::Result<OwnedFd> {
        let mut flags = OFlags::PATH;
        if follow == Follow::No {
            flags |= OFlags::NOFOLLOW;
        }
        self.open_at(path, flags, Mode::empty())
    }

    /// Opens the directory at `path` for reading its entries and for `*at` calls.
    ///
    /// # Errors
    /// As [`RootDir::open_at`].
    pub fn open_dir(&self, path: &RootPath) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// A FIFO or a device planted in its place neither blocks nor is read.
    ///
    /// # Errors
    /// As [`RootDir::open_at`], and `InvalidInput` when it is no regular file.
    pub fn open_file(&self, path: &RootPath) -> io::Result<File> {
        let fd = self.open_at(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(file)
    }

    /// The path of `path` with every symbolic link in it resolved inside the root.
    ///
    /// Components that do not exist are kept as they are written, so that the result is where a
    /// file made through `path` would come to be.
    ///
    /// # Errors
    /// The kernel's, `FilesystemLoop` for too many links.
    pub fn canonicalize(&self, path: &RootPath) -> io::Result<RootPath> {
        let mut pending: Vec<std::ffi::OsString> =
            path.components().rev().map(Into::into).collect();
        let mut done = RootPath::root();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                done = done.parent().unwrap_or_else(RootPath::root);
                continue;
            }
            let next = done.join(&name);
            let target = match self.read_link(&next) {
                Ok(target) => target,
                Err(error) if is_no_link(&error) => {
                    done = next;
                    continue;
                }
                Err(error) => return Err(error),
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            if target.as_encoded_bytes().starts_with(b"/") {
                done = RootPath::root();
            }
            let parts = Path::new(&target).components().rev();
            pending.extend(parts.filter_map(|part| match part {
                std::path::Component::Normal(name) => Some(name.to_os_string()),
                std::path::Component::ParentDir => Some("..".into()),
                _ => None,
            }));
        }
        Ok(done)
    }

    /// The target of the symbolic link at `path`, as it is written.
    ///
    /// # Errors
    /// As [`RootDir::open_at`]; `InvalidInput` (`EINVAL`) when it is no link.
    pub fn read_link(&self, path: &RootPath) -> io::Result<std::ffi::OsString> {
        use std::os::unix::ffi::OsStringExt;
        let fd = self.resolve(path, Follow::No)?;
        match rustix::fs::readlinkat(&fd, "", Vec::new()) {
            Ok(target) => Ok(std::ffi::OsString::from_vec(target.into_bytes())),
            // With an empty path the kernel says ENOENT where it would say EINVAL.
            Err(Errno::NOENT) => Err(Errno::INVAL.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// The replacement for `openat2`: canonicalises first, then opens without following.
    fn walk(&self, path: &RootPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let full = if flags.contains(OFlags::NOFOLLOW) {
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => self.canonicalize(&parent)?.join(name),
                _ => RootPath::root(),
            }
        } else {
            self.canonicalize(path)?
        };
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = self.fd.try_clone()?;
        for name in full.parent().unwrap_or_else(RootPath::root).components() {
            dir = openat(&dir, name, step, Mode::empty())?;
        }
        let last = full
            .file_name()
            .unwrap_or_else(|| std::ffi::OsStr::new("."));
        Ok(openat(&dir, last, flags | OFlags::NOFOLLOW, mode)?)
    }
}

fn is_no_link(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOENT, Errno::NOTDIR]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for RootDir {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib")).unwrap();
        std::fs::write(root.join("usr/lib/file"), "inside").unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/file", root.join("absolute")).unwrap();
        symlink("../../../secret", root.join("escape")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/new/dir/../file", root.join("dangling")).unwrap();
        dir
    }

    #[test]
    fn links_never_leave_the_root() {
        let dir = tree();
        let root = RootDir::open(&dir.path().join("root")).unwrap();
        let read = |path: &str| {
            root.open_file(&RootPath::new(path))
                .map(|file| std::io::read_to_string(file).unwrap())
        };
        assert_eq!(read("/lib/file").unwrap(), "inside");
        assert_eq!(read("/absolute").unwrap(), "inside");
        assert!(read("/escape").is_err());
        assert!(read("/../secret").is_err());
        assert!(read("/loop").is_err());
    }

    #[test]
    fn the_walk_agrees_with_openat2() {
        let dir = tree();
        let root = RootDir::open(&dir.path().join("root")).unwrap();
        for (path, flags) in [
            ("/lib/file", OFlags::PATH),
            ("/absolute", OFlags::PATH),
            ("/absolute", OFlags::PATH | OFlags::NOFOLLOW),
            ("/escape", OFlags::PATH),
            ("/loop", OFlags::PATH),
            ("/lib", OFlags::PATH | OFlags::NOFOLLOW),
            ("/", OFlags::PATH),
        ] {
            let path = RootPath::new(path);
            let inode =
                |fd: io::Result<OwnedFd>| fd.map(|fd| rustix::fs::fstat(fd).unwrap().st_ino).ok();
            let kernel = inode(root.open_at(&path, flags, Mode::empty()));
            let walked = inode(root.walk(&path, flags | OFlags::CLOEXEC, Mode::empty()));
            assert_eq!(kernel, walked, "{path}");
        }
    }

    #[test]
    fn canonicalizes_what_does_not_exist() {
        let dir = tree();
        let root = RootDir::open(&dir.path().join("root")).unwrap();
        for (path, expected) in [
            ("/lib/new/file", "/usr/lib/new/file"),
            ("/dangling", "/new/file"),
            ("/escape", "/secret"),
        ] {
            let found = root.canonicalize(&RootPath::new(path)).unwrap();
            assert_eq!(found, RootPath::new(expected), "{path}");
        }
        assert!(root.canonicalize(&RootPath::new("/loop")).is_err());
    }
}
