//! The documents of an entry: a manifest and its configuration, to and from bytes.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::FIELD;
use crate::image::manifest::{
    Descriptor, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use crate::image::{Digest, Platform};

/// Two zero blocks: a tar without entries.
pub(super) const EMPTY_TAR: [u8; 1024] = [0; 1024];
/// A larger configuration is none of ours.
pub(super) const CONFIG_LIMIT: u64 = 64 << 10;
/// A record holds a digest or a few numbers.
const VALUE_LIMIT: usize = 4 << 10;
/// No stage has more: overlayfs takes fewer.
const MOST_LAYERS: usize = 500;
/// What the history of an entry says of it.
const COMMENT: &str = "lapstrake cache entry";
/// The time of a record: equal records are equal bytes, whoever writes them.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// The result of a step: its layer, and those of earlier steps on which it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEntry {
    /// The step's key.
    pub key: Digest,
    /// The step's own layer.
    pub own: StepLayer,
    /// The layers of the steps before it, lowest first; those of the base are not among them. A step
    /// that knows of nothing below has none.
    pub below: Vec<StepLayer>,
}

impl StepEntry {
    /// Whether one of its layers is among those of these diff ids.
    pub fn has_any(&self, diff_ids: &HashSet<Digest>) -> bool {
        let mut all = self.below.iter().chain([&self.own]);
        all.any(|layer| diff_ids.contains(&layer.diff_id))
    }
}

/// A layer that a step has made.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLayer {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// Its blob.
    pub blob: Descriptor,
    /// When the step was executed, RFC 3339.
    pub created: String,
    /// Later times in the tar were set back to this, seconds since 1970.
    pub until: Option<i64>,
}

/// Something that was computed from layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordEntry {
    /// What it was computed from, and how.
    pub key: Digest,
    /// The result.
    pub value: String,
}

/// What stands behind a tag.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The result of a step.
    Step(Box<StepEntry>),
    /// Something that was computed.
    Record(RecordEntry),
}

/// Why what stands behind a tag is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// Not a manifest as entries have it.
    #[error("its manifest is none of a cache entry: {0}")]
    Manifest(String),
    /// The configuration is not what the manifest says, or cannot be understood.
    #[error("its configuration is none of a cache entry: {0}")]
    Config(String),
    /// It is about another key.
    #[error("it is the entry of {found}")]
    Key {
        /// By the entry.
        found: Digest,
    },
}

/// An entry as it is stored.
pub(super) struct Documents {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) config_descriptor: Descriptor,
}

