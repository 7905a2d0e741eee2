//! [`Paths`]: the paths of a tree that may not be what they are to be.

use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::difference::Changes;
use super::entry;
use crate::error::Error;
use crate::roots::Diff;

/// What may be wrong at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Something below it.
    Way,
    /// The entry itself; what is in a directory has its own paths.
    Entry,
    /// Everything from there on.
    All,
}

/// Paths, by the directory they are in.
#[derive(Debug, Default)]
pub struct Paths {
    directories: HashMap<PathBuf, BTreeMap<CString, How>>,
    /// All there is.
    everything: bool,
    /// The root directory itself.
    root: bool,
}

impl Paths {
    /// Every path there is.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    pub fn is_everything(&self) -> bool {
        self.everything
    }

    pub fn is_empty(&self) -> bool {
        !self.everything && self.directories.is_empty() && !self.root
    }

    /// What may be wrong in a directory.
    pub fn of(&self, dir: &Path) -> Option<&BTreeMap<CString, How>> {
        self.directories.get(dir)
    }

    /// Adds a path with those that lead to it. The root is on the way to all.
    pub fn add(&mut self, path: &Path, how: How) -> io::Result<()> {
        let mut how = how;
        let mut path = path;
        self.root = true;
        while let (Some(dir), Some(name)) = (path.parent(), path.file_name()) {
            let names = self.directories.entry(dir.to_owned()).or_default();
            match names.entry(entry::c_name(name)?) {
                Vacant(new) => drop(new.insert(how)),
                Occupied(mut known) => {
                    let known = known.get_mut();
                    *known = how.max(*known);
                    // So what leads to it is known, too.
                    break;
                }
            }
            (path, how) = (dir, How::Way);
        }
        Ok(())
    }

    /// Adds what a step has changed.
    pub fn add_changes(&mut self, changes: &Changes) -> io::Result<()> {
        for (path, stat) in &changes.changed {
            self.add(path, how(entry::kind(stat)))?;
        }
        let gone = changes.deleted.iter().chain(&changes.opaque);
        for path in gone.chain(&changes.strays) {
            self.add(path, How::All)?;
        }
        Ok(())
    }

    /// Adds every path about which a layer says something.
    pub fn add_layer(&mut self, layer: &Diff) -> Result<(), Error> {
        let failed = || Error::io("list the files of the layer", &layer.dir);
        let root = super::open(&layer.dir)?;
        self.root = true;
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let dir = entry::open_dir(root.as_fd(), &path).map_err(failed())?;
            for (name, stat) in entry::list(dir.as_fd()).map_err(failed())? {
                let (entry, kind) = (entry::join(&path, &name), entry::kind(&stat));
                self.add(&entry, how(kind)).map_err(failed())?;
                if kind == FileType::Directory {
                    pending.push(entry);
                }
            }
        }
        for path in layer.deleted.iter().chain(&layer.opaque) {
            self.add(path, How::All).map_err(failed())?;
        }
        Ok(())
    }
}

/// What is no directory may stand for one, with all that is in it.
fn how(kind: FileType) -> How {
    match kind {
        FileType::Directory => How::Entry,
        _ => How::All,
    }
}
