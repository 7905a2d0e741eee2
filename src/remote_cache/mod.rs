//! The step cache outside of this machine: in a registry, in a directory, in an image.
//!
//! **Wire form.** Every result has a tag of its own, so that builds which write at the same time
//! never overwrite each other: there is no list of everything. In the repository of the reference
//! that `--cache-to` names, PREFIX is `lapstrake`, or the reference's tag where it has one that is
//! not `latest`:
//!
//! ```text
//! PREFIX-HEX           a step's result; HEX is the step's key
//! PREFIX-HEX           a record: what was computed from layers; HEX is the record's key
//! ```
//!
//! Behind a tag stands an ordinary OCI image: of a step's layer on those of the steps before it,
//! without the base's. So every registry takes it, keeps its blobs and shows it, and every tool copies
//! it. A layer belongs to those it was made on: a step that is executed twice may give two layers, and
//! what was made on one of them is never put on the other. Its configuration is a small JSON document
//! that its manifest also carries in the descriptor's `data`, which saves a request:
//!
//! ```text
//! { "architecture", "os", "created", "rootfs": { "diff_ids": [DIFF ID, …] }, …
//!   "lapstrake.cache.v1": { "kind": "step", "key": KEY, "layers": [{ "created", "until" }, …] }
//!                      or { "kind": "record", "key": KEY, "value": TEXT } }
//! ```
//!
//! A step's layer is the canonical tar that exporters write; `until` is the time, seconds since 1970,
//! to which the times in it were set back (`SOURCE_DATE_EPOCH`), `created` when the step was executed. A record's layer
//! is an empty tar. Records spare a machine that has no layer on disk from fetching layers to learn
//! what was computed from them before: the digest of the content that a COPY selects in a stage, the
//! numbers behind an owner's name. Their keys are made of the layers' diff ids, never of anything
//! that is this machine's.
//!
//! A directory (`type=local`) is an OCI image layout that holds the same images under the same names.
//! An image (`type=inline`) carries in its own configuration, under `lapstrake.cache.v1`, the keys of
//! its own layers: `{ "steps": [ { "key": KEY, "layer": INDEX, "until": SECONDS } ] }`.
//!
//! **Invariants.** Blobs are there before the manifest that names them, and the tag comes last. What
//! is found is used only if every digest on the way fits, the document names the very key that was
//! looked for, and its layers are of known types and each has a diff id; the blob and what it unpacks to are
//! checked when the blob is brought. Anything else is a miss and a warning, never a result. Nothing
//! of a key's fields, of credentials or of secrets is in an entry. A place that cannot be asked is
//! told once and left out. What a place already has is not sent again.
//!
//! * `entry`: the documents, to and from bytes; pure
//! * `place`: what a place can do; `registry` and `directory` are the two there are
//! * `inline`: the record in an image's configuration
//! * `sources`: where a build looks, in order
//! * `writer`: what a build leaves behind

mod directory;
mod entry;
mod inline;
mod place;
mod registry;
mod sources;
#[cfg(test)]
mod tests;
mod writer;

pub use directory::Directory;
pub use entry::{Entry, EntryError, RecordEntry, StepEntry, StepLayer};
pub use inline::{Inline, InlineStep};
pub use place::{Besides, Place, PlaceError};
pub use registry::Repository;
pub use sources::{CacheHit, CacheSources, repository_name, tag_prefix};
pub use writer::{CacheWriter, Written};

/// The name of our field in a configuration, with the version of its form.
pub const FIELD: &str = "lapstrake.cache.v1";
