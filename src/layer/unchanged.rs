//! [`drop_unchanged`]: what is in an upper directory without being a change leaves it.
//!
//! overlayfs copies a file up when it is opened for writing, locked by way of such a descriptor, or
//! given the mode and owner that it has; a sandbox without overlayfs sees none of that. So that a
//! layer does not tell how it was made, it holds an entry exactly if it is not the same
//! ([`super::same`]) as what the layers below have at its path, and beside these:
//!
//! - **Directories** that something is in, as parents. One that is the same and has become empty
//!   goes, too. That something was made in it and deleted again shows in its time, so it stays.
//! - **Names of one file** (`st_nlink` above one). Copying up gives every name a file of its own,
//!   so it was the step that made these links, and they would come apart if only some of the
//!   names stayed.
//! - **Deletions** of what is below. Those of nothing go.
//! - **Sockets, devices and FIFOs** like everything else.
//!
//! What was deleted and made again the same is not a change: files, as it is not seen how they came
//! about; and directories. overlayfs makes such a directory opaque, with all that is in it in the
//! upper directory. If any of that is the same as below, at any depth, it becomes a directory that
//! is merged: what is the same leaves it, what is not there any more is deleted by name, and
//! directories in it that have nothing in common with those below become opaque themselves.
//! Otherwise it stays opaque, which is shorter. `mv d e; mv e d`, which copies where overlayfs
//! cannot rename, leaves nothing but a time of the parent directory this way. The root directory
//! stays whatever it is: it is no entry of a layer.
//!
//! BuildKit's differ leaves unchanged copies out, too. It goes by times more than this does: those of
//! directories are nothing to it, and files with one time and size are the same unread unless the
//! time is one of whole seconds.
//!
//! Only directories that are merged, or opaque over another, are walked, and only names that are
//! below are compared. Layers below are open one at a time and directories of the upper one per
//! level, so that a few descriptors do for any number of layers. Everything is reached from
//! descriptors, one name at a time. Times of directories from which something is taken are put
//! back.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags, fremovexattr,
    fsetxattr, fstat, futimens, mknodat, unlinkat,
};
use rustix::io::Errno;

use super::same::{Comparer, Entry};
use super::{Attributes, Layer, LayerError, LayerStack, MAX_DEPTH, Mark, disk};
use crate::rootfs::RootPath;

/// Takes out of the upper directory `root` over `below`, and out of its table, what the layers below
/// have as well.
///
/// # Errors
/// [`LayerError::Disk`], [`LayerError::Depth`]; the upper directory is then to be thrown away.
pub(super) fn drop_unchanged(
    root: &OwnedFd,
    below: &LayerStack,
    table: &mut Attributes,
) -> Result<(), LayerError> {
    if below.is_empty() {
        return Ok(());
    }
    let layers: Vec<&Layer> = below.visible().collect();
    let mut pruner = Pruner {
        stack: below,
        table,
        comparer: Comparer::default(),
    };
    let place = Place {
        dir: root,
        path: RootPath::root(),
        layers: &layers,
        depth: 0,
    };
    pruner.merged(&place).map(drop)
}

/// A directory of the upper that the layers below have as well.
struct Place<'a> {
    dir: &'a OwnedFd,
    path: RootPath,
    /// The layers whose directories are merged here, topmost first.
    layers: &'a [&'a Layer],
    depth: usize,
}

impl Place<'_> {
    fn at(&self, name: &CStr) -> RootPath {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    /// To be called for a directory before anything is taken from it.
    fn stat(&self) -> Result<Stat, LayerError> {
        fstat(self.dir).map_err(LayerError::disk("look at", &self.path))
    }
}

/// A name in a directory of the upper.
struct Child<'l> {
    name: CString,
    kind: FileType,
    below: Below<'l>,
    /// Whether lower layers can have something to say.
    open: bool,
}

/// What the layers below have at the path of an entry.
enum Below<'l> {
    Nothing,
    /// The entry itself, which is no directory.
    Same,
    /// Directories, where the upper has one, too.
    Directories(Vec<&'l Layer>),
    /// Something else.
    Other,
}

/// What has become of a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is merged with what is below.
    Merged,
    /// It hides what is below, and is to be opaque unless its parent is.
    Hides,
    /// It is empty and what the layers below have: it may go.
    Needless,
}

struct Pruner<'a> {
    stack: &'a LayerStack,
    table: &'a mut Attributes,
    comparer: Comparer,
}

