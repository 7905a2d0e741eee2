//! Root file systems where nothing can be mounted: trees that are put together by copying layers.
//!
//! A tree stands for a list of layers, known by the identity of their directories, so that the upper
//! directory of one step is known again as the topmost layer of the next. Who asks for some layers
//! gets a tree that stands for them, else one that stands for some of them from the bottom on and is
//! *turned* (`turn`): what layers on top have brought goes, what is wanted comes, and nothing
//! else is looked at. Only who shares no layer with any tree gets a new one.
//!
//! ```text
//! DIR/NAME/root       the tree
//! DIR/NAME/aside      what the step's mounts have displaced
//! DIR/NAME/notes      which directories are in the tree that belong elsewhere (see `journal`)
//! DIR/NAME/record     what the tree stands for, while it is exactly that (see `record`)
//! DIR/NAME/snapshot   what its files then were
//! ```
//!
//! Trees outlive the process if there is a [`Keeper`]: when the last clone of [`Trees`] goes, those
//! that nobody uses are made what they stand for and get their record, and the [`KEPT`] used last
//! stay. Who takes one has it alone by the keeper's lock, compares all its files with the
//! snapshot, which is the walk that a step needs before it anyway, and deletes the record before the
//! first change. A tree in which something was not done to the end, in which a step failed, which
//! anybody else has touched, or which has lost its record because its process was killed, is
//! thrown away.
//!
//! All this stands on seeing every change. On a file system in memory one kind of change is not seen
//! (`sees_all`). There a tree goes on with what is put on top of it, as the stage it was made for
//! does, and is neither turned back nor kept, so that what was not seen gets no further than there.
//!
//! Invariants:
//!
//! - A tree that is handed out is exactly what an overlay of its layers shows, apart from which names
//!   are one file: that is known beside it, and made true for who reads. While a step runs, no two
//!   names of what was there are one file, so that a write to one leaves the other alone, as on an
//!   overlay.
//! - The snapshot in [`State`] is what the tree is, whenever no step uses it: every walk is
//!   remembered, and what the builder changes itself is looked at again.
//! - What a step has changed, as far as its layer is not known to be made of exactly that, is
//!   [`Pending`]. A layer holds what differs from below; the paths that may have to be put back are those
//!   that the comparison has found, be their content the same or not.

mod content;
mod difference;
mod entry;
mod fill;
mod journal;
mod merged;
mod one;
mod paths;
mod place;
mod pool;
mod record;
mod snapshot;
mod turn;
mod work;
mod written;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::roots::Diff;
use one::Tree;
pub use place::Placed;
use pool::Pool;
use snapshot::Snapshot;

/// How many trees are kept that nobody uses: one for each of the stages that are likely to go on.
const IDLE: usize = 4;
/// How many are kept when the process ends.
const KEPT: usize = 4;
/// How many of these have the same lowest layer: they can be turned into each other.
const KEPT_ALIKE: usize = 2;

/// Who has the directory in which trees outlive the process, and locks them there.
pub trait Keeper: fmt::Debug + Send + Sync {
    /// A name for a tree that none has.
    ///
    /// # Errors
    /// When there are no random numbers.
    fn name(&self) -> io::Result<String>;

    /// Takes the tree with this name for this process alone, without waiting; whether nobody else has
    /// it. It need not be there.
    ///
    /// # Errors
    /// When nothing can be locked.
    fn take(&self, name: &str) -> io::Result<bool>;

    /// Lets others at it again.
    fn give_back(&self, name: &str);

    /// This boot of the machine: what was written in another one may have got lost.
    fn boot(&self) -> &str;

    /// The tree in this directory stays when the process ends.
    fn stays(&self, dir: &Path);
}

/// The trees of a process, below one directory; clones are the same.
#[derive(Clone, Debug)]
pub struct Trees(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: Home,
    pool: Mutex<Pool>,
}

/// Where trees are.
#[derive(Clone, Debug)]
struct Home {
    dir: PathBuf,
    /// Whether every change of a file sets its time.
    sees_all: bool,
    kept: Option<Kept>,
}

