//! Where blobs can be had that the store does not have: the layers of images that were pulled, or
//! built on a base, without any need of their files.
//!
//! ```text
//! sources/HEX   JSON: the repositories that have the blob of this digest
//! ```
//!
//! A record says where to look, never what will be found: content is believed by its digest alone.
//! Records of blobs that no image names are collected with them.

use serde::{Deserialize, Serialize};

use super::error::At;
use super::files::{Sync, make_private_dir, read_record};
use super::{Store, StoreError};
use crate::image::{Digest, Reference};

/// How many repositories are remembered for one blob: the last ones.
const KEPT: usize = 4;

#[derive(Default, Serialize, Deserialize)]
struct SourceRecord {
    /// Registry and repository, without a tag.
    repositories: Vec<String>,
}

impl Store {
    /// The repositories that are known to have the blob, the latest first. Their tags say nothing.
    ///
    /// # Errors
    /// When the disk fails; a damaged record counts as none.
    pub fn blob_sources(&self, blob: &Digest) -> Result<Vec<Reference>, StoreError> {
        let record = read_record::<SourceRecord>(&self.source_path(blob))?.unwrap_or_default();
        let parsed = record.repositories.iter().rev();
        Ok(parsed.filter_map(|name| name.parse().ok()).collect())
    }

    /// Remembers that the repository of `name` has the blob. Of two that are told at the same time
    /// one may be forgotten.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn add_blob_source(&self, blob: &Digest, name: &Reference) -> Result<(), StoreError> {
        let path = self.source_path(blob);
        let mut record = read_record::<SourceRecord>(&path)?.unwrap_or_default();
        let repository = format!("{}/{}", name.registry(), name.repository());
        if record.repositories.last() == Some(&repository) {
            return Ok(());
        }
        record.repositories.retain(|known| *known != repository);
        record.repositories.push(repository);
        let surplus = record.repositories.len().saturating_sub(KEPT);
        record.repositories.drain(..surplus);
        let dir = self.path("sources");
        make_private_dir(&dir).at("make", &dir)?;
        self.replace_json(&path, &record, Sync::No)
    }

    fn source_path(&self, blob: &Digest) -> std::path::PathBuf {
        self.path("sources").join(blob.hex())
    }
}
