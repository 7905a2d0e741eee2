//! What a selection holds, entry by entry, for whoever explains why its digest is another one.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use super::digest::Contents;
use super::entry::{Entry, Kind};
use super::select::Hit;
use super::{CopyError, CopyOptions, Selection, Source};
use crate::cache::{FileDigests, Listed, Listing};
use crate::image::Digest;

impl Selection {
    /// The digest as [`Selection::digest`] gives it, and a listing of the entries if `is_wanted`
    /// says so of that digest.
    ///
    /// # Errors
    /// As [`Selection::digest`], and those of `is_wanted`.
    pub fn digest_and_list<E: From<CopyError>>(
        &self,
        source: &Source<'_>,
        options: &CopyOptions,
        known: &FileDigests,
        is_wanted: impl FnOnce(&Digest) -> Result<bool, E>,
    ) -> Result<(Digest, Option<Listing>), E> {
        let (digest, contents) = self.read(source, options, known)?;
        if !is_wanted(&digest)? {
            return Ok((digest, None));
        }
        let mut listing = Listing::default();
        for (hit, contents) in self.hits.iter().zip(&contents) {
            if !list(hit, source, options, contents, &mut listing)? {
                break;
            }
        }
        Ok((digest, Some(listing)))
    }
}

/// Adds the entries of a hit; gives whether the listing takes more.
fn list(
    hit: &Hit,
    source: &Source<'_>,
    options: &CopyOptions,
    contents: &Contents,
    listing: &mut Listing,
) -> Result<bool, CopyError> {
    let top = hit.entries.first();
    let is_tree = top.is_none_or(|entry| entry.kind == Kind::Directory);
    let mut first: HashMap<(u64, u64), &Entry> = HashMap::new();
    for (index, entry) in hit.entries.iter().enumerate() {
        // Of the directory itself nothing is copied but its content.
        if is_tree && entry.relative.is_root() {
            continue;
        }
        let mut linked = None;
        if entry.truth.links > 1 && entry.kind != Kind::Directory {
            let first = *first.entry(entry.truth.inode).or_insert(entry);
            linked = (first.path != entry.path).then_some(first);
        }
        let listed = match linked {
            Some(first) => Listed {
                kind: b'h',
                content: fold(first.path.as_bytes()),
                ..listed(entry, source, options, None)?
            },
            None => listed(
                entry,
                source,
                options,
                contents.get(index).and_then(Option::as_ref),
            )?,
        };
        if !listing.push(listed) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn listed(
    entry: &Entry,
    source: &Source<'_>,
    options: &CopyOptions,
    file: Option<&super::contents::FileContent>,
) -> Result<Listed, CopyError> {
    let own;
    let meta = match file {
        Some(file) => &file.meta,
        None => {
            own = entry.meta(source, options, None)?;
            &own
        }
    };
    let (kind, content) = match (&entry.kind, file) {
        (Kind::File, Some(file)) => {
            let mut bytes = file.sha256.to_vec();
            for (name, value) in &meta.xattrs {
                bytes.extend_from_slice(name);
                bytes.extend_from_slice(value);
            }
            (b'f', fold(&bytes))
        }
        (Kind::File | Kind::Empty, _) => (b'f', [0; 8]),
        (Kind::Directory, _) => (b'd', [0; 8]),
        (Kind::Symlink(target), _) => (b'l', fold(target.as_bytes())),
        (Kind::Fifo, _) => (b'p', [0; 8]),
        (Kind::Device, _) => (b'c', fold(format!("{:?}", entry.truth.rdev).as_bytes())),
    };
    let mode = match entry.kind {
        Kind::Symlink(_) => 0,
        _ => meta.mode,
    };
    let path = entry.path.relative().as_os_str();
    Ok(Listed {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        owner: (meta.uid, meta.gid),
        content,
    })
}

/// Eight bytes that stand for any number of them: FNV-1a. Nothing relies on it but an explanation.
fn fold(bytes: &[u8]) -> [u8; 8] {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold).to_le_bytes()
}
