//! [`Snapshot`]: what a tree was, so that it can be told what became of it.
//!
//! A change of anything sets an inode's time of change, which nobody can set back. Times are compared
//! for inequality only, and [`settle`] waits until a change would give another one, so neither a
//! clock that jumps nor a change within one tick is missed.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Stat, fstat};
use rustix::time::{ClockId, clock_gettime};

use super::entry;
use super::work::share;
use crate::error::Error;

/// Seconds and nanoseconds.
type Time = (i64, u64);

/// How long to wait for the clock at most: it may have been set back.
const PATIENCE: u32 = 100;

/// What is compared of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    size: i64,
    modified: Time,
    changed: Time,
}

impl Stamp {
    pub fn new(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size,
            modified: (stat.st_mtime as _, stat.st_mtime_nsec as _),
            changed: (stat.st_ctime as _, stat.st_ctime_nsec as _),
        }
    }

    /// Whether the other one is the same directory, whatever has changed about it and in it.
    pub fn is_same_directory(&self, other: &Self) -> bool {
        let is_directory = |stamp: &Self| FileType::from_raw_mode(stamp.mode).is_dir();
        self.inode == other.inode && is_directory(self) && is_directory(other)
    }
}

/// Names and stamps of one directory, by name.
type Listing = Vec<(CString, Stamp)>;

/// A tree as it was.
#[derive(Debug)]
pub struct Snapshot {
    root: Stamp,
    directories: HashMap<PathBuf, Listing>,
}

impl Snapshot {
    /// Looks at everything beneath `root`, whose path on the host is `place`, and waits until the
    /// clock is past all of it.
    pub fn take(root: BorrowedFd<'_>, place: &Path) -> Result<Self, Error> {
        let look = |found: &mut Vec<(PathBuf, Listing)>, path: PathBuf, more: &mut Vec<PathBuf>| {
            let listing = list(root, &path, more);
            let listing = listing.map_err(Error::io("list", &place.join(&path)))?;
            found.push((path, listing));
            Ok(())
        };
        let parts = share(vec![PathBuf::new()], &Vec::new, &look)?;
        let root = fstat(root).map_err(|e| Error::io("look at", place)(e.into()))?;
        settle();
        Ok(Self {
            root: Stamp::new(&root),
            directories: parts.into_iter().flatten().collect(),
        })
    }

    pub fn root(&self) -> &Stamp {
        &self.root
    }

    /// What the directory `path` held; nothing if it was none.
    pub fn listing(&self, path: &Path) -> &[(CString, Stamp)] {
        self.directories.get(path).map_or(&[], Vec::as_slice)
    }

    /// Takes the entry to have been what it is now, if it was there at all. For changes of our own.
    pub fn forgive(&mut self, path: &Path, now: &Stat) {
        let stamp = Stamp::new(now);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            self.root = stamp;
            return;
        };
        let (Ok(name), Some(listing)) = (entry::c_name(name), self.directories.get_mut(parent))
        else {
            return;
        };
        if let Ok(at) = find(listing, &name)
            && let Some((_, old)) = listing.get_mut(at)
        {
            *old = stamp;
        }
    }
}

/// Where the name is in a listing, or would be.
pub fn find(listing: &[(CString, Stamp)], name: &CStr) -> Result<usize, usize> {
    listing.binary_search_by(|(known, _)| known.as_c_str().cmp(name))
}

fn list(root: BorrowedFd<'_>, path: &Path, more: &mut Vec<PathBuf>) -> io::Result<Listing> {
    let dir = entry::open_dir(root, path)?;
    let mut listing = Vec::new();
    for (name, stat) in entry::list(dir.as_fd())? {
        if entry::kind(&stat) == FileType::Directory {
            more.push(entry::join(path, &name));
        }
        listing.push((name, Stamp::new(&stat)));
    }
    listing.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(listing)
}

/// Waits until what changes from now on gets another time than what has changed already: the
/// kernel stamps files with a clock that stands still for some milliseconds at a time.
pub fn settle() {
    let now = || clock_gettime(ClockId::RealtimeCoarse);
    let begin = now();
    for _ in 0..PATIENCE {
        if now() != begin {
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_change_right_after_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let root = File::open(dir.path()).unwrap();
        for content in ["a", "b", "c", "d"] {
            fs::write(&file, content).unwrap();
            let before = Snapshot::take(root.as_fd(), dir.path()).unwrap();
            let (name, old) = before.listing(Path::new("")).first().cloned().unwrap();
            fs::write(&file, content.to_uppercase()).unwrap();
            let now = entry::stat(root.as_fd(), &name).unwrap();
            assert_ne!(Stamp::new(&now), old);
        }
    }

    #[test]
    fn what_we_did_ourselves_is_forgiven() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/file"), "").unwrap();
        let root = File::open(dir.path()).unwrap();
        let mut before = Snapshot::take(root.as_fd(), dir.path()).unwrap();
        fs::write(dir.path().join("d/file"), "x").unwrap();
        let now = rustix::fs::stat(dir.path().join("d/file")).unwrap();
        before.forgive(Path::new("d/file"), &now);
        let stamps = before.listing(Path::new("d"));
        assert_eq!(stamps.first().unwrap().1, Stamp::new(&now));
    }
}
