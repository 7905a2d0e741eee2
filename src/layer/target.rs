//! [`Target`]: a root file system that is being written.
//!
//! Owns the order in which an entry gets its content and metadata, and what happens to metadata
//! that the disk refuses: it goes to the [`Attributes`] table, and the table forgets an entry as
//! soon as the disk holds all of it.
//!
//! Invariants: every path given to a method is taken literally, a symbolic link in its parents is
//! an error ([`Target::resolve`] is the one that follows links); files are created with `O_EXCL`;
//! no device node and no overlay whiteout is ever made; an entry whose owner the disk cannot hold
//! has no set-id bits on disk, unless a supervisor stands between it and programs.

mod content;
mod ids;
mod truth;
mod write;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

pub use content::Content;
pub use ids::{AllIds, Disk, Ids, SingleId};
pub use truth::{CAPABILITY, Meta, Truth, read_xattrs};

use super::{Attr, Attributes, Mark};
use crate::rootfs::{RootDir, RootPath};

/// What failed, on which path of the root file system.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path} in the root file system: {source}")]
pub struct TargetError {
    /// The operation, a verb with its object.
    pub operation: &'static str,
    /// The path inside the root file system.
    pub path: RootPath,
    /// Why.
    pub source: io::Error,
}

type Result<T> = std::result::Result<T, TargetError>;

/// Looks a path up in the tables of the layers below; `None` when the disk tells the truth.
pub type Lower<'a> = dyn Fn(&RootPath) -> io::Result<Option<Attr>> + 'a;

/// How much of a lower layer's record a change here has replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Superseded {
    /// The entry's own.
    Entry,
    /// The entry's and those of everything below it.
    Tree,
}

/// A root file system being written: a directory and the table of what the disk could not hold.
pub struct Target<'a> {
    root: RootDir,
    attributes: Attributes,
    ids: &'a dyn Ids,
    lower: Option<&'a Lower<'a>>,
    superseded: HashMap<RootPath, Superseded>,
    /// The directory of the last entry: neighbours come one after the other.
    parent: Option<(RootPath, Arc<OwnedFd>)>,
    copier: content::Copier,
}

impl<'a> Target<'a> {
    /// Writes beneath `root`, a merged view or a bare `diff/` directory.
    pub fn new(root: RootDir, ids: &'a dyn Ids) -> Self {
        Self {
            root,
            attributes: match ids.holds_marks() {
                true => Attributes::default(),
                false => Attributes::with_marks(),
            },
            ids,
            lower: None,
            superseded: HashMap::new(),
            parent: None,
            copier: content::Copier::default(),
        }
    }

    /// Continues the table of an earlier writer of the same directory.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Tells the truth of entries that lower layers of a merged view recorded.
    ///
    /// Needed when a layer below has a table: writing into a directory copies it up into the new
    /// layer, and its record must come along. Leave it out when every table is empty.
    #[must_use]
    pub fn with_lower(mut self, lower: &'a Lower<'a>) -> Self {
        self.lower = Some(lower);
        self
    }

    /// The directory that stands for `/`.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// The table so far.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Ends the writing: what the disk could not hold.
    pub fn into_attributes(self) -> Attributes {
        self.attributes
    }

    /// `path` with every symbolic link in it followed, inside the root.
    ///
    /// Components that do not exist stay as they are written.
    ///
    /// # Errors
    /// Links that form a loop, and the kernel's errors.
    pub fn resolve(&self, path: &RootPath) -> Result<RootPath> {
        let resolved = self.root.canonicalize(path);
        resolved.map_err(|source| failed("resolve", path, source))
    }

