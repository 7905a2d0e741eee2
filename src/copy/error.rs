//! [`CopyError`]: why a copy failed, in terms of the Dockerfile.

use std::ffi::OsString;
use std::io;

use crate::context::{GlobError, IgnoreError};
use crate::layer::TargetError;
use crate::rootfs::RootPath;

/// Why `COPY` failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is not there.
    #[error("{pattern:?} does not exist in {place}{}", hint(nearest))]
    NotFound {
        /// The source as written.
        pattern: String,
        /// Where it was looked for.
        place: String,
        /// An existing path with a similar name.
        nearest: Option<RootPath>,
    },
    /// A source that is a symbolic link to nothing, or out of the source's root.
    #[error("{pattern:?} is a symbolic link to {target:?}, which does not exist in {place}")]
    DanglingLink {
        /// The source as written.
        pattern: String,
        /// What the link says.
        target: OsString,
        /// Where it was looked for.
        place: String,
    },
    /// A source that the ignore file hides.
    #[error("{pattern:?} exists in {place} but is excluded by {filter}; add a `!` pattern for it")]
    Excluded {
        /// The source as written.
        pattern: String,
        /// Where it was looked for.
        place: String,
        /// The ignore file.
        filter: String,
    },
    /// A wildcard with a mistake.
    #[error(transparent)]
    Pattern(#[from] GlobError),
    /// An `--exclude` with a mistake.
    #[error("in --exclude, {0}")]
    Exclude(#[from] IgnoreError),
    /// A source that cannot be read.
    #[error("cannot {operation} {path} of {place}: {source}")]
    Read {
        /// What was done.
        operation: &'static str,
        /// The path inside the source.
        path: RootPath,
        /// The source.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A source that is not what it was when the step's key was made.
    #[error("{path} of {place} changed while it was being copied; build again")]
    Changed {
        /// The path inside the source.
        path: RootPath,
        /// The source.
        place: String,
    },
    /// A name that would delete files when the layer is unpacked.
    #[error(
        "cannot copy {path} of {place}: names that begin with `.wh.` mark deletions in a layer; \
         rename or exclude it"
    )]
    WhiteoutName {
        /// The path inside the source.
        path: RootPath,
        /// The source.
        place: String,
    },
    /// A file where the destination has a directory.
    #[error("cannot copy a file over {path}, which is a directory; name the file below it")]
    FileOverDirectory {
        /// The path inside the root file system.
        path: RootPath,
    },
    /// A directory where the destination has something else.
    #[error("cannot copy a directory over {path}, which is not a directory; remove it first")]
    DirectoryOverFile {
        /// The path inside the root file system.
        path: RootPath,
    },
    /// The destination could not be written.
    #[error(transparent)]
    Target(#[from] TargetError),
}

fn hint(nearest: &Option<RootPath>) -> String {
    match nearest {
        Some(path) => format!("; the nearest name is {path}"),
        None => String::new(),
    }
}
