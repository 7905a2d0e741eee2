//! [`Inline`]: the keys of an image's own layers, in its configuration.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::is_time;
use super::{FIELD, StepEntry, StepLayer};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::{Digest, ImageConfig};

/// Which step made which layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inline {
    /// In the order of the layers.
    pub steps: Vec<InlineStep>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineStep {
    /// The key of the step.
    pub key: Digest,
    /// Which of the image's layers, from 0.
    pub layer: usize,
    /// When the step was executed, RFC 3339.
    pub created: String,
    /// Later times in the layer were set back to this, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

impl Inline {
    /// Puts the record into a configuration, in place of one that a base has left; an empty record
    /// is none.
    pub fn put(&self, config: &mut ImageConfig) -> serde_json::Result<()> {
        config.other.remove(FIELD);
        if !self.steps.is_empty() {
            let value: Value = serde_json::to_value(self)?;
            config.other.insert(FIELD.to_owned(), value);
        }
        Ok(())
    }

    /// The record of an image; none if it has none that can be understood.
    pub fn of(config: &ImageConfig) -> Option<Self> {
        let value = config.other.get(FIELD)?;
        serde_json::from_value(value.clone()).ok()
    }

    /// The steps as entries. One that names a layer which the image does not have is left out.
    pub fn entries(self, config: &ImageConfig, manifest: &Manifest) -> Vec<StepEntry> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Vec::new();
        }
        let layer = |step: &InlineStep| {
            let blob = manifest.layers.get(step.layer)?;
            Some(StepLayer {
                diff_id: diff_ids.get(step.layer)?.parse().ok()?,
                blob: Descriptor::new(&blob.media_type, &blob.digest, blob.size),
                created: Some(step.created.clone()).filter(|text| is_time(text))?,
                until: step.until,
            })
        };
        let mut entries: Vec<StepEntry> = Vec::new();
        for step in self.steps {
            // What lies on a layer that is not known is of no use.
            let Some(own) = layer(&step) else { break };
            let below = entries.last().map_or_else(Vec::new, |last| {
                last.below.iter().chain([&last.own]).cloned().collect()
            });
            entries.push(StepEntry {
                key: step.key,
                own,
                below,
            });
        }
        entries
    }
}
