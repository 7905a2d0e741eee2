//! [`write_tar`]: the canonical tar of a layer, and [`write_tree_tar`]: that of a whole tree.
//!
//! The bytes depend on the truth of the layer alone (the disk overlaid with the table), not on the
//! sandbox that made it:
//!
//! - entries in bytewise order of their names in the archive; names relative, without `./`,
//!   directories with a slash at their end; no entry for the root itself, as in BuildKit's layers;
//! - numeric owners, whole seconds (rounded down, clamped if asked), ustar with PAX only where
//!   needed (`tar::encode`), two zero blocks at the end;
//! - a second name of a regular file is a link to the one that came first;
//! - a whiteout is an empty regular file `.wh.NAME` with mode, owner and time zero, and stands only
//!   for a name that the layers below have;
//! - an opaque directory, which only overlayfs makes, is written as whiteouts of the names that
//!   vanished, all the way down;
//! - `security.capability` is the only extended attribute; sockets are left out.
//!
//! Memory: one listing per directory on the way down, and the names of files with several links.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use tar::EntryType;

use super::tar::{BLOCK, Member, TRAILER};
use super::{Attr, Layer, LayerError, LayerStack, MAX_DEPTH, disk, read_xattrs};
use crate::rootfs::{RootDir, RootPath};

/// How much of a file is read at once.
const CHUNK: usize = 128 << 10;
/// Headers and small files are gathered to pieces of this size.
const GATHER: usize = 64 << 10;
/// More warnings than this are only counted.
const MAX_WARNINGS: usize = 32;
/// Permission bits, set-id bits and the sticky bit.
const PERMISSIONS: u32 = 0o7777;

/// How a tar is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct TarOptions {
    /// Modification times later than this (seconds since 1970) become this.
    pub clamp_mtime: Option<i64>,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarSummary {
    /// Entries, whiteouts among them.
    pub entries: u64,
    /// Length of the tar in bytes.
    pub bytes: u64,
    /// What was left out and why, a line each, cut after some.
    pub warnings: Vec<String>,
}

/// What a layer lies on.
pub trait Below {
    /// The layers; asked for only if the one above hides or deletes something.
    ///
    /// # Errors
    /// When they cannot be had.
    fn stack(&self) -> Result<&LayerStack, LayerError>;
}

impl Below for LayerStack {
    fn stack(&self) -> Result<&LayerStack, LayerError> {
        Ok(self)
    }
}

/// Writes the canonical tar of `layer` on top of `below` to `out`, which is flushed.
///
/// # Errors
/// Those of reading the layer and of `below`, and [`LayerError::Stream`] when `out` takes no more.
pub fn write_tar<W: Write>(
    below: &dyn Below,
    layer: &Layer,
    options: &TarOptions,
    out: W,
) -> Result<TarSummary, LayerError> {
    let root = layer.open_diff()?;
    let hides = layer
        .is_opaque(&root, &RootPath::root())
        .map_err(LayerError::disk("read the mark of", "/"))?;
    let truth = Truth::Layer { layer, below };
    TarWriter::new(truth, *options, out).write(&root, hides)
}

/// Writes the tar of the whole tree `root`, a merged view of `stack`, in the same form but without
/// whiteouts.
///
/// # Errors
/// As [`write_tar`].
pub fn write_tree_tar<W: Write>(
    root: &RootDir,
    stack: &LayerStack,
    options: &TarOptions,
    out: W,
) -> Result<TarSummary, LayerError> {
    let root = root
        .open_dir(&RootPath::root())
        .map_err(LayerError::disk("open", "/"))?;
    TarWriter::new(Truth::Tree { stack }, *options, out).write(&root, false)
}

/// Where metadata comes from that the disk does not hold, and what whiteouts mean.
#[derive(Clone, Copy)]
enum Truth<'a> {
    Layer {
        layer: &'a Layer,
        below: &'a dyn Below,
    },
    Tree {
        stack: &'a LayerStack,
    },
}

