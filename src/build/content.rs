//! What a key needs to know of files in layers: the digest of what is taken from them, and whose ids
//! the names in their `passwd` and `group` are.
//!
//! Layers are never written again, so an answer stays what it is. It is kept as a record under the
//! ids of the layers, which are known before the layers are here: a step that was done before asks
//! for none of their files. The record goes with the topmost layer.

use anyhow::Result;

use super::image::BuiltLayer;
use super::stage::Stage;
use crate::cache::KeyBuilder;
use crate::image::Digest;
use crate::rootfs::{UserError, resolve_chown};
use crate::store::{StepRecord, Store};

/// The digest that `compute` gives for a selection from `layers`, which `describe` tells from every
/// other one.
pub(super) fn remembered(
    stage: &Stage<'_>,
    layers: &[BuiltLayer],
    describe: impl FnOnce(&mut KeyBuilder),
    compute: impl FnOnce() -> Result<Digest>,
) -> Result<Digest> {
    let parse = |text: &str| text.parse().ok();
    answer(stage.store(), "content", layers, describe, parse, compute)
}

/// Whose `owner` is, as `--chown` says it, in the root file system of the stage so far (S6).
pub(super) fn owner(stage: &Stage<'_>, owner: &str) -> Result<(u32, u32)> {
    let layers = stage.layers();
    match resolve_chown(None, owner) {
        // A name, which the stage's own files are asked about.
        Err(UserError::NoRoot { .. }) if !layers.is_empty() => {}
        result => return Ok(result?),
    }
    let compute = || {
        let staging = stage.store().staging()?;
        let (uid, gid) = resolve_chown(Some(&stage.view(&staging)?), owner)?;
        Ok(Owner(uid, gid))
    };
    let describe = |key: &mut KeyBuilder| _ = key.field("owner", owner);
    let found = answer(
        stage.store(),
        "owner",
        layers,
        describe,
        Owner::parse,
        compute,
    )?;
    Ok((found.0, found.1))
}

struct Owner(u32, u32);

impl Owner {
    fn parse(text: &str) -> Option<Self> {
        let (uid, gid) = text.split_once(':')?;
        Some(Self(uid.parse().ok()?, gid.parse().ok()?))
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// The answer of the given kind that is remembered, else the one that `compute` gives.
fn answer<T: std::fmt::Display>(
    store: &Store,
    kind: &str,
    layers: &[BuiltLayer],
    describe: impl FnOnce(&mut KeyBuilder),
    parse: impl FnOnce(&str) -> Option<T>,
    compute: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(top) = layers.last() else {
        return compute();
    };
    let mut key = KeyBuilder::new(kind);
    key.list("layer", layers.iter().map(|built| built.layer.id()));
    describe(&mut key);
    let key = key.finish().digest;
    if let Some(record) = store.record(&key)?
        && let Some((_, known)) = record.fields.iter().find(|(name, _)| name == kind)
        && let Some(answer) = parse(known)
    {
        return Ok(answer);
    }
    let answer = compute()?;
    let record = StepRecord {
        layer: Some(top.layer.id().to_owned()),
        fields: vec![(kind.to_owned(), answer.to_string())],
        below: None,
    };
    store.put_step(&key, &record)?;
    Ok(answer)
}
