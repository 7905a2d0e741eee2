//! What is remembered of a step under its key: looked up before it is executed, written down after.
//!
//! Invariant: a layer is used only on the very layers of steps that it was made on ([`Stage::below`]),
//! unless its key depends on nothing below.

use anyhow::Result;

use super::elsewhere;
use super::image::{BuiltLayer, Origin};
use super::lazy::LazyLayer;
use super::stage::{CREATED, Made, Stage};
use crate::cache::{KeyBuilder, StepKey};
use crate::image::Digest;
use crate::store::{StepElsewhere, StepRecord};

/// The field of a key that stands for what is below; a linked copy has none.
const BELOW: &str = "base";

impl Stage<'_> {
    /// What an earlier build made under `key`. The layers below it need not be here.
    pub(super) fn cached(&self, key: &StepKey) -> Result<Option<Made>> {
        if self.no_cache {
            return Ok(None);
        }
        let record = self.store().record(&key.digest)?;
        let found = match &record {
            Some(record) if self.serves(key, record) => self.built(key, record)?,
            _ => None,
        };
        match found {
            None => elsewhere::found(self, key),
            Some(layer) => Ok(Some(Made {
                layer,
                below: None,
                executed: false,
            })),
        }
    }

    /// Whether what is remembered under `key` was made on the very layers that are below. A step
    /// that is run again may give something else, and what was made on its earlier result belongs to
    /// that: together they would be what no run of the Dockerfile has ever given.
    fn serves(&self, key: &StepKey, record: &StepRecord) -> bool {
        !is_bound(key)
            || record
                .below
                .as_ref()
                .is_none_or(|below| *below == self.below())
    }

    /// What this store has of a step.
    fn built(&self, key: &StepKey, record: &StepRecord) -> Result<Option<BuiltLayer>> {
        if let Some(known) = &record.elsewhere {
            return elsewhere::recorded(self, key, known.clone());
        }
        let Some(id) = &record.layer else {
            return Ok(None);
        };
        let Some(found) = self.store().layer(id)? else {
            return Ok(None);
        };
        let Some(created) = found.meta.notes.get(CREATED) else {
            return Ok(None);
        };
        let origin = Origin::Step {
            created: created.clone(),
            until: None,
        };
        Ok(Some(BuiltLayer {
            layer: LazyLayer::stored(&found),
            origin,
        }))
    }

    /// Remembers what was made under `key`; gives the layer to go on with, which is that of another
    /// build if that was faster.
    pub(super) fn remember(&self, key: &StepKey, built: BuiltLayer) -> Result<BuiltLayer> {
        let record = StepRecord {
            layer: Some(built.layer.id().to_owned()),
            fields: key.fields.clone(),
            below: Some(self.below()),
            elsewhere: None,
        };
        if !self.no_cache {
            let serves = |theirs: &StepRecord| self.serves(key, theirs);
            let theirs = self.store().put_step_once(&key.digest, &record, serves)?;
            let Some(theirs) = theirs else {
                return Ok(built);
            };
            if let Some(theirs) = self.built(key, &theirs)? {
                return Ok(theirs);
            }
        }
        self.store().put_step(&key.digest, &record)?;
        Ok(built)
    }

    /// Remembers that another machine has made the layer of the step of `key`, and on which layers.
    pub(super) fn remember_elsewhere(
        &self,
        key: &StepKey,
        layer: String,
        below: Option<&[BuiltLayer]>,
        elsewhere: StepElsewhere,
    ) -> Result<()> {
        let below = match below {
            Some(layers) => layers
                .iter()
                .map(|built| built.layer.id().to_owned())
                .collect(),
            None => self.below(),
        };
        let record = StepRecord {
            layer: Some(layer),
            fields: key.fields.clone(),
            below: Some(below),
            elsewhere: Some(elsewhere),
        };
        Ok(self.store().put_step(&key.digest, &record)?)
    }
}

/// Whether the step of `key` depends on what is below.
pub(super) fn is_bound(key: &StepKey) -> bool {
    key.fields.iter().any(|(name, _)| name == BELOW)
}

/// What stands for a stage after a step: a linked copy's key says nothing of what is below it.
pub(super) fn chained(below: &Digest, key: &StepKey) -> Digest {
    let mut chain = KeyBuilder::new("chain");
    chain.field("below", below.as_str());
    chain.field("step", key.digest.as_str());
    chain.finish().digest
}