impl Truth<'_> {
    /// The names in the directory that the table says are deleted.
    fn deleted(&self, dir: &RootPath) -> Vec<CString> {
        let marks = match self {
            Self::Layer { layer, .. } => layer.attributes().marks(),
            Self::Tree { .. } => None,
        };
        let names = marks.into_iter().flat_map(|marks| marks.deleted_in(dir));
        // A name with NUL in it is on no disk.
        names
            .filter_map(|name| CString::new(name.as_bytes()).ok())
            .collect()
    }

    fn attr(&self, name: &[u8]) -> Result<Option<Attr>, LayerError> {
        let path = || RootPath::new(OsStr::from_bytes(name));
        match self {
            Self::Layer { layer, .. } if layer.attributes().is_empty() => Ok(None),
            Self::Layer { layer, .. } => Ok(layer.attributes().get(&path()).cloned()),
            Self::Tree { stack } if stack.has_no_attributes() => Ok(None),
            Self::Tree { stack } => stack.attr(&path()),
        }
    }
}

/// Something to be written, found while listing a directory.
struct Item {
    /// What it is sorted by: the last part of its name in the archive.
    key: Vec<u8>,
    name: CString,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whiteout,
    On(FileType),
}

struct TarWriter<'a, W: Write> {
    truth: Truth<'a>,
    options: TarOptions,
    out: io::BufWriter<W>,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The name in the archive of what is being written.
    name: Vec<u8>,
    chunk: Vec<u8>,
    summary: TarSummary,
}

impl<'a, W: Write> TarWriter<'a, W> {
    fn new(truth: Truth<'a>, options: TarOptions, out: W) -> Self {
        Self {
            truth,
            options,
            out: io::BufWriter::with_capacity(GATHER, out),
            links: HashMap::new(),
            name: Vec::new(),
            chunk: vec![0; CHUNK],
            summary: TarSummary::default(),
        }
    }

    fn write(mut self, root: &OwnedFd, hides: bool) -> Result<TarSummary, LayerError> {
        self.directory(root, hides, 0)?;
        self.put(&TRAILER)?;
        self.out
            .flush()
            .map_err(LayerError::stream("write the tar"))?;
        Ok(self.summary)
    }

    /// Writes what is in `dir`, whose name stands in `self.name` with a slash at its end.
    fn directory(&mut self, dir: &OwnedFd, hides: bool, depth: usize) -> Result<(), LayerError> {
        if depth > MAX_DEPTH {
            return Err(LayerError::Depth {
                path: self.path().to_string(),
                limit: MAX_DEPTH,
            });
        }
        let (mut items, hides) = self.list(dir, hides)?;
        items.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let length = self.name.len();
        for item in items {
            self.name.extend_from_slice(&item.key);
            self.item(dir, &item, hides, depth)?;
            self.name.truncate(length);
        }
        Ok(())
    }

    /// What is in `dir`; and whether its directories, too, hide something below.
    fn list(&mut self, dir: &OwnedFd, hides: bool) -> Result<(Vec<Item>, bool), LayerError> {
        let found = disk::list(dir).map_err(LayerError::disk("list the directory", self.path()))?;
        let mut items = Vec::with_capacity(found.len());
        let mut deleted = self.truth.deleted(&self.path());
        for (name, kind) in found {
            if self.is_deletion(dir, &name, kind)? {
                deleted.push(name);
            } else if name.to_bytes().starts_with(disk::WHITEOUT_PREFIX) {
                let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
                self.warn(format!(
                    "{path} is left out: in a layer its name would mean a deletion"
                ));
            } else if kind == FileType::Socket {
                let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
                self.warn(format!("{path} is left out: it is a socket"));
            } else {
                items.push(present(name, kind));
            }
        }
        let hides = self.add_whiteouts(&mut items, deleted, hides)?;
        Ok((items, hides))
    }

    fn is_deletion(&self, dir: &OwnedFd, name: &CStr, kind: FileType) -> Result<bool, LayerError> {
        if kind != FileType::CharacterDevice || matches!(self.truth, Truth::Tree { .. }) {
            return Ok(false);
        }
        let stat = disk::stat(dir, name).map_err(LayerError::disk("look at", self.path()))?;
        Ok(disk::is_whiteout(&stat))
    }

