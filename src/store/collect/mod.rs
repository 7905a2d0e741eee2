//! Upkeep: what the store holds, what of it nobody needs, and taking that away.
//!
//! * `survey`: everything in the store, put together into units that go as a whole
//! * `reach`: what the images that stay need
//! * `take`: one pass over the units, least recently used first
//! * `usage`: what `du` tells
//! * `limit`: staying within a number of bytes without measuring at every build
//!
//! A unit is a layer with its records, a blob, a cache mount, a tree, something fetched, or a small file.
//! **What an image with a name reaches stays**, unless names are to go too; so does what any process
//! has in use (see `uses`). A layer counts as used whenever something built on it was, so what is
//! below goes no sooner than what is above it.
//!
//! Nobody has to wait: units are put aside in batches, each of which is taken alone for as long as
//! that lasts, and the roots are looked at again when `index.json` has changed since. Only `tmp/`
//! is left to a moment in which nobody else has the store open. One process collects at a time
//! (`collect.lock`, which comes after `lock` and before all other locks).

mod limit;
mod reach;
mod survey;
mod take;
mod usage;

use std::time::Duration;

pub use usage::{Usage, UsageRow, UsageThing};

/// What is to be collected, and when enough is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Named images too, and with them everything that nobody uses.
    pub all: bool,
    /// Only say what would go.
    pub dry_run: bool,
    /// Leave what was used within this time. Without it, and without a space, cache mounts and
    /// tables of contexts stay for a while, and everything else goes.
    pub unused_for: Option<Duration>,
    /// Only things of this type, in BuildKit's words or in `du`'s.
    pub only: Option<String>,
    /// Take away the least recently used until the store is no larger than this, in bytes.
    pub max_used: Option<u64>,
    /// Never take away so much that the store is smaller than this, in bytes.
    pub reserved: Option<u64>,
    /// Take away the least recently used until as many bytes are free on the disk.
    pub min_free: Option<u64>,
}

impl PruneOptions {
    /// Whether things go only as long as space is short.
    fn has_space(&self) -> bool {
        self.max_used.is_some() || self.reserved.is_some() || self.min_free.is_some()
    }
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// Digests of the manifests that were forgotten.
    pub images: Vec<String>,
    /// How many layers went.
    pub layers: usize,
    /// How many blobs went.
    pub blobs: usize,
    /// How many cache mounts went.
    pub caches: usize,
    /// How many root file systems went.
    pub trees: usize,
    /// How many files and repositories from the network went.
    pub fetched: usize,
    /// How many cache records went.
    pub records: usize,
    /// The space that this gave back, in bytes.
    pub bytes: u64,
    /// The space that the store took before, in bytes; only where it had to be known.
    pub before: Option<u64>,
    /// How many things would have gone, but are in use.
    pub in_use: usize,
    /// Whether others have the store open, so that unfinished files were not looked at.
    pub others: bool,
    /// What could not be deleted and why: layers of another id map belong to ids that this
    /// process may not touch.
    pub kept: Vec<String>,
}

/// Whether `word` is a type that [`PruneOptions::only`] knows.
pub fn is_prune_type(word: &str) -> bool {
    prune_types().any(|known| known == word)
}

/// The types that [`PruneOptions::only`] knows.
pub fn prune_types() -> impl Iterator<Item = &'static str> {
    let kinds = super::kinds::KINDS.iter();
    let mut seen = Vec::new();
    kinds.map(|kind| kind.filter).filter(move |word| {
        *word != "internal" && !seen.contains(word) && {
            seen.push(word);
            true
        }
    })
}

#[cfg(test)]
mod tests;