    /// What `lstat` says of the entry at `path`; none when it, or its directory, does not exist.
    ///
    /// This is what the disk holds: use [`Target::metadata`] for owners and modes.
    ///
    /// # Errors
    /// The kernel's, `NotADirectory` when a parent is a file or a symbolic link.
    pub fn stat(&mut self, path: &RootPath) -> Result<Option<Stat>> {
        let stat = self
            .locate(path)
            .and_then(|(dir, name)| Ok(statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW)?));
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", path, error)),
        }
    }

    /// The true metadata of the entry at `path`: the disk's, overlaid with the tables.
    ///
    /// # Errors
    /// As [`Target::stat`], and those of the lower tables.
    pub fn metadata(&mut self, path: &RootPath) -> Result<Option<Truth>> {
        let Some(stat) = self.stat(path)? else {
            return Ok(None);
        };
        let recorded = self
            .recorded(path)
            .map_err(|source| failed("read the metadata of", path, source))?;
        let mut truth = Truth::new(&stat, recorded.as_ref());
        if recorded.is_none() && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let xattrs = self.locate(path).and_then(|(dir, name)| {
                truth::read_xattrs(openat(&*dir, name, flags, Mode::empty())?.as_fd())
            });
            truth.xattrs =
                xattrs.map_err(|source| failed("read the attributes of", path, source))?;
        }
        Ok(Some(truth))
    }

    /// Deletes the entry at `path` and everything below it; whether there was one.
    ///
    /// # Errors
    /// The kernel's. `path` must not be the root.
    pub fn remove_tree(&mut self, path: &RootPath) -> Result<bool> {
        if path.is_root() {
            return Err(failed("remove", path, Errno::BUSY));
        }
        if let Some((parent, _)) = &self.parent
            && parent.starts_with(path)
        {
            self.parent = None;
        }
        let removed = self
            .locate(path)
            .and_then(|(dir, name)| content::remove_tree(dir.as_fd(), name));
        match removed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("remove", path, error)),
        }
        self.attributes.remove_tree(path);
        self.supersede(path, Superseded::Tree)
            .map_err(|source| failed("remove", path, source))?;
        Ok(true)
    }

    /// Deletes the entry at `path` unless it is a directory; whether it was deleted.
    ///
    /// # Errors
    /// The kernel's, `IsADirectory` for a directory.
    pub fn remove_file(&mut self, path: &RootPath) -> Result<bool> {
        let removed = self
            .locate(path)
            .and_then(|(dir, name)| Ok(unlinkat(&*dir, name, AtFlags::empty())?));
        match removed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("remove", path, error)),
        }
        self.attributes.remove(path);
        self.supersede(path, Superseded::Entry)
            .map_err(|source| failed("remove", path, source))?;
        Ok(true)
    }

    /// Marks the path in the table, if it is there that deletions are marked; else false.
    pub(super) fn mark(&mut self, path: &RootPath, mark: Mark) -> bool {
        let marks = self.attributes.marks_mut();
        marks.map(|marks| marks.set(path.clone(), mark)).is_some()
    }

    /// The directory that holds `path`, as a descriptor for `*at` calls, and the entry's name.
    ///
    /// For what this type does not do (whiteouts, opaque markers). No link is followed; the root
    /// itself is `.` in itself.
    ///
    /// # Errors
    /// The kernel's, `NotADirectory` when a parent is a file or a symbolic link.
    pub fn parent_of<'p>(&mut self, path: &'p RootPath) -> Result<(Arc<OwnedFd>, &'p OsStr)> {
        self.locate(path)
            .map_err(|source| failed("open the directory of", path, source))
    }

    fn locate<'p>(&mut self, path: &'p RootPath) -> io::Result<(Arc<OwnedFd>, &'p OsStr)> {
        let Some(parent) = path.parent() else {
            let root = self.root.as_fd().try_clone_to_owned()?;
            return Ok((Arc::new(root), OsStr::new(".")));
        };
        let name = path.file_name().unwrap_or_else(|| OsStr::new("."));
        if let Some((cached, dir)) = &self.parent
            && *cached == parent
        {
            return Ok((Arc::clone(dir), name));
        }
        let dir = Arc::new(self.descend(&parent)?);
        self.carry_up(&parent)?;
        self.parent = Some((parent, Arc::clone(&dir)));
        Ok((dir, name))
    }

    /// Opens the directory `path`, from the cached one where that is an ancestor.
    fn descend(&self, path: &RootPath) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (mut dir, skipped) = match &self.parent {
            Some((cached, dir)) if path.starts_with(cached) => {
                (dir.try_clone()?, cached.components().count())
            }
            _ => (self.root.as_fd().try_clone_to_owned()?, 0),
        };
        for name in path.components().skip(skipped) {
            dir = openat(&dir, name, flags, Mode::empty())?;
        }
        Ok(dir)
    }

    /// Brings the lower layers' records of `dir` and its ancestors into this table: an entry made
    /// below copies them all up, with what the disk says of them.
    fn carry_up(&mut self, dir: &RootPath) -> io::Result<()> {
        if self.lower.is_none() {
            return Ok(());
        }
        let mut next = Some(dir.clone());
        while let Some(path) = next {
            if let Some(attr) = self.recorded(&path)? {
                self.attributes.insert(path.clone(), attr);
            }
            next = path.parent();
        }
        Ok(())
    }

    /// The record that holds for `path` now, this table's or a lower one's.
    fn recorded(&self, path: &RootPath) -> io::Result<Option<Attr>> {
        if let Some(attr) = self.attributes.get(path) {
            return Ok(Some(attr.clone()));
        }
        let Some(lower) = self.lower else {
            return Ok(None);
        };
        if self.superseded.contains_key(path) {
            return Ok(None);
        }
        let mut ancestor = path.parent();
        while let Some(dir) = ancestor {
            if self.superseded.get(&dir) == Some(&Superseded::Tree) {
                return Ok(None);
            }
            ancestor = dir.parent();
        }
        lower(path)
    }

    /// Remembers that lower records of `path` say nothing any more.
    fn supersede(&mut self, path: &RootPath, what: Superseded) -> io::Result<()> {
        let Some(lower) = self.lower else {
            return Ok(());
        };
        let replaced = what == Superseded::Tree || lower(path)?.is_some();
        if replaced && self.superseded.get(path) != Some(&Superseded::Tree) {
            self.superseded.insert(path.clone(), what);
        }
        Ok(())
    }
}

fn failed(operation: &'static str, path: &RootPath, source: impl Into<io::Error>) -> TargetError {
    TargetError {
        operation,
        path: path.clone(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
