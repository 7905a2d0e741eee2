//! What a step has changed in a tree ([`compare`]), as a directory in the form of an overlay's upper
//! ([`gather`]).
//!
//! Comparing is one walk, which also gives what the tree is now: the next step's snapshot. That is
//! sound as far as the comparison itself is. No process of the step is left when it begins, and the
//! tree is nobody else's, so what it sees of an entry is what the step has left; a change that set
//! its time only later would be missing in this step's difference as well. What the builder does to
//! the tree between two steps it knows, and looks at again ([`Snapshot::look_again`]). What changes
//! in the same tick of the clock as the walk would have the time that was seen, so
//! whoever changes the tree next waits for another one ([`Snapshot::settle`]).
//!
//! The directory holds every entry that is new or not what the snapshot says, with the directories
//! that lead to it. What is gone, and directories that took the place of something, are in the
//! lists of [`Diff`]. A file that was touched and is what it was before is in it, too: whoever makes
//! a layer of it compares it with what is below.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::entry;
use super::fill::{Links, join_free, look};
use super::snapshot::{Listing, Snapshot, Stamp, find};
use super::work::share;
use crate::attributes;
use crate::content::Copier;
use crate::error::Error;
use crate::roots::Diff;

/// Files of one directory that are copied by one thread in one go.
const TOGETHER: usize = 64;

/// What has changed, by path.
#[derive(Debug, Default)]
pub struct Changes {
    /// New or changed entries; parents come before what is in them.
    pub changed: BTreeMap<PathBuf, Stat>,
    /// Names that are gone.
    pub deleted: BTreeSet<PathBuf>,
    /// Directories that were not there and in whose place something else was.
    pub opaque: BTreeSet<PathBuf>,
    /// What is in the tree and in no layer: marks of an overlay, which no overlay would let a step
    /// make.
    pub strays: BTreeSet<PathBuf>,
}

/// What one thread has found.
#[derive(Default)]
struct Found {
    changes: Changes,
    now: Vec<(PathBuf, Listing)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
            && self.deleted.is_empty()
            && self.opaque.is_empty()
            && self.strays.is_empty()
    }

    /// Whether what was at the path is no longer what is below.
    pub fn cover(&self, path: &Path) -> bool {
        let is_hidden = |path: &Path| {
            let changed = self.changed.get(path);
            changed.is_some_and(|stat| entry::kind(stat) != FileType::Directory)
                || self.deleted.contains(path)
                || self.opaque.contains(path)
        };
        self.changed.contains_key(path) || path.ancestors().any(is_hidden)
    }

    /// The changed names that are one file.
    pub fn links(&self) -> Links {
        let mut groups: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
        for (path, stat) in &self.changed {
            if entry::kind(stat) != FileType::Directory && stat.st_nlink > 1 {
                let names = groups.entry((stat.st_dev, stat.st_ino)).or_default();
                names.push(path.clone());
            }
        }
        groups
            .into_values()
            .filter(|names| names.len() > 1)
            .collect()
    }
}

/// What became of the tree `root`, whose path on the host is `place`, since `before`, and what it is.
pub fn compare(
    root: BorrowedFd<'_>,
    place: &Path,
    before: &Snapshot,
) -> Result<(Changes, Snapshot), Error> {
    let directory = |found: &mut Found, dir: Directory, more: &mut Vec<Directory>| {
        dir.compare(root, before, found, more)
            .map_err(Error::io("look for changes in", &place.join(&dir.path)))
    };
    let first = Directory {
        path: PathBuf::new(),
        is_new: false,
    };
    let (mut all, mut directories) = (Changes::default(), HashMap::new());
    for part in share(vec![first], &Found::default, &directory)? {
        all.changed.extend(part.changes.changed);
        all.deleted.extend(part.changes.deleted);
        all.opaque.extend(part.changes.opaque);
        all.strays.extend(part.changes.strays);
        directories.extend(part.now);
    }
    let now = look(root).map_err(Error::io("look at", place))?;
    let after = Snapshot::new(&now, directories);
    if after.root() != before.root() {
        all.changed.insert(PathBuf::new(), now);
    }
    Ok((all, after))
}

/// A directory to be compared.
struct Directory {
    path: PathBuf,
    /// Whether the snapshot has something else there, or nothing.
    is_new: bool,
}

