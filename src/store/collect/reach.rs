//! What the images that stay need.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::super::error::At;
use super::super::files::read_limited;
use super::super::images::{is_index, name_of};
use super::super::kinds::How;
use super::super::uses::Taker;
use super::super::{LayerMeta, Store, StoreError};
use super::survey::{State, Unit};
use crate::image::manifest::{Descriptor, Index, Manifest};
use crate::image::{Digest, ImageConfig};

/// No manifest is larger.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// An entry of `index.json`.
pub(super) struct Root {
    pub(super) entry: Descriptor,
    /// When the image was used last.
    pub(super) used: SystemTime,
}

impl Root {
    pub(super) fn name(&self) -> Option<&String> {
        name_of(&self.entry)
    }
}

/// `index.json` as it was at some time: another inode or time is another content, for it is never
/// written in place.
pub(super) type Seen = (u64, i64, i64);

/// What must stay, each by its digits.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) blobs: HashSet<String>,
    diff_ids: HashSet<OsString>,
    /// The ids that layers of these diff ids have in every store, here or not.
    ids: HashSet<String>,
}

/// The images, and what `index.json` was when they were read.
pub(super) fn roots(store: &Store) -> Result<(Vec<Root>, Seen), StoreError> {
    // Before it is read: a change in between is then noticed.
    let seen = seen(store)?;
    let manifests = store.index()?.manifests;
    let root = |entry: Descriptor| {
        let path = store.blob_path(&entry.digest);
        let time = fs::metadata(path).and_then(|found| found.modified());
        Root {
            used: time.unwrap_or(SystemTime::UNIX_EPOCH),
            entry,
        }
    };
    Ok((manifests.into_iter().map(root).collect(), seen))
}

pub(super) fn seen(store: &Store) -> Result<Seen, StoreError> {
    let path = store.path("oci/index.json");
    let found = fs::metadata(&path).at("examine", &path)?;
    Ok((found.ino(), found.mtime(), found.mtime_nsec()))
}

impl Reached {
    /// What the images reach; with `taker`, so do manifests that somebody has in use: a build may
    /// be about to name in its own image what its base is made of.
    pub(super) fn new<'a>(
        store: &Store,
        roots: impl Iterator<Item = &'a Root>,
        units: &[Unit],
        taker: Option<&Taker>,
    ) -> Result<Self, StoreError> {
        let mut reached = Self::default();
        for root in roots {
            reached.follow(store, &root.entry.digest, is_index(&root.entry))?;
        }
        let Some(taker) = taker else {
            return Ok(reached);
        };
        let blobs = units.iter().filter(|unit| unit.kind.how == How::Blobs);
        for unit in blobs.filter(|unit| unit.state != State::Gone) {
            let is_small = || {
                let found = fs::symlink_metadata(&unit.main);
                found.is_ok_and(|found| found.len() <= LARGEST_MANIFEST)
            };
            let Some(place) = unit.place.filter(|_| !reached.blobs.contains(&unit.name)) else {
                continue;
            };
            if taker.take(place)? {
                taker.give_back(place)?;
            } else if is_small()
                && let Ok(digest) = format!("sha256:{}", unit.name).parse()
            {
                reached.manifest_in_use(store, &digest)?;
            }
        }
        Ok(reached)
    }

    pub(super) fn has_layer(&self, unit: &Unit) -> bool {
        let mut diff_ids = unit.diff_ids.iter();
        diff_ids.any(|id| self.diff_ids.contains(id)) || self.ids.contains(&unit.name)
    }

    /// Follows a manifest or index; what a partly fetched index names need not be there.
    fn follow(&mut self, store: &Store, digest: &Digest, index: bool) -> Result<(), StoreError> {
        self.blobs.insert(digest.hex().to_owned());
        let corrupt = |reason: serde_json::Error| StoreError::Corrupt {
            path: store.blob_path(digest),
            reason: reason.to_string(),
        };
        let Some(bytes) = content(store, digest)? else {
            return Ok(());
        };
        if index {
            let index: Index = serde_json::from_slice(&bytes).map_err(corrupt)?;
            for entry in &index.manifests {
                self.follow(store, &entry.digest, is_index(entry))?;
            }
            return Ok(());
        }
        let manifest = serde_json::from_slice(&bytes).map_err(corrupt)?;
        self.manifest(store, &manifest)
    }

    fn manifest(&mut self, store: &Store, manifest: &Manifest) -> Result<(), StoreError> {
        for layer in &manifest.layers {
            self.blobs.insert(layer.digest.hex().to_owned());
        }
        let config = &manifest.config.digest;
        self.blobs.insert(config.hex().to_owned());
        // The configuration of an artifact is whatever its maker liked.
        if let Some(config) = parsed::<ImageConfig>(content(store, config)?) {
            let diff_ids = config.rootfs.diff_ids.iter();
            for id in diff_ids.filter_map(|id| id.parse::<Digest>().ok()) {
                self.diff_ids.insert(id.hex().into());
                self.ids.insert(LayerMeta::for_diff_id(&id).id);
            }
        }
        Ok(())
    }

    fn manifest_in_use(&mut self, store: &Store, digest: &Digest) -> Result<(), StoreError> {
        match parsed::<Manifest>(content(store, digest)?) {
            Some(manifest) => self.manifest(store, &manifest),
            None => Ok(()),
        }
    }
}

fn parsed<T: DeserializeOwned>(bytes: Option<Vec<u8>>) -> Option<T> {
    serde_json::from_slice(&bytes?).ok()
}

/// A blob, read without holding it; one that is not whole is not there.
fn content(store: &Store, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = read_limited(&store.blob_path(digest))?;
    Ok(bytes.filter(|bytes| Digest::of(bytes) == *digest))
}
