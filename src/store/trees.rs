//! Root file systems that were put together by copying, and are kept between builds.
//!
//! ```text
//! trees/MAP/NAME/     one tree: what is in there is `runtime::Trees`' business
//! ```
//!
//! Who uses a tree has its place in `uses` alone, so of two builds the second one makes another, and
//! whoever collects leaves both. A tree that is being changed has no record; without one, and
//! used by nobody, it was left by a process that was killed. Such trees are swept like `tmp/`, when the
//! store is opened and nobody else has it, or collected when their turn comes. A tree is worth
//! nothing without every one of its layers, so it goes before them.
//!
//! Where nothing can be locked trees are in `tmp/` and go with the process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use runtime::{Keeper, Trees};

use super::error::At;
use super::files::{make_private_dir, random};
use super::locks::lock_byte;
use super::uses::Place;
use super::{Store, StoreError, remove_tree};

/// The directory of trees.
const DIR: &str = "trees";

/// The store, as far as trees know it.
#[derive(Debug)]
struct TreeKeeper {
    store: Store,
    /// While there are trees, something may be unfinished.
    _live: Arc<()>,
}

impl Store {
    /// The trees that are kept here; none where nothing can be locked.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn trees(&self) -> Result<Option<Trees>, StoreError> {
        if !self.has_locks() {
            return Ok(None);
        }
        let dir = self.by_map(DIR);
        make_private_dir(&dir).at("make", &dir)?;
        let keeper = TreeKeeper {
            store: self.clone(),
            _live: Arc::clone(&self.inner.live),
        };
        let base = self.root().to_owned();
        Ok(Some(Trees::kept(dir, base, Arc::new(keeper))))
    }

    /// Deletes the trees that killed processes have left. Needs the lock; what cannot be deleted
    /// (another id map's) stays.
    pub(super) fn sweep_trees(&self) {
        let maps = fs::read_dir(self.path(DIR)).into_iter().flatten().flatten();
        let trees = maps.flat_map(|map| fs::read_dir(map.path()).into_iter().flatten().flatten());
        for tree in trees.map(|tree| tree.path()) {
            // A cache mount that a killed step had is worth more than the space.
            if !Trees::is_clean(&tree) && Trees::recover_one(&tree).is_ok() {
                drop(remove_tree(&tree));
            }
        }
    }

    /// The ids of the layers, of this id map or another, that the tree in `dir` stands for; none if it
    /// cannot be used again.
    pub(super) fn layers_of_tree(&self, dir: &Path) -> Option<Vec<String>> {
        let layers = Trees::layers(dir, self.root(), &self.inner.boot)?;
        let id = |diff: PathBuf| Some(diff.parent()?.file_name()?.to_str()?.to_owned());
        layers.into_iter().map(id).collect()
    }
}

impl Keeper for TreeKeeper {
    fn name(&self) -> io::Result<String> {
        Ok(format!("{:016x}", random()?))
    }

    fn take(&self, name: &str) -> io::Result<bool> {
        let place = Place::tree(self.store.id_map(), name);
        match lock_byte(&self.store.inner.uses, place.at(), libc::F_WRLCK, false) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn give_back(&self, name: &str) {
        let place = Place::tree(self.store.id_map(), name);
        match lock_byte(&self.store.inner.uses, place.at(), libc::F_UNLCK, false) {
            // Then it is held until the store is closed.
            Ok(()) | Err(_) => {}
        }
    }

    fn boot(&self) -> &str {
        &self.store.inner.boot
    }

    fn stays(&self, dir: &Path) {
        let mut own = self.store.own();
        if !own.written.iter().any(|known| known == dir) {
            own.written.push(dir.to_owned());
        }
    }
}
