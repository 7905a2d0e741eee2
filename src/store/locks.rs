//! Locks of the store, also where its file system has none.
//!
//! A lock is a file of the store that is locked as a whole (`flock`) or, of `uses`, by the byte (locks of
//! open files). Some network file systems have neither. Then the files that are locked lie in a directory
//! of this machine that is named after the store and is this user's alone, as long as anybody uses it
//! (`beside`): builds on this machine keep out of each other's way, those on other machines are not seen. Where nothing can be locked at all, nothing
//! is: every lock is had at once, and `tmp/` is never swept, for somebody may be at work there.
//! [`Store::weakness`] tells people which of both it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::beside::Beside;
use super::error::At;
use super::{Store, StoreError};

/// Where what is locked lies.
#[derive(Debug)]
pub(super) enum Locks {
    /// In the store.
    Here,
    /// In a directory of this machine.
    Beside(Beside),
    /// Nowhere.
    Nowhere,
}

/// Why there is no lock.
const NONE: [Errno; 3] = [Errno::NOLCK, Errno::NOSYS, Errno::NOTSUP];

impl Locks {
    /// Tries what the store in `root`, which exists, can lock.
    pub(super) fn find(
        root: &Path,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, StoreError> {
        Self::find_by(root, env, &|dir| match dir == root {
            true => can_lock(&open_lock(&dir.join("lock"))?),
            // Nothing of a trial is to stay in a directory of everybody's.
            false => can_lock(&nameless(dir)?),
        })
    }

    /// The same, asking `can_lock` whether files in a directory can be locked.
    fn find_by(
        root: &Path,
        env: impl Fn(&str) -> Option<OsString>,
        can_lock: &dyn Fn(&Path) -> io::Result<bool>,
    ) -> Result<Self, StoreError> {
        if can_lock(root).at("lock files in", root)? {
            return Ok(Self::Here);
        }
        let metadata = fs::metadata(root).at("examine", root)?;
        let name = format!("lapstrake-locks-{:x}-{}", metadata.dev(), metadata.ino());
        let runtime = env("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = ["/dev/shm", "/tmp", "/var/tmp"].map(|dir| Some(PathBuf::from(dir)));
        for place in [runtime].into_iter().chain(places).flatten() {
            if place.is_absolute()
                && can_lock(&place).is_ok_and(|can| can)
                && let Some(beside) = Beside::join(&place.join(&name))
            {
                return Ok(Self::Beside(beside));
            }
        }
        Ok(Self::Nowhere)
    }

    /// Opens the file to be locked for `path` of the store in `root`. The file in the store is made in any
    /// case: its time tells of the last use.
    pub(super) fn open(&self, root: &Path, path: &Path) -> Result<File, StoreError> {
        let file = open_lock(path).at("open", path)?;
        let Self::Beside(beside) = self else {
            return Ok(file);
        };
        let relative = path.strip_prefix(root).unwrap_or(path);
        let path = beside
            .path()
            .join(relative.to_string_lossy().replace('/', "-"));
        open_lock(&path).at("open", &path)
    }
}

impl Store {
    /// What is weaker here than it should be, for people: which builds may damage the store.
    pub fn weakness(&self) -> Option<String> {
        let root = self.root().display();
        match &self.inner.locks {
            Locks::Here => None,
            Locks::Beside(beside) => Some(format!(
                "files in {root} cannot be locked: builds on this machine keep out of each other's way by \
                 locks in {}, but no other machine may use this store at the same time",
                beside.path().display()
            )),
            Locks::Nowhere => Some(format!(
                "files in {root} cannot be locked, nor can any in /dev/shm, /tmp or /var/tmp: nothing else may \
                 use this store at the same time; LAPSTRAKE_ROOT puts it elsewhere"
            )),
        }
    }

    /// Whether locks say anything.
    pub(super) fn has_locks(&self) -> bool {
        !matches!(self.inner.locks, Locks::Nowhere)
    }

    /// Opens a file of the store to lock it.
    pub(super) fn open_lock(&self, path: &Path) -> Result<File, StoreError> {
        self.inner.locks.open(self.root(), path)
    }

    /// Takes one of the short locks; dropping the file gives it up.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path(name);
        let file = self.open_lock(&path)?;
        had(&path, file.lock())?;
        Ok(file)
    }
}

/// A lock that was waited for. Where there are none it counts as had.
pub(super) fn had(path: &Path, result: io::Result<()>) -> Result<(), StoreError> {
    match result {
        Err(error) if !is_without(&error) => Err(StoreError::at("lock", path, error)),
        _ => Ok(()),
    }
}

/// Whether the lock was taken; not when somebody else holds it.
pub(super) fn taken(path: &Path, result: Result<(), TryLockError>) -> Result<bool, StoreError> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => had(path, Err(error)).map(|()| true),
    }
}

