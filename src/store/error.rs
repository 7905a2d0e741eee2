//! [`StoreError`]: what was being done, to which path, why it failed and what helps.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::image::Digest;

/// Why the store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the user's quota is full.
    #[error(
        "no space left {doing} {path}: free some with «lapstrake prune», or put the store elsewhere with LAPSTRAKE_ROOT"
    )]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error(
        "{path} is on a read-only file system ({doing}): put the store elsewhere with LAPSTRAKE_ROOT"
    )]
    ReadOnly {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// No directory for the store could be made.
    #[error("found no place for the store: {tried}; name one with LAPSTRAKE_ROOT")]
    NoRoot {
        /// Each place and why it is none.
        tried: String,
    },
    /// A directory in a shared place is not this user's alone.
    #[error("will not keep a store in {path}: {reason}; name another place with LAPSTRAKE_ROOT")]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// Who else could write there.
        reason: String,
    },
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
    /// A file of the store does not hold what it should.
    #[error("{path} is damaged: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error("the content of {what} is {found}, but {expected} was expected")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// What it should have been.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob is not in the store.
    #[error("the store has no blob {digest}")]
    NoBlob {
        /// Which.
        digest: Digest,
    },
    /// No image has that name or id.
    #[error("no such image: {name}")]
    NoImage {
        /// The name or id as given.
        name: String,
    },
    /// A short id stands for several images.
    #[error("{prefix} is the beginning of several image ids: {ids}")]
    Ambiguous {
        /// The short id.
        prefix: String,
        /// The images.
        ids: String,
    },
    /// The text cannot name a layer.
    #[error(
        "{id:?} is no layer id: expected 1 to 100 of the characters a-z, 0-9, «.», «_» and «-», not beginning with «.»"
    )]
    LayerId {
        /// The text.
        id: String,
    },
    /// An image needs a feature that is not there.
    #[error("image {name}: {reason}")]
    Unsupported {
        /// The image.
        name: String,
        /// What it needs.
        reason: String,
    },
}

impl StoreError {
    /// Whether the machine is at fault rather than what was asked: disk full or read-only, no
    /// place for the store.
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            Self::NoSpace { .. }
                | Self::ReadOnly { .. }
                | Self::NoRoot { .. }
                | Self::NotPrivate { .. }
        )
    }

    /// Names the path and the deed of a failed system call.
    pub fn at(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace {
                doing,
                path,
                source,
            },
            Some(Errno::ROFS) => Self::ReadOnly {
                doing,
                path,
                source,
            },
            _ => Self::unwrap_or_io(doing, path, source),
        }
    }

    /// A store error that travelled through [`io::Write`] comes out as itself.
    fn unwrap_or_io(doing: &'static str, path: PathBuf, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::Io {
                doing,
                path,
                source,
            },
        }
    }

    /// The same error for an interface that knows only [`io::Error`]; its kind is kept.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::NoSpace { source, .. }
            | Self::ReadOnly { source, .. }
            | Self::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// Names the path and the deed of a failed system call.
pub(super) trait At<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::at(doing, path, error.into()))
    }
}
