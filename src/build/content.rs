//! The digest of what is taken from a tree of layers, computed once.
//!
//! Layers are never written again, so what a selection from a stack of them holds stays what it is.
//! It is kept as a record with the topmost layer, and goes with that.

use anyhow::Result;

use super::stage::Stage;
use crate::cache::KeyBuilder;
use crate::image::Digest;
use crate::layer::LayerStack;
use crate::store::StepRecord;

/// The field of a record in which the digest stands.
const FIELD: &str = "content";

/// The digest that `compute` gives for a selection from `stack`, which `describe` tells from every
/// other one.
pub(super) fn remembered(
    stage: &Stage<'_>,
    stack: &LayerStack,
    describe: impl FnOnce(&mut KeyBuilder),
    compute: impl FnOnce() -> Result<Digest>,
) -> Result<Digest> {
    let Some(top) = stack.layers().last() else {
        return compute();
    };
    let mut key = KeyBuilder::new("content");
    key.list("layer", stack.layers().iter().map(|layer| layer.id()));
    describe(&mut key);
    let key = key.finish().digest;
    if let Some(record) = stage.store().step(&key)?
        && let Some((_, known)) = record.fields.iter().find(|(name, _)| name == FIELD)
        && let Ok(digest) = known.parse()
    {
        return Ok(digest);
    }
    let digest = compute()?;
    let record = StepRecord {
        layer: Some(top.id().to_owned()),
        fields: vec![(FIELD.to_owned(), digest.to_string())],
        below: Vec::new(),
    };
    stage.store().put_step(&key, &record)?;
    Ok(digest)
}
