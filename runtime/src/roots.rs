//! [`Roots`]: how root file systems are put together, and what is then done with one.
//!
//! Whoever uses a [`Workspace`] or a [`View`] does not see which of the two forms it has: a mount of
//! the layers on top of each other, or a tree into which they were copied.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::attached::Attached;
use crate::error::Error;
use crate::overlay::{self, Overlay};
use crate::points::MountPoints;
use crate::spec::RunSpec;
use crate::stubs;
use crate::tree::{Changing, Reading, TreeRoot, Trees};

/// A layer: a directory of changed entries, and what they hide of the layers below.
///
/// An overlay has its own marks in the directory, which can be mounted as it is. Where these marks
/// cannot be made the lists say it, and a tree is made of it. Paths are relative and plain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The directory on the host.
    pub dir: PathBuf,
    /// Names that are gone, with everything below them. The directory has nothing there.
    pub deleted: Vec<PathBuf>,
    /// Directories of this layer of which nothing below shows through.
    pub opaque: Vec<PathBuf>,
}

impl From<PathBuf> for Diff {
    fn from(dir: PathBuf) -> Self {
        Self {
            dir,
            ..Self::default()
        }
    }
}

/// How root file systems are put together.
#[derive(Clone, Debug)]
pub enum Roots {
    /// By overlay mounts; [`crate::enter`] has entered a namespace in which they can be made.
    Overlays,
    /// By copying.
    Trees(Trees),
}

impl Roots {
    /// A root file system of `lowers` (topmost first) that can be written. `dir` is an empty
    /// directory for it, on a file system that can hold an overlay's upper directory.
    ///
    /// # Errors
    /// When the layers cannot be mounted or copied.
    pub fn workspace(&self, lowers: &[Diff], dir: &Path) -> Result<Workspace, Error> {
        match self {
            Self::Overlays => Workspace::overlay(&dirs(lowers), dir),
            Self::Trees(trees) => Workspace::tree_of(trees, lowers, dir),
        }
    }

    /// The same with everything there on which `spec` mounts; for [`crate::spawn`].
    ///
    /// # Errors
    /// Also when something that is a mount point is not fit to be one.
    pub fn for_run(&self, lowers: &[Diff], dir: &Path, spec: &RunSpec) -> Result<Workspace, Error> {
        self.for_step(lowers, dir, spec, &MountPoints::new(dir.join("stubs")))
    }

    /// The same as one of many: `points` remembers what the layers lack.
    ///
    /// # Errors
    /// As [`Self::for_run`].
    pub fn for_step(
        &self,
        lowers: &[Diff],
        dir: &Path,
        spec: &RunSpec,
        points: &MountPoints,
    ) -> Result<Workspace, Error> {
        match self {
            Self::Overlays => Workspace::for_step(&dirs(lowers), dir, spec, points),
            Self::Trees(trees) => {
                // What is mounted is put there when the process begins; what is refused is the same.
                stubs::targets(spec)?;
                Workspace::tree_of(trees, lowers, dir)
            }
        }
    }

    /// Tells that `layer` is what became of a [`Diff`] that a workspace gave: only its directory has
    /// another name, and its lists may be others. So the tree that it comes from is known to show it.
    ///
    /// # Errors
    /// When the layer is not there.
    pub fn published(&self, layer: &Diff) -> Result<(), Error> {
        match self {
            Self::Overlays => Ok(()),
            Self::Trees(trees) => trees.published(layer),
        }
    }

    /// A root file system of `lowers` (topmost first) that can only be read. `scratch` is a directory
    /// in which something may be made.
    ///
    /// # Errors
    /// When the layers cannot be mounted or copied.
    pub fn view(&self, lowers: &[Diff], scratch: &Path) -> Result<View, Error> {
        match (self, lowers) {
            (Self::Overlays, _) => View::overlay(&dirs(lowers), scratch),
            (Self::Trees(_), []) => View::of_directory(&overlay::empty_dir(scratch, 0)?),
            // The lowest layer hides nothing: it is what it would be copied to.
            (Self::Trees(_), [only]) => View::of_directory(&only.dir),
            (Self::Trees(trees), _) => Ok(View(Read::Tree(trees.read(lowers)?))),
        }
    }
}

/// The directories of layers that have marks of their own.
fn dirs(lowers: &[Diff]) -> Vec<PathBuf> {
    debug_assert!(
        lowers
            .iter()
            .all(|lower| lower.deleted.is_empty() && lower.opaque.is_empty()),
        "layers of trees cannot be mounted: {lowers:?}"
    );
    lowers.iter().map(|lower| lower.dir.clone()).collect()
}

/// A root file system that can be written.
///
/// Dropping it throws what was written away. Directories below the one it was made with belong to
/// this value until [`Workspace::finish`].
#[derive(Debug)]
pub struct Workspace(Written);

#[derive(Debug)]
enum Written {
    Overlay(Overlay),
    Tree { tree: Box<Changing>, dir: PathBuf },
}

