//! [`Tree`]: one tree that nobody else has, and how it becomes what is asked for.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::difference::{self, Changes};
use super::fill::{self, Links};
use super::merged::Merged;
use super::paths::Paths;
use super::record::{self, Linked, Record};
use super::snapshot::Snapshot;
use super::turn::{Turn, Turned, turn};
use super::{Home, Identity, Layer, Shared, State, entry, identity, journal, open};
use crate::error::Error;
use crate::roots::Diff;

/// A tree that nobody else has. Dropping it throws it away.
#[derive(Debug)]
pub struct Tree {
    home: Home,
    name: String,
    shared: Arc<Shared>,
    /// Lowest first.
    stands_for: Vec<Layer>,
    pending: Option<Pending>,
    linked: Linked,
    /// Names that are one file here.
    joined: Links,
    /// Whether there is a record on the disk.
    clean: bool,
    /// Whether it stays on the disk.
    stays: bool,
}

/// What a step has changed in a tree on top of what it stands for.
#[derive(Debug)]
struct Pending {
    changes: Changes,
    /// The layer that is made of it; none if that is to be undone.
    made: Option<Identity>,
    /// That layer as it is published.
    layer: Option<Layer>,
}

impl Tree {
    /// An empty one, with the mode that a root directory has by default.
    pub fn new(home: &Home, name: String) -> Result<Self, Error> {
        let dir = home.dir.join(&name);
        let make = |path: &Path, mode| -> Result<(), Error> {
            fs::create_dir(path).map_err(Error::io("create", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(Error::io("set the mode of", path))
        };
        make(&dir, 0o700)?;
        make(&dir.join("root"), 0o755)?;
        make(&dir.join("aside"), 0o700)?;
        let root = open(&dir.join("root"))?;
        let before = Snapshot::take(root.as_fd(), &dir.join("root"))?;
        Self::at(home, name, root, before)
    }

    /// The one of that name that another process has left, which the caller has alone; none if it is
    /// not exactly what it was then.
    pub fn open(home: &Home, name: &str) -> Result<Option<Self>, Error> {
        let Some(kept) = &home.kept else {
            return Ok(None);
        };
        let dir = home.dir.join(name);
        let Some(record) = record::read(&dir, &kept.base, kept.keeper.boot()) else {
            return Ok(None);
        };
        let Some(was) = record::read_snapshot(&dir) else {
            return Ok(None);
        };
        let is_empty = |name: &str| {
            let entries = fs::read_dir(dir.join(name));
            entries.map_or(name == "notes", |mut entries| entries.next().is_none())
        };
        if !is_empty("aside") || !is_empty("notes") {
            return Ok(None);
        }
        let (root, place) = (open(&dir.join("root"))?, dir.join("root"));
        let (changes, now) = difference::compare(root.as_fd(), &place, &was)?;
        if !changes.is_empty() {
            return Ok(None);
        }
        let mut tree = Self::at(home, name.to_owned(), root, now)?;
        tree.stands_for = record.layers;
        tree.linked = record.linked;
        tree.joined = record.joined;
        tree.clean = true;
        Ok(Some(tree))
    }

    fn at(home: &Home, name: String, root: OwnedFd, before: Snapshot) -> Result<Self, Error> {
        let dir = home.dir.join(&name);
        let shared = Arc::new(Shared {
            place: dir.join("root"),
            root,
            aside: open(&dir.join("aside"))?,
            notes: dir.join("notes"),
            state: Mutex::new(State {
                before,
                placed: 0,
                number: 0,
            }),
            dir,
        });
        Ok(Self {
            home: home.clone(),
            name,
            shared,
            stands_for: Vec::new(),
            pending: None,
            linked: Linked::new(),
            joined: Links::new(),
            clean: false,
            stays: false,
        })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The layers that it shows, or will when it is used next, lowest first.
    pub fn chain(&self) -> Vec<Identity> {
        let made = self.pending.as_ref().and_then(|pending| pending.made);
        let layers = self.stands_for.iter().map(|layer| layer.identity);
        layers.chain(made).collect()
    }

    /// Whether something was done in it that no layer holds.
    pub fn is_to_revert(&self) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| pending.made.is_none())
    }

    /// Says as what the layer is published that was made of this tree, if it was.
    pub fn published(&mut self, layer: &Layer) {
        if let Some(pending) = &mut self.pending
            && pending.made == Some(layer.identity)
        {
            pending.layer = Some(layer.clone());
        }
    }

    /// Makes it show `wanted`, lowest first.
    pub fn show(&mut self, wanted: &[Layer]) -> Result<(), Error> {
        let mut paths = Paths::default();
        if let Some(pending) = self.pending.take() {
            self.begin()?;
            let at = self.stands_for.len();
            let is_wanted =
                |layer: &&Layer| Some(layer.identity) == pending.made && self.common(wanted) == at;
            match wanted.get(at).filter(is_wanted) {
                Some(layer) => self.settle(&pending.changes, layer)?,
                None => paths
                    .add_changes(&pending.changes)
                    .map_err(self.shared.error("look for changes in"))?,
            }
        }
        let common = self.common(wanted);
        let going = self.stands_for.get(common..).unwrap_or_default();
        let coming = wanted.get(common..).unwrap_or_default();
        if common == 0 && !wanted.is_empty() {
            paths = Paths::everything();
        } else {
            for layer in going.iter().chain(coming) {
                paths.add_layer(&layer.diff)?;
                still_there(layer)?;
            }
        }
        if paths.is_empty() {
            return Ok(());
        }
        self.begin()?;
        self.turn(wanted, &paths, false)?;
        self.stands_for = wanted.to_vec();
        Ok(())
    }

    /// The layers from the bottom on that it shares with `wanted`.
    fn common(&self, wanted: &[Layer]) -> usize {
        let both = self.stands_for.iter().zip(wanted);
        both.take_while(|(one, other)| one.identity == other.identity)
            .count()
    }

    /// Makes it show the layer that was made of these changes.
    fn settle(&mut self, changes: &Changes, layer: &Layer) -> Result<(), Error> {
        let failed = self.shared.error("look for changes in");
        let mut paths = Paths::default();
        paths.add_changes(changes).map_err(&failed)?;
        let mut wanted = self.stands_for.clone();
        wanted.push(layer.clone());
        self.turn(&wanted, &paths, true)?;
        let root = open(&layer.diff.dir)?;
        for path in changes.links().into_iter().flatten() {
            let found = entry::open_parent(root.as_fd(), &path)
                .and_then(|(dir, name)| Ok(entry::stat(dir.as_fd(), &name)?));
            // What was left out of the layer has its links below.
            if let Ok(found) = found
                && found.st_nlink > 1
            {
                let at = self.stands_for.len();
                self.linked.insert(path, (at, found.st_ino));
            }
        }
        self.stands_for = wanted;
        Ok(())
    }

    fn turn(&mut self, wanted: &[Layer], paths: &Paths, made_of_it: bool) -> Result<(), Error> {
        let lowers: Vec<Diff> = wanted
            .iter()
            .rev()
            .map(|layer| layer.diff.clone())
            .collect();
        let turned = turn(&Turn {
            root: self.shared.root(),
            place: &self.shared.place,
            wanted: &Merged::open(&lowers)?,
            paths,
            made_of_it,
        })?;
        for layer in wanted {
            still_there(layer)?;
        }
        let Turned {
            mut visited,
            removed,
            linked,
        } = turned;
        let removed: HashSet<PathBuf> = removed.into_iter().collect();
        let is_gone = |path: &Path| path.ancestors().any(|path| removed.contains(path));
        if !removed.is_empty() {
            self.linked.retain(|path, _| !is_gone(path));
            // A file that has lost a name shows it.
            visited.extend(forget(&mut self.joined, &is_gone));
        }
        let from_below = linked.into_iter().map(|(path, layer, inode)| {
            let layer = wanted.len().saturating_sub(layer + 1);
            (path, (layer, inode))
        });
        self.linked.extend(from_below);
        if paths.is_everything() {
            let now = Snapshot::take(self.shared.root(), &self.shared.place)?;
            self.shared.lock().before = now;
            return Ok(());
        }
        self.look_again(visited.iter().map(PathBuf::as_path))
    }

    /// Looks again at directories in which something was done.
    fn look_again<'p>(&self, dirs: impl Iterator<Item = &'p Path>) -> Result<(), Error> {
        let failed = self.shared.error("look at what is in");
        let mut all = BTreeSet::new();
        for path in dirs {
            // It is something else now, too, where it is listed itself.
            all.extend(path.parent());
            all.insert(path);
        }
        let mut state = self.shared.lock();
        state
            .before
            .look_again(self.shared.root(), all.into_iter())
            .map_err(failed)
    }

