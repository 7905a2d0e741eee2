//! [`CacheWriter`]: what a build leaves behind in a place.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};

use super::entry::{EMPTY_TAR, Entry, RecordEntry, StepEntry, empty_layer};
use super::place::{Place, PlaceError};
use super::sources::{entry_tag, read_entry};
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Platform, Reference};

/// Writes entries to a place.
pub struct CacheWriter<'a> {
    place: Box<dyn Place + Send + 'a>,
    prefix: String,
    platform: Platform,
    /// Keys whose entries are replaced even if they look good, and diff ids of layers that no entry
    /// is good with.
    spoilt: HashSet<Digest>,
    written: AtomicUsize,
    known: AtomicUsize,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Entries that are new.
    pub new: usize,
    /// Entries that were there.
    pub known: usize,
}

impl<'a> CacheWriter<'a> {
    /// Entries go to `place`, under tags that begin with `prefix`; what is there under keys of
    /// `spoilt`, or has layers with diff ids of these, is replaced.
    pub fn new(
        place: impl Place + Send + 'a,
        prefix: &str,
        platform: &Platform,
        spoilt: HashSet<Digest>,
    ) -> Self {
        Self {
            place: Box::new(place),
            prefix: prefix.to_owned(),
            platform: platform.clone(),
            spoilt,
            written: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
        }
    }

    /// Whether the place has a good entry of this key, so that nothing need be made for it.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub fn has(&self, key: &Digest) -> Result<bool, PlaceError> {
        if self.spoilt.contains(key) {
            return Ok(false);
        }
        let is_known = match read_entry(&*self.place, &self.prefix, key) {
            Ok(Some(Entry::Step(step))) => !step.has_any(&self.spoilt),
            Ok(found) => found.is_some(),
            // A directory that is not there yet is made.
            Err(PlaceError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                false
            }
            Err(error) if error.is_closed() => return Err(error),
            Err(_) => false,
        };
        self.known
            .fetch_add(usize::from(is_known), Ordering::Relaxed);
        Ok(is_known)
    }

    /// Whether the place has the blob, or took it from one of `mount_from`: then it need not be here.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub fn takes_blob(
        &self,
        blob: &Descriptor,
        mount_from: &[Reference],
    ) -> Result<bool, PlaceError> {
        self.place.takes_blob(blob, mount_from)
    }

    /// Puts a blob, unless it is there, which `open` gives and `mount_from` may have.
    ///
    /// # Errors
    /// The place's.
    pub fn put_blob(
        &self,
        blob: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<(), PlaceError> {
        self.place.put_blob(blob, mount_from, open).map(drop)
    }

    /// Puts a step's result, whose blobs are there.
    ///
    /// # Errors
    /// The place's.
    pub fn put_step(&self, step: StepEntry) -> Result<(), PlaceError> {
        self.put(&Entry::Step(Box::new(step)))
    }

    /// Puts something that was computed.
    ///
    /// # Errors
    /// The place's.
    pub fn put_record(&self, record: RecordEntry) -> Result<(), PlaceError> {
        self.put_small(&empty_layer(), &EMPTY_TAR)?;
        self.put(&Entry::Record(record))
    }

    /// Makes all of it visible.
    ///
    /// # Errors
    /// The place's.
    pub fn finish(self) -> Result<Written, PlaceError> {
        self.place.finish()?;
        Ok(Written {
            new: self.written.into_inner(),
            known: self.known.into_inner(),
        })
    }

    fn put(&self, entry: &Entry) -> Result<(), PlaceError> {
        let documents = entry.documents(&self.platform);
        self.put_small(&documents.config_descriptor, &documents.config)?;
        let tag = entry_tag(&self.prefix, entry.key());
        self.place.put_manifest(&tag, &documents.manifest)?;
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn put_small(&self, blob: &Descriptor, bytes: &[u8]) -> Result<(), PlaceError> {
        self.place
            .put_blob(blob, &[], &|| in_memory(bytes))
            .map(drop)
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("blob", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