impl Workspace {
    /// Mounts `lowers` (topmost first, directories in overlayfs form) with a fresh upper in `dir`, an
    /// empty directory on a file system that can hold one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn overlay(lowers: &[PathBuf], dir: &Path) -> Result<Self, Error> {
        Ok(Self(Written::Overlay(Overlay::writable(
            None, lowers, dir,
        )?)))
    }

    /// Like [`Self::overlay`], with everything that `spec` mounts on already there.
    ///
    /// Mount points that the lowers lack come from a synthetic lower on top of them, so they are
    /// never in the upper directory. [`crate::spawn`] wants a workspace made by this function, by
    /// [`Self::for_step`] or by those of [`Roots`].
    ///
    /// # Errors
    /// Also when something that is a mount point is not fit to be one.
    pub fn for_run(lowers: &[PathBuf], dir: &Path, spec: &RunSpec) -> Result<Self, Error> {
        Self::for_step(lowers, dir, spec, &MountPoints::new(dir.join("stubs")))
    }

    /// The same as one of many: `points` remembers what the layers lack.
    ///
    /// # Errors
    /// As [`Self::for_run`].
    pub fn for_step(
        lowers: &[PathBuf],
        dir: &Path,
        spec: &RunSpec,
        points: &MountPoints,
    ) -> Result<Self, Error> {
        let layer = points.layer(lowers, dir, stubs::targets(spec)?)?;
        Ok(Self(Written::Overlay(Overlay::writable(
            layer, lowers, dir,
        )?)))
    }

    fn tree_of(trees: &Trees, lowers: &[Diff], dir: &Path) -> Result<Self, Error> {
        Ok(Self(Written::Tree {
            tree: Box::new(trees.change(lowers)?),
            dir: dir.to_owned(),
        }))
    }

    /// The merged tree, a directory open for reading.
    pub fn root(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Written::Overlay(overlay) => overlay.root(),
            Written::Tree { tree, .. } => tree.root().root(),
        }
    }

    /// The tree, if it is one: what a step mounts is put into it.
    pub fn tree(&self) -> Option<&TreeRoot> {
        match &self.0 {
            Written::Overlay(_) => None,
            Written::Tree { tree, .. } => Some(tree.root()),
        }
    }

    /// The mount, if it is one.
    pub(crate) fn mount_fd(&self) -> Option<&OwnedFd> {
        match &self.0 {
            Written::Overlay(overlay) => Some(overlay.mount()),
            Written::Tree { .. } => None,
        }
    }

    /// Makes it a source of mounts. What is written there is told to nobody.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn attach(self) -> Result<Attached, Error> {
        match self.0 {
            Written::Overlay(overlay) => overlay.attach(),
            Written::Tree { tree, .. } => Ok(Attached::changing(*tree)),
        }
    }

    /// Throws what was written away. A tree stays for whoever wants these layers next, unless something
    /// in it is doubtful. No process may be left that uses it.
    ///
    /// # Errors
    /// When the disk fails; nobody needs to care.
    pub fn revert(self) -> Result<(), Error> {
        match self.0 {
            Written::Overlay(_) => Ok(()),
            Written::Tree { tree, .. } => tree.revert(),
        }
    }

    /// Gives what has changed: the upper directory, which nobody writes any more. No process may be
    /// left that uses it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(self) -> Result<Diff, Error> {
        match self.0 {
            Written::Overlay(overlay) => overlay.finish().map(Diff::from),
            Written::Tree { tree, dir } => tree.finish(&dir.join("upper")),
        }
    }
}

/// A root file system that can only be read; nobody may write to it although a tree could be. It
/// must be kept as long as anything in it is used.
#[derive(Clone, Debug)]
pub struct View(Read);

#[derive(Clone, Debug)]
enum Read {
    Overlay(Arc<Overlay>),
    Tree(Arc<Reading>),
    Directory(Arc<OwnedFd>),
}

impl View {
    /// Mounts `lowers` (topmost first); none is an empty directory. `scratch` is a directory in which
    /// an empty one may be made.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn overlay(lowers: &[PathBuf], scratch: &Path) -> Result<Self, Error> {
        let overlay = Overlay::readonly(lowers, scratch)?;
        Ok(Self(Read::Overlay(Arc::new(overlay))))
    }

    fn of_directory(dir: &Path) -> Result<Self, Error> {
        let root = std::fs::File::open(dir).map_err(Error::io("open the layer", dir))?;
        Ok(Self(Read::Directory(Arc::new(root.into()))))
    }

    /// Makes it a source of mounts; an overlay is hung into `point`, a directory to be made.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn attach(self, point: &Path) -> Result<Attached, Error> {
        match &self.0 {
            Read::Overlay(overlay) => overlay.attach_to(point),
            Read::Tree(_) | Read::Directory(_) => Ok(Attached::read(self)),
        }
    }

    /// The merged tree, a directory open for reading.
    pub fn root(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Read::Overlay(overlay) => overlay.root(),
            Read::Tree(reading) => reading.root(),
            Read::Directory(root) => root.as_fd(),
        }
    }
}
