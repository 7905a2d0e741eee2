//! The documents of an entry: a manifest and its configuration, to and from bytes.

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
/// What the history of an entry says of it.
const COMMENT: &str = "lapstrake cache entry";
/// The time of a record: equal records are equal bytes, whoever writes them.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEntry {
    /// The step's key.
    pub key: Digest,
    /// The digest of the layer's tar.
    pub diff_id: Digest,
    /// The layer's blob.
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
    layer: Descriptor,
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
    },
    Record {
        key: Digest,
        value: String,
    },
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
        let (diff_id, layer, created, form) = match self {
            Self::Step(step) => {
                let form = Form::Step {
                    key: step.key.clone(),
                    until: step.until,
                };
                let created = step.created.as_str();
                (&step.diff_id, step.blob.clone(), created, form)
            }
            Self::Record(record) => {
                let form = Form::Record {
                    key: record.key.clone(),
                    value: record.value.clone(),
                };
                (&empty, empty_layer(), NO_TIME, form)
            }
        };
        let mut config = json!({
            "architecture": platform.arch,
            "os": platform.os,
            "created": created,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{ "created": created, "created_by": COMMENT }],
        });
        config[FIELD] = json!(form);
        let config = config.to_string().into_bytes();
        let config_descriptor = described(OCI_CONFIG, &config);
        let mut with_data = json!(config_descriptor);
        with_data["data"] = json!(BASE64.encode(&config));
        let layer = Descriptor::new(&layer.media_type, &layer.digest, layer.size);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": with_data,
            "layers": [layer],
        });
        Documents {
            manifest: manifest.to_string().into_bytes(),
            config,
            config_descriptor,
        }
    }
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
        let [layer] = <[Descriptor; 1]>::try_from(form.layers)
            .map_err(|layers| wrong(format!("it has {} layers", layers.len())))?;
        if ![OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD].contains(&layer.media_type.as_str()) {
            return Err(wrong(format!(
                "its layer is of type {:?}",
                layer.media_type
            )));
        }
        // Only what the digest covers is believed; without it the configuration is asked for.
        let data = form.config.data.and_then(|text| BASE64.decode(text).ok());
        Ok(Self {
            data: data.filter(|data| Digest::of(data) == config.digest),
            config,
            layer: Descriptor::new(&layer.media_type, &layer.digest, layer.size),
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
            Form::Step { key, until } => Entry::Step(Box::new(StepEntry {
                key,
                diff_id: diff_id(&value)?,
                created: created(&value)?,
                blob: self.layer,
                until,
            })),
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

fn diff_id(config: &Value) -> Result<Digest, EntryError> {
    let wrong = || EntryError::Config("it does not name one diff id".into());
    match config["rootfs"]["diff_ids"].as_array().map(Vec::as_slice) {
        Some([Value::String(one)]) => one.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The time goes into configurations of images: it has to be one.
fn created(config: &Value) -> Result<String, EntryError> {
    let text = config["created"].as_str().unwrap_or_default();
    match is_time(text) {
        true => Ok(text.to_owned()),
        false => Err(EntryError::Config(format!("{text:?} is no time"))),
    }
}

/// Whether a text is a time as RFC 3339 has it.
pub(super) fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}
