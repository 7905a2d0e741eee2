//! [`turn`]: makes a tree show what layers show, at paths where it may not.
//!
//! Whoever calls it knows where that can be: what the layers say that go and those that come, what a
//! step has changed. Everything else is left alone, so the work is that of the differences and not of
//! the tree. At such a path nothing that is in the tree is believed: a file is deleted and copied
//! anew, a directory gets its owner, mode, attributes and time from the layer, and so does every
//! directory in which something was done.
//!
//! After a step the topmost layer was made of this very tree, so that there it can only differ by what
//! is no part of a layer. Then ([`Turn::made_of_it`]) what has the same type, owner, mode, size, device
//! and time as the layers have is what they have: a time of modification alone would prove nothing,
//! but the content was copied from here, or was compared with what is below before it was left out.
//!
//! Directories are done independently of each other by several threads: what is done in one sets no
//! time of another. That the layers themselves stay what they are is the caller's business.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::entry;
use super::merged::{Merged, Opened, Shown};
use super::paths::{How, Paths};
use super::work::share;
use crate::attributes;
use crate::content::Copier;
use crate::error::Error;

/// What is to be done to a tree.
pub struct Turn<'t> {
    /// The tree, and its path on the host.
    pub root: BorrowedFd<'t>,
    pub place: &'t Path,
    pub wanted: &'t Merged,
    pub paths: &'t Paths,
    /// Whether these layers were made of this tree.
    pub made_of_it: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Turned {
    /// Directories in which something was done, or to them.
    pub visited: Vec<PathBuf>,
    /// Names that are gone or something else now, with everything below them.
    pub removed: Vec<PathBuf>,
    /// Files that were copied from one that has several names in its layer: name, layer, inode.
    pub linked: Vec<(PathBuf, usize, u64)>,
}

/// A directory to be looked at.
struct Directory {
    path: PathBuf,
    /// Those that show it.
    layers: Vec<usize>,
    /// Whether everything in it is in question.
    all: bool,
    /// Whether it was made now.
    is_new: bool,
}

/// What one thread has.
#[derive(Default)]
struct Hand {
    copier: Copier,
    done: Turned,
}

/// Does it.
///
/// # Errors
/// When the disk fails; the tree is then neither what it was nor what it is to be.
pub fn turn(turn: &Turn<'_>) -> Result<Turned, Error> {
    let directory = |hand: &mut Hand, dir: Directory, more: &mut Vec<Directory>| {
        turn.directory(hand, &dir, more).map_err(Error::io(
            "copy the files of layers to",
            &turn.place.join(&dir.path),
        ))
    };
    let first = Directory {
        path: PathBuf::new(),
        layers: turn.wanted.all(),
        all: turn.paths.is_everything(),
        is_new: false,
    };
    let mut all = Turned::default();
    for hand in share(vec![first], &Hand::default, &directory)? {
        all.visited.extend(hand.done.visited);
        all.removed.extend(hand.done.removed);
        all.linked.extend(hand.done.linked);
    }
    Ok(all)
}

impl Turn<'_> {
    /// Everything of one directory but the content of those in it, which comes later.
    fn directory(
        &self,
        hand: &mut Hand,
        dir: &Directory,
        more: &mut Vec<Directory>,
    ) -> io::Result<()> {
        let from = self.wanted.open_dir(&dir.path, &dir.layers)?;
        let to = entry::open_dir(self.root, &dir.path)?;
        let mut touched = dir.is_new;
        for (name, (how, shown, found)) in self.names(dir, &from, &to)? {
            let path = entry::join(&dir.path, &name);
            let is_directory = found.as_ref().is_some_and(is_directory);
            match shown {
                Shown::Nothing if found.is_none() => {}
                Shown::Nothing => {
                    entry::remove(to.as_fd(), &name)?;
                    hand.done.removed.push(path);
                    touched = true;
                }
                Shown::Entry(_, wanted) if self.is_same(found.as_ref(), &wanted) => {}
                Shown::Entry(layer, wanted) => {
                    if found.is_some() {
                        entry::remove(to.as_fd(), &name)?;
                        hand.done.removed.push(path.clone());
                    }
                    let from = from.of(layer)?;
                    entry::copy(&mut hand.copier, from, &name, to.as_fd(), &name)?;
                    if entry::kind(&wanted) == FileType::RegularFile && wanted.st_nlink > 1 {
                        hand.done.linked.push((path, layer, wanted.st_ino));
                    }
                    touched = true;
                }
                Shown::Directory(layers) => {
                    if !is_directory {
                        if found.is_some() {
                            entry::remove(to.as_fd(), &name)?;
                            hand.done.removed.push(path.clone());
                        }
                        entry::make_dir(to.as_fd(), &name)?;
                        touched = true;
                    }
                    more.push(Directory {
                        path,
                        layers,
                        all: how == How::All || !is_directory,
                        is_new: !is_directory,
                    });
                }
            }
        }
        self.finish(hand, dir, &from, &to, touched)
    }

    /// The names in question: what may be wrong, what is to be there, what is there.
    #[allow(clippy::type_complexity)]
    fn names(
        &self,
        dir: &Directory,
        from: &Opened,
        to: &OwnedFd,
    ) -> io::Result<BTreeMap<CString, (How, Shown, Option<Stat>)>> {
        let mut names = BTreeMap::new();
        if !dir.all {
            for (name, how) in self.paths.of(&dir.path).into_iter().flatten() {
                let shown = self.wanted.child(from, name)?;
                names.insert(name.clone(), (*how, shown, look(to, name)?));
            }
            return Ok(names);
        }
        for (name, shown) in self.wanted.children(from)? {
            names.insert(name, (How::All, shown, None));
        }
        if !dir.is_new {
            for (name, stat) in entry::list(to.as_fd())? {
                let known = names
                    .entry(name)
                    .or_insert((How::All, Shown::Nothing, None));
                known.2 = Some(stat);
            }
        }
        Ok(names)
    }

    /// Makes the directory itself what it is to be, and takes note of it.
    fn finish(
        &self,
        hand: &mut Hand,
        dir: &Directory,
        from: &Opened,
        to: &OwnedFd,
        touched: bool,
    ) -> io::Result<()> {
        let Some(top) = from.top() else {
            hand.done.visited.push(dir.path.clone());
            return Ok(());
        };
        if !touched && self.made_of_it {
            let (now, wanted) = (rustix::fs::fstat(to)?, rustix::fs::fstat(top)?);
            if self.is_same(Some(&now), &wanted) {
                return Ok(());
            }
        }
        // Last: what was made inside has set its times.
        attributes::make_same(top, to.as_fd())?;
        hand.done.visited.push(dir.path.clone());
        Ok(())
    }

    /// Whether what was found is what a layer has that was made of this tree.
    fn is_same(&self, found: Option<&Stat>, wanted: &Stat) -> bool {
        let key = |stat: &Stat| {
            let size = match entry::kind(stat) {
                FileType::Directory => 0,
                _ => stat.st_size,
            };
            (
                (stat.st_mode, stat.st_uid, stat.st_gid),
                (stat.st_mtime, stat.st_mtime_nsec),
                (size, stat.st_rdev),
            )
        };
        self.made_of_it && found.is_some_and(|found| key(found) == key(wanted))
    }
}

fn is_directory(stat: &Stat) -> bool {
    entry::kind(stat) == FileType::Directory
}

fn look(dir: &OwnedFd, name: &CStr) -> io::Result<Option<Stat>> {
    match entry::stat(dir.as_fd(), name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