    /// Gives every name a file of its own.
    pub fn split(&mut self) -> Result<(), Error> {
        if self.joined.is_empty() {
            return Ok(());
        }
        self.begin()?;
        fill::split(self.shared.root(), &self.joined)
            .map_err(self.shared.error("copy linked files in"))?;
        let joined = std::mem::take(&mut self.joined);
        self.look_again(parents(&joined))
    }

    /// Makes names one file that are so in the layers.
    pub fn join(&mut self) -> Result<(), Error> {
        let mut groups: BTreeMap<(usize, u64), Vec<PathBuf>> = BTreeMap::new();
        for (path, file) in &self.linked {
            groups.entry(*file).or_default().push(path.clone());
        }
        let links: Links = groups
            .into_values()
            .filter(|names| names.len() > 1 && !self.joined.contains(names))
            .collect();
        if links.is_empty() {
            return Ok(());
        }
        self.begin()?;
        fill::join(self.shared.root(), &links).map_err(self.shared.error("link files in"))?;
        self.look_again(parents(&links))?;
        self.joined.extend(links);
        Ok(())
    }

    /// It is about to be changed: what happens from now on has another time than what was seen, and
    /// who finds the tree when this process was killed does not believe it.
    pub fn begin(&mut self) -> Result<(), Error> {
        if self.clean {
            record::erase(&self.shared.dir).map_err(self.shared.error("mark as changing"))?;
            self.clean = false;
        }
        self.shared.lock().before.settle();
        Ok(())
    }

