//! What explains a step that was not found in the cache: the last runs of the steps of each Dockerfile,
//! and listings of what was copied. Nothing is built by them; they may be lost at any time.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::error::At;
use super::files::{Sync, make_private_dir, read_limited};
use super::{Store, StoreError};
use crate::image::Digest;

impl Store {
    /// The record of the last runs that `identity` stands for; empty if there is none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn runs(&self, identity: &Digest) -> Result<Vec<u8>, StoreError> {
        let read = self.explanation("runs", identity)?;
        Ok(read.unwrap_or_default())
    }

    /// Keeps the record of the last runs. Of two builds that end at the same time one is remembered.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_runs(&self, identity: &Digest, record: &[u8]) -> Result<(), StoreError> {
        self.put_explanation("runs", identity, record)
    }

    /// The listing of what has this digest.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn listing(&self, content: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.explanation("listings", content)
    }

    /// Whether there is a listing of what has this digest.
    pub fn has_listing(&self, content: &Digest) -> bool {
        self.explanation_path("listings", content).exists()
    }

    /// Keeps the listing of what has this digest.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_listing(&self, content: &Digest, listing: &[u8]) -> Result<(), StoreError> {
        self.put_explanation("listings", content, listing)
    }

    /// Deletes the listing of what has this digest.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_listing(&self, content: &Digest) -> Result<(), StoreError> {
        let path = self.explanation_path("listings", content);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::at("delete", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn explanation(&self, kind: &str, name: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        match read_limited(&self.explanation_path(kind, name)) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            read => read,
        }
    }

    fn put_explanation(&self, kind: &str, name: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.explanation_path(kind, name);
        match self.replace(&path, bytes, Sync::No) {
            // A store of an earlier version, or one of which everything was pruned.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let dir = self.path(kind);
                make_private_dir(&dir).at("make", &dir)?;
                self.replace(&path, bytes, Sync::No)
            }
            result => result,
        }
    }

    fn explanation_path(&self, kind: &str, name: &Digest) -> PathBuf {
        self.path(kind).join(name.hex())
    }
}
