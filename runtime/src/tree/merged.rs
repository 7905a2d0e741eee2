//! [`Merged`]: what layers on top of each other show, one directory at a time.
//!
//! The layers are the directories of [`Diff`]s, topmost first, and known by their place in that
//! order. A directory is shown by every layer that has it, down to the first that has something else
//! there or hides what is below; anything else by the topmost layer that has it. Who goes from
//! directory to directory carries along which layers show it, so no path is looked up from the root
//! in every layer.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::entry;
use crate::error::Error;
use crate::roots::Diff;

/// Layers on top of each other.
#[derive(Debug)]
pub struct Merged {
    roots: Vec<OwnedFd>,
    /// What is gone or opaque, and the topmost layer that says so: of layers below it nothing shows.
    cut: HashMap<PathBuf, usize>,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub enum Shown {
    Nothing,
    /// What is no directory, and the layer that has it.
    Entry(usize, Stat),
    /// A directory, and the layers that show it, topmost first.
    Directory(Vec<usize>),
}

/// A directory of the merged layers, open in each that shows it.
pub struct Opened {
    path: PathBuf,
    /// Topmost first.
    layers: Vec<(usize, OwnedFd)>,
}

/// What is found out about a path, from the topmost layer down.
struct Finding {
    shown: Shown,
    done: bool,
}

impl Merged {
    /// Opens `lowers`, topmost first.
    pub fn open(lowers: &[Diff]) -> Result<Self, Error> {
        let mut merged = Self {
            roots: Vec::new(),
            cut: HashMap::new(),
        };
        for (at, lower) in lowers.iter().enumerate() {
            merged.roots.push(super::open(&lower.dir)?);
            for path in lower.deleted.iter().chain(&lower.opaque) {
                merged.cut.entry(path.clone()).or_insert(at);
            }
        }
        Ok(merged)
    }

    /// The layers that show the root directory.
    pub fn all(&self) -> Vec<usize> {
        (0..self.roots.len()).collect()
    }

    /// Opens the directory `path` in `layers`, which show it.
    pub fn open_dir(&self, path: &Path, layers: &[usize]) -> io::Result<Opened> {
        let open = |layer: &usize| -> io::Result<(usize, OwnedFd)> {
            let root = self.roots.get(*layer).ok_or(Errno::INVAL)?;
            Ok((*layer, entry::open_dir(root.as_fd(), path)?))
        };
        Ok(Opened {
            path: path.to_owned(),
            layers: layers.iter().map(open).collect::<io::Result<_>>()?,
        })
    }

    /// What a name in a directory shows.
    pub fn child(&self, dir: &Opened, name: &CStr) -> io::Result<Shown> {
        let mut finding = Finding::new();
        for (layer, fd) in &dir.layers {
            match entry::stat(fd.as_fd(), name) {
                Ok(stat) => self.see(&mut finding, &dir.path, name, *layer, stat),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            if finding.done {
                break;
            }
        }
        Ok(finding.shown)
    }

    /// Everything in a directory; names that show nothing are there, too.
    pub fn children(&self, dir: &Opened) -> io::Result<BTreeMap<CString, Shown>> {
        let mut found: BTreeMap<CString, Finding> = BTreeMap::new();
        for (layer, fd) in &dir.layers {
            for (name, stat) in entry::list(fd.as_fd())? {
                let finding = found.entry(name.clone()).or_insert_with(Finding::new);
                self.see(finding, &dir.path, &name, *layer, stat);
            }
        }
        let shown = found.into_iter().map(|(name, found)| (name, found.shown));
        Ok(shown.collect())
    }

    fn see(&self, finding: &mut Finding, dir: &Path, name: &CStr, layer: usize, stat: Stat) {
        if finding.done {
            return;
        }
        let cut = match self.cut.is_empty() {
            true => None,
            false => self.cut.get(&entry::join(dir, name)),
        };
        if cut.is_some_and(|cut| layer > *cut) || entry::is_whiteout(&stat) {
            finding.done = true;
            return;
        }
        let is_directory = entry::kind(&stat) == FileType::Directory;
        match &mut finding.shown {
            Shown::Directory(layers) if is_directory => layers.push(layer),
            Shown::Nothing if is_directory => finding.shown = Shown::Directory(vec![layer]),
            Shown::Nothing => {
                finding.shown = Shown::Entry(layer, stat);
                finding.done = true;
            }
            _ => finding.done = true,
        }
    }
}

impl Finding {
    fn new() -> Self {
        Self {
            shown: Shown::Nothing,
            done: false,
        }
    }
}

impl Opened {
    /// The directory of the topmost layer, whose owner, mode and times it shows.
    pub fn top(&self) -> Option<BorrowedFd<'_>> {
        self.layers.first().map(|(_, fd)| fd.as_fd())
    }

    /// The directory of one of the layers.
    pub fn of(&self, layer: usize) -> io::Result<BorrowedFd<'_>> {
        let found = self.layers.iter().find(|(known, _)| *known == layer);
        found
            .map(|(_, fd)| fd.as_fd())
            .ok_or_else(|| Errno::INVAL.into())
    }
}
