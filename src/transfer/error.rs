//! [`TransferError`]: why an image did not arrive.

use std::io;
use std::path::PathBuf;

use super::RemoteError;
use crate::image::Digest;
use crate::layer::LayerError;
use crate::store::StoreError;

/// Why an image did not arrive where it was to go.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry failed; its error names what was asked of whom.
    #[error(transparent)]
    Remote(RemoteError),
    /// It was to be given up.
    #[error("cancelled")]
    Stopped,
    /// The image is not here, and it was not to be fetched.
    #[error("{image} is not in the store for {platform}, and pulling was not allowed")]
    NotHere {
        /// The image's name.
        image: String,
        /// The platform that was asked for.
        platform: String,
    },
    /// What the registry sent is not what its digest promised, or cannot be understood.
    #[error("the manifest of {image} is of no use: {reason}")]
    Manifest {
        /// The image's name.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// What the store has under the name is for another platform, and there is no other.
    #[error("{image} is in the store for {found} only, and cannot be had for {wanted}")]
    OnlyFor {
        /// The image.
        image: String,
        /// The platform that it is for.
        found: String,
        /// The platform that was asked for.
        wanted: String,
        /// What was said to the question for the other one.
        #[source]
        source: Box<Self>,
    },
    /// The image is for another platform.
    #[error("{image} is for {found}, but {wanted} was asked for")]
    Platform {
        /// The image's name.
        image: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {blob} of {image}: {source}")]
    Layer {
        /// The image's name or id.
        image: String,
        /// The layer's blob.
        blob: Digest,
        /// Why.
        source: LayerError,
    },
    /// A layer's content is not what the configuration says.
    #[error("layer {blob} of {image} unpacks to {found}, but its configuration says {expected}")]
    DiffId {
        /// The image's name or id.
        image: String,
        /// The layer's blob.
        blob: Digest,
        /// By the configuration.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
    /// An archive cannot be loaded.
    #[error("{archive} cannot be loaded: {reason}")]
    Archive {
        /// The file, or «standard input».
        archive: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory or file cannot be imported.
    #[error("cannot import {path}: {source}")]
    Import {
        /// What was to be imported.
        path: PathBuf,
        /// Why not.
        source: LayerError,
    },
    /// An input could not be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// The file, or «standard input».
        what: String,
        /// The kernel's word.
        source: io::Error,
    },
}
