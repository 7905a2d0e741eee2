//! [`Inputs`]: what of a context was looked at, for whoever has to know when to look again.
//!
//! A file counts as read if it was selected, whether its content was read or known. A directory
//! counts if it was listed: what is added to it or taken away could change what is selected. Where a
//! symbolic link was followed or selected, its directory counts, for that changes with the link.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::rootfs::RootPath;

/// A modification time: seconds and nanoseconds.
pub type Mtime = (i64, u64);

/// What was looked at.
#[derive(Debug, Default)]
pub struct Inputs {
    all: Mutex<BTreeMap<RootPath, Input>>,
}

/// A file or directory that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Whether it is a directory, of which the names count.
    pub is_dir: bool,
    /// Its modification time when it was looked at first; none if it was not asked for.
    pub mtime: Option<Mtime>,
}

impl Inputs {
    /// Adds a file that was selected.
    pub fn add_file(&self, path: &RootPath, mtime: Mtime) {
        self.add(path, false, Some(mtime));
    }

    /// Adds a directory that was listed; `mtime` is that before it was.
    pub fn add_directory(&self, path: &RootPath, mtime: Mtime) {
        self.add(path, true, Some(mtime));
    }

    /// Adds the directory in which a link lies.
    pub fn add_link(&self, path: &RootPath) {
        if let Some(parent) = path.parent() {
            self.add(&parent, true, None);
        }
    }

    /// What was looked at, in order of the paths.
    pub fn all(&self) -> BTreeMap<RootPath, Input> {
        self.lock().clone()
    }

    fn add(&self, path: &RootPath, is_dir: bool, mtime: Option<Mtime>) {
        let mut all = self.lock();
        let input = all.entry(path.clone()).or_insert(Input { is_dir, mtime });
        input.is_dir |= is_dir;
        input.mtime = input.mtime.or(mtime);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RootPath, Input>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
