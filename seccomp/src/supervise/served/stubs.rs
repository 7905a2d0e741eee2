//! The names in the tree's own `/proc`, `/sys` and `/dev/pts`, for processes that open a directory there.
//!
//! A directory is filled when it is opened, with what the process may see then. Nothing is ever read from
//! a stub: paths to them are answered before the kernel gets there. `/proc/self` and `/proc/thread-self`
//! are links to themselves, so that the kernel fails at them in a way of its own (`find`). Names in
//! `/proc` that begin with a dot are links for paths that had to be made shorter (`rewrite`).
//!
//! Everything goes through descriptors beneath the tree, in which no link is followed: a process that is
//! root may put anything there.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, mknodat, openat,
    readlinkat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::node::number;
use super::{FileIds, Served, as_caller};
use crate::supervise::processes;
use crate::supervise::resolve::own_path;

/// Short names by what they stand for.
#[derive(Debug, Default)]
pub struct Stubs {
    short: HashMap<Vec<u8>, String>,
}

/// A name in a directory and what it is; a link's target.
type Entry = (Vec<u8>, FileType, Vec<u8>);

/// Locks what no thread leaves half-done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Served {
    /// The tree's directory for `path`, made if it is missing, open for reading.
    pub fn stub(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let _one = lock(&self.stubs);
        self.made(path)
    }

    fn made(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let open = || self.open_beneath(path, flags, ResolveFlags::NO_SYMLINKS);
        match open() {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            other => return other,
        }
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        if slash == 0 {
            return Err(Errno::NOENT);
        }
        let parent = self.made(&path[..slash])?;
        let name = OsStr::from_bytes(&path[slash + 1..]);
        make(parent.as_fd(), name, FileType::Directory, b"")?;
        open()
    }

    /// The tree's directory for `path` with the names that are in `source` now, open for reading.
    pub fn fill(&self, path: &[u8], source: Option<(&OwnedFd, FileIds)>) -> Result<OwnedFd, Errno> {
        let wanted = self.entries(path, source)?;
        let _one = lock(&self.stubs);
        let dir = self.made(path)?;
        let present = list(dir.as_fd())?;
        let in_proc = path == b"/proc";
        for (name, ..) in &present {
            let keeps = in_proc && name.first() == Some(&b'.');
            if !keeps && !wanted.iter().any(|(wanted, ..)| wanted == name) {
                remove(dir.as_fd(), OsStr::from_bytes(name))?;
            }
        }
        for (name, kind, target) in &wanted {
            let is = present.iter().find(|(present, ..)| present == name);
            if is.is_none_or(|(_, present, shown)| present != kind || shown != target) {
                make(dir.as_fd(), OsStr::from_bytes(name), *kind, target)?;
            }
        }
        Ok(dir)
    }

    /// What is to be seen in a directory.
    fn entries(
        &self,
        path: &[u8],
        source: Option<(&OwnedFd, FileIds)>,
    ) -> Result<Vec<Entry>, Errno> {
        if path == b"/dev/pts" {
            let numbers = self.terminal_numbers().into_iter();
            let entry = |name: String| (name.into_bytes(), FileType::RegularFile, Vec::new());
            let all = numbers.map(|number| entry(number.to_string()));
            return Ok(all.chain([entry("ptmx".to_owned())]).collect());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let read = |dir: BorrowedFd<'_>| list(openat(dir, ".", flags, Mode::empty())?.as_fd());
        let all = match source {
            Some((dir, who)) => as_caller(who, || read(dir.as_fd()))?,
            None if path == b"/proc" => read(self.proc.as_fd())?,
            None => read(self.sys.as_fd())?,
        };
        let (is_proc, mut seen) = (path == b"/proc", Vec::new());
        let ours = if is_proc {
            processes::all(self.init)
        } else {
            Vec::new()
        };
        for (name, kind, target) in all {
            let whole = [path, b"/", &name].concat();
            let is_process = is_proc.then(|| number(&name)).flatten();
            if self.is_hidden(&whole) || is_process.is_some_and(|pid| !ours.contains(&pid)) {
                continue;
            }
            let target = match name.as_slice() {
                b"self" | b"thread-self" if is_proc => name.clone(),
                _ => self.shown(target),
            };
            seen.push((name, kind, target));
        }
        Ok(seen)
    }

    /// A short path in `/proc` that is a link to `path`, for the kernel to follow.
    pub fn short(&self, path: &[u8]) -> Result<String, Errno> {
        let mut stubs = lock(&self.stubs);
        if let Some(name) = stubs.short.get(path) {
            return Ok(name.clone());
        }
        let name = format!(".{:x}", stubs.short.len());
        let proc = self.made(b"/proc")?;
        make(proc.as_fd(), OsStr::new(&name), FileType::Symlink, path)?;
        let short = format!("/proc/{name}");
        stubs.short.insert(path.to_vec(), short.clone());
        Ok(short)
    }
}

/// The names in a directory.
fn list(dir: BorrowedFd<'_>) -> Result<Vec<Entry>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            kind @ (FileType::Directory | FileType::Symlink) => kind,
            _ => FileType::RegularFile,
        };
        let target = match kind {
            // What it says is a secret, or it is gone by now.
            FileType::Symlink => readlinkat(dir, name, Vec::new()).unwrap_or_default(),
            _ => CString::default(),
        };
        all.push((name.to_bytes().to_vec(), kind, target.into_bytes()));
    }
    Ok(all)
}

/// Makes one name, in place of what has it.
fn make(dir: BorrowedFd<'_>, name: &OsStr, kind: FileType, target: &[u8]) -> Result<(), Errno> {
    let once = || match kind {
        FileType::Directory => {
            mkdirat(dir, name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fchmod(
                openat(dir, name, flags, Mode::empty())?,
                Mode::from_raw_mode(0o555),
            )
        }
        // A link to nothing there cannot be.
        FileType::Symlink if target.is_empty() => symlinkat("?", dir, name),
        FileType::Symlink => symlinkat(OsStr::from_bytes(target), dir, name),
        _ => mknodat(
            dir,
            name,
            FileType::RegularFile,
            Mode::from_raw_mode(0o444),
            0,
        ),
    };
    match once() {
        Err(Errno::EXIST) => {
            remove(dir, name)?;
            once()
        }
        other => other,
    }
}

/// Removes one name with all below it.
fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let path = std::path::PathBuf::from(own_path(dir)).join(name);
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}
