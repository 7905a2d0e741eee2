//! [`Layer`] and [`LayerStack`]: committed layers, and what they look like on top of each other.
//!
//! A layer is a directory with `diff/` in overlayfs form and the file `attributes`. Looking a path
//! up in a stack follows overlayfs: the topmost layer that has it decides; a whiteout, a
//! non-directory in the way or an opaque directory ends the search. Links are never followed: the
//! caller asks for resolved paths.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::Diff;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use super::{Attr, Attributes, LayerError, Mark, Truth, disk};
use crate::rootfs::{RootDir, RootPath};

/// A committed layer, never written again. Cheap to clone.
#[derive(Clone)]
pub struct Layer(Arc<Inner>);

struct Inner {
    id: String,
    dir: PathBuf,
    attributes: Attributes,
    hides_all: bool,
}

impl Layer {
    /// Opens the layer `id` that lies in `dir` (`diff/` and, if the disk could not hold
    /// everything, `attributes`).
    ///
    /// # Errors
    /// [`LayerError::Disk`] when `diff/` is no directory, [`LayerError::Table`] when the table is
    /// damaged.
    pub fn open(id: &str, dir: &Path) -> Result<Self, LayerError> {
        let diff = dir.join("diff");
        let attributes = Attributes::load(dir)?;
        let is_marked = open_root(&diff)
            .and_then(disk::is_opaque)
            .map_err(LayerError::disk("open the layer", diff.display()))?;
        let root = RootPath::root();
        Ok(Self(Arc::new(Inner {
            id: id.to_owned(),
            dir: dir.to_owned(),
            hides_all: is_marked || attributes.marks().is_some_and(|m| m.is_opaque(&root)),
            attributes,
        })))
    }

    /// The layer's name in the store.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The layer's directory on the host.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The tree of changed entries, on the host; in overlayfs form if the table has no marks.
    pub fn diff(&self) -> PathBuf {
        self.0.dir.join("diff")
    }

    /// What the disk could not hold.
    pub fn attributes(&self) -> &Attributes {
        &self.0.attributes
    }

    /// What a root file system takes of it.
    pub fn lower(&self) -> Diff {
        let mut lower = Diff::from(self.diff());
        for (path, mark) in self.attributes().marks().iter().flat_map(|m| m.iter()) {
            let list = match mark {
                Mark::Deleted => &mut lower.deleted,
                // Above it there is nothing to be seen of layers below anyway.
                Mark::Opaque if path.is_root() => continue,
                Mark::Opaque => &mut lower.opaque,
            };
            list.push(path.relative().to_owned());
        }
        lower
    }

    /// Whether the table says that what is below at `path` is gone.
    pub(super) fn deletes(&self, path: &RootPath) -> bool {
        let marks = self.attributes().marks();
        marks.is_some_and(|marks| marks.is_deleted(path))
    }

    /// Whether nothing below shows through the directory `path`, which is open.
    pub(super) fn is_opaque(&self, dir: impl AsFd, path: &RootPath) -> rustix::io::Result<bool> {
        let marks = self.attributes().marks();
        Ok(disk::is_opaque(dir)? || marks.is_some_and(|marks| marks.is_opaque(path)))
    }

    /// The root of `diff/`, for `*at` calls.
    pub(super) fn open_diff(&self) -> Result<OwnedFd, LayerError> {
        let diff = self.diff();
        open_root(&diff).map_err(LayerError::disk("open the layer", diff.display()))
    }

    /// The directory `path` of this layer, which is one and has no link among its parents.
    pub(super) fn open_directory(&self, path: &RootPath) -> Result<OwnedFd, LayerError> {
        let root = RootDir::from_fd(self.open_diff()?);
        root.open_dir(path)
            .map_err(LayerError::disk("open the directory below", path))
    }

    /// Looks `path` up in this layer alone.
    fn look_up(&self, path: &RootPath) -> Result<Found, LayerError> {
        let failed = || LayerError::disk::<Errno>("look up", path);
        let mut dir = self.open_diff()?;
        let mut hides = self.0.hides_all;
        let mut names = path.components().peekable();
        let mut at = RootPath::root();
        while let Some(name) = names.next() {
            at = at.join(name);
            // A name with NUL in it is on no disk.
            let Ok(name) = CString::new(name.as_bytes()) else {
                return Ok(Found::Absent { hides });
            };
            let stat = match disk::stat(&dir, &name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => {
                    let hides = hides || self.deletes(&at);
                    return Ok(Found::Absent { hides });
                }
                Err(error) => return Err(failed()(error)),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let is_entry = names.peek().is_none() && !disk::is_whiteout(&stat);
                return Ok(match is_entry {
                    true => Found::Other,
                    false => Found::Absent { hides: true },
                });
            }
            dir = disk::open_dir(&dir, &name).map_err(failed())?;
            hides |= self.is_opaque(&dir, &at).map_err(failed())?;
        }
        Ok(Found::Directory { fd: dir, hides })
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({})", self.id())
    }
}

/// What one layer has at a path.
enum Found {
    /// Nothing; `hides`: what lower layers have there cannot be seen either.
    Absent { hides: bool },
    /// A directory; `hides`: it is not merged with those of lower layers.
    Directory { fd: OwnedFd, hides: bool },
    /// Anything else.
    Other,
}

fn open_root(diff: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, diff, flags, Mode::empty())
}

/// Layers on top of each other, lowest first.
#[derive(Clone, Debug, Default)]
pub struct LayerStack {
    layers: Vec<Layer>,
}

impl LayerStack {
    /// Puts `layer` on top.
    pub fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The lowest `count` layers.
    pub fn below(&self, count: usize) -> Self {
        Self {
            layers: self.layers[..count].to_vec(),
        }
    }

