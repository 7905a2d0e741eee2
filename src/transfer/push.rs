//! [`push`]: sends an image of the store to a registry.

use crate::image::manifest::{Descriptor, Manifest};

use super::workers::each;
use super::{Bringer, Event, SourcedLayer, TransferError};
use crate::image::ImageParts;
use crate::image::Reference;
use crate::store::{Store, StoreError, StoredImage};

/// How many blobs are sent at once.
const PARALLEL: usize = 4;

/// Sends `image` to the repository and tag of `name`, blobs first, byte for byte as they came or were
/// made. Blobs that the registry has are not sent, and those that another of its repositories is known
/// to have are mounted from there: for neither need the blob be in the store. A blob that has to be
/// sent and is not here is brought before, from where the store knows or `sourced` says.
///
/// # Errors
/// When a blob is neither here nor to be had, and the registry's.
pub fn push(
    bringer: &Bringer<'_>,
    image: &ImageParts,
    name: &Reference,
    sourced: &[SourcedLayer],
) -> Result<(), TransferError> {
    let (store, remote) = (bringer.store, bringer.remote);
    let manifest: Manifest =
        serde_json::from_slice(&image.manifest).map_err(|error| TransferError::Manifest {
            image: name.familiar(),
            reason: error.to_string(),
        })?;
    let pushing = Pushing {
        bringer,
        name,
        images: images_of(store, name)?,
        sourced,
    };
    let mut blobs: Vec<&Descriptor> = manifest.layers.iter().collect();
    blobs.push(&manifest.config);
    each(PARALLEL, &blobs, |blob| pushing.blob(blob))?;
    remote
        .push_manifest(name, &image.manifest, &image.descriptor.media_type)
        .map_err(TransferError::Remote)
}

struct Pushing<'a> {
    bringer: &'a Bringer<'a>,
    name: &'a Reference,
    /// Images that are known to be in other repositories of the registry.
    images: Vec<(Reference, StoredImage)>,
    sourced: &'a [SourcedLayer],
}

impl Pushing<'_> {
    fn blob(&self, descriptor: &Descriptor) -> Result<(), TransferError> {
        let (store, remote) = (self.bringer.store, self.bringer.remote);
        let blob = descriptor.digest.clone();
        let from = self.mount_sources(descriptor)?;
        if !store.has_blob(&blob) {
            let is_there = remote
                .has_or_mounts_blob(self.name, descriptor, &from)
                .map_err(TransferError::Remote)?;
            if is_there {
                (self.bringer.progress)(Event::Exists { blob });
                return Ok(());
            }
            let known = self.sourced.iter().find(|layer| layer.blob.digest == blob);
            let sources = known.map_or(&[][..], |layer| &layer.sources);
            self.bringer.blob(descriptor, sources)?;
        }
        (self.bringer.progress)(Event::Started {
            blob: blob.clone(),
            size: descriptor.size,
        });
        let open = || store.open_blob(&blob).map_err(StoreError::into_io);
        let sent = remote
            .push_blob(self.name, descriptor, &from, &open)
            .map_err(TransferError::Remote)?;
        (self.bringer.progress)(if sent {
            Event::Done { blob }
        } else {
            Event::Exists { blob }
        });
        Ok(())
    }

    /// Repositories that a blob can be mounted from, each once: where it came from, then where images
    /// that have it are known to be.
    fn mount_sources(&self, descriptor: &Descriptor) -> Result<Vec<Reference>, TransferError> {
        let same = |layer: &&SourcedLayer| layer.blob.digest == descriptor.digest;
        let sourced = self.sourced.iter().filter(same);
        // A registry says no to the first wrong one: what the store remembers is right most often.
        let mut all = self.bringer.store.blob_sources(&descriptor.digest)?;
        all.extend(sourced.flat_map(|layer| layer.repositories().cloned()));
        let images = self.images.iter();
        let having = images.filter(|(_, image)| has_layer(image, descriptor));
        all.extend(having.map(|(name, _)| name.clone()));
        let mut from: Vec<Reference> = Vec::new();
        for name in all {
            let is_known = |known: &Reference| known.repository() == name.repository();
            if is_elsewhere(&name, self.name) && !from.iter().any(is_known) {
                from.push(name);
            }
        }
        Ok(from)
    }
}

/// Whether it is another repository of the same registry.
fn is_elsewhere(known: &Reference, name: &Reference) -> bool {
    known.registry() == name.registry() && known.repository() != name.repository()
}

/// Images that are known to have come from, or gone to, other repositories of the registry.
fn images_of(
    store: &Store,
    name: &Reference,
) -> Result<Vec<(Reference, StoredImage)>, TransferError> {
    let mut images = Vec::new();
    for image in store.images()?.0 {
        let from = image.names.iter().find(|known| is_elsewhere(known, name));
        if let Some(from) = from.cloned() {
            images.push((from, image));
        }
    }
    Ok(images)
}

fn has_layer(image: &StoredImage, descriptor: &Descriptor) -> bool {
    let mut layers = image.manifest.layers.iter();
    layers.any(|layer| layer.digest == descriptor.digest)
}
