//! Results of steps that another machine has made: found by key, fetched when their files are needed.
//!
//! A result is taken at its word until its layer is brought, when blob and diff id are checked. One
//! that cannot be had then is *lost*: whoever needed it fails with [`Lost`], the result is refused
//! from then on (`remote_cache::CacheSources::refuse`), and the build begins anew. It finds again what
//! it has done, and executes the step.

use std::fmt;

use anyhow::{Result, anyhow};

use super::image::{BuiltImage, BuiltLayer, Origin};
use super::lazy::LazyLayer;
use super::remembered::is_bound;
use super::stage::{Made, Stage};
use super::{Environment, content};
use crate::cache::StepKey;
use crate::image::Digest;
use crate::registry::{RegistryError, RegistryErrorKind};
use crate::remote_cache::{CacheHit, StepLayer};
use crate::store::{StepElsewhere, StoreError};
use crate::transfer::{BlobSource, SourcedLayer, TransferError};

/// Layers of earlier results that could not be had.
#[derive(Debug)]
pub struct Lost {
    /// Each layer's diff id, and why.
    layers: Vec<(Digest, String)>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<&str> = self.layers.iter().map(|(_, why)| why.as_str()).collect();
        write!(
            f,
            "the result of an earlier build cannot be had: {}",
            reasons.join("; ")
        )
    }
}

impl std::error::Error for Lost {}

impl Lost {
    /// The one that ended a build, if one did.
    pub fn in_error(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// Has the results count as missing. Says whether that makes a difference.
    pub fn refuse(&self, env: &Environment<'_>) -> bool {
        let mut is_news = false;
        for (diff_id, reason) in &self.layers {
            is_news |= env.cache.refuse(diff_id, reason);
        }
        is_news
    }
}

/// The result of the step in the places that the user has named.
///
/// It was made on certain layers. If the stage has others so far, found here or elsewhere, those of
/// the result take their place: together they are what one run of the Dockerfile has given. What this
/// build has executed is not given up for that.
pub(super) fn found(stage: &Stage<'_>, key: &StepKey) -> Result<Option<Made>> {
    let env = stage.shared.env;
    let Some(hit) = env.cache.step(&key.digest) else {
        return Ok(None);
    };
    let fits = !is_bound(key) || lies_on(stage, &hit.step.below)?;
    if !fits && (stage.has_executed() || hit.step.below.len() != stage.below().len()) {
        return Ok(None);
    }
    let mut below = None;
    if !fits {
        let mut layers = Vec::new();
        for layer in &hit.step.below {
            match layer_of(stage, key, &hit, layer)? {
                Some(built) => layers.push(built),
                None => return Ok(None),
            }
        }
        below = Some(layers);
    }
    let Some(built) = layer_of(stage, key, &hit, &hit.step.own)? else {
        return Ok(None);
    };
    let known = known(&hit.step.own);
    let id = sourced(&hit, &hit.step.own).id();
    stage.remember_elsewhere(key, id, below.as_deref(), known)?;
    Ok(Some(Made::elsewhere(built, below)))
}

/// Whether the stage's steps so far have made these very layers.
fn lies_on(stage: &Stage<'_>, below: &[StepLayer]) -> Result<bool> {
    let steps = stage.layers().iter();
    let steps = steps.filter(|built| !matches!(built.origin, Origin::Base { .. }));
    let mut theirs = below.iter();
    for built in steps {
        let ours = content::diff_id(stage.store(), built, stage.settings().epoch)?;
        if ours.is_none() || ours.as_ref() != theirs.next().map(|layer| &layer.diff_id) {
            return Ok(false);
        }
    }
    Ok(theirs.next().is_none())
}

fn known(layer: &StepLayer) -> StepElsewhere {
    StepElsewhere {
        diff_id: layer.diff_id.clone(),
        blob: layer.blob.clone(),
        created: layer.created.clone(),
        until: layer.until,
    }
}

fn sourced(hit: &CacheHit, layer: &StepLayer) -> SourcedLayer {
    SourcedLayer {
        diff_id: layer.diff_id.clone(),
        blob: layer.blob.clone(),
        sources: vec![hit.source.clone()],
        image: format!("the cache {}", hit.place),
    }
}

/// One of the layers of a result.
fn layer_of(
    stage: &Stage<'_>,
    key: &StepKey,
    hit: &CacheHit,
    layer: &StepLayer,
) -> Result<Option<BuiltLayer>> {
    if let BlobSource::Repository(name) = &hit.source {
        stage.store().add_blob_source(&layer.blob.digest, name)?;
    }
    taken(stage, key, sourced(hit, layer), known(layer))
}

/// The same result as the store remembers it, if it is here or somebody is known to have it.
pub(super) fn recorded(
    stage: &Stage<'_>,
    key: &StepKey,
    known: StepElsewhere,
) -> Result<Option<BuiltLayer>> {
    let env = stage.shared.env;
    if env.cache.is_refused(&key.digest) {
        return Ok(None);
    }
    let blob = &known.blob.digest;
    let has_blob = env.store.has_blob(blob) || !env.store.blob_sources(blob)?.is_empty();
    if !has_blob {
        let here = env.store.layer_by_diff_id(&known.diff_id)?;
        return Ok(here.map(|record| BuiltLayer {
            layer: LazyLayer::stored(&record),
            origin: step(&known),
        }));
    }
    let layer = SourcedLayer {
        diff_id: known.diff_id.clone(),
        blob: known.blob.clone(),
        sources: Vec::new(),
        image: "the cache".into(),
    };
    taken(stage, key, layer, known)
}

/// The layer as this build can use it. One whose times would have to be set back is brought now, so
/// that exporters make a blob of their own from it.
fn taken(
    stage: &Stage<'_>,
    key: &StepKey,
    layer: SourcedLayer,
    known: StepElsewhere,
) -> Result<Option<BuiltLayer>> {
    let env = stage.shared.env;
    env.cache.gave(&key.digest, &layer.diff_id);
    let origin = step(&known);
    let diff_id = layer.diff_id.clone();
    let sourced = BuiltLayer {
        layer: LazyLayer::sourced(layer),
        origin,
    };
    if fits(known.until, stage.settings().epoch) {
        return Ok(Some(sourced));
    }
    if let Err(error) = env.stack(std::slice::from_ref(&sourced)) {
        return match Lost::in_error(&error) {
            Some(lost) if lost.refuse(env) => Ok(None),
            _ => Err(error),
        };
    }
    let here = env.store.layer_by_diff_id(&diff_id)?;
    Ok(here.map(|record| BuiltLayer {
        layer: LazyLayer::stored(&record),
        origin: sourced.origin,
    }))
}

fn step(known: &StepElsewhere) -> Origin {
    Origin::Step {
        created: known.created.clone(),
        until: known.until,
    }
}

/// Whether no time in a tar that was set back to `until` is later than `epoch`.
fn fits(until: Option<i64>, epoch: Option<i64>) -> bool {
    match (until, epoch) {
        (_, None) => true,
        (Some(until), Some(epoch)) => until <= epoch,
        (None, Some(_)) => false,
    }
}

impl Environment<'_> {
    /// The error of an output of `image`: [`Lost`] if layers of earlier results are its reason.
    pub fn explained(&self, image: &BuiltImage, error: anyhow::Error) -> anyhow::Error {
        if Lost::in_error(&error).is_some() || self.cancel.why().is_some() {
            return error;
        }
        explained(&image.layers, error, |layer| {
            self.bring_blobs(std::slice::from_ref(layer))
        })
    }
}

