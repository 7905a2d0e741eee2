//! What a key needs to know of files in layers: the digest of what is taken from them, and whose ids
//! the names in their `passwd` and `group` are.
//!
//! Layers are never written again, so an answer stays what it is. It is kept as a record under the
//! ids of the layers, which are known before the layers are here: a step that was done before asks
//! for none of their files. The record goes with the topmost layer.

use anyhow::Result;

use super::image::{BuiltAnswer, BuiltLayer};
use super::stage::Stage;
use crate::cache::KeyBuilder;
use crate::image::Digest;
use crate::rootfs::{RootDir, UserError, resolve_chown};
use crate::store::{ExportRecord, StepRecord, Store, StoreError};

/// The digest that `compute` gives for a selection from `layers`, which `describe` tells from every
/// other one.
pub(super) fn remembered(
    stage: &Stage<'_>,
    layers: &[BuiltLayer],
    describe: impl FnOnce(&mut KeyBuilder),
    compute: impl FnOnce() -> Result<Digest>,
) -> Result<Digest> {
    let parse = |text: &str| text.parse().ok();
    answer(stage, "content", layers, describe, parse, compute)
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
        let owner = |root: &RootDir| Ok(resolve_chown(Some(root), owner)?);
        let (uid, gid) = stage.view(&staging, owner)?;
        Ok(Owner(uid, gid))
    };
    let describe = |key: &mut KeyBuilder| _ = key.field("owner", owner);
    let found = answer(stage, "owner", layers, describe, Owner::parse, compute)?;
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

/// The answer of the given kind that is remembered, else the one that other machines have given, if
/// the layers are not here, else the one that `compute` gives.
fn answer<T: std::fmt::Display>(
    stage: &Stage<'_>,
    kind: &str,
    layers: &[BuiltLayer],
    describe: impl FnOnce(&mut KeyBuilder),
    parse: impl Fn(&str) -> Option<T>,
    compute: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(top) = layers.last() else {
        return compute();
    };
    let mut question = KeyBuilder::new(kind);
    describe(&mut question);
    let mut key = question.clone();
    key.list("layer", layers.iter().map(|built| built.layer.id()));
    let (key, store) = (key.finish().digest, stage.store());
    let remembered = store.record(&key)?.and_then(|record| {
        let mut fields = record.fields.iter();
        let (_, known) = fields.find(|(name, _)| name == kind)?;
        parse(known)
    });
    let is_new = remembered.is_none();
    let answer = match remembered {
        Some(answer) => answer,
        None => match of_others(stage, layers, &question)?.and_then(|text| parse(&text)) {
            Some(answer) => answer,
            None => compute()?,
        },
    };
    let value = answer.to_string();
    if is_new {
        let record = StepRecord {
            layer: Some(top.layer.id().to_owned()),
            fields: vec![(kind.to_owned(), value.clone())],
            ..StepRecord::default()
        };
        store.put_step(&key, &record)?;
    }
    stage.shared.note_answer(BuiltAnswer {
        layers: layers.to_vec(),
        question,
        value,
    });
    Ok(answer)
}

/// What another machine has answered, if a layer would have to be fetched to find out.
fn of_others(
    stage: &Stage<'_>,
    layers: &[BuiltLayer],
    question: &KeyBuilder,
) -> Result<Option<String>> {
    let (env, epoch) = (stage.shared.env, stage.settings().epoch);
    if env.cache.is_empty() || env.has_all(layers)? {
        return Ok(None);
    }
    let Some(key) = answer_key(env.store, question, layers, epoch)? else {
        return Ok(None);
    };
    Ok(env.cache.record(&key))
}

/// The key of an answer between machines: what was asked of layers by their diff ids. None if one is
/// not known; `epoch` is what times were set back to where it was computed.
///
/// # Errors
/// When the disk fails.
pub fn answer_key(
    store: &Store,
    question: &KeyBuilder,
    layers: &[BuiltLayer],
    epoch: Option<i64>,
) -> Result<Option<Digest>, StoreError> {
    let mut key = question.clone();
    for built in layers {
        match diff_id(store, built, epoch)? {
            Some(diff_id) => _ = key.field("diff id", diff_id.as_str()),
            None => return Ok(None),
        }
    }
    key.field("layers", layers.len().to_string());
    Ok(Some(key.finish().digest))
}

/// The diff id of a layer as exporters give it, if it was made on this machine and has been exported,
/// or came with it.
pub(super) fn diff_id(
    store: &Store,
    built: &BuiltLayer,
    epoch: Option<i64>,
) -> Result<Option<Digest>, StoreError> {
    if let Some(layer) = built.layer.source() {
        return Ok(Some(layer.diff_id.clone()));
    }
    let variant = ExportRecord::variant(epoch);
    let record = store.export_record(built.layer.id(), &variant)?;
    Ok(record.map(|record| record.diff_id))
}
