//! `--mount=type=bind`: files of the context, a stage or an image; writes are dropped.
//!
//! Files of layers are shown by an overlay of these layers, for writing with an upper directory
//! that goes with the step. The context's directory is shown as it is by a read-only mount, or
//! under an overlay, which also covers what the ignore file hides. Where that will not do, because
//! files belong to others than root or the file system can lie under no overlay, the step sees a
//! copy of what was selected. Where nothing can be mounted it sees a copy of everything, which goes
//! with the step's tree.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context as _, Result};
use runtime::{BindSource, Roots};
use rustix::fs::FileType;

use super::{Held, content, cover};
use crate::build::copy::Origin;
use crate::build::stage::Stage;
use crate::copy::{CopyOptions, Difference, Tree};
use crate::image::Digest;
use crate::layer::{LayerStack, Target};
use crate::plan::{RunMount, Source};
use crate::rootfs::{Follow, RootDir, RootPath};

/// What is bound.
pub(super) struct Bind<'a> {
    origin: Origin<'a>,
    path: String,
    readonly: bool,
    /// What is shown of a directory of the host.
    tree: Option<Tree>,
    content: Digest,
}

impl<'a> Bind<'a> {
    /// Finds the source and its content's digest.
    pub(super) fn prepare(
        stage: &Stage<'a>,
        mount: &RunMount,
        from: &Source,
        path: &str,
    ) -> Result<Self> {
        let origin = Origin::of(stage, from)?;
        let target = mount.target.as_deref().unwrap_or_default();
        let (tree, content) = if matches!(origin, Origin::Tree(_)) {
            (None, content::digest(stage, &origin, path, target)?)
        } else {
            let tree = content::select(stage, &origin, path, target)?;
            let content = content::of_selection(stage, &origin, &tree.selection)?;
            (Some(tree), content)
        };
        Ok(Self {
            origin,
            path: path.to_owned(),
            readonly: mount.readonly,
            tree,
            content,
        })
    }

    /// The digest of what it shows.
    pub(super) fn content(&self) -> &Digest {
        &self.content
    }

    /// The mount's host side.
    pub(super) fn open(&self, stage: &Stage<'_>, held: &mut Held) -> Result<BindSource> {
        let dir = held.scratch(&format!("bind{}", new_number(held)?));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        match &self.origin {
            Origin::Tree(tree) => {
                let roots = stage.shared.env.roots;
                self.of_layers(roots, &tree.stack(stage)?, &dir, held)
            }
            _ => self.of_directory(stage, &dir, held),
        }
    }

    fn of_layers(
        &self,
        roots: &Roots,
        stack: &LayerStack,
        dir: &Path,
        held: &mut Held,
    ) -> Result<BindSource> {
        let lowers = stack.lowers();
        let overlay = match roots {
            Roots::Overlays if !self.readonly => roots.workspace(&lowers, dir)?.attach()?,
            // What is put into a tree is a copy, which may as well be written.
            _ => roots.view(&lowers, dir)?.attach(&dir.join("mounted"))?,
        };
        let root = RootDir::from_fd(overlay.root().try_clone_to_owned()?);
        let found = self.resolve(&root)?;
        held.overlays.push(overlay);
        Ok(BindSource::Fd(found))
    }

    /// A directory or file of the host, shown as it is where that will do.
    fn of_directory(&self, stage: &Stage<'_>, dir: &Path, held: &mut Held) -> Result<BindSource> {
        let lower = |path: &RootPath| self.origin.attr(path);
        let source = self.origin.source(stage, &lower)?;
        let found = self.resolve(source.root)?;
        let hidden = match self.tree.as_ref().map(|tree| &tree.difference) {
            Some(Difference::Owners) => return self.copy(stage, &dir.join("copy"), found),
            Some(Difference::Hidden(hidden)) => hidden.as_slice(),
            Some(Difference::None) | None => &[],
        };
        let is_copied = matches!(stage.shared.env.roots, Roots::Trees(_));
        if hidden.is_empty() && (self.readonly || is_copied) {
            return Ok(BindSource::Fd(found));
        }
        if !is_copied && is_directory(&found)? {
            let overlay = dir.join("overlay");
            // Where no overlay can lie on this directory's file system, a copy will do.
            if let Ok(overlay) = cover::over(&found, hidden, self.readonly, &overlay) {
                let root = overlay.root().try_clone_to_owned()?;
                held.overlays.push(overlay);
                return Ok(BindSource::Fd(root));
            }
        }
        self.copy(stage, &dir.join("copy"), found)
    }

    fn resolve(&self, root: &RootDir) -> Result<OwnedFd> {
        root.resolve(&RootPath::new(&self.path), Follow::Yes)
            .with_context(|| format!("cannot open {} to mount it", self.path))
    }

    /// Copies what was selected.
    fn copy(&self, stage: &Stage<'_>, dir: &Path, found: OwnedFd) -> Result<BindSource> {
        let Some(tree) = &self.tree else {
            return Ok(BindSource::Fd(found));
        };
        copy_tree(stage, &self.origin, tree, dir)?;
        if is_directory(&found)? {
            set_mode(dir, rustix::fs::fstat(&found)?.st_mode & 0o7777)?;
            return Ok(BindSource::Path(dir.to_owned()));
        }
        Ok(BindSource::Path(dir.join(tree.name())))
    }
}

/// Writes what was selected to the new directory `dir`: a directory's content, or the file.
pub(super) fn copy_tree(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    tree: &Tree,
    dir: &Path,
) -> Result<()> {
    fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    set_mode(dir, 0o755)?;
    let lower = |path: &RootPath| origin.attr(path);
    let source = origin.source(stage, &lower)?;
    let mut target = Target::new(RootDir::open(dir)?, stage.shared.env.ids);
    let (root, options) = (RootPath::root(), CopyOptions::default());
    tree.selection
        .apply(&source, &mut target, "/", &root, &options)?;
    Ok(())
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

pub(super) fn is_directory(fd: &impl AsFd) -> Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// A number that no other directory of the step has.
fn new_number(held: &Held) -> Result<usize> {
    let dir = held.scratch("");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    Ok(entries.count())
}
