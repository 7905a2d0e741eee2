//! [`Bringer`]: brings what is known by its digest and is not here.
//!
//! A manifest and a configuration tell all that a build needs of an image, but for its files. The
//! blobs of layers come when somebody needs their bytes, to send or to archive them, and are
//! unpacked when somebody needs their files:
//!
//! ```text
//! SourcedLayer: diff id, blob, sources ── blob() ──▶ blob in the store ── layer() ──▶ unpacked
//! ```
//!
//! A [`BlobSource`] says where a blob may be had. Besides those that a layer comes with, the store
//! remembers sources of its own (`store::sources`), so that an image in the store is never worth less
//! than its registry: `run`, `save` and `push` bring what they need.
//!
//! Invariants: a blob is in the store only under the digest that was computed over it, whichever
//! source it came from; of threads that share a [`Bringing`] one brings a blob or a layer, and the
//! others wait for it; nothing begins, and no byte is taken any more, once the stop says so.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::copy_blob;
use super::unpack::Unpacking;
use super::workers::each;
use super::{Event, LayerIds, Progress, Remote, TransferError};
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Reference};
use crate::layer::{Layer, LayerStack};
use crate::store::{LayerMeta, Store, StoreError, StoredImage};

/// How many blobs are fetched at once: enough to fill a line, few enough to share it.
pub(super) const PARALLEL: usize = 4;

/// Where a blob may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobSource {
    /// A repository of a registry; the tag says nothing.
    Repository(Reference),
    /// An image layout in this directory.
    Layout(PathBuf),
}

/// A layer by what a manifest and a configuration say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcedLayer {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// Its blob.
    pub blob: Descriptor,
    /// Where the blob may be had, the best first, if nowhere that the store knows.
    pub sources: Vec<BlobSource>,
    /// What errors call the image that it is a layer of.
    pub image: String,
}

impl SourcedLayer {
    /// The layers of `image`, lowest first, which may all be had from `sources`.
    ///
    /// # Errors
    /// When manifest and configuration do not agree, or a diff id is none.
    pub fn of_image(
        image: &StoredImage,
        label: &str,
        sources: &[BlobSource],
    ) -> Result<Vec<Self>, TransferError> {
        let (layers, diff_ids) = (&image.manifest.layers, &image.config.rootfs.diff_ids);
        let bad = |reason: String| TransferError::Manifest {
            image: label.to_owned(),
            reason,
        };
        if layers.len() != diff_ids.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            return Err(bad(format!(
                "it has {layers} layers, but its configuration {diff_ids}"
            )));
        }
        let pairs = layers.iter().zip(diff_ids);
        pairs
            .map(|(blob, diff_id)| {
                Ok(Self {
                    diff_id: diff_id
                        .parse()
                        .map_err(|error| bad(format!("{diff_id}: {error}")))?,
                    blob: blob.clone(),
                    sources: sources.to_vec(),
                    image: label.to_owned(),
                })
            })
            .collect()
    }

    /// The repositories that may have the blob.
    pub fn repositories(&self) -> impl Iterator<Item = &Reference> {
        self.sources.iter().filter_map(|source| match source {
            BlobSource::Repository(name) => Some(name),
            BlobSource::Layout(_) => None,
        })
    }

    /// The name that the layer has, or will have, in every store.
    pub fn id(&self) -> String {
        LayerMeta::for_diff_id(&self.diff_id).id
    }
}

/// What several threads are bringing at the moment.
#[derive(Default)]
pub struct Bringing(Mutex<HashMap<String, Arc<Mutex<()>>>>);

impl Bringing {
    /// Has `work` done by one thread at a time for the same `key`.
    fn one_at_a_time<T>(&self, key: String, work: impl FnOnce() -> T) -> T {
        let own = {
            let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keys.entry(key).or_default())
        };
        let _turn = own.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// Whatever bounds how much is unpacked at a time.
pub type Compute<'a> = dyn Fn(&mut dyn FnMut()) + Sync + 'a;

/// Brings blobs and layers into a store.
pub struct Bringer<'a> {
    /// Where they go.
    pub store: &'a Store,
    /// The registries.
    pub remote: &'a dyn Remote,
    /// Shared by all who bring at the same time.
    pub bringing: &'a Bringing,
    /// Has work that computes done when there is room for it, or not at all.
    pub compute: &'a Compute<'a>,
    /// Whether to give up.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Who is told.
    pub progress: &'a Progress<'a>,
}

impl<'a> Bringer<'a> {
    /// One whom nobody stops, and whose work is done at once.
    pub fn alone(
        store: &'a Store,
        remote: &'a dyn Remote,
        bringing: &'a Bringing,
        progress: &'a Progress<'a>,
    ) -> Self {
        Self {
            store,
            remote,
            bringing,
            compute: &|work| work(),
            stopped: &|| false,
            progress,
        }
    }
}

