//! [`OutputError`]: why an image could not be written.

use std::io;
use std::path::PathBuf;

use crate::image::Digest;

/// Why an image could not be written to a directory or an archive.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The archive took no more.
    #[error("cannot write the archive: {source}")]
    Archive {
        /// The writer's word.
        source: io::Error,
    },
    /// A blob could not be read.
    #[error("cannot read the blob {digest}: {source}")]
    Blob {
        /// Which.
        digest: Digest,
        /// The reader's word.
        source: io::Error,
    },
    /// A blob is longer or shorter than the manifest says.
    #[error("the blob {digest} has {found} bytes, but its manifest says {expected}")]
    Size {
        /// Which.
        digest: Digest,
        /// By the manifest.
        expected: u64,
        /// What was read.
        found: u64,
    },
    /// A manifest cannot be understood.
    #[error("the manifest of {image} cannot be written out: {reason}")]
    Manifest {
        /// The image, by name or digest.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The place is taken by something else.
    #[error("{path} is no OCI image layout: {reason}")]
    NoLayout {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
