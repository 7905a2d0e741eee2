//! The digest of a tree that a mount shows: its part of a step's key (S13).
//!
//! Layers are never written again, so the digest of a path in a stack of layers is computed once
//! and kept with the topmost of them.

use anyhow::Result;

use super::MountError;
use crate::build::copy::Origin;
use crate::build::stage::Stage;
use crate::cache::KeyBuilder;
use crate::copy::{CopyOptions, Selection, Tree, select_path};
use crate::image::Digest;
use crate::layer::LayerStack;
use crate::rootfs::RootPath;
use crate::store::StepRecord;

/// The field of a record in which the digest stands.
const FIELD: &str = "content";

/// What `path` of `origin` holds. `target` is where it will be mounted, for messages.
pub(super) fn select(origin: &Origin<'_>, path: &str, target: &str) -> Result<Tree, MountError> {
    let lower = |path: &RootPath| origin.attr(path);
    let source = origin.source(&lower);
    select_path(&source, path).map_err(|source| MountError::Source {
        target: target.to_owned(),
        source,
    })
}

/// The digest of what `path` of `origin` holds.
pub(super) fn digest(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    path: &str,
    target: &str,
) -> Result<Digest> {
    let record = match origin {
        Origin::Tree { stack, .. } => record_key(stack, path),
        _ => None,
    };
    if let Some((key, _)) = &record
        && let Some(record) = stage.store().step(key)?
        && let Some((_, known)) = record.fields.iter().find(|(name, _)| name == FIELD)
        && let Ok(digest) = known.parse()
    {
        return Ok(digest);
    }
    let digest = of_selection(stage, origin, &select(origin, path, target)?.selection)?;
    if let Some((key, layer)) = record {
        let record = StepRecord {
            layer: Some(layer),
            fields: vec![(FIELD.to_owned(), digest.to_string())],
        };
        stage.store().put_step(&key, &record)?;
    }
    Ok(digest)
}

/// The digest of what was selected.
pub(super) fn of_selection(
    stage: &Stage<'_>,
    origin: &Origin<'_>,
    selection: &Selection,
) -> Result<Digest> {
    let lower = |path: &RootPath| origin.attr(path);
    let (source, options) = (origin.source(&lower), CopyOptions::default());
    Ok(selection.digest(&source, &options, &stage.shared.files)?)
}

/// Where the digest is kept, and the layer that it goes with; no layer, no record.
fn record_key(stack: &LayerStack, path: &str) -> Option<(Digest, String)> {
    let top = stack.layers().last()?.id().to_owned();
    let mut key = KeyBuilder::new("content");
    key.list("layer", stack.layers().iter().map(|layer| layer.id()));
    key.field("path", path);
    Some((key.finish().digest, top))
}
