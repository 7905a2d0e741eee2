//! [`Place`]: where entries are kept, as reading and writing see it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::entry::StepEntry;
use crate::image::Reference;
use crate::image::manifest::Descriptor;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Why a place did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The registry's word.
    #[error("{0}")]
    Registry(#[source] RegistryError),
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// What is there is not what it is called.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The file or the tag.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PlaceError {
    /// Whether nothing else can be had there either: it is down, refuses us or is no such place.
    pub fn is_closed(&self) -> bool {
        use RegistryErrorKind as Kind;
        match self {
            Self::Registry(error) => !matches!(
                error.kind(),
                Kind::NotFound { .. }
                    | Kind::DigestMismatch { .. }
                    | Kind::SizeMismatch { .. }
                    | Kind::TooLarge { .. }
                    | Kind::Manifest(_)
                    | Kind::Local { .. }
            ),
            Self::Disk { path, .. } => path.ends_with(INDEX),
            Self::Damaged { what, .. } => what.ends_with(INDEX),
        }
    }
}

impl From<RegistryError> for PlaceError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// The file of a directory that names everything.
pub(super) const INDEX: &str = "index.json";

/// What a place is besides its entries.
#[derive(Clone, Debug, PartialEq)]
pub enum Besides {
    /// Nothing.
    Nothing,
    /// An image that carries the keys of its own layers.
    Image(Vec<StepEntry>),
    /// Something that is of no use here: what, in words that follow «it is».
    Unusable(String),
}

/// Where entries are kept.
pub trait Place: fmt::Display + Sync {
    /// The manifest behind `tag`, byte for byte; none if there is no such tag. Its digest was checked
    /// where the place tells one.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>, PlaceError>;

    /// What stands at the place's own name, asked when an entry was not found.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn besides(&self) -> Result<Besides, PlaceError>;

    /// A small blob, checked against its descriptor.
    ///
    /// # Errors
    /// When it is not there or is something else.
    fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, PlaceError>;

    /// Whether the place has a blob, or has it now because it took it from one of the repositories
    /// `mount_from`. Nothing is sent.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn takes_blob(&self, blob: &Descriptor, mount_from: &[Reference]) -> Result<bool, PlaceError>;

    /// Makes sure that the place has a blob; `open` gives it, from its beginning, as often as it
    /// has to be sent. `mount_from` are repositories that may have it. Says whether it was sent.
    ///
    /// # Errors
    /// When the place refuses it or it cannot be read.
    fn put_blob(
        &self,
        blob: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<bool, PlaceError>;

    /// Puts a manifest, whose blobs are there, behind `tag`.
    ///
    /// # Errors
    /// When the place refuses it.
    fn put_manifest(&self, tag: &str, manifest: &[u8]) -> Result<(), PlaceError>;

    /// Makes visible what was put.
    ///
    /// # Errors
    /// When the place refuses it.
    fn finish(&self) -> Result<(), PlaceError>;
}
