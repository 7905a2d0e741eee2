//! [`fill`]: a directory's content goes on top of what is in another one.
//!
//! Every entry replaces what has its name, except that directories are merged and get the
//! attributes of the one that is put on top. Files with several names become as many files: who
//! wants them to be one again is told which they were ([`Links`]).

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, fstat, linkat};
use rustix::io::Errno;

use super::entry;
use super::work::share;
use crate::attributes;
use crate::content::Copier;
use crate::error::Error;

/// Names that are one file, each time at least two, bytewise the first one first.
pub type Links = Vec<Vec<PathBuf>>;

/// What one thread has.
#[derive(Default)]
struct Hand {
    copier: Copier,
    linked: Vec<((u64, u64), PathBuf)>,
}

/// Copies what is in `from` into `to`, and what `from` itself is. `place` is the path of `to` on the
/// host, for messages.
pub fn fill(from: BorrowedFd<'_>, to: BorrowedFd<'_>, place: &Path) -> Result<Links, Error> {
    let directory = |hand: &mut Hand, path: PathBuf, more: &mut Vec<PathBuf>| {
        hand.directory(from, to, &path, more).map_err(Error::io(
            "copy the files of a layer to",
            &place.join(&path),
        ))
    };
    let hands = share(vec![PathBuf::new()], &Hand::default, &directory)?;
    let mut groups: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
    for (inode, path) in hands.into_iter().flat_map(|hand| hand.linked) {
        groups.entry(inode).or_default().push(path);
    }
    let mut links: Links = groups
        .into_values()
        .filter(|names| names.len() > 1)
        .collect();
    links.iter_mut().for_each(|names| names.sort_unstable());
    Ok(links)
}

impl Hand {
    /// Everything of one directory but the content of those in it, which comes later.
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &Path,
        more: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let (from, to) = (entry::open_dir(from, path)?, entry::open_dir(to, path)?);
        let (from, to) = (from.as_fd(), to.as_fd());
        for (name, stat) in entry::list(from)? {
            let entry = entry::join(path, &name);
            match entry::kind(&stat) {
                FileType::Directory => {
                    make_dir(to, &name)?;
                    more.push(entry);
                }
                _ if entry::is_whiteout(&stat) => drop(entry::remove(to, &name)?),
                kind => {
                    if kind == FileType::RegularFile && stat.st_nlink > 1 {
                        self.linked.push(((stat.st_dev, stat.st_ino), entry));
                    }
                    self.entry(from, &name, to)?;
                }
            }
        }
        // Last: what was made inside has set its times.
        attributes::make_same(from, to)
    }

    fn entry(&mut self, from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>) -> io::Result<()> {
        match entry::copy(&mut self.copier, from, name, to, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                entry::remove(to, name)?;
                entry::copy(&mut self.copier, from, name, to, name)
            }
            done => done,
        }
    }
}

/// A directory of that name, whatever was there.
fn make_dir(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match entry::make_dir(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => return done,
    }
    if entry::kind(&entry::stat(dir, name)?) == FileType::Directory {
        return Ok(());
    }
    entry::remove(dir, name)?;
    entry::make_dir(dir, name)
}

/// Makes names one file that have the same content and attributes. No directory's time changes.
pub fn join(root: BorrowedFd<'_>, links: &Links) -> io::Result<()> {
    link_names(root, links, |link, dir, name| {
        let aside = aside(dir, name)?;
        entry::unnoticed(dir.as_fd(), || {
            link(&aside)?;
            Ok(rustix::fs::renameat(dir, &aside, dir, name)?)
        })
    })
}

/// The same where the names but the first of each group are free.
pub fn join_free(root: BorrowedFd<'_>, links: &Links) -> io::Result<()> {
    link_names(root, links, |link, _, name| link(name))
}

/// Has `make` make each name but the first of its group, a directory and a name in it: with a function
/// that links the first one to a free name of that directory.
fn link_names(
    root: BorrowedFd<'_>,
    links: &Links,
    make: impl Fn(&dyn Fn(&CStr) -> io::Result<()>, &OwnedFd, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    for names in links {
        let Some((first, others)) = names.split_first() else {
            continue;
        };
        let (first_dir, first) = entry::open_parent(root, first)?;
        for other in others {
            let (dir, name) = entry::open_parent(root, other)?;
            let link = |to: &CStr| Ok(linkat(&first_dir, &first, &dir, to, AtFlags::empty())?);
            make(&link, &dir, &name)?;
        }
    }
    Ok(())
}

/// Gives every name but the first a file of its own. No directory's time changes.
pub fn split(root: BorrowedFd<'_>, links: &Links) -> io::Result<()> {
    let mut copier = Copier::default();
    for path in links.iter().flat_map(|names| names.iter().skip(1)) {
        let (dir, name) = entry::open_parent(root, path)?;
        let aside = aside(&dir, &name)?;
        entry::unnoticed(dir.as_fd(), || {
            entry::copy(&mut copier, dir.as_fd(), &name, dir.as_fd(), &aside)?;
            Ok(rustix::fs::renameat(&dir, &aside, &dir, &name)?)
        })?;
    }
    Ok(())
}

/// A name that nothing in the directory has.
fn aside(dir: impl AsFd, name: &CStr) -> io::Result<CString> {
    let inode = entry::stat(dir.as_fd(), name)?.st_ino;
    let mut number = 0_u32;
    loop {
        let aside = CString::new(format!(".lapstrake-{inode:x}-{number}"))?;
        match entry::stat(dir.as_fd(), &aside) {
            Err(Errno::NOENT) => return Ok(aside),
            Err(error) => return Err(error.into()),
            Ok(_) => number += 1,
        }
    }
}

/// What `fd` is, for comparison.
pub fn look(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(fstat(fd)?)
}