fn is_without(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    errno.is_some_and(|errno| NONE.contains(&errno))
}

/// Locks one byte of a file, or lets go of it. `EINVAL` comes from kernels that are none, which know no
/// locks of open files.
pub(super) fn lock_byte(
    file: &File,
    at: i64,
    kind: libc::c_int,
    wait: bool,
) -> Result<(), nix::Error> {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    };
    loop {
        let deed = match wait {
            true => FcntlArg::F_OFD_SETLKW(&range),
            false => FcntlArg::F_OFD_SETLK(&range),
        };
        match fcntl(file, deed) {
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EINVAL) => return Err(nix::Error::ENOLCK),
            result => return result.map(drop),
        }
    }
}

/// Tries both kinds of locks on a file. Locks that somebody else holds are locks.
fn can_lock(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Err(TryLockError::Error(error)) if is_without(&error) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
        Ok(()) | Err(TryLockError::WouldBlock) => {}
    }
    // In `uses` no thing has the place 0: it is as good as never a digest.
    match lock_byte(file, 0, libc::F_RDLCK, false) {
        Err(errno) if is_without(&errno.into()) => Ok(false),
        Ok(()) | Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// A file in `dir` that is gone once it is closed.
fn nameless(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            let path = dir.join(format!(
                "lapstrake-trial-{}-{}",
                std::process::id(),
                now.as_nanos()
            ));
            let mut options = OpenOptions::new();
            options.create_new(true).read(true).write(true).mode(0o600);
            let file = options.open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a lock file, making it if need be.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn locks_lie_beside_a_store_that_has_none_and_keep_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let (root, runtime) = (dir.path().join("store"), dir.path().join("run"));
        for made in [&root, &runtime] {
            fs::create_dir(made).unwrap();
        }
        let env =
            |name: &str| (name == "XDG_RUNTIME_DIR").then(|| runtime.clone().into_os_string());
        let here = |_: &Path| Ok(true);
        let found = Locks::find_by(&root, env, &here).unwrap();
        assert!(matches!(found, Locks::Here), "{found:?}");
        let not_here = |dir: &Path| Ok(dir != root);
        let place = |locks: &Locks| match locks {
            Locks::Beside(beside) => beside.path().to_owned(),
            other => panic!("{other:?}"),
        };
        let locks = Locks::find_by(&root, env, &not_here).unwrap();
        let beside = place(&locks);
        assert!(beside.starts_with(&runtime), "{beside:?}");
        let path = root.join("index.lock");
        let first = locks.open(&root, &path).unwrap();
        first.lock().unwrap();
        let again = Locks::find_by(&root, env, &not_here).unwrap();
        let second = again.open(&root, &path).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        // The store's own file is not what is locked.
        assert!(File::open(&path).unwrap().try_lock().is_ok());
        drop((first, second, locks));
        assert!(beside.exists(), "somebody uses it");
        // Somebody else could have made it.
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o777)).unwrap();
        let third = Locks::find_by(&root, env, &not_here).unwrap();
        let other = place(&third);
        assert!(!other.starts_with(&runtime), "{other:?}");
        drop((again, third));
        assert!(!beside.exists() && !other.exists(), "nobody uses them");
        let nowhere = |_: &Path| Ok(false);
        let found = Locks::find_by(&root, env, &nowhere).unwrap();
        assert!(matches!(found, Locks::Nowhere), "{found:?}");
    }
}
