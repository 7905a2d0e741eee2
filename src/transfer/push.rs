//! [`push`]: sends an image of the store to a registry.

use crate::image::manifest::{Descriptor, Manifest};

use super::workers::each;
use super::{Event, Progress, Remote, TransferError};
use crate::image::ImageParts;
use crate::image::Reference;
use crate::store::{Store, StoreError, StoredImage};

/// How many blobs are sent at once.
const PARALLEL: usize = 4;

/// Sends `image` to the repository and tag of `name`, blobs first, byte for byte as the store has
/// them. Blobs that the registry has are not sent; those of an image that came from another
/// repository of the same registry are offered to be mounted from there.
///
/// # Errors
/// When a blob is not in the store, and the registry's.
pub fn push(
    store: &Store,
    remote: &dyn Remote,
    image: &ImageParts,
    name: &Reference,
    progress: &Progress<'_>,
) -> Result<(), TransferError> {
    let manifest: Manifest =
        serde_json::from_slice(&image.manifest).map_err(|error| TransferError::Manifest {
            image: name.familiar(),
            reason: error.to_string(),
        })?;
    let sources = mount_sources(store, name)?;
    let mut blobs: Vec<&Descriptor> = manifest.layers.iter().collect();
    blobs.push(&manifest.config);
    each(PARALLEL, &blobs, |descriptor| {
        let blob = descriptor.digest.clone();
        (progress)(Event::Started {
            blob: blob.clone(),
            size: descriptor.size,
        });
        let has_it = |source: &&(Reference, StoredImage)| has_layer(&source.1, descriptor);
        let from = sources.iter().filter(has_it).map(|(name, _)| name.clone());
        let from: Vec<Reference> = from.collect();
        let open = || store.open_blob(&blob).map_err(StoreError::into_io);
        let sent = remote
            .push_blob(name, descriptor, &from, &open)
            .map_err(TransferError::Remote)?;
        (progress)(if sent {
            Event::Done { blob }
        } else {
            Event::Exists { blob }
        });
        Ok::<(), TransferError>(())
    })?;
    remote
        .push_manifest(name, &image.manifest, &image.descriptor.media_type)
        .map_err(TransferError::Remote)
}

/// Images that are known to have come from, or gone to, other repositories of the registry.
fn mount_sources(
    store: &Store,
    name: &Reference,
) -> Result<Vec<(Reference, StoredImage)>, TransferError> {
    let mut sources = Vec::new();
    for image in store.images()?.0 {
        let from = image.names.iter().find(|known| {
            known.registry() == name.registry() && known.repository() != name.repository()
        });
        if let Some(from) = from.cloned() {
            sources.push((from, image));
        }
    }
    Ok(sources)
}

fn has_layer(image: &StoredImage, descriptor: &Descriptor) -> bool {
    let mut layers = image.manifest.layers.iter();
    layers.any(|layer| layer.digest == descriptor.digest)
}