impl Bringer<'_> {
    /// Makes the blob present in the store, from the first source that has it: first those that the
    /// store remembers.
    ///
    /// # Errors
    /// The first source's failure when none has it; [`StoreError::NoBlob`] without any source;
    /// [`TransferError::Stopped`]; the store's.
    pub fn blob(&self, blob: &Descriptor, sources: &[BlobSource]) -> Result<(), TransferError> {
        let key = format!("blob {}", blob.digest);
        self.bringing.one_at_a_time(key, || {
            if self.store.has_blob(&blob.digest) {
                let blob = blob.digest.clone();
                (self.progress)(Event::Exists { blob });
                return Ok(());
            }
            self.fetch(blob, sources)
        })
    }

    fn fetch(&self, blob: &Descriptor, sources: &[BlobSource]) -> Result<(), TransferError> {
        let remembered = self.store.blob_sources(&blob.digest)?;
        let remembered = remembered.into_iter().map(BlobSource::Repository);
        // What the store remembers was true once; what an image is called may never have been.
        let mut asked: Vec<BlobSource> = Vec::new();
        let mut failure = None;
        for source in remembered.chain(sources.iter().cloned()) {
            self.go_on()?;
            if asked.iter().any(|known| is_same(known, &source)) {
                continue;
            }
            match self.fetch_from(&source, blob) {
                Ok(()) => return Ok(()),
                // A store that takes no more will not take it from another source either.
                Err(TransferError::Store(error)) if !is_content(&error) => {
                    return Err(error.into());
                }
                Err(error) => _ = failure.get_or_insert(error),
            }
            asked.push(source);
        }
        self.go_on()?;
        let digest = blob.digest.clone();
        Err(failure.unwrap_or_else(|| StoreError::NoBlob { digest }.into()))
    }

    fn fetch_from(&self, source: &BlobSource, blob: &Descriptor) -> Result<(), TransferError> {
        let name = match source {
            BlobSource::Repository(name) => name,
            BlobSource::Layout(dir) => return copy_blob(self.store, dir, blob, self.progress),
        };
        let digest = || blob.digest.clone();
        (self.progress)(Event::Started {
            blob: digest(),
            size: blob.size,
        });
        let mut writer = self.store.blob_writer()?;
        let mut sink = Stoppable {
            writer: &mut writer,
            stopped: self.stopped,
        };
        let fetched = self.remote.fetch_blob(name, blob, &mut sink);
        fetched.map_err(|error| match writer.failure() {
            // A full disk is the store's fault, whatever the registry's side makes of it.
            Some(failure) => failure.into(),
            None => TransferError::Remote(error),
        })?;
        writer.finish(Some(&blob.digest))?;
        (self.progress)(Event::Done { blob: digest() });
        Ok(())
    }

    /// Makes the blobs present in the store, several at once.
    ///
    /// # Errors
    /// As [`Bringer::blob`].
    pub fn blobs(&self, layers: &[SourcedLayer]) -> Result<(), TransferError> {
        each(PARALLEL, layers, |layer| {
            self.blob(&layer.blob, &layer.sources)
        })
    }

    /// Makes the layer present in the store, unpacked.
    ///
    /// # Errors
    /// As [`Bringer::blob`], and when the blob cannot be unpacked or is not what its diff id says.
    pub fn layer(&self, layer: &SourcedLayer, ids: &LayerIds<'_>) -> Result<(), TransferError> {
        let key = format!("layer {}", layer.diff_id);
        self.bringing.one_at_a_time(key, || {
            if self.store.layer_by_diff_id(&layer.diff_id)?.is_some() {
                return Ok(());
            }
            self.blob(&layer.blob, &layer.sources)?;
            let mut unpacked = Err(TransferError::Stopped);
            (self.compute)(&mut || {
                unpacked = self
                    .go_on()
                    .and_then(|()| self.unpacking(layer, ids).ensure(layer));
            });
            unpacked
        })
    }

    /// Makes the layers present, each unpacked as soon as it is there while others are on their way.
    ///
    /// # Errors
    /// As [`Bringer::layer`].
    pub fn layers(&self, layers: &[SourcedLayer], ids: &LayerIds<'_>) -> Result<(), TransferError> {
        each(PARALLEL, layers, |layer| self.layer(layer, ids))
    }

    /// The layer as it has to be on top of `below`; it is unpacked once more if that says something
    /// of directories that the layer does not describe. `chain` stands for `below`.
    ///
    /// # Errors
    /// As [`Bringer::layer`].
    pub fn over(
        &self,
        layer: &SourcedLayer,
        below: &LayerStack,
        chain: &str,
        ids: &LayerIds<'_>,
    ) -> Result<Layer, TransferError> {
        let unpacking = self.unpacking(layer, ids);
        unpacking.over(layer, below, chain, &|| {
            self.blob(&layer.blob, &layer.sources)
        })
    }

    /// The layers on top of each other, all of them brought and unpacked.
    ///
    /// # Errors
    /// As [`Bringer::layer`].
    pub fn stack(
        &self,
        layers: &[SourcedLayer],
        ids: &LayerIds<'_>,
    ) -> Result<LayerStack, TransferError> {
        self.layers(layers, ids)?;
        let mut stack = LayerStack::default();
        let mut chain = String::new();
        for layer in layers {
            chain.push_str(layer.diff_id.as_str());
            let opened = self.over(layer, &stack, &chain, ids)?;
            stack.push(opened);
        }
        Ok(stack)
    }

    fn unpacking<'s>(&'s self, layer: &'s SourcedLayer, ids: &'s LayerIds<'s>) -> Unpacking<'s> {
        Unpacking {
            store: self.store,
            image: &layer.image,
            ids,
            progress: self.progress,
        }
    }

    fn go_on(&self) -> Result<(), TransferError> {
        match (self.stopped)() {
            true => Err(TransferError::Stopped),
            false => Ok(()),
        }
    }
}

/// A failure of what came, not of the disk.
fn is_content(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::DigestMismatch { .. } | StoreError::NoBlob { .. }
    )
}

fn is_same(one: &BlobSource, other: &BlobSource) -> bool {
    match (one, other) {
        (BlobSource::Repository(one), BlobSource::Repository(other)) => {
            (one.registry(), one.repository()) == (other.registry(), other.repository())
        }
        (one, other) => one == other,
    }
}

/// Takes no more once the stop says so.
struct Stoppable<'a, W> {
    writer: &'a mut W,
    stopped: &'a (dyn Fn() -> bool + Sync),
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(io::Error::other(TransferError::Stopped));
        }
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