impl Pruner<'_> {
    /// A directory that is merged with those below.
    fn merged(&mut self, place: &Place<'_>) -> Result<Fate, LayerError> {
        let stat = place.stat()?;
        let children = self.look_below(place)?;
        let mut left = children.len() + self.deletions(place)?;
        let before = left;
        for child in &children {
            let goes = match &child.below {
                Below::Same => true,
                Below::Nothing => self.is_deletion(place, child)?,
                Below::Directories(layers) => {
                    self.inside(place, child, layers, false)? == Fate::Needless
                }
                Below::Other => false,
            };
            if goes {
                self.remove(place, child)?;
                left -= 1;
            }
        }
        self.settle(place, &stat, left, left < before)
    }

    /// A directory over others of which nothing is seen, because it is opaque or inside of one.
    fn hiding(&mut self, place: &Place<'_>) -> Result<Fate, LayerError> {
        let stat = place.stat()?;
        let mut children = self.look_below(place)?;
        let Some(mut vanished) = self.stack.names(&place.path)? else {
            return Ok(Fate::Hides);
        };
        for child in &children {
            vanished.remove(&child.name);
        }
        let mut needless = Vec::new();
        let mut hides = Vec::new();
        let mut is_merged = false;
        for (index, child) in children.iter_mut().enumerate() {
            let fate = match &child.below {
                Below::Same => Fate::Needless,
                Below::Directories(layers) => self.inside(place, child, layers, true)?,
                Below::Nothing if self.is_deletion(place, child)? => Fate::Needless,
                Below::Nothing | Below::Other => continue,
            };
            is_merged |= fate != Fate::Hides;
            match fate {
                Fate::Needless => needless.push(index),
                Fate::Hides => hides.push(index),
                Fate::Merged => {}
            }
        }
        let is_empty = children.is_empty() && vanished.is_empty();
        let may_merge = is_merged || (is_empty && self.is_as_below(place, &stat)?);
        if !may_merge {
            return Ok(Fate::Hides);
        }
        for name in &vanished {
            self.delete(place, name)?;
        }
        for index in hides {
            self.set_opaque(place, &children[index].name)?;
        }
        for index in &needless {
            self.remove(place, &children[*index])?;
        }
        if let Some(marks) = self.table.marks_mut() {
            marks.clear(&place.path);
        }
        match fremovexattr(place.dir, disk::OPAQUE) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(LayerError::disk("merge", &place.path)(error)),
        }
        let left = children.len() - needless.len() + vanished.len();
        self.settle(place, &stat, left, true)
    }

    /// Does a child that is a directory here and below; `hidden`: nothing of it is merged.
    fn inside(
        &mut self,
        place: &Place<'_>,
        child: &Child<'_>,
        layers: &[&Layer],
        hidden: bool,
    ) -> Result<Fate, LayerError> {
        let path = place.at(&child.name);
        if place.depth == MAX_DEPTH {
            return Err(LayerError::Depth {
                path: path.to_string(),
                limit: MAX_DEPTH,
            });
        }
        let dir =
            disk::open_dir(place.dir, &child.name).map_err(LayerError::disk("open", &path))?;
        let marks = self.table.marks();
        let hidden = hidden
            || marks.is_some_and(|marks| marks.is_opaque(&path))
            || disk::is_opaque(&dir).map_err(LayerError::disk("read the mark of", &path))?;
        let inner = Place {
            dir: &dir,
            path,
            layers,
            depth: place.depth + 1,
        };
        match hidden {
            true => self.hiding(&inner),
            false => self.merged(&inner),
        }
    }

    /// What the layers below have at the names of a directory.
    fn look_below<'l>(&mut self, place: &Place<'l>) -> Result<Vec<Child<'l>>, LayerError> {
        let names = disk::list(place.dir);
        let names = names.map_err(LayerError::disk("list the directory", &place.path))?;
        let child = |(name, kind)| Child {
            name,
            kind,
            below: Below::Nothing,
            open: true,
        };
        let mut children: Vec<Child<'l>> = names.into_iter().map(child).collect();
        for layer in place.layers {
            if !children.iter().any(|child| child.open) {
                break;
            }
            let lower = layer.open_directory(&place.path)?;
            for child in children.iter_mut().filter(|child| child.open) {
                self.look(place, child, layer, &lower)?;
            }
        }
        Ok(children)
    }

    /// The same for one name and one layer, whose directory `lower` is.
    fn look<'l>(
        &mut self,
        place: &Place<'l>,
        child: &mut Child<'l>,
        layer: &'l Layer,
        lower: &OwnedFd,
    ) -> Result<(), LayerError> {
        let failed = || LayerError::disk::<Errno>("look below at", place.at(&child.name));
        let stat = match disk::stat(lower, &child.name) {
            Err(Errno::NOENT) => {
                child.open = !layer.deletes(&place.at(&child.name));
                return Ok(());
            }
            other => other.map_err(failed())?,
        };
        if disk::is_whiteout(&stat) {
            child.open = false;
        } else if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            child.open = false;
            if matches!(child.below, Below::Nothing) {
                child.below = match self.is_same(place, child, layer, lower, &stat)? {
                    true => Below::Same,
                    false => Below::Other,
                };
            }
        } else if child.kind == FileType::Directory {
            let dir = disk::open_dir(lower, &child.name).map_err(failed())?;
            let is_opaque = layer.is_opaque(&dir, &place.at(&child.name));
            child.open = !is_opaque.map_err(failed())?;
            match &mut child.below {
                Below::Directories(layers) => layers.push(layer),
                below => *below = Below::Directories(vec![layer]),
            }
        } else {
            child.open = false;
            child.below = Below::Other;
        }
        Ok(())
    }

    /// Whether a name that is no directory below is the same here.
    fn is_same(
        &mut self,
        place: &Place<'_>,
        child: &Child<'_>,
        layer: &Layer,
        lower: &OwnedFd,
        below: &Stat,
    ) -> Result<bool, LayerError> {
        if child.kind != FileType::from_raw_mode(below.st_mode) {
            return Ok(false);
        }
        let path = place.at(&child.name);
        let above = disk::stat(place.dir, &child.name);
        let above = above.map_err(LayerError::disk("look at", &path))?;
        if above.st_nlink > 1 {
            return Ok(false);
        }
        self.compare(
            &path,
            (place.dir, &child.name, &above),
            (layer, lower, below),
        )
    }

    fn compare(
        &mut self,
        path: &RootPath,
        (dir, name, above): (&OwnedFd, &CStr, &Stat),
        (layer, lower, below): (&Layer, &OwnedFd, &Stat),
    ) -> Result<bool, LayerError> {
        let above = Entry {
            dir: dir.as_fd(),
            name,
            stat: above,
            recorded: self.table.get(path),
        };
        let below = Entry {
            dir: lower.as_fd(),
            name,
            stat: below,
            recorded: layer.attributes().get(path),
        };
        let same = self.comparer.are_same(&above, &below);
        same.map_err(LayerError::disk("compare with the layers below", path))
    }

    /// Whether a directory itself is what the topmost layer that has it says; `stat` is what it was.
    fn is_as_below(&mut self, place: &Place<'_>, stat: &Stat) -> Result<bool, LayerError> {
        let [layer, ..] = place.layers else {
            return Ok(false);
        };
        if place.path.is_root() {
            return Ok(false);
        }
        let lower = layer.open_directory(&place.path)?;
        let below = fstat(&lower).map_err(LayerError::disk("look below at", &place.path))?;
        self.compare(
            &place.path,
            (place.dir, c".", stat),
            (layer, &lower, &below),
        )
    }

    /// The end of a directory in which `left` entries are left.
    fn settle(
        &mut self,
        place: &Place<'_>,
        stat: &Stat,
        left: usize,
        was_touched: bool,
    ) -> Result<Fate, LayerError> {
        if left == 0 && self.is_as_below(place, stat)? {
            return Ok(Fate::Needless);
        }
        if was_touched {
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec {
                    tv_sec: stat.st_mtime,
                    tv_nsec: stat.st_mtime_nsec as _,
                },
            };
            futimens(place.dir, &times)
                .map_err(LayerError::disk("set the time of", &place.path))?;
        }
        Ok(Fate::Merged)
    }

    /// How many names the table says are deleted in a directory; those that are not below are dropped.
    fn deletions(&mut self, place: &Place<'_>) -> Result<usize, LayerError> {
        let Some(marks) = self.table.marks_mut() else {
            return Ok(0);
        };
        let names = marks
            .deleted_in(&place.path)
            .map(|name| place.path.join(name));
        let mut count = 0;
        for path in names.collect::<Vec<_>>() {
            match self.stack.contains(&path)? {
                true => count += 1,
                false => marks.clear(&path),
            }
        }
        Ok(count)
    }

    fn delete(&mut self, place: &Place<'_>, name: &CStr) -> Result<(), LayerError> {
        if let Some(marks) = self.table.marks_mut() {
            marks.set(place.at(name), Mark::Deleted);
            return Ok(());
        }
        mknodat(place.dir, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(LayerError::disk("make the whiteout", place.at(name)))
    }

    fn set_opaque(&mut self, place: &Place<'_>, name: &CStr) -> Result<(), LayerError> {
        if let Some(marks) = self.table.marks_mut() {
            marks.set(place.at(name), Mark::Opaque);
            return Ok(());
        }
        let marked = disk::open_dir(place.dir, name)
            .and_then(|dir| fsetxattr(dir, disk::OPAQUE, b"y", XattrFlags::empty()));
        marked.map_err(LayerError::disk("mark as opaque", place.at(name)))
    }

    fn is_deletion(&self, place: &Place<'_>, child: &Child<'_>) -> Result<bool, LayerError> {
        if child.kind != FileType::CharacterDevice {
            return Ok(false);
        }
        let stat = disk::stat(place.dir, &child.name);
        let stat = stat.map_err(LayerError::disk("look at", place.at(&child.name)))?;
        Ok(disk::is_whiteout(&stat))
    }

    fn remove(&mut self, place: &Place<'_>, child: &Child<'_>) -> Result<(), LayerError> {
        let path = place.at(&child.name);
        let flags = match child.kind {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        unlinkat(place.dir, &child.name, flags)
            .map_err(LayerError::disk("take out of the layer", &path))?;
        self.table.remove(&path);
        if let Some(marks) = self.table.marks_mut() {
            marks.clear(&path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
