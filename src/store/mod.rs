//! The store on disk: blobs, layers, tags, cache records, locks and garbage collection. It knows
//! nothing of the network.
//!
//! ```text
//! ROOT/v1/
//!   lock               shared while the store is open, exclusive to sweep
//!   collect.lock       exclusive while garbage is collected or the store is measured
//!   uses               a byte for every thing in the store, locked while it is used (see `uses`)
//!   usage              what the store took when it was measured last (see `collect::limit`)
//!   index.lock         exclusive around «read index.json, change it, write it»
//!   publish.lock       exclusive around putting aside a layer that a power cut has made unusable, and
//!                      around «look a step up, remember it»
//!   oci/               an OCI image layout that any OCI tool can read
//!     index.json         one descriptor per tag; without a name when the tag has moved on
//!     blobs/sha256/HEX   mode 0444: known to be on the disk; 0644: not yet (see below)
//!   layers/MAP/ID/     diff/, attributes, meta.json: immutable, published by rename
//!   diffs/MAP/HEX      symbolic link whose text is the id of the layer with that diff id
//!   exports/MAP/ID     layer id → diff id, size and the blobs made of it
//!   steps/MAP/HEX      step key → layer id and the fields the key was made of
//!   files/DEV-INODE    what is known of the contents of the files of the context in that directory
//!   runs/HEX           the last runs of the steps of a Dockerfile, to explain why one is run again
//!   listings/HEX       digest of copied content → its entries, for the same
//!   fetched/           files and repositories from the network: see the module of that name
//!   sources/HEX        who has the blobs that are not here (see `sources`)
//!   cache-mounts/MAP/  directories of RUN --mount=type=cache (see `caches`)
//!   trees/MAP/         root file systems put together by copying (see `trees`)
//!   tmp/               everything unfinished
//! ```
//!
//! MAP names the id map under which files were made: what one map wrote as owner 33 another one
//! would read as something else, so nothing that holds owners is ever shared between two maps.
//!
//! **Roots of garbage collection**: the descriptors of `index.json`. A manifest reaches its
//! configuration and its layers' blobs; a configuration reaches, by diff id, the layers of every
//! map; a layer reaches its export record, and step records that name it stay.
//!
//! None of these has to be there: a layer that an image or a step record names may be gone or not
//! have come yet, and is then made or brought again. `kinds` lists what there is in one table.
//!
//! **Lock order**: `lock`, `collect.lock`, bytes of `uses`, then `index.lock` or `publish.lock`, never
//! both of these. All belong to open files, so the kernel drops them with the process that held
//! them (`locks` tells what is done where the file system has none). Nobody waits for a byte of `uses` except for the moment in which its thing is put aside.
//!
//! **In use** is what a process has looked up or made and what it has not closed the store since:
//! collecting leaves it, whoever collects, and never waits for builds nor has them wait.
//!
//! **Crashes**: whatever is unfinished lives in `tmp/` and gets its name by one `rename`. Killing a
//! process therefore loses only `tmp/` and the trees that it had, which are swept when somebody opens the store while
//! nobody else has it open. Losing power may lose more, for layers and large blobs are not synced one by
//! one: they carry a write bit until [`Store::settle`] has seen the file system flushed. A layer
//! with that bit from an earlier boot is treated as absent, a blob with that bit that this process
//! has not written is hashed before it is believed. Cache records that cannot be read count as
//! absent; a tag that cannot be read is an error.

mod beside;
mod blobs;
mod caches;
mod collect;
mod error;
mod fetched;
mod files;
mod images;
mod kinds;
mod layers;
mod locks;
mod open;
mod place;
mod records;
mod remove;
mod runs;
mod settle;
mod sources;
mod trees;
mod uses;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use blobs::BlobWriter;
pub use caches::{CacheAttempt, CacheMount, CacheSharing, NewCache};
pub use collect::{
    PruneOptions, PruneReport, Usage, UsageRow, UsageThing, is_prune_type, prune_types,
};
pub use error::StoreError;
pub use fetched::{FetchedRecord, RepositoryDir};
pub use images::{DamagedImage, StoredImage, platform_of};
pub use layers::{LayerMeta, LayerRecord, Staging};
pub use open::{ScratchDir, default_root, make_root};
pub use place::{Candidate, other_places};
pub use records::{ExportRecord, ExportedBlob, StepElsewhere, StepRecord};
pub use remove::remove_tree;

use crate::image::Digest;

/// An open store; clones share it, and the last one to go gives up its lock.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    map: String,
    boot: String,
    lock: File,
    /// Where things in use are locked.
    uses: File,
    /// Held by everything unfinished, so that garbage is not collected under it.
    live: Arc<()>,
    fresh: Mutex<Fresh>,
    own: Mutex<Own>,
    /// The last to go: nothing is locked any more then.
    locks: locks::Locks,
}

/// What this process relies on and has not yet seen flushed to the disk.
#[derive(Debug, Default)]
struct Fresh {
    blobs: HashSet<Digest>,
    layers: HashSet<String>,
}

/// What this process does with the store, as far as collecting has to know.
#[derive(Debug, Default)]
struct Own {
    /// What nobody may collect.
    held: HashSet<uses::Place>,
    /// What was added to the store and not yet counted.
    written: Vec<PathBuf>,
}

impl Store {
    /// The directory that holds everything, `ROOT/v1`.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The image layout inside the store, which any OCI tool can read.
    pub fn layout(&self) -> PathBuf {
        self.inner.root.join("oci")
    }

    /// The name of the id map under which this store's layers are made and found.
    pub fn id_map(&self) -> &str {
        &self.inner.map
    }

    /// Where what was fetched from the network is kept.
    pub fn fetched_dir(&self) -> PathBuf {
        self.inner.root.join("fetched")
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.inner.root.join(relative)
    }

    fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Own> {
        // As `fresh`: names, whole or not there.
        self.inner
            .own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, Fresh> {
        // A set of names is whole whatever a panicking thread was doing with it.
        self.inner
            .fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
