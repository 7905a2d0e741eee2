//! [`Beside`]: the directory of locks of a store whose own file system has none.
//!
//! Who uses it has `here` in it locked together with all others, and the last to leave takes it away. Nobody
//! is left with a lock that the others do not see:
//!
//! - Who leaves has `here` alone before anything is deleted, and deletes it as the last file. Who comes
//!   meanwhile waits for its lock, and finds then that `here` is another file or none: it comes again.
//! - Who comes after that and before the directory is gone makes a new `here` in it, and the directory stays,
//!   for it is not empty.
//!
//! A process that is killed leaves the directory to the next one. So does one that has started another
//! process at that moment, which has its open files until it executes a program.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::locks::open_lock;

/// The file by which users of the directory know of each other. It is the name of no file of the store.
const HERE: &str = ".here";

/// How often somebody may leave just as we come.
const TRIES: usize = 1000;

/// A directory in use.
#[derive(Debug)]
pub(super) struct Beside {
    dir: PathBuf,
    here: File,
}

impl Beside {
    /// Uses the directory `dir`, made if it is not there; none if it is not ours alone. Its file system has
    /// locks.
    pub(super) fn join(dir: &Path) -> Option<Self> {
        for _ in 0..TRIES {
            match Self::come(dir) {
                Ok(Some(beside)) => return Some(beside),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// None, or `NotFound`, if somebody has left meanwhile and has taken the directory along.
    fn come(dir: &Path) -> io::Result<Option<Self>> {
        if !is_ours(dir)? {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let path = dir.join(HERE);
        let here = open_lock(&path)?;
        here.lock_shared()?;
        let dir = dir.to_owned();
        Ok(is_same(&here, &path)?.then_some(Self { dir, here }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Takes the directory away if nobody else is here.
    fn leave(&self) -> io::Result<()> {
        if self.here.try_lock().is_err() {
            return Ok(());
        }
        // Whoever was alone here before us has taken it.
        if !is_same(&self.here, &self.dir.join(HERE))? {
            return Ok(());
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != HERE {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(self.dir.join(HERE))?;
        match fs::remove_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What stays is a few empty files, which the next one to leave takes away.
        drop(self.leave());
    }
}

/// Whether an open file is the one at `path`.
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, fs::symlink_metadata(path)?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

/// Makes a directory that nobody else can enter, or finds it to be one.
fn is_ours(dir: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Ok(false),
        _ => {}
    }
    let us = rustix::process::geteuid().as_raw();
    let metadata = fs::symlink_metadata(dir)?;
    Ok(metadata.is_dir() && metadata.uid() == us && metadata.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn whoever_has_a_lock_has_it_alone_while_others_come_and_leave() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("locks");
        let (inside, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let visit = || {
            let beside = Beside::join(&dir).expect("it is ours");
            let file = open_lock(&beside.path().join("lock")).unwrap();
            if file.try_lock().is_ok() {
                assert!(!inside.swap(true, Ordering::AcqRel), "two have the lock");
                std::thread::yield_now();
                inside.store(false, Ordering::Release);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..500).for_each(|_| visit()));
            }
        });
        assert!(rounds.load(Ordering::Relaxed) > 0);
        // Two that leave at once may each take the other for one who stays.
        visit();
        assert!(!dir.exists(), "the last one takes it away");
    }

    #[test]
    fn what_others_could_have_made_is_not_used() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        fs::create_dir(path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path("real")).unwrap();
        fs::set_permissions(path("real"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("real", path("link")).unwrap();
        for name in ["open", "link", "none/below"] {
            assert!(Beside::join(&path(name)).is_none(), "{name}");
        }
        assert!(Beside::join(&path("real")).is_some());
    }
}