/// A manifest whose configuration has to be looked at next.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) config: Descriptor,
    /// The configuration, if the manifest carries it.
    pub(super) data: Option<Vec<u8>>,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestForm {
    #[serde(default)]
    media_type: Option<String>,
    config: DescriptorForm,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct DescriptorForm {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    data: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Form {
    Step {
        key: Digest,
        /// One for each layer.
        layers: Vec<LayerForm>,
    },
    Record {
        key: Digest,
        value: String,
    },
}

#[derive(Serialize, Deserialize)]
struct LayerForm {
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

impl Entry {
    /// The key it is found under.
    pub fn key(&self) -> &Digest {
        match self {
            Self::Step(step) => &step.key,
            Self::Record(record) => &record.key,
        }
    }

    /// The entry's documents. Equal entries give equal bytes.
    pub(super) fn documents(&self, platform: &Platform) -> Documents {
        let empty = Digest::of(&EMPTY_TAR);
        let (diff_ids, layers, times, form) = match self {
            Self::Step(step) => {
                let all = || step.below.iter().chain([&step.own]);
                let form = |layer: &StepLayer| LayerForm {
                    created: layer.created.clone(),
                    until: layer.until,
                };
                let form = Form::Step {
                    key: step.key.clone(),
                    layers: all().map(form).collect(),
                };
                let diff_ids: Vec<&Digest> = all().map(|layer| &layer.diff_id).collect();
                let blobs = all().map(|layer| plain(&layer.blob)).collect();
                let times = all().map(|layer| layer.created.as_str()).collect();
                (diff_ids, blobs, times, form)
            }
            Self::Record(record) => {
                let form = Form::Record {
                    key: record.key.clone(),
                    value: record.value.clone(),
                };
                (vec![&empty], vec![empty_layer()], vec![NO_TIME], form)
            }
        };
        let history: Vec<Value> = times
            .iter()
            .map(|time| json!({ "created": time, "created_by": COMMENT }))
            .collect();
        let mut config = json!({
            "architecture": platform.arch,
            "os": platform.os,
            "created": times.last(),
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        config[FIELD] = json!(form);
        let config = config.to_string().into_bytes();
        let config_descriptor = described(OCI_CONFIG, &config);
        let mut with_data = json!(config_descriptor);
        with_data["data"] = json!(BASE64.encode(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": with_data,
            "layers": layers,
        });
        Documents {
            manifest: manifest.to_string().into_bytes(),
            config,
            config_descriptor,
        }
    }
}

/// A blob without notes.
fn plain(blob: &Descriptor) -> Descriptor {
    Descriptor::new(&blob.media_type, &blob.digest, blob.size)
}

/// The layer of records.
pub(super) fn empty_layer() -> Descriptor {
    described(OCI_LAYER, &EMPTY_TAR)
}

fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, &Digest::of(bytes), bytes.len() as u64)
}

impl Read {
    /// Reads a manifest.
    pub(super) fn manifest(bytes: &[u8]) -> Result<Self, EntryError> {
        let wrong = |reason: String| EntryError::Manifest(reason);
        let form: ManifestForm =
            serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let ours = |text: &String| text == OCI_MANIFEST;
        if !form.media_type.as_ref().is_none_or(ours) {
            return Err(wrong(format!("its type is {:?}", form.media_type)));
        }
        let config = form.config.descriptor;
        if config.media_type != OCI_CONFIG || config.size > CONFIG_LIMIT {
            return Err(wrong(format!(
                "its configuration of {} bytes is of type {:?}",
                config.size, config.media_type
            )));
        }
        if form.layers.is_empty() || form.layers.len() > MOST_LAYERS {
            return Err(wrong(format!("it has {} layers", form.layers.len())));
        }
        let known = [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD];
        let mut layers = form.layers.iter();
        if let Some(other) = layers.find(|layer| !known.contains(&layer.media_type.as_str())) {
            let kind = &other.media_type;
            return Err(wrong(format!("it has a layer of type {kind:?}")));
        }
        // Only what the digest covers is believed; without it the configuration is asked for.
        let data = form.config.data.and_then(|text| BASE64.decode(text).ok());
        Ok(Self {
            data: data.filter(|data| Digest::of(data) == config.digest),
            config,
            layers: form.layers.iter().map(plain).collect(),
        })
    }

    /// Reads the configuration, and gives the entry if it is the one of `key`.
    pub(super) fn entry(self, config: &[u8], key: &Digest) -> Result<Entry, EntryError> {
        let wrong = |reason: String| EntryError::Config(reason);
        let found = Digest::of(config);
        if found != self.config.digest {
            return Err(wrong(format!(
                "its digest is {found}, the manifest says {}",
                self.config.digest
            )));
        }
        let value: Value =
            serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
        let form = value.get(FIELD).cloned().unwrap_or_default();
        let form: Form =
            serde_json::from_value(form).map_err(|error| wrong(format!("{FIELD}: {error}")))?;
        let entry = match form {
            Form::Step { key, layers } => {
                let mut all = step_layers(self.layers, &value, layers)?;
                let own = all.pop();
                let own = own.ok_or_else(|| wrong("it has no layer".into()))?;
                Entry::Step(Box::new(StepEntry {
                    key,
                    own,
                    below: all,
                }))
            }
            Form::Record { value, .. } if value.len() > VALUE_LIMIT => {
                return Err(wrong(format!("a record of {} bytes", value.len())));
            }
            Form::Record { key, value } => Entry::Record(RecordEntry { key, value }),
        };
        match entry.key() {
            found if found == key => Ok(entry),
            found => Err(EntryError::Key {
                found: found.clone(),
            }),
        }
    }
}

/// Puts together what manifest and configuration say of the layers.
fn step_layers(
    blobs: Vec<Descriptor>,
    config: &Value,
    forms: Vec<LayerForm>,
) -> Result<Vec<StepLayer>, EntryError> {
    let wrong = |reason: String| EntryError::Config(reason);
    let diff_ids: Vec<Digest> = serde_json::from_value(config["rootfs"]["diff_ids"].clone())
        .map_err(|error| wrong(format!("its diff ids: {error}")))?;
    if diff_ids.len() != blobs.len() || forms.len() != blobs.len() {
        let (blobs, diff_ids, forms) = (blobs.len(), diff_ids.len(), forms.len());
        return Err(wrong(format!(
            "{blobs} layers, {diff_ids} diff ids and {forms} times do not fit together"
        )));
    }
    let all = blobs.into_iter().zip(diff_ids).zip(forms);
    all.map(|((blob, diff_id), form)| {
        // The time goes into configurations of images: it has to be one.
        if !is_time(&form.created) {
            return Err(wrong(format!("{:?} is no time", form.created)));
        }
        Ok(StepLayer {
            diff_id,
            blob,
            created: form.created,
            until: form.until,
        })
    })
    .collect()
}

/// Whether a text is a time as RFC 3339 has it.
pub(super) fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}
