//! `--mount=type=bind`: files of the context, a stage or an image; writes are dropped.
//!
//! Files of layers are shown by an overlay of these layers, for writing with an upper directory
//! that goes with the step. The context's directory is shown as it is, by a read-only mount or
//! under an overlay, if that is what the step has to see. If not, because the ignore file hides
//! something or because files belong to others than the context's root would, it sees a copy of
//! what was selected.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime::{BindSource, View, Workspace};
use rustix::fs::FileType;

use super::{Held, content};
use crate::build::copy::Origin;
use crate::build::stage::Stage;
use crate::copy::{CopyOptions, Selection};
use crate::image::Digest;
use crate::layer::{LayerStack, Target};
use crate::plan::{RunMount, Source};
use crate::rootfs::{Follow, RootDir, RootPath};
use crate::store::Staging;

/// What is bound.
pub(super) struct Bind<'a> {
    origin: Origin<'a>,
    path: String,
    readonly: bool,
    /// What was selected, if that has to be compared with what is on the disk.
    selection: Option<Selection>,
    content: Digest,
}

impl<'a> Bind<'a> {
    /// Opens the source and computes its content's digest.
    pub(super) fn prepare(
        stage: &Stage<'a>,
        mount: &RunMount,
        from: &Source,
        path: &str,
        staging: &Staging,
    ) -> Result<Self> {
        let origin = Origin::open(stage, from, staging)?;
        let target = mount.target.as_deref().unwrap_or_default();
        let (selection, content) = if matches!(origin, Origin::Tree { .. }) {
            (None, content::digest(stage, &origin, path, target)?)
        } else {
            let selection = content::select(&origin, path, target)?;
            let content = content::of_selection(stage, &origin, &selection)?;
            (Some(selection), content)
        };
        Ok(Self {
            origin,
            path: path.to_owned(),
            readonly: mount.readonly,
            selection,
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
            Origin::Tree { stack, .. } => self.of_layers(stack, &dir, held),
            _ => self.of_directory(stage, &dir, held),
        }
    }

    fn of_layers(&self, stack: &LayerStack, dir: &Path, held: &mut Held) -> Result<BindSource> {
        let lowers = stack.lowers();
        let overlay = if self.readonly {
            View::overlay(&lowers, dir)?.attach(&dir.join("mounted"))?
        } else {
            Workspace::overlay(&lowers, dir)?.attach()?
        };
        let root = RootDir::from_fd(overlay.root().try_clone_to_owned()?);
        let found = self.resolve(&root)?;
        held.overlays.push(overlay);
        Ok(BindSource::Fd(found))
    }

    /// A directory of the host, shown as it is where that will do.
    fn of_directory(&self, stage: &Stage<'_>, dir: &Path, held: &mut Held) -> Result<BindSource> {
        let lower = |path: &RootPath| self.origin.attr(path);
        let source = self.origin.source(&lower);
        let found = self.resolve(source.root)?;
        let is_dir = is_directory(&found)?;
        let as_it_is = self.selection.as_ref().is_none_or(Selection::is_as_on_disk);
        if as_it_is && self.readonly {
            return Ok(BindSource::Fd(found));
        }
        if as_it_is && is_dir {
            let name = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
            // Where an overlay cannot lie on this directory's file system, a copy will do.
            let overlay = Workspace::overlay(&[name], dir).and_then(Workspace::attach);
            if let Ok(overlay) = overlay {
                let root = overlay.root().try_clone_to_owned()?;
                held.overlays.push(overlay);
                return Ok(BindSource::Fd(root));
            }
        }
        self.copy(stage, &dir.join("copy"), &found)
            .map(BindSource::Path)
    }

    fn resolve(&self, root: &RootDir) -> Result<OwnedFd> {
        root.resolve(&RootPath::new(&self.path), Follow::Yes)
            .with_context(|| format!("cannot open {} to mount it", self.path))
    }

    /// Copies what was selected, and gives the path of the copy.
    fn copy(&self, stage: &Stage<'_>, dir: &Path, found: &OwnedFd) -> Result<PathBuf> {
        let Some(selection) = &self.selection else {
            return Ok(dir.to_owned());
        };
        let name = copy_selection(stage, &self.origin, selection, dir)?;
        let mode = rustix::fs::fstat(found)?.st_mode & 0o7777;
        if is_directory(found)? {
            set_mode(dir, mode)?;
            return Ok(dir.to_owned());
        }
        Ok(dir.join(name))
    }
}

/// Writes what was selected to the new directory `dir`: a directory's content, or the file, whose
/// name is given back.
pub(super) fn copy_selection(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    selection: &Selection,
    dir: &Path,
) -> Result<std::ffi::OsString> {
    fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    set_mode(dir, 0o755)?;
    let lower = |path: &RootPath| origin.attr(path);
    let source = origin.source(&lower);
    let mut target = Target::new(RootDir::open(dir)?, stage.shared.env.ids);
    let root = RootPath::root();
    selection.apply(&source, &mut target, "/", &root, &CopyOptions::default())?;
    Ok(selection.name().to_owned())
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
