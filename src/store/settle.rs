//! [`Store::settle`]: one flush of the file system in place of one for every file.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::At;
use super::files::{cannot_sync, mark_settled};
use super::{Fresh, Store, StoreError};

impl Store {
    /// Sees to it that everything this process wrote or used outlives a power cut.
    ///
    /// Called once at the end of a build, before its tags are set; without anything new it does
    /// nothing. Left out, the next boot makes the same layers again and nothing worse.
    ///
    /// # Errors
    /// When the disk cannot take what was written.
    pub fn settle(&self) -> Result<(), StoreError> {
        let fresh = std::mem::take(&mut *self.fresh());
        if fresh.blobs.is_empty() && fresh.layers.is_empty() {
            return Ok(());
        }
        let result = self.flush_and_mark(&fresh);
        if result.is_err() {
            let mut again = self.fresh();
            again.blobs.extend(fresh.blobs);
            again.layers.extend(fresh.layers);
        }
        result
    }

    fn flush_and_mark(&self, fresh: &Fresh) -> Result<(), StoreError> {
        let root = File::open(self.root()).at("open", self.root())?;
        flush(&root).at("flush the file system of", self.root())?;
        for digest in &fresh.blobs {
            mark_if_there(&self.blob_path(digest))?;
        }
        let layers = self.by_map("layers");
        for id in &fresh.layers {
            mark_if_there(&layers.join(id).join("meta.json"))?;
        }
        Ok(())
    }
}

/// Flushes the file system of an open directory; all of them where just one cannot be flushed.
fn flush(dir: &File) -> io::Result<()> {
    match rustix::fs::syncfs(dir).map_err(io::Error::from) {
        Err(error) if cannot_sync(&error) => {
            rustix::fs::sync();
            Ok(())
        }
        result => result,
    }
}

fn mark_if_there(path: &Path) -> Result<(), StoreError> {
    match mark_settled(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
