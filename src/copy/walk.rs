//! [`Walk`]: everything below a directory, listed on all cores.
//!
//! The tree is read level by level, the directories of a level on all cores; what was found is then
//! put in order: bytewise by name in each directory, a directory before what is in it. So neither the
//! order nor what is left out depends on how many cores there are.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, fstat, statat};

use super::contents::on_all_cores;
use super::entry::{Entry, Kind, failed, is_directory};
use super::{CopyError, Source};
use crate::context::{IgnoreFile, Verdict};
use crate::rootfs::RootPath;

/// Fewer directories than this are not worth a thread.
const WORTH_A_THREAD: usize = 8;
/// Room for the names that are asked for at once, bytes.
const NAMES: usize = 32 << 10;

/// A directory whose entries are wanted.
pub(super) struct Place {
    pub path: RootPath,
    /// Where it is below what was selected.
    pub relative: RootPath,
    pub filter: Verdict,
    pub exclude: Verdict,
}

/// What is read, and what of it is not to be seen.
pub(super) struct Walk<'w> {
    pub source: &'w Source<'w>,
    pub filter: &'w IgnoreFile,
    pub exclude: &'w IgnoreFile,
}

/// What a walk saw besides entries.
#[derive(Default)]
pub(super) struct Seen {
    /// What was left out, relative to what is selected; only the topmost of what was.
    pub hidden: Vec<RootPath>,
    /// Whether owners on the disk are not those that count.
    pub is_foreign: bool,
}

/// The entries of one directory.
#[derive(Default)]
struct Listing {
    children: Vec<Child>,
    seen: Seen,
}

struct Child {
    entry: Entry,
    /// Whether it shows only if something below it does.
    hidden: bool,
    below: Below,
}

/// What is known of a child's own entries.
enum Below {
    None,
    Unread(Place),
    /// Read, under this number.
    Listing(usize),
}

impl Walk<'_> {
    /// Adds everything below `place` to `entries`.
    ///
    /// # Errors
    /// What cannot be read, the first of the topmost level that has such a thing.
    pub fn below(&self, place: Place, entries: &mut Vec<Entry>) -> Result<Seen, CopyError> {
        let mut listings = Vec::new();
        let mut level = vec![place];
        while !level.is_empty() {
            level = self.level(&level, &mut listings)?;
        }
        let mut seen = Seen::default();
        gather(&mut listings, 0, entries, &mut seen);
        Ok(seen)
    }

    /// Lists every directory of `level`; gives those of the next.
    fn level(&self, level: &[Place], listings: &mut Vec<Listing>) -> Result<Vec<Place>, CopyError> {
        let indices: Vec<usize> = (0..level.len()).collect();
        let mut done = on_all_cores(&indices, WORTH_A_THREAD, |index| self.list(&level[index]))?;
        done.sort_unstable_by_key(|(index, _)| *index);
        let first = listings.len() + level.len();
        let mut next = Vec::new();
        for (_, mut listing) in done {
            for child in &mut listing.children {
                match mem::replace(&mut child.below, Below::None) {
                    Below::Unread(place) => {
                        child.below = Below::Listing(first + next.len());
                        next.push(place);
                    }
                    other => child.below = other,
                }
            }
            listings.push(listing);
        }
        Ok(next)
    }

    /// The entries of one directory.
    fn list(&self, place: &Place) -> Result<Listing, CopyError> {
        let mut listing = Listing::default();
        let seen = &mut listing.seen;
        let dir = open_dir(self.source, &place.path)?;
        for name in names(self.source, &place.path, &dir)? {
            let path = place.path.join(&name);
            let relative = place.relative.join(&name);
            let filter = self.filter.enter(&place.filter, &path);
            let exclude = self.exclude.enter(&place.exclude, &relative);
            if filter.prune || exclude.prune {
                seen.hidden.push(relative);
                continue;
            }
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed(self.source, "look at", &path, error.into()))?;
            let hidden = filter.excluded || exclude.excluded;
            if hidden && !is_directory(&stat) {
                seen.hidden.push(relative);
                continue;
            }
            let at = (&dir, name.as_os_str());
            let found = Entry::find(self.source, path, relative, &stat, at, &name)?;
            seen.is_foreign |= found.is_foreign;
            let Some(entry) = found.entry else {
                continue;
            };
            let below = match entry.kind {
                Kind::Directory => Below::Unread(Place {
                    path: entry.path.clone(),
                    relative: entry.relative.clone(),
                    filter,
                    exclude,
                }),
                _ => Below::None,
            };
            listing.children.push(Child {
                entry,
                hidden,
                below,
            });
        }
        Ok(listing)
    }
}

/// Puts what the directory of this number has, and all below it, behind `entries`.
fn gather(listings: &mut [Listing], number: usize, entries: &mut Vec<Entry>, seen: &mut Seen) {
    let Some(listing) = listings.get_mut(number).map(mem::take) else {
        return;
    };
    seen.hidden.extend(listing.seen.hidden);
    seen.is_foreign |= listing.seen.is_foreign;
    for child in listing.children {
        entries.push(child.entry);
        let before = entries.len();
        if let Below::Listing(number) = child.below {
            gather(listings, number, entries, seen);
        }
        // A hidden directory shows only when something below it is kept.
        if child.hidden && entries.len() == before {
            let popped = entries.pop();
            seen.hidden.extend(popped.map(|entry| entry.relative));
        }
    }
}

/// Opens a directory of the source that has no link in its path.
pub(super) fn open_dir(source: &Source<'_>, path: &RootPath) -> Result<OwnedFd, CopyError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    source
        .root
        .open_at(path, flags, Mode::empty())
        .map_err(|error| failed(source, "open the directory", path, error))
}

/// The names in a directory that was just opened, in bytewise order.
pub(super) fn names(
    source: &Source<'_>,
    path: &RootPath,
    dir: &OwnedFd,
) -> Result<Vec<OsString>, CopyError> {
    let list = || -> io::Result<Vec<OsString>> {
        if let Some(inputs) = source.inputs {
            let stat = fstat(dir)?;
            inputs.add_directory(path, (stat.st_mtime, stat.st_mtime_nsec));
        }
        let mut names = Vec::new();
        let mut room = [MaybeUninit::uninit(); NAMES];
        let mut entries = RawDir::new(dir, &mut room);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable_by(|a, b| OsStr::as_bytes(a).cmp(b.as_bytes()));
        Ok(names)
    };
    list().map_err(|error| failed(source, "list the directory", path, error))
}