/// How they outlive the process.
#[derive(Clone, Debug)]
struct Kept {
    /// Layers lie below it, too.
    base: PathBuf,
    keeper: Arc<dyn Keeper>,
}

/// A layer's directory, whatever it is called: device, inode, time of birth.
type Identity = (u64, u64, Option<SystemTime>);

/// A layer of a tree.
#[derive(Clone, Debug)]
struct Layer {
    identity: Identity,
    diff: Diff,
}

/// What is known of a tree while a step uses it.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    place: PathBuf,
    root: OwnedFd,
    aside: OwnedFd,
    notes: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    before: Snapshot,
    /// How often something was put into it that was not taken out again.
    placed: u32,
    number: u64,
}

/// The root directory of a tree in which a step is to run.
#[derive(Clone, Debug)]
pub struct TreeRoot {
    shared: Arc<Shared>,
}

impl TreeRoot {
    /// The directory, open for reading.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.shared.root()
    }

    /// Its path on the host.
    pub fn path(&self) -> &Path {
        &self.shared.place
    }
}

/// A tree to be changed. Dropping it throws it away.
#[derive(Debug)]
pub struct Changing {
    trees: Trees,
    tree: Tree,
    root: TreeRoot,
}

/// A tree that is only read, perhaps by several.
#[derive(Debug)]
pub struct Reading {
    trees: Trees,
    tree: Option<Tree>,
    root: OwnedFd,
    stands_for: Vec<Identity>,
}

impl Trees {
    /// Keeps its trees in the new directory `dir`, on the file system of the layers and private to
    /// the caller, who deletes it when nobody uses a tree any more.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(dir: PathBuf) -> Result<Self, Error> {
        fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
            .map_err(Error::io("set the mode of", &dir))?;
        Ok(Self::at(dir, None))
    }

    /// Keeps its trees in the directory `dir`, which is there and belongs to `keeper`, and finds those
    /// that others have left. Layers and `dir` lie below `base` on one file system.
    pub fn kept(dir: PathBuf, base: PathBuf, keeper: Arc<dyn Keeper>) -> Self {
        Self::at(dir, Some(Kept { base, keeper }))
    }

    fn at(dir: PathBuf, kept: Option<Kept>) -> Self {
        let home = Home {
            sees_all: sees_all(&dir),
            dir,
            kept,
        };
        Self(Arc::new(Inner {
            home,
            pool: Mutex::default(),
        }))
    }

    /// Takes home what is in the trees below `dir` and belongs elsewhere. Their process is gone.
    ///
    /// # Errors
    /// When the trees cannot be read or something cannot be moved.
    pub fn recover(dir: &Path) -> Result<(), Error> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(Error::io("list", dir))?,
        };
        for entry in entries {
            Self::recover_one(&entry.map_err(Error::io("list", dir))?.path())?;
        }
        Ok(())
    }

    /// Takes home what is in the tree in `dir` and belongs elsewhere, before that is deleted.
    ///
    /// # Errors
    /// As [`Self::recover`].
    pub fn recover_one(dir: &Path) -> Result<(), Error> {
        let root = match File::open(dir.join("root")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            root => root.map_err(Error::io("open", dir))?,
        };
        journal::recover(&dir.join("notes"), root.as_fd())
            .map_err(Error::io("recover directories from", dir))
    }

    /// Whether the tree in `dir` may be used again. One that may not, and that nobody has, is left over.
    pub fn is_clean(dir: &Path) -> bool {
        record::is_there(dir)
    }

    /// When the tree in `dir` was used last, if it may be used again.
    pub fn used(dir: &Path) -> Option<SystemTime> {
        record::used(dir)
    }

    /// The directories of the layers that the tree in `dir` stands for, lowest first; layers lie below
    /// `base`. None if it may not be used again, or one of them is gone.
    pub fn layers(dir: &Path, base: &Path, boot: &str) -> Option<Vec<PathBuf>> {
        let record = record::read(dir, base, boot)?;
        Some(record.layers.into_iter().map(|it| it.diff.dir).collect())
    }

    /// Tells under which name, and with which marks, a layer is kept that was made of a difference.
    pub(crate) fn published(&self, layer: &Diff) -> Result<(), Error> {
        let layer = Layer::new(layer)?;
        self.lock().published(&layer);
        Ok(())
    }

    /// A tree to be changed that shows `lowers`, topmost first.
    pub(crate) fn change(&self, lowers: &[Diff]) -> Result<Changing, Error> {
        let mut tree = self.take(lowers)?;
        tree.split()?;
        tree.begin()?;
        let shared = Arc::clone(tree.shared());
        Ok(Changing {
            trees: self.clone(),
            tree,
            root: TreeRoot { shared },
        })
    }

    /// A tree to be read that shows `lowers`, topmost first.
    pub(crate) fn read(&self, lowers: &[Diff]) -> Result<Arc<Reading>, Error> {
        let wanted = layers(lowers)?;
        let wanted: Vec<Identity> = wanted.iter().map(|layer| layer.identity).collect();
        if let Some(reading) = self.lock().read_by_others(&wanted) {
            return Ok(reading);
        }
        let mut tree = self.take(lowers)?;
        tree.join()?;
        let root = tree.shared().root().try_clone_to_owned();
        let reading = Arc::new(Reading {
            root: root.map_err(Error::io("open", &tree.shared().place))?,
            trees: self.clone(),
            tree: Some(tree),
            stands_for: wanted,
        });
        self.lock().reads(&reading);
        Ok(reading)
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let pool = self.pool.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(pool).close(&self.home);
    }
}