    /// What a root file system is put together of, topmost first.
    ///
    /// Layers below one whose root is opaque are left out, because overlayfs does not look at that
    /// mark on the root of a lower directory.
    pub fn lowers(&self) -> Vec<Diff> {
        self.visible().map(Layer::lower).collect()
    }

    /// The layers of which something can be seen, topmost first.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Layer> {
        let mut is_hidden = false;
        self.layers
            .iter()
            .rev()
            .take_while(move |layer| !std::mem::replace(&mut is_hidden, layer.0.hides_all))
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Whether the disk holds everything, so that [`LayerStack::attr`] can find nothing.
    pub fn has_no_attributes(&self) -> bool {
        self.layers
            .iter()
            .all(|layer| layer.attributes().is_empty())
    }

    /// The true metadata of `path` where the disk does not hold it: the entry of the topmost layer
    /// that has `path` on disk. No link is followed.
    ///
    /// # Errors
    /// [`LayerError::Disk`] when a layer cannot be read.
    pub fn attr(&self, path: &RootPath) -> Result<Option<Attr>, LayerError> {
        let is_listed = |layer: &Layer| layer.attributes().get(path).is_some();
        if !self.layers.iter().any(is_listed) {
            return Ok(None);
        }
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } => return Ok(None),
                Found::Directory { .. } | Found::Other => {
                    return Ok(layer.attributes().get(path).cloned());
                }
            }
        }
        Ok(None)
    }

    /// Whether the merged view has `path`. No link is followed.
    ///
    /// # Errors
    /// [`LayerError::Disk`] when a layer cannot be read.
    pub fn contains(&self, path: &RootPath) -> Result<bool, LayerError> {
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } => return Ok(false),
                Found::Directory { .. } | Found::Other => return Ok(true),
            }
        }
        Ok(false)
    }

    /// What is no directory at `path` of the merged view: the directory on disk that has it, and its `lstat` there.
    pub(super) fn file(
        &self,
        path: &RootPath,
    ) -> Result<Option<(OwnedFd, CString, Stat)>, LayerError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } | Found::Directory { .. } => return Ok(None),
                Found::Other => {
                    let Ok(name) = CString::new(name.as_bytes()) else {
                        return Ok(None);
                    };
                    let dir = layer.open_directory(&parent)?;
                    let stat =
                        disk::stat(&dir, &name).map_err(LayerError::disk("look at", path))?;
                    return Ok(Some((dir, name, stat)));
                }
            }
        }
        Ok(None)
    }

    /// The topmost of the directories that are `path` of the merged view.
    pub(super) fn open_dir(&self, path: &RootPath) -> Result<Option<OwnedFd>, LayerError> {
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } | Found::Other => return Ok(None),
                Found::Directory { fd, .. } => return Ok(Some(fd)),
            }
        }
        Ok(None)
    }

    /// What the disk says of `path` of the merged view.
    pub(super) fn on_disk(&self, path: &RootPath) -> Result<Option<Stat>, LayerError> {
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } => return Ok(None),
                Found::Other => return Ok(self.file(path)?.map(|(_, _, stat)| stat)),
                Found::Directory { fd, .. } => {
                    let stat = rustix::fs::fstat(&fd).map_err(LayerError::disk("look at", path))?;
                    return Ok(Some(stat));
                }
            }
        }
        Ok(None)
    }

    /// The truth about the directory `path` of the merged view; none when it is no directory there.
    pub(super) fn directory(&self, path: &RootPath) -> Result<Option<Truth>, LayerError> {
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } | Found::Other => return Ok(None),
                Found::Directory { fd, .. } => {
                    let stat = rustix::fs::fstat(&fd).map_err(LayerError::disk("look at", path))?;
                    return Ok(Some(Truth::new(&stat, layer.attributes().get(path))));
                }
            }
        }
        Ok(None)
    }

    /// The names in the directory `path` of the merged view; none when it is no directory there.
    pub(super) fn names(&self, path: &RootPath) -> Result<Option<BTreeSet<CString>>, LayerError> {
        let mut merged = Merged::default();
        let mut is_directory = false;
        for layer in self.layers.iter().rev() {
            match layer.look_up(path)? {
                Found::Absent { hides: false } => {}
                Found::Absent { hides: true } | Found::Other => break,
                Found::Directory { fd, hides } => {
                    is_directory = true;
                    let marks = layer.attributes().marks();
                    let deleted = marks.into_iter().flat_map(|marks| marks.deleted_in(path));
                    merged
                        .add(&fd, deleted)
                        .map_err(LayerError::disk("list the directory", path))?;
                    if hides {
                        break;
                    }
                }
            }
        }
        Ok(is_directory.then_some(merged.present))
    }
}

/// Names of one directory, gathered from the topmost layer down.
#[derive(Default)]
struct Merged {
    present: BTreeSet<CString>,
    deleted: BTreeSet<CString>,
}

impl Merged {
    /// Adds those of a layer's directory, and those that its table deletes.
    fn add<'n>(
        &mut self,
        dir: &OwnedFd,
        deleted: impl Iterator<Item = &'n OsStr>,
    ) -> rustix::io::Result<()> {
        // A name with NUL in it is on no disk.
        let mut deleted: Vec<CString> = deleted
            .filter_map(|name| CString::new(name.as_bytes()).ok())
            .collect();
        for (name, kind) in disk::list(dir)? {
            let is_deletion =
                kind == FileType::CharacterDevice && disk::is_whiteout(&disk::stat(dir, &name)?);
            if is_deletion {
                deleted.push(name);
            } else if !self.deleted.contains(&name) {
                self.present.insert(name);
            }
        }
        // A name that an upper layer has and this one deletes stays present.
        self.deleted.extend(deleted);
        Ok(())
    }
}
