//! What is in use, and when it was used last.
//!
//! A process that finds a layer, a blob, a cache mount or a repository holds it until it closes the
//! store: a shared lock on one byte of the file `uses`, whose place stands for the thing. Whoever
//! collects takes that byte alone, without waiting, before it puts a thing aside, and leaves what it
//! cannot have so. A thing that was looked up is therefore never taken away, and one that is being
//! taken away is not found. The locks belong to the open file, so they end with the process, and a
//! process that collects opens the file once more: what it has in use itself is in its way, too.
//!
//! The last use of a thing is the time of one of its files. It is set no more than once an hour, so
//! that a build that finds everything writes nothing.

use std::fs::{File, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::libc;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use super::locks::{Locks, had, lock_byte};
use super::{Store, StoreError};
use crate::image::Digest;

/// How old a time of use is before it is set anew.
const GRANULE: Duration = Duration::from_secs(60 * 60);
/// The file whose bytes are locked.
const FILE: &str = "uses";

/// The place of a thing in the file. Two things with one place merely keep each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(i64);

impl Place {
    pub(super) fn blob(hex: &str) -> Self {
        Self::of("blob", "", hex)
    }

    pub(super) fn layer(map: &str, id: &str) -> Self {
        Self::of("layer", map, id)
    }

    pub(super) fn cache(map: &str, hex: &str) -> Self {
        Self::of("cache", map, hex)
    }

    pub(super) fn repository(hex: &str) -> Self {
        Self::of("repository", "", hex)
    }

    pub(super) fn tree(map: &str, name: &str) -> Self {
        Self::of("tree", map, name)
    }

    pub(super) fn at(self) -> i64 {
        self.0
    }

    fn of(kind: &str, map: &str, name: &str) -> Self {
        let digest = Digest::of(format!("{kind}/{map}/{name}").as_bytes());
        // 60 bits: a file has no places from 2^63 on.
        Self(i64::from_str_radix(&digest.hex()[..15], 16).unwrap_or_default())
    }
}

impl Store {
    /// Opens the file of uses.
    pub(super) fn open_uses(root: &Path, locks: &Locks) -> Result<File, StoreError> {
        locks.open(root, &root.join(FILE))
    }

    /// Keeps a thing from being collected as long as this store is open; waits while it is being
    /// put aside. Called before the thing is looked for, and before a new one gets its name.
    pub(super) fn hold(&self, place: Place) -> Result<(), StoreError> {
        if self.own().held.contains(&place) {
            return Ok(());
        }
        let done = lock_byte(&self.inner.uses, place.0, libc::F_RDLCK, true);
        had(&self.path(FILE), done.map_err(Into::into))?;
        self.own().held.insert(place);
        Ok(())
    }
}

/// One who collects.
pub(super) struct Taker {
    uses: File,
}

impl Taker {
    pub(super) fn new(store: &Store) -> Result<Self, StoreError> {
        let uses = Store::open_uses(store.root(), &store.inner.locks)?;
        Ok(Self { uses })
    }

    /// Takes a thing alone and says whether nobody has it in use.
    pub(super) fn take(&self, place: Place) -> Result<bool, StoreError> {
        match lock_byte(&self.uses, place.0, libc::F_WRLCK, false) {
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            done => had(Path::new(FILE), done.map_err(Into::into)).map(|()| true),
        }
    }

    /// Lets others at it again.
    pub(super) fn give_back(&self, place: Place) -> Result<(), StoreError> {
        let done = lock_byte(&self.uses, place.0, libc::F_UNLCK, false);
        had(Path::new(FILE), done.map_err(Into::into))
    }
}

/// As [`note_use`], for a file that may be gone.
pub(super) fn note_use_of(path: &Path) {
    if let Ok(metadata) = std::fs::metadata(path) {
        note_use(path, &metadata);
    }
}

/// Notes that what `path` stands for is used now, unless that was noted a short while ago.
pub(super) fn note_use(path: &Path, metadata: &Metadata) {
    let is_new = |time: SystemTime| time.elapsed().is_ok_and(|age| age < GRANULE);
    if !metadata.modified().is_ok_and(is_new) {
        note_use_now(path);
    }
}

/// Notes that what `path` stands for is used now.
pub(super) fn note_use_now(path: &Path) {
    let stamp = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: stamp(UTIME_OMIT),
        last_modification: stamp(UTIME_NOW),
    };
    // A use that cannot be noted makes the thing look older than it is, and no more.
    match utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(_) => {}
    }
}