    /// Adds the whiteouts of one directory: `deleted`, or in one that hides what lies below every
    /// name that is not among `items`.
    fn add_whiteouts(
        &self,
        items: &mut Vec<Item>,
        deleted: Vec<CString>,
        hides: bool,
    ) -> Result<bool, LayerError> {
        let Truth::Layer { below, .. } = self.truth else {
            return Ok(false);
        };
        let path = self.path();
        if !hides {
            for name in deleted {
                if below
                    .stack()?
                    .contains(&path.join(OsStr::from_bytes(name.to_bytes())))?
                {
                    items.push(whiteout(name));
                }
            }
            return Ok(false);
        }
        let Some(mut vanished) = below.stack()?.names(&path)? else {
            return Ok(false);
        };
        for item in &*items {
            vanished.remove(&item.name);
        }
        // A marker in the tree below cannot be deleted by name either.
        vanished.retain(|name| !name.to_bytes().starts_with(disk::WHITEOUT_PREFIX));
        items.extend(vanished.into_iter().map(whiteout));
        Ok(true)
    }

    fn item(
        &mut self,
        dir: &OwnedFd,
        item: &Item,
        hides: bool,
        depth: usize,
    ) -> Result<(), LayerError> {
        match item.kind {
            Kind::Whiteout => self.header(&Entry::whiteout(), b""),
            Kind::On(FileType::Directory) => {
                let fd = disk::open_dir(dir, &item.name).map_err(self.failed("open"))?;
                let stat = rustix::fs::fstat(&fd).map_err(self.failed("look at"))?;
                let entry = self.entry(&stat, || Ok(BTreeMap::new()))?;
                self.header(&entry, b"")?;
                let opaque = match self.truth {
                    Truth::Layer { layer, .. } if !hides => layer
                        .is_opaque(&fd, &self.path())
                        .map_err(self.failed("read the mark of"))?,
                    _ => false,
                };
                self.directory(&fd, hides || opaque, depth + 1)
            }
            Kind::On(FileType::RegularFile) => self.file(dir, &item.name),
            Kind::On(FileType::Symlink) => {
                let stat = self.stat(dir, item)?;
                let target = rustix::fs::readlinkat(dir, &item.name, Vec::new())
                    .map_err(self.failed("read the link"))?;
                let entry = self.entry(&stat, || Ok(BTreeMap::new()))?;
                self.header(&entry, target.as_bytes())
            }
            Kind::On(_) => {
                let stat = self.stat(dir, item)?;
                let entry = self.entry(&stat, || Ok(BTreeMap::new()))?;
                self.header(&entry, b"")
            }
        }
    }

