//! Cache records: what a step key led to, and what became of a layer when it left.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{Sync, read_limited, read_record};
use super::layers::checked_id;
use super::uses::note_use_of;
use super::{Store, StoreError};
use crate::image::Digest;
use crate::image::manifest::Descriptor;

/// What a step key led to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The layer that the step made; none when it changed no file.
    pub layer: Option<String>,
    /// The fields the key was made of, in order, so that a miss can be explained.
    pub fields: Vec<(String, String)>,
    /// The layers of steps on which it was made, lowest first: they are used whenever it is. None
    /// where that is not known, as of what another machine has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Vec<String>>,
    /// For a step that was executed elsewhere: what is known of its layer, which need not be here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<StepElsewhere>,
}

/// A step's layer that another machine has made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepElsewhere {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// Its blob.
    pub blob: Descriptor,
    /// When the step was executed, RFC 3339.
    pub created: String,
    /// Later times in the tar were set back to this, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// What is known of a layer's tar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The size of the uncompressed tar in bytes.
    pub size: u64,
    /// The forms in which it has left. Their blobs may have gone from the store since.
    pub blobs: Vec<ExportedBlob>,
}

/// One form of a layer's tar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedBlob {
    /// How it was made, by the maker's own words (`gzip`, `zstd:3`, `registry`): a later export
    /// that asks for the same words may take it.
    pub compression: String,
    /// The media type, OCI's or Docker's.
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
}

impl ExportRecord {
    /// The name of the form in which later times than `epoch` were set back to it.
    pub fn variant(epoch: Option<i64>) -> String {
        epoch.map_or_else(String::new, |epoch| format!("until{epoch}"))
    }

    /// Adds a form, in place of an older one made the same way.
    pub fn add(&mut self, blob: ExportedBlob) {
        self.blobs
            .retain(|known| known.compression != blob.compression);
        self.blobs.push(blob);
    }

    /// The form made this way.
    pub fn made_as(&self, compression: &str) -> Option<&ExportedBlob> {
        self.blobs
            .iter()
            .find(|blob| blob.compression == compression)
    }
}

impl Store {
    /// What became of a layer when it left. `variant` tells apart tars that differ for the same
    /// layer (a clamped time, say); empty for the plain one.
    ///
    /// # Errors
    /// For an id that is none, and when the disk fails; a damaged record counts as none.
    pub fn export_record(
        &self,
        layer_id: &str,
        variant: &str,
    ) -> Result<Option<ExportRecord>, StoreError> {
        read_record(&self.export_path(layer_id, variant)?)
    }

    /// Remembers what became of a layer, and finds the layer by its diff id from now on.
    ///
    /// # Errors
    /// For an id or variant that is none, and when the disk fails.
    pub fn put_export_record(
        &self,
        layer_id: &str,
        variant: &str,
        record: &ExportRecord,
    ) -> Result<(), StoreError> {
        let path = self.export_path(layer_id, variant)?;
        self.replace_json(&path, record, Sync::No)?;
        self.link_diff_id(&record.diff_id, layer_id)
    }

    /// What a step key led to, if the layer is still there.
    ///
    /// # Errors
    /// When the disk fails; a damaged record counts as none.
    pub fn step(&self, key: &Digest) -> Result<Option<StepRecord>, StoreError> {
        let Some(record) = read_record::<StepRecord>(&self.step_path(key))? else {
            return Ok(None);
        };
        let usable = match &record.layer {
            None => {
                note_use_of(&self.step_path(key));
                true
            }
            Some(id) if checked_id(id).is_ok() => self.layer(id)?.is_some(),
            Some(_) => false,
        };
        Ok(usable.then_some(record))
    }

    /// What is remembered under a key, whether the layer it names is here or not.
    ///
    /// # Errors
    /// When the disk fails; a damaged record counts as none.
    pub fn record(&self, key: &Digest) -> Result<Option<StepRecord>, StoreError> {
        let path = self.step_path(key);
        let record = read_record::<StepRecord>(&path)?;
        note_use_of(&path);
        let is_named = |record: &StepRecord| record.layer.iter().all(|id| checked_id(id).is_ok());
        Ok(record.filter(is_named))
    }

    /// Remembers what a step key led to, unless something is remembered that `serves` as well: then
    /// that is given back, so that builds side by side go on with one and the same layer.
    ///
    /// # Errors
    /// As [`Store::put_step`].
    pub fn put_step_once(
        &self,
        key: &Digest,
        record: &StepRecord,
        serves: impl FnOnce(&StepRecord) -> bool,
    ) -> Result<Option<StepRecord>, StoreError> {
        let _held = self.lock_file("publish.lock")?;
        if let Some(first) = self.step(key)?.filter(serves) {
            return Ok(Some(first));
        }
        self.put_step(key, record)?;
        Ok(None)
    }

    /// Remembers what a step key led to.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_step(&self, key: &Digest, record: &StepRecord) -> Result<(), StoreError> {
        if let Some(id) = &record.layer {
            checked_id(id)?;
        }
        self.replace_json(&self.step_path(key), record, Sync::No)
    }

    /// What the last build knew of the contents of the files of a context, which is recognised by
    /// its directory's device and inode; empty when there is nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn file_digests(&self, context: (u64, u64)) -> Result<Vec<u8>, StoreError> {
        let path = self.file_digests_path(context);
        note_use_of(&path);
        match read_limited(&path) {
            Err(StoreError::Corrupt { .. }) => Ok(Vec::new()),
            bytes => Ok(bytes?.unwrap_or_default()),
        }
    }

    /// Keeps what a build knows of the contents of a context's files. Of two builds that end at
    /// the same time one is believed: what the other knew is read again.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_file_digests(&self, context: (u64, u64), table: &[u8]) -> Result<(), StoreError> {
        self.replace(&self.file_digests_path(context), table, Sync::No)
    }

    fn file_digests_path(&self, (device, inode): (u64, u64)) -> PathBuf {
        self.path("files").join(format!("{device:x}-{inode:x}"))
    }

    fn step_path(&self, key: &Digest) -> PathBuf {
        self.by_map("steps").join(key.hex())
    }

    fn export_path(&self, layer_id: &str, variant: &str) -> Result<PathBuf, StoreError> {
        let id = checked_id(layer_id)?;
        let name = match variant {
            "" => id.to_owned(),
            variant => format!("{id}@{}", checked_id(variant)?),
        };
        Ok(self.by_map("exports").join(name))
    }
}
