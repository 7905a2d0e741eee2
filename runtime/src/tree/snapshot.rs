//! [`Snapshot`]: what a tree was, so that it can be told what became of it.
//!
//! A change of anything sets an inode's time of change, which nobody can set back. Times are compared
//! for inequality only, and [`Snapshot::settle`] waits until a change would give another one, so neither
//! a clock that jumps nor a change within one tick is missed.
//!
//! A snapshot can be written down, and proves later that nobody has touched the tree meanwhile.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Stat, Timespec, fstat};
use rustix::time::{ClockId, clock_gettime};

use super::entry;
use super::work::share;
use super::written::{Reader, Writer};
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

    fn write(&self, writer: &mut Writer) {
        writer.number(self.inode);
        for number in [self.mode, self.owner.0, self.owner.1] {
            writer.small(number);
        }
        writer.number(self.size.cast_unsigned());
        for (seconds, nanoseconds) in [self.modified, self.changed] {
            writer.number(seconds.cast_unsigned());
            writer.number(nanoseconds);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let time = |reader: &mut Reader<'_>| -> Option<Time> {
            Some((reader.number()?.cast_signed(), reader.number()?))
        };
        Some(Self {
            inode: reader.number()?,
            mode: reader.small()?,
            owner: (reader.small()?, reader.small()?),
            size: reader.number()?.cast_signed(),
            modified: time(reader)?,
            changed: time(reader)?,
        })
    }

    fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.mode).is_dir()
    }

    /// Whether the other one is the same directory, whatever has changed about it and in it.
    pub fn is_same_directory(&self, other: &Self) -> bool {
        self.inode == other.inode && self.is_directory() && other.is_directory()
    }
}

/// Names and stamps of one directory, by name.
pub type Listing = Vec<(CString, Stamp)>;

/// A tree as it was.
#[derive(Debug)]
pub struct Snapshot {
    root: Stamp,
    /// Directories that are gone may be in it: who goes from the root downwards does not meet them.
    directories: HashMap<PathBuf, Listing>,
    /// The kernel's clock when something was looked at last; none for one that was written down.
    at: Option<Timespec>,
}

impl Snapshot {
    /// What was found just now: the root, and what is in each directory, in order.
    pub fn new(root: &Stat, directories: HashMap<PathBuf, Listing>) -> Self {
        Self {
            root: Stamp::new(root),
            directories,
            at: Some(clock()),
        }
    }

    /// Looks at everything beneath `root`, whose path on the host is `place`.
    pub fn take(root: BorrowedFd<'_>, place: &Path) -> Result<Self, Error> {
        let look = |found: &mut Vec<(PathBuf, Listing)>, path: PathBuf, more: &mut Vec<PathBuf>| {
            let listing = list(root, &path, more);
            let listing = listing.map_err(Error::io("list", &place.join(&path)))?;
            found.push((path, listing));
            Ok(())
        };
        let parts = share(vec![PathBuf::new()], &Vec::new, &look)?;
        let root = fstat(root).map_err(|e| Error::io("look at", place)(e.into()))?;
        Ok(Self::new(&root, parts.into_iter().flatten().collect()))
    }

    /// Looks again at the root and at what is in these directories, in which something was done; they
    /// need not be there any more. Directories that are new have to be among them.
    pub fn look_again<'p>(
        &mut self,
        root: BorrowedFd<'_>,
        dirs: impl Iterator<Item = &'p Path>,
    ) -> io::Result<()> {
        for path in dirs {
            match list(root, path, &mut Vec::new()) {
                Ok(listing) => drop(self.directories.insert(path.to_owned(), listing)),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    self.directories.remove(path);
                }
                Err(error) => return Err(error),
            }
        }
        self.root = Stamp::new(&fstat(root)?);
        self.at = Some(clock());
        Ok(())
    }

    /// Waits until what changes from now on gets another time than all that was looked at.
    pub fn settle(&self) {
        if self.at.is_some_and(|at| at == clock()) {
            settle();
        }
    }

    pub fn root(&self) -> &Stamp {
        &self.root
    }

    /// Writes it down.
    pub fn write(&self, writer: &mut Writer) {
        self.root.write(writer);
        let mut all = Vec::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let listing = self.listing(&path);
            let directories = listing.iter().filter(|(_, stamp)| stamp.is_directory());
            pending.extend(directories.map(|(name, _)| entry::join(&path, name)));
            all.push((path, listing));
        }
        writer.list(all.into_iter(), |writer, (path, listing)| {
            writer.path(&path);
            writer.list(listing.iter(), |writer, (name, stamp)| {
                writer.bytes(name.to_bytes());
                stamp.write(writer);
            });
        });
    }

    /// Reads what was written down.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let root = Stamp::read(reader)?;
        let directories = reader.list(|reader| {
            let path = reader.path()?;
            let listing = reader.list(|reader| Some((reader.name()?, Stamp::read(reader)?)))?;
            Some((path, listing))
        })?;
        Some(Self {
            root,
            directories: directories.into_iter().collect(),
            at: None,
        })
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

/// The clock by which the kernel stamps files.
fn clock() -> Timespec {
    clock_gettime(ClockId::RealtimeCoarse)
}

/// Waits until what changes from now on gets another time than what has changed already: the
/// kernel stamps files with a clock that stands still for some milliseconds at a time.
pub fn settle() {
    let begin = clock();
    for _ in 0..PATIENCE {
        if clock() != begin {
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
            before.settle();
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