/// Whether a change of a file in `dir` sets its time however it is made. In memory, what is written
/// through a shared mapping to a page that was read through it before sets none.
fn sees_all(dir: &Path) -> bool {
    const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    // In tests of trees that are kept, nobody writes so.
    cfg!(test)
        || rustix::fs::statfs(dir).is_ok_and(|found| {
            u64::try_from(found.f_type).is_ok_and(|kind| !MEMORY.contains(&kind))
        })
}

impl Layer {
    fn new(diff: &Diff) -> Result<Self, Error> {
        Ok(Self {
            identity: identity(&diff.dir)?,
            diff: diff.clone(),
        })
    }
}

/// The layers `lowers`, topmost first, lowest first.
fn layers(lowers: &[Diff]) -> Result<Vec<Layer>, Error> {
    lowers.iter().rev().map(Layer::new).collect()
}

fn identity(dir: &Path) -> Result<Identity, Error> {
    let metadata = fs::metadata(dir).map_err(Error::io("look at the layer", dir))?;
    Ok((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::io("open the directory", path)(e.into()))
}

impl Shared {
    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was not given before.
    fn number(&self) -> u64 {
        let mut state = self.lock();
        state.number += 1;
        state.number
    }

    fn error(&self, doing: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.place.clone();
        move |source| Error::Io {
            doing,
            path: path.clone(),
            source,
        }
    }
}

impl Changing {
    pub fn root(&self) -> &TreeRoot {
        &self.root
    }

    /// Gives what has changed as the new directory `upper`, and keeps the tree for whoever puts that
    /// on top of the layers.
    pub fn finish(self, upper: &Path) -> Result<Diff, Error> {
        let (mut tree, trees) = (self.tree, self.trees);
        let diff = tree.finish(upper)?;
        trees.give_back(tree);
        Ok(diff)
    }

    /// Forgets what has changed, and keeps the tree: whoever uses it next turns it back.
    pub fn revert(self) -> Result<(), Error> {
        let (mut tree, trees) = (self.tree, self.trees);
        tree.revert()?;
        trees.give_back(tree);
        Ok(())
    }
}

impl Reading {
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(tree) = self.tree.take() {
            self.trees.give_back(tree);
        }
    }
}

#[cfg(test)]
mod tests;
