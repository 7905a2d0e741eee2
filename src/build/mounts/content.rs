//! The digest of a tree that a mount shows: its part of a step's key (S13).

use anyhow::Result;

use super::MountError;
use crate::build::copy::Origin;
use crate::build::stage::Stage;
use crate::build::{content, explain};
use crate::copy::{CopyOptions, Selection, Tree, select_path};
use crate::image::Digest;
use crate::rootfs::RootPath;

/// What `path` of `origin` holds. `target` is where it will be mounted, for messages.
pub(super) fn select(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    path: &str,
    target: &str,
) -> Result<Tree> {
    let lower = |path: &RootPath| origin.attr(path);
    let source = origin.source(stage, &lower)?;
    let selected = select_path(&source, path).map_err(|source| MountError::Source {
        target: target.to_owned(),
        source,
    })?;
    Ok(selected)
}

/// The digest of what `path` of `origin` holds.
pub(super) fn digest(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    path: &str,
    target: &str,
) -> Result<Digest> {
    let compute = || {
        of_selection(
            stage,
            origin,
            &select(stage, origin, path, target)?.selection,
        )
    };
    match origin {
        Origin::Tree(tree) => content::remembered(
            stage,
            &tree.layers,
            |key| _ = key.field("path", path),
            compute,
        ),
        Origin::Context(_) => compute(),
    }
}

/// The digest of what was selected.
pub(super) fn of_selection(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    selection: &Selection,
) -> Result<Digest> {
    let lower = |path: &RootPath| origin.attr(path);
    let (source, options) = (origin.source(stage, &lower)?, CopyOptions::default());
    let _permit = stage.permit()?;
    explain::content_digest(stage, selection, &source, &options)
}
