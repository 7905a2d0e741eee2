//! Root file systems where nothing can be mounted: trees that are put together by copying layers.
//!
//! A [`Trees`] keeps them for a build. Each tree stands for a list of layers, known by the identity
//! of their directories, so that the upper directory of one step is known again as the topmost layer
//! of the next. Who asks for a tree gets an idle one that stands for these layers, else one that
//! stands for those at the bottom and gets the others on top, else a new one.
//!
//! ```text
//! DIR/N/root    the tree
//! DIR/N/aside   what the step's mounts have displaced
//! DIR/N/notes   which directories are in the tree that belong elsewhere (see `journal`)
//! ```
//!
//! Invariants: a tree in the list of idle ones is exactly what an overlay of its layers shows,
//! apart from which names are one file: that is known beside it, and made true for who reads. While
//! a step runs, no two names of what was there are one file, so that a write to one leaves the other
//! alone, as on an overlay. A tree in which something went wrong is thrown away.

mod content;
mod difference;
mod entry;
mod fill;
mod journal;
mod place;
mod snapshot;
mod work;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::roots::Diff;
use difference::Changes;
use fill::Links;
pub use place::Placed;
use snapshot::Snapshot;

/// How many trees are kept that nobody uses: one for each of the stages that are likely to go on.
const IDLE: usize = 4;

/// The trees of a process, below one directory; clones are the same.
#[derive(Clone, Debug)]
pub struct Trees(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Least recently used first.
    idle: Vec<Tree>,
    /// Those that are read.
    read: Vec<Weak<Reading>>,
    made: u64,
}

/// A layer's directory, whatever it is called: device, inode, time of birth.
type Identity = (u64, u64, Option<SystemTime>);

/// A tree that nobody else has.
#[derive(Debug)]
struct Tree {
    shared: Arc<Shared>,
    /// Lowest first.
    stands_for: Vec<Identity>,
    /// Names that are one file in the layers, and are so here.
    joined: Links,
    /// Names that are one file in the layers, and are as many here.
    apart: Links,
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
        Ok(Self(Arc::new(Inner {
            dir,
            pool: Mutex::default(),
        })))
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
            let tree = entry.map_err(Error::io("list", dir))?.path();
            let root = match File::open(tree.join("root")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                root => root.map_err(Error::io("open", &tree))?,
            };
            journal::recover(&tree.join("notes"), root.as_fd())
                .map_err(Error::io("recover directories from", &tree))?;
        }
        Ok(())
    }

    /// A tree to be changed that shows `lowers`, topmost first.
    pub(crate) fn change(&self, lowers: &[Diff]) -> Result<Changing, Error> {
        let mut tree = self.take(lowers)?;
        tree.split()?;
        let before = Snapshot::take(tree.shared.root(), &tree.shared.place)?;
        tree.shared.lock().before = before;
        let shared = Arc::clone(&tree.shared);
        Ok(Changing {
            trees: self.clone(),
            tree,
            root: TreeRoot { shared },
        })
    }

    /// A tree to be read that shows `lowers`, topmost first.
    pub(crate) fn read(&self, lowers: &[Diff]) -> Result<Arc<Reading>, Error> {
        let wanted = identities(lowers)?;
        let read_by_others = {
            let mut pool = self.lock();
            pool.read.retain(|reading| reading.strong_count() > 0);
            let mut others = pool.read.iter().filter_map(Weak::upgrade);
            others.find(|reading| reading.stands_for == wanted)
        };
        if let Some(reading) = read_by_others {
            return Ok(reading);
        }
        let mut tree = self.take(lowers)?;
        tree.join()?;
        let root = tree.shared.root().try_clone_to_owned();
        let reading = Arc::new(Reading {
            root: root.map_err(Error::io("open", &tree.shared.place))?,
            trees: self.clone(),
            tree: Some(tree),
            stands_for: wanted,
        });
        self.lock().read.push(Arc::downgrade(&reading));
        Ok(reading)
    }

    fn take(&self, lowers: &[Diff]) -> Result<Tree, Error> {
        let wanted = identities(lowers)?;
        let (idle, number) = {
            let mut pool = self.lock();
            pool.made += 1;
            (pool.best(&wanted), pool.made)
        };
        let mut tree = match idle {
            Some(tree) => tree,
            None => Tree::new(&self.0.dir.join(number.to_string()))?,
        };
        let known = tree.stands_for.len();
        for (identity, lower) in wanted.iter().zip(lowers.iter().rev()).skip(known) {
            tree.put(lower, *identity)?;
        }
        Ok(tree)
    }

    fn give_back(&self, tree: Tree) {
        let oldest = {
            let mut pool = self.lock();
            pool.idle.push(tree);
            (pool.idle.len() > IDLE).then(|| pool.idle.remove(0))
        };
        // Deleted while nobody waits for the list.
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Takes the idle tree that stands for most of the lowest of these layers and no others.
    fn best(&mut self, wanted: &[Identity]) -> Option<Tree> {
        let fits = |tree: &Tree| wanted.starts_with(&tree.stands_for);
        let known = self.idle.iter().enumerate().filter(|(_, tree)| fits(tree));
        let (at, _) = known.max_by_key(|(_, tree)| tree.stands_for.len())?;
        Some(self.idle.remove(at))
    }
}