impl Directory {
    fn compare(
        &self,
        root: BorrowedFd<'_>,
        before: &Snapshot,
        found: &mut Found,
        more: &mut Vec<Self>,
    ) -> io::Result<()> {
        let Found { changes, now: all } = found;
        let dir = entry::open_dir(root, &self.path)?;
        let listing = match self.is_new {
            true => &[],
            false => before.listing(&self.path),
        };
        let mut seen = vec![false; listing.len()];
        let mut here = Listing::new();
        for (name, stat) in entry::list(dir.as_fd())? {
            here.push((name.clone(), Stamp::new(&stat)));
            if entry::is_whiteout(&stat) {
                changes.strays.insert(entry::join(&self.path, &name));
                continue;
            }
            let old = find(listing, &name).ok();
            if let Some(seen) = old.and_then(|at| seen.get_mut(at)) {
                *seen = true;
            }
            let old = old.and_then(|at| listing.get(at)).map(|(_, stamp)| stamp);
            let (now, path) = (Stamp::new(&stat), entry::join(&self.path, &name));
            if entry::kind(&stat) == FileType::Directory {
                let is_new = !old.is_some_and(|old| old.is_same_directory(&now));
                if is_new && old.is_some() {
                    changes.opaque.insert(path.clone());
                }
                more.push(Self {
                    path: path.clone(),
                    is_new,
                });
            }
            if old != Some(&now) {
                changes.changed.insert(path, stat);
            }
        }
        let gone = listing.iter().zip(seen).filter(|(_, seen)| !seen);
        let gone = gone.map(|((name, _), _)| entry::join(&self.path, name));
        changes.deleted.extend(gone);
        here.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all.push((self.path.clone(), here));
        Ok(())
    }
}

/// Copies what has changed in the tree `root` to the directory `upper`, which is to be made.
pub fn gather(root: BorrowedFd<'_>, changes: &Changes, upper: &Path) -> Result<Diff, Error> {
    let failed = |doing| Error::io(doing, upper);
    std::fs::create_dir(upper).map_err(failed("create"))?;
    let to = std::fs::File::open(upper).map_err(failed("open"))?;
    let ways = changes.ways();
    for path in ways.iter().filter(|path| !path.as_os_str().is_empty()) {
        entry::open_parent(to.as_fd(), path)
            .and_then(|(dir, name)| entry::make_dir(dir.as_fd(), &name))
            .map_err(failed("copy a changed directory to"))?;
    }
    let links = changes.links();
    let copy = |copier: &mut Copier, files: Files, _: &mut Vec<Files>| {
        files
            .copy(copier, root, to.as_fd())
            .map_err(failed("copy changed files to"))
    };
    share(changes.files(&links), &Copier::default, &copy)?;
    join_free(to.as_fd(), &links).map_err(failed("link files in"))?;
    // What lies in a directory comes before it: making that has set its times.
    for path in ways.iter().rev() {
        entry::open_dir(root, path)
            .and_then(|from| {
                let to = entry::open_dir(to.as_fd(), path)?;
                attributes::copy(from.as_fd(), to.as_fd())
            })
            .map_err(failed("set the attributes of a directory in"))?;
    }
    Ok(Diff {
        dir: upper.to_owned(),
        deleted: changes.deleted.iter().cloned().collect(),
        opaque: changes.opaque.iter().cloned().collect(),
    })
}

/// Files of one directory.
struct Files {
    dir: PathBuf,
    names: Vec<CString>,
}

impl Files {
    fn copy(
        &self,
        copier: &mut Copier,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let (from, to) = (
            entry::open_dir(from, &self.dir)?,
            entry::open_dir(to, &self.dir)?,
        );
        for name in &self.names {
            entry::copy(copier, from.as_fd(), name, to.as_fd(), name)?;
        }
        Ok(())
    }
}

impl Changes {
    /// The directories that the upper has: those that changed, and those that lead to a change.
    fn ways(&self) -> BTreeSet<PathBuf> {
        let mut ways = BTreeSet::from([PathBuf::new()]);
        let is_directory = |stat: &Stat| entry::kind(stat) == FileType::Directory;
        for (path, stat) in &self.changed {
            if is_directory(stat) {
                ways.insert(path.clone());
            }
        }
        let changed = self.changed.keys();
        for path in changed.chain(&self.deleted).chain(&self.opaque) {
            ways.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
        ways
    }

    /// What is copied: all but directories, of names that are one file the first.
    fn files(&self, links: &Links) -> Vec<Files> {
        let later: BTreeSet<&PathBuf> = links
            .iter()
            .flat_map(|names| names.iter().skip(1))
            .collect();
        let mut all: Vec<Files> = Vec::new();
        for (path, stat) in &self.changed {
            if entry::kind(stat) == FileType::Directory || later.contains(path) {
                continue;
            }
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            // A name that was listed holds no NUL.
            let Ok(name) = entry::c_name(name) else {
                continue;
            };
            match all.last_mut() {
                Some(last) if last.dir == dir && last.names.len() < TOGETHER => {
                    last.names.push(name);
                }
                _ => all.push(Files {
                    dir: dir.to_owned(),
                    names: vec![name],
                }),
            }
        }
        all
    }
}
