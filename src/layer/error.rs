//! [`LayerError`]: why a layer could not be read, written or unpacked.

use std::io;

use super::target::TargetError;

/// Something is wrong with a layer, an archive, or the disk that holds it.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The disk said no.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was being done, as an infinitive: `open`, `write the table`.
        action: &'static str,
        /// To which path: of the host for a layer's directory, of the layer for an entry.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What lies below a layer cannot be had.
    #[error("the layers below are needed to tell what this one deletes: {0}")]
    Below(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A step with one id would not see whose files are.
    #[error(
        "the owner of {path} could not be noted in {dir}, whose file system keeps no extended attributes \
         (user.*), without which a step with one id cannot run: put the store on ext4, xfs, btrfs or, from \
         Linux 6.6 on, tmpfs, with LAPSTRAKE_ROOT or --root"
    )]
    NoAttributes {
        /// The entry.
        path: String,
        /// The layer's directory on the host.
        dir: String,
    },
    /// The `attributes` table of a layer cannot be understood.
    #[error(
        "line {line} of {path} is no entry of an attribute table: {reason}; \
         the store is damaged, remove the layer and build again"
    )]
    Table {
        /// The table's path on the host.
        path: String,
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The table and the disk speak of different things.
    #[error(
        "{path} is of type {disk:o} on the disk and of type {table:o} in the layer's attribute \
         table; the store is damaged, remove the layer and build again"
    )]
    Disagreement {
        /// The entry.
        path: String,
        /// `S_IFMT` bits of the disk.
        disk: u32,
        /// `S_IFMT` bits of the table.
        table: u32,
    },
    /// An entry became something else, or smaller, while it was read.
    #[error("{path} changed while it was read: {reason}; let nothing write to it and try again")]
    Changed {
        /// The entry.
        path: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// Directories nested too deep to be walked with a bounded number of descriptors.
    #[error("{path} lies more than {limit} directories deep, which no layer of lapstrake may")]
    Depth {
        /// The directory that was not entered.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// The archive's bytes are no tar, or break off.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which entry, or the archive as a whole.
        what: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The archive holds something that must not be extracted.
    #[error("entry {name} of the archive is refused: {reason}")]
    Refused {
        /// The entry's name as the archive gives it.
        name: String,
        /// Why.
        reason: String,
    },
    /// An entry could not be made.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The compressed or uncompressed stream could not be read or written.
    #[error("cannot {action}: {source}")]
    Stream {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// The stream's answer.
        source: io::Error,
    },
}

impl LayerError {
    /// An answer of the disk, to be completed with `map_err`.
    pub(super) fn disk<E: Into<io::Error>>(
        action: &'static str,
        path: impl std::fmt::Display,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Disk {
            action,
            path: path.to_string(),
            source: source.into(),
        }
    }

    /// An answer of a stream, to be completed with `map_err`.
    pub(super) fn stream(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { action, source }
    }
}