/// Who the layers are, lowest first.
fn identities(lowers: &[Diff]) -> Result<Vec<Identity>, Error> {
    lowers
        .iter()
        .rev()
        .map(|lower| identity(&lower.dir))
        .collect()
}

fn identity(dir: &Path) -> Result<Identity, Error> {
    let metadata = fs::metadata(dir).map_err(Error::io("look at the layer", dir))?;
    Ok((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

impl Tree {
    /// An empty one, with the mode that a root directory has by default.
    fn new(dir: &Path) -> Result<Self, Error> {
        let make = |path: &Path, mode| -> Result<OwnedFd, Error> {
            fs::create_dir(path).map_err(Error::io("create", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(Error::io("set the mode of", path))?;
            open(path)
        };
        drop(make(dir, 0o700)?);
        let place = dir.join("root");
        let root = make(&place, 0o755)?;
        let before = Snapshot::take(root.as_fd(), &place)?;
        Ok(Self {
            shared: Arc::new(Shared {
                aside: make(&dir.join("aside"), 0o700)?,
                notes: dir.join("notes"),
                dir: dir.to_owned(),
                place,
                root,
                state: Mutex::new(State {
                    before,
                    placed: 0,
                    number: 0,
                }),
            }),
            stands_for: Vec::new(),
            joined: Links::new(),
            apart: Links::new(),
        })
    }

    /// Puts a layer on top.
    fn put(&mut self, lower: &Diff, identity: Identity) -> Result<(), Error> {
        let (root, place) = (self.shared.root(), &self.shared.place);
        for path in &lower.deleted {
            remove(root, path).map_err(Error::io("delete files in", &place.join(path)))?;
        }
        for path in &lower.opaque {
            remove(root, path).map_err(Error::io("delete files in", &place.join(path)))?;
        }
        let from = open(&lower.dir)?;
        let links = fill::fill(from.as_fd(), root, place)?;
        if !self.stands_for.is_empty() {
            let covers = |path: &Path| lower.covers(path);
            forget(&mut self.joined, &covers);
            forget(&mut self.apart, &covers);
        }
        self.apart.extend(links);
        self.stands_for.push(identity);
        Ok(())
    }

    /// Gives every name a file of its own.
    fn split(&mut self) -> Result<(), Error> {
        fill::split(self.shared.root(), &self.joined)
            .map_err(Error::io("copy linked files in", &self.shared.place))?;
        self.apart.append(&mut self.joined);
        Ok(())
    }

    /// Makes names one file that are so in the layers.
    fn join(&mut self) -> Result<(), Error> {
        fill::join(self.shared.root(), &self.apart)
            .map_err(Error::io("link files in", &self.shared.place))?;
        self.joined.append(&mut self.apart);
        Ok(())
    }

    /// Takes note of what a step has made one file, and what it has changed.
    fn learn(&mut self, changes: &Changes) {
        let covers = |path: &Path| changes.cover(path);
        forget(&mut self.joined, &covers);
        forget(&mut self.apart, &covers);
        self.joined.extend(changes.links());
    }
}

/// Forgets names that are no longer what they were.
fn forget(links: &mut Links, covers: &dyn Fn(&Path) -> bool) {
    for names in &mut *links {
        names.retain(|path| !covers(path));
    }
    links.retain(|names| names.len() > 1);
}

fn remove(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let (dir, name) = match entry::open_parent(root, path) {
        // Nothing that could lead to it is there.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        found => found?,
    };
    entry::remove(dir.as_fd(), &name).map(drop)
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::io("open the directory", path)(e.into()))
}

impl Drop for Tree {
    fn drop(&mut self) {
        let shared = &self.shared;
        // What belongs elsewhere must not go with it. Whatever stays is swept with all of them.
        if journal::recover(&shared.notes, shared.root()).is_ok() {
            drop(fs::remove_dir_all(&shared.dir));
        }
    }
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
        let Self {
            trees,
            mut tree,
            root,
        } = self;
        let (root, place) = (root.root(), root.path());
        let changes = {
            let state = tree.shared.lock();
            if state.placed > 0 {
                let error = io::Error::other("something that was put there for the step is in it");
                return Err(Error::io("tell what has changed in", place)(error));
            }
            difference::compare(root, place, &state.before)?
        };
        tree.learn(&changes);
        let diff = difference::gather(root, changes, upper)?;
        tree.stands_for.push(identity(upper)?);
        trees.give_back(tree);
        Ok(diff)
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
