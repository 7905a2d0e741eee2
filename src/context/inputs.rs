//! [`Inputs`]: what of a context was looked at, for whoever has to know when to look again.
//!
//! A file counts as read if it was selected, whether its content was read or known. A directory
//! counts if it was listed: what is added to it or taken away could change what is selected. Where a
//! symbolic link was followed or selected, its directory counts, for that changes with the link.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, PoisonError};

use crate::rootfs::{RootDir, RootPath};

/// The kernel follows no more than this.
const MOST_LINKS: usize = 40;

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

    /// Adds the directories of the links that `path` leads through, and of those they lead through.
    pub fn add_links(&self, root: &RootDir, path: &RootPath) {
        let mut rest: Vec<OsString> = path.components().map(OsStr::to_owned).collect();
        rest.reverse();
        let (mut at, mut links) = (RootPath::root(), 0);
        while let Some(name) = rest.pop() {
            let next = at.join(&name);
            // What cannot be read as a link is none, or leads nowhere, which others tell of.
            let Ok(target) = root.read_link(&next) else {
                at = next;
                continue;
            };
            self.add_link(&next);
            links += 1;
            if links > MOST_LINKS {
                return;
            }
            let target = at.join(&target);
            rest.extend(target.components().rev().map(OsStr::to_owned));
            at = RootPath::root();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_directories_of_links_count() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::create_dir_all(at("c/d")).unwrap();
        std::fs::write(at("c/d/file"), "").unwrap();
        symlink("../../one", at("a/b/link")).unwrap();
        symlink("/c/d", at("one")).unwrap();
        symlink("round", at("c/round")).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        for (path, expected) in [
            ("/c/d/file", &[][..]),
            ("/a/b/link/file", &["/", "/a/b"]),
            ("/one/file", &["/"]),
            ("/one/none", &["/"]),
            ("/c/round/x", &["/c"]),
        ] {
            let inputs = Inputs::default();
            inputs.add_links(&root, &RootPath::new(path));
            let expected: Vec<_> = expected.iter().map(RootPath::new).collect();
            let all = inputs.all();
            assert_eq!(all.keys().cloned().collect::<Vec<_>>(), expected, "{path}");
            assert!(all.values().all(|input| input.is_dir));
        }
    }

    #[test]
    fn the_first_time_counts() {
        let inputs = Inputs::default();
        let path = RootPath::new("/d/x");
        inputs.add_link(&path);
        inputs.add_directory(&RootPath::new("/d"), (5, 6));
        inputs.add_directory(&RootPath::new("/d"), (7, 8));
        inputs.add_file(&path, (1, 2));
        let all: Vec<_> = inputs.all().into_values().collect();
        let input = |is_dir, mtime| Input {
            is_dir,
            mtime: Some(mtime),
        };
        assert_eq!(all, [input(true, (5, 6)), input(false, (1, 2))]);
    }
}