    fn stat(&self, dir: &OwnedFd, item: &Item) -> Result<Stat, LayerError> {
        let stat = disk::stat(dir, &item.name).map_err(self.failed("look at"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if Kind::On(kind) != item.kind {
            return Err(self.changed(format!("it is a {kind:?} now")));
        }
        Ok(stat)
    }

    /// Writes what is a regular file on disk: a file, a link to an earlier one, or a device whose
    /// truth is in the table.
    fn file(&mut self, dir: &OwnedFd, name: &CStr) -> Result<(), LayerError> {
        let fd = disk::open_file(dir, name).map_err(self.failed("open"))?;
        let stat = rustix::fs::fstat(&fd).map_err(self.failed("look at"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(self.changed(format!("it was a regular file and is a {kind:?} now")));
        }
        let mut entry = self.entry(&stat, || read_xattrs(fd.as_fd()))?;
        if entry.kind == EntryType::Regular && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode).cloned() {
                entry.kind = EntryType::Link;
                entry.size = 0;
                entry.xattrs.clear();
                return self.header(&entry, &first);
            }
            self.links.insert(inode, self.name.clone());
        }
        self.header(&entry, b"")?;
        if entry.size > 0 {
            self.content(File::from(fd), entry.size)?;
        }
        Ok(())
    }

    fn content(&mut self, mut file: File, size: u64) -> Result<(), LayerError> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let got = match file.read(&mut self.chunk[..want]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LayerError::disk("read", self.path())(error)),
            };
            if got == 0 {
                return Err(self.changed(format!("it ended after {} of {size} bytes", size - left)));
            }
            let written = self.out.write_all(&self.chunk[..got]);
            written.map_err(LayerError::stream("write the tar"))?;
            self.summary.bytes += got as u64;
            left -= got as u64;
        }
        let over = (size % BLOCK as u64) as usize;
        if over > 0 {
            self.put(&[0; BLOCK][over..])?;
        }
        Ok(())
    }

    /// The truth of an entry with `stat` on disk; `xattrs` are asked only when the table is silent.
    fn entry(
        &self,
        stat: &Stat,
        xattrs: impl FnOnce() -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>>,
    ) -> Result<Entry, LayerError> {
        let rdev = stat.st_rdev;
        let attr = match self.truth.attr(&self.name)? {
            Some(attr) => attr,
            None => Attr {
                uid: stat.st_uid,
                gid: stat.st_gid,
                mode: stat.st_mode,
                rdev: (rustix::fs::major(rdev), rustix::fs::minor(rdev)),
                xattrs: xattrs()
                    .map_err(LayerError::disk("read the attributes of", self.path()))?,
            },
        };
        let kind = entry_type(stat.st_mode, attr.mode).ok_or_else(|| LayerError::Disagreement {
            path: self.path().to_string(),
            disk: stat.st_mode & libc::S_IFMT,
            table: attr.mode & libc::S_IFMT,
        })?;
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        let clamp = self.options.clamp_mtime.unwrap_or(i64::MAX);
        Ok(Entry {
            kind,
            mode: attr.mode & PERMISSIONS,
            uid: attr.uid,
            gid: attr.gid,
            size: match kind {
                EntryType::Regular => u64::try_from(stat.st_size).unwrap_or(0),
                _ => 0,
            },
            mtime: stat.st_mtime.min(clamp),
            rdev: if is_device { attr.rdev } else { (0, 0) },
            xattrs: attr.xattrs,
        })
    }

    fn header(&mut self, entry: &Entry, link: &[u8]) -> Result<(), LayerError> {
        let header = Member {
            name: &self.name,
            link,
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            mtime: entry.mtime,
            rdev: entry.rdev,
            xattrs: &entry.xattrs,
        };
        let blocks = header.encode();
        self.summary.entries += 1;
        self.put(&blocks)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.summary.bytes += bytes.len() as u64;
        let written = self.out.write_all(bytes);
        written.map_err(LayerError::stream("write the tar"))
    }

    fn path(&self) -> RootPath {
        RootPath::new(OsStr::from_bytes(&self.name))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Errno) -> LayerError + use<W> {
        LayerError::disk(action, self.path())
    }

    fn changed(&self, reason: String) -> LayerError {
        LayerError::Changed {
            path: self.path().to_string(),
            reason,
        }
    }

    fn warn(&mut self, warning: String) {
        if self.summary.warnings.len() < MAX_WARNINGS {
            self.summary.warnings.push(warning);
        } else if self.summary.warnings.len() == MAX_WARNINGS {
            self.summary.warnings.push("more of the kind".to_owned());
        }
    }
}

/// What is written of one entry beside its name.
struct Entry {
    kind: EntryType,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    rdev: (u32, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    fn whiteout() -> Self {
        Self {
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            rdev: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }
}

fn present(name: CString, kind: FileType) -> Item {
    let mut key = name.to_bytes().to_vec();
    if kind == FileType::Directory {
        key.push(b'/');
    }
    Item {
        key,
        name,
        kind: Kind::On(kind),
    }
}

fn whiteout(name: CString) -> Item {
    Item {
        key: [disk::WHITEOUT_PREFIX, name.to_bytes()].concat(),
        name,
        kind: Kind::Whiteout,
    }
}

/// The type of an entry that has `disk` as its mode on disk and `truth` in truth; none when the two
/// cannot be the same entry.
fn entry_type(disk: u32, truth: u32) -> Option<EntryType> {
    let disk = FileType::from_raw_mode(disk);
    let truth = FileType::from_raw_mode(truth);
    let stands_in = disk == FileType::RegularFile
        && matches!(
            truth,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo
        );
    if disk != truth && !stands_in {
        return None;
    }
    match truth {
        FileType::RegularFile => Some(EntryType::Regular),
        FileType::Directory => Some(EntryType::Directory),
        FileType::Symlink => Some(EntryType::Symlink),
        FileType::Fifo => Some(EntryType::Fifo),
        FileType::CharacterDevice => Some(EntryType::Char),
        FileType::BlockDevice => Some(EntryType::Block),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