    /// Copies what has changed since [`Self::begin`] to the new directory `upper`.
    pub fn finish(&mut self, upper: &Path) -> Result<Diff, Error> {
        let changes = self.compare()?;
        let diff = difference::gather(self.shared.root(), &changes, upper)?;
        self.pending = Some(Pending {
            changes,
            made: Some(identity(upper)?),
            layer: None,
        });
        Ok(diff)
    }

    /// Takes note of what has changed, to undo it.
    pub fn revert(&mut self) -> Result<(), Error> {
        let changes = self.compare()?;
        self.pending = (!changes.is_empty()).then_some(Pending {
            changes,
            made: None,
            layer: None,
        });
        Ok(())
    }

    fn compare(&mut self) -> Result<Changes, Error> {
        let mut state = self.shared.lock();
        if state.placed > 0 {
            let error = std::io::Error::other("something that was put there for the step is in it");
            return Err(self.shared.error("tell what has changed in")(error));
        }
        let (root, place) = (self.shared.root(), &self.shared.place);
        let (changes, now) = difference::compare(root, place, &state.before)?;
        state.before = now;
        drop(state);
        self.linked.retain(|path, _| !changes.cover(path));
        self.joined = changes.links();
        Ok(changes)
    }

    /// Leaves it on the disk for others.
    pub fn leave(mut self) -> Result<(), Error> {
        let Some(kept) = self.home.kept.clone().filter(|_| self.home.sees_all) else {
            return Ok(());
        };
        let made = self.pending.as_mut().and_then(|it| it.layer.take());
        let wanted: Vec<Layer> = self.stands_for.iter().cloned().chain(made).collect();
        self.show(&wanted)?;
        let failed = self.shared.error("keep");
        if self.stands_for.is_empty() {
            return Ok(());
        }
        if self.clean {
            record::note_use(&self.shared.dir).map_err(failed)?;
        } else {
            let record = Record {
                layers: self.stands_for.clone(),
                linked: std::mem::take(&mut self.linked),
                joined: std::mem::take(&mut self.joined),
            };
            let state = self.shared.lock();
            state.before.settle();
            let boot = kept.keeper.boot();
            record::write(&self.shared.dir, &kept.base, boot, &record, &state.before)
                .map_err(failed)?;
        }
        self.stays = true;
        kept.keeper.stays(&self.shared.dir);
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let shared = &self.shared;
        // What belongs elsewhere must not go with it. Whatever stays is swept with all of them.
        if !self.stays
            && record::erase(&shared.dir).is_ok()
            && journal::recover(&shared.notes, shared.root()).is_ok()
        {
            drop(fs::remove_dir_all(&shared.dir));
        }
        if let Some(kept) = &self.home.kept {
            kept.keeper.give_back(&self.name);
        }
    }
}

/// A layer that was put aside to be deleted while it was read may have shown only a part of itself.
fn still_there(layer: &Layer) -> Result<(), Error> {
    if identity(&layer.diff.dir)? == layer.identity {
        return Ok(());
    }
    let error = std::io::Error::other("it is another one now");
    Err(Error::io("use the layer", &layer.diff.dir)(error))
}

/// Forgets names that are no longer what they were; gives the directories of those that were one
/// file with them.
fn forget(links: &mut Links, is_gone: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut others = Vec::new();
    for names in &mut *links {
        let count = names.len();
        names.retain(|path| !is_gone(path));
        if names.len() < count {
            let dirs = names.iter().filter_map(|path| path.parent());
            others.extend(dirs.map(Path::to_owned));
        }
    }
    links.retain(|names| names.len() > 1);
    others
}

/// The directories of all names.
fn parents(links: &Links) -> impl Iterator<Item = &Path> {
    let names = links.iter().flatten();
    names.filter_map(|path| path.parent())
}
