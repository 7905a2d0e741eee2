//! The copier: what `COPY`, and `ADD` of local files, do (spec S6).
//!
//! It works in two phases so that the cache key and the copy agree. [`select`] resolves the sources
//! to a list of entries in a stable order; [`Selection::digest`] is the content the step's key is
//! made of, and [`Selection::apply`] writes the same entries into a root file system. A file that
//! changed since it was selected ends the step: its copy would not be what its key says.

mod apply;
mod chmod;
mod contents;
mod digest;
mod entry;
mod error;
mod expand;
mod listing;
mod literal;
mod select;
mod walk;

use std::io;
use std::path::Path;

pub use apply::{CopyReport, LooseFile};
pub use chmod::{Chmod, ChmodError};
pub use error::CopyError;
pub use literal::{Difference, Tree, select_path};
pub use select::{Selection, select};

use crate::context::{Context, IgnoreFile, Inputs};
use crate::layer::Attr;
use crate::rootfs::{RootDir, RootPath};

/// Looks up what the disk of a stage could not hold.
pub type Lookup<'a> = dyn Fn(&RootPath) -> io::Result<Option<Attr>> + Sync + 'a;

/// Whose owners and attributes the entries of a source have.
#[derive(Clone, Copy)]
pub enum SourceOwners<'a> {
    /// A build context: everything is root's, extended attributes are dropped.
    Context,
    /// A stage or an image: the numeric owners and the capabilities it has, tables included.
    Stage(&'a Lookup<'a>),
}

/// Where `COPY` copies from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The directory that sources are resolved in.
    pub root: &'a RootDir,
    /// What is not to be seen: only a context has one.
    pub filter: Option<&'a IgnoreFile>,
    /// Where the filter was read from, for messages.
    pub filter_path: Option<&'a Path>,
    /// Whose owners count.
    pub owners: SourceOwners<'a>,
    /// What messages call it: `the build context`, `stage "build"`.
    pub place: &'a str,
    /// Where what is looked at is recorded.
    pub inputs: Option<&'a Inputs>,
}

impl<'a> Source<'a> {
    /// The build context.
    pub fn context(context: &'a Context) -> Self {
        Self {
            root: context.root(),
            filter: Some(context.ignore()),
            filter_path: context.ignore_path(),
            owners: SourceOwners::Context,
            place: context.place(),
            inputs: context.recorded().map(|(_, inputs)| inputs),
        }
    }

    /// A stage or an image that messages call `place`.
    pub fn stage(root: &'a RootDir, place: &'a str, lookup: &'a Lookup<'a>) -> Self {
        Self {
            root,
            filter: None,
            filter_path: None,
            owners: SourceOwners::Stage(lookup),
            place,
            inputs: None,
        }
    }
}

/// The flags of `COPY` and the step's time.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Owner of everything that is copied or made on the way.
    pub chown: Option<(u32, u32)>,
    /// Mode of what is copied.
    pub chmod: Option<Chmod>,
    /// Whether `--link` was given; see [`CopyOptions::is_linked`].
    pub link: bool,
    /// Keep the path of the source below the destination.
    pub parents: bool,
    /// Patterns of what not to copy, relative to the source.
    pub exclude: Vec<String>,
    /// Time of the directories made on the way: the build's, or `SOURCE_DATE_EPOCH`.
    pub dir_mtime: i64,
}

impl CopyOptions {
    /// Whether the copy goes to an empty root and is merged: `--link` without `--chmod`.
    pub fn is_linked(&self) -> bool {
        self.link && self.chmod.is_none()
    }

    /// Whether `--exclude` leaves out a single file called `name`.
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn excludes(&self, name: &str) -> Result<bool, CopyError> {
        let exclude = IgnoreFile::from_patterns(&self.exclude)?;
        Ok(exclude.matches(&RootPath::root().join(name)))
    }

    fn owner(&self, own: (u32, u32)) -> (u32, u32) {
        self.chown.unwrap_or(own)
    }

    /// The permission bits of a copied regular file or directory.
    fn mode(&self, st_mode: u32) -> u32 {
        match &self.chmod {
            Some(chmod) => chmod.apply(st_mode),
            None => st_mode & 0o7777,
        }
    }

    /// The permission bits of directories that no source has.
    fn parent_mode(&self) -> u32 {
        match self.chmod {
            Some(Chmod::Octal(mode)) => mode & 0o777,
            _ => 0o755,
        }
    }
}

#[cfg(test)]
mod tests;
