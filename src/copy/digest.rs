//! The digest of what is selected: the content part of a step's cache key (spec S13).
//!
//! Fields, each behind its length in eight bytes: per hit its name (none for a directory, whose content
//! alone is copied), whether it keeps its parents and the number of its entries; per entry its relative path, type, mode, owner, device numbers, then
//! by type the link target, or the number of the entry it is a hard link of, or size, SHA-256 of the
//! data and capability. Modes and owners are those of the copy. No time is in it.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use super::contents::{FileContent, read_contents};
use super::entry::{Entry, Kind};
use super::select::Hit;
use super::{CopyError, CopyOptions, Selection, Source};
use crate::cache::FileDigests;
use crate::image::{Digest, Hashing};
use crate::layer::Meta;

/// Bytes that are hashed at once: most fields have eight.
const BUFFER: usize = 16 << 10;

/// The contents of the files of a hit, one place for each of its entries.
pub(super) type Contents = Vec<Option<FileContent>>;

struct Frames(BufWriter<Hashing<io::Sink>>);

impl Selection {
    /// The digest of everything that matters of the selected entries.
    ///
    /// Files that are not `known` are read, on all cores.
    ///
    /// # Errors
    /// A file that cannot be read or that changed since it was selected.
    pub fn digest(
        &self,
        source: &Source<'_>,
        options: &CopyOptions,
        known: &FileDigests,
    ) -> Result<Digest, CopyError> {
        Ok(self.read(source, options, known)?.0)
    }

    /// The digest, and of each hit the contents that it took.
    pub(super) fn read(
        &self,
        source: &Source<'_>,
        options: &CopyOptions,
        known: &FileDigests,
    ) -> Result<(Digest, Vec<Contents>), CopyError> {
        let mut frames = Frames(BufWriter::with_capacity(BUFFER, Hashing::new(io::sink())));
        let hits = self.hits.iter();
        let contents = hits.map(|hit| frames.hit(hit, source, options, known));
        let contents = contents.collect::<Result<_, _>>()?;
        let hashing = frames.0.into_inner().map_err(|error| error.into_error());
        let hashing =
            hashing.unwrap_or_else(|error| unreachable!("a sink takes everything: {error}"));
        Ok((hashing.finish().1, contents))
    }
}

impl Frames {
    fn bytes(&mut self, bytes: &[u8]) {
        // Writing to a hash over a sink cannot fail.
        for part in [&(bytes.len() as u64).to_le_bytes()[..], bytes] {
            self.0.write_all(part).expect("a sink takes everything");
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn hit(
        &mut self,
        hit: &Hit,
        source: &Source<'_>,
        options: &CopyOptions,
        known: &FileDigests,
    ) -> Result<Contents, CopyError> {
        // A directory's own name and metadata do not reach the destination, only its content does.
        let top = hit.entries.first();
        let is_tree = top.is_none_or(|entry| entry.kind == Kind::Directory);
        self.bytes(if is_tree { b"" } else { hit.name.as_bytes() });
        self.number(hit.parents.into());
        self.number(hit.entries.len() as u64);
        let mut first = HashMap::new();
        let files = read_contents(&hit.entries, source, options, known)?;
        for (index, entry) in hit.entries.iter().enumerate() {
            self.bytes(entry.relative.as_bytes());
            if is_tree && entry.relative.is_root() {
                continue;
            }
            if entry.truth.links > 1 && entry.kind != Kind::Directory {
                let first = *first.entry(entry.truth.inode).or_insert(index);
                if first != index {
                    self.bytes(b"link");
                    self.number(first as u64);
                    continue;
                }
            }
            self.entry(entry, source, options, files[index].as_ref())?;
        }
        Ok(files)
    }

    fn entry(
        &mut self,
        entry: &Entry,
        source: &Source<'_>,
        options: &CopyOptions,
        file: Option<&FileContent>,
    ) -> Result<(), CopyError> {
        match (&entry.kind, file) {
            (_, Some(FileContent { sha256, meta })) => {
                self.common(b"file", entry, meta);
                self.number(entry.truth.size);
                self.bytes(sha256);
                for (name, value) in &meta.xattrs {
                    self.bytes(name);
                    self.bytes(value);
                }
            }
            (kind, None) => {
                let meta = entry.meta(source, options, None)?;
                let (name, target): (&[u8], _) = match kind {
                    Kind::Symlink(target) => (b"symlink", target.as_bytes()),
                    Kind::Directory => (b"directory", &b""[..]),
                    Kind::Fifo => (b"fifo", b""),
                    Kind::Empty | Kind::File => (b"empty", b""),
                    Kind::Device => (b"device", b""),
                };
                self.common(name, entry, &meta);
                self.bytes(target);
            }
        }
        Ok(())
    }

    fn common(&mut self, kind: &[u8], entry: &Entry, meta: &Meta) {
        self.bytes(kind);
        let mode = match entry.kind {
            Kind::Symlink(_) => 0,
            _ => meta.mode,
        };
        let device_type = match entry.kind {
            Kind::Device => entry.truth.mode & 0o170_000,
            _ => 0,
        };
        let (major, minor) = entry.truth.rdev;
        for number in [mode, meta.uid, meta.gid, device_type, major, minor] {
            self.number(number.into());
        }
    }
}
