//! [`Marks`]: what a layer deletes of the layers below it, as a table.
//!
//! In overlayfs' form these are entries and attributes in `diff/`. Where they cannot be made, or no
//! overlay is ever mounted of the layer, they are here, and `diff/` holds nothing but files.
//!
//! Invariant: a deleted path is not in `diff/`, an opaque one is a directory there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use crate::rootfs::RootPath;

/// What is said of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// What layers below have there is gone.
    Deleted,
    /// It is a directory of which nothing below shows through.
    Opaque,
}

/// The marks of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Names, by the directory that they were in.
    deleted: BTreeMap<RootPath, BTreeSet<OsString>>,
    opaque: BTreeSet<RootPath>,
}

impl Marks {
    /// Marks `path`, which is not the root if it is deleted.
    pub fn set(&mut self, path: RootPath, mark: Mark) {
        self.clear(&path);
        match (mark, path.parent(), path.file_name()) {
            (Mark::Opaque, ..) => drop(self.opaque.insert(path)),
            (Mark::Deleted, Some(dir), Some(name)) => {
                let names = self.deleted.entry(dir).or_default();
                names.insert(name.to_owned());
            }
            (Mark::Deleted, ..) => {}
        }
    }

    /// Takes the mark of `path` away.
    pub fn clear(&mut self, path: &RootPath) {
        self.opaque.remove(path);
        if let (Some(dir), Some(name)) = (path.parent(), path.file_name())
            && let Some(names) = self.deleted.get_mut(&dir)
        {
            names.remove(name);
            if names.is_empty() {
                self.deleted.remove(&dir);
            }
        }
    }

    /// Takes the marks of `path` and of everything below it away.
    pub fn remove_tree(&mut self, path: &RootPath) {
        self.clear(path);
        self.deleted.retain(|dir, _| !dir.starts_with(path));
        self.opaque.retain(|dir| !dir.starts_with(path));
    }

    /// Whether what is below at `path` itself is gone.
    pub fn is_deleted(&self, path: &RootPath) -> bool {
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => self
                .deleted
                .get(&dir)
                .is_some_and(|names| names.contains(name)),
            _ => false,
        }
    }

    /// Whether nothing below shows through the directory `path`.
    pub fn is_opaque(&self, path: &RootPath) -> bool {
        self.opaque.contains(path)
    }

    /// The names in the directory `dir` that are deleted.
    pub fn deleted_in(&self, dir: &RootPath) -> impl Iterator<Item = &OsStr> {
        let names = self.deleted.get(dir).into_iter().flatten();
        names.map(OsString::as_os_str)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (RootPath, Mark)> {
        let deleted = self.deleted.iter().flat_map(|(dir, names)| {
            let paths = names.iter().map(|name| dir.join(name));
            paths.map(|path| (path, Mark::Deleted))
        });
        let opaque = self.opaque.iter().map(|dir| (dir.clone(), Mark::Opaque));
        deleted.chain(opaque)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.opaque.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_directory_only() {
        let mut marks = Marks::default();
        for path in ["/a", "/a-b/x", "/a/x", "/a/y", "/a/z/x", "/b"] {
            marks.set(RootPath::new(path), Mark::Deleted);
        }
        marks.set(RootPath::new("/a/o"), Mark::Opaque);
        let in_dir = |marks: &Marks, dir: &str| -> Vec<String> {
            let dir = RootPath::new(dir);
            let names = marks.deleted_in(&dir).map(OsStr::to_string_lossy);
            names.map(Into::into).collect()
        };
        assert_eq!(in_dir(&marks, "/a"), ["x", "y"]);
        assert_eq!(in_dir(&marks, "/"), ["a", "b"]);
        assert!(marks.is_opaque(&RootPath::new("/a/o")));
        marks.remove_tree(&RootPath::new("/a"));
        assert_eq!(in_dir(&marks, "/a"), [""; 0]);
        assert_eq!(in_dir(&marks, "/a-b"), ["x"]);
        assert!(!marks.is_opaque(&RootPath::new("/a/o")));
    }
}