/// What became of bringing `layers`: if results of earlier builds are the reason of the failure, the
/// error says which. `retry` brings one of them.
pub(super) fn explained(
    layers: &[BuiltLayer],
    error: anyhow::Error,
    retry: impl Fn(&SourcedLayer) -> Result<()>,
) -> anyhow::Error {
    if !is_of_content(&error) {
        return error;
    }
    let mut lost = Vec::new();
    for built in layers {
        if let (Origin::Step { .. } | Origin::Files { .. }, Some(layer)) =
            (&built.origin, built.layer.source())
            && let Err(error) = retry(layer)
        {
            if !is_of_content(&error) {
                return error;
            }
            lost.push((layer.diff_id.clone(), format!("{error:#}")));
        }
    }
    match lost.is_empty() {
        true => error,
        false => anyhow!(Lost { layers: lost }),
    }
}

/// Whether what was asked for is not there or is something else, which another place, or executing
/// the step, can mend; and not the disk's or the user's doing.
fn is_of_content(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<TransferError>() {
            return match error {
                TransferError::Store(error) => is_missing(error),
                TransferError::Remote(error) => !matches!(
                    error
                        .downcast_ref::<RegistryError>()
                        .map(RegistryError::kind),
                    Some(RegistryErrorKind::Local { .. })
                ),
                TransferError::Stopped => false,
                _ => true,
            };
        }
        cause.downcast_ref().is_some_and(is_missing)
    })
}

fn is_missing(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NoBlob { .. } | StoreError::DigestMismatch { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_fit() {
        for (until, epoch, expected) in [
            (None, None, true),
            (Some(5), None, true),
            (Some(5), Some(5), true),
            (Some(5), Some(6), true),
            (Some(5), Some(4), false),
            (None, Some(4), false),
        ] {
            assert_eq!(fits(until, epoch), expected, "{until:?} {epoch:?}");
        }
    }
}
