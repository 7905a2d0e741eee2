//! Images of the store in the form in which exporters take them.

use std::io::{self, Read};

use super::{Bringer, Bringing, Progress, Remote, SourcedLayer, TransferError};
use crate::image::Digest;
use crate::image::ImageParts;
use crate::image::manifest::Descriptor;
use crate::store::{Store, StoreError, StoredImage};

/// The layers of an image of the store; where those may be had that are not here, the store knows.
///
/// # Errors
/// When manifest and configuration do not agree.
pub fn layers_of(image: &StoredImage) -> Result<Vec<SourcedLayer>, TransferError> {
    let label = match image.names.first() {
        Some(name) => name.familiar(),
        None => image.id.to_string(),
    };
    SourcedLayer::of_image(image, &label, &[])
}

/// Brings the blobs of an image that are not in the store: it may have been used as a base, or built
/// upon one, by builds that needed none of its files.
///
/// # Errors
/// As [`Bringer::blob`].
pub fn complete(
    store: &Store,
    remote: &dyn Remote,
    image: &StoredImage,
    progress: &Progress<'_>,
) -> Result<(), TransferError> {
    let mut layers = layers_of(image)?;
    layers.retain(|layer| !store.has_blob(&layer.blob.digest));
    let bringing = Bringing::default();
    let bringer = Bringer::alone(store, remote, &bringing, progress);
    bringer.blobs(&layers)
}

/// The image as exporters take it, under the names it is to leave with. Whoever opens its blobs has
/// made them be there ([`complete`]).
///
/// # Errors
/// [`StoreError::NoBlob`] when its manifest or configuration is not in the store.
pub fn parts(store: &Store, image: &StoredImage) -> Result<ImageParts, StoreError> {
    let manifest = store.read_blob(&image.manifest_digest)?;
    let media_type = match &image.manifest.media_type {
        Some(media_type) => media_type,
        None => &image.target.media_type,
    };
    Ok(ImageParts {
        names: image.names.clone(),
        descriptor: Descriptor::new(media_type, &image.manifest_digest, manifest.len() as u64),
        manifest,
        config: store.read_blob(&image.id)?,
    })
}

/// Opens blobs of the store for an exporter.
pub fn open_blob(
    store: &Store,
) -> impl Fn(&Digest) -> io::Result<Box<dyn Read + Send>> + Sync + use<> {
    let store = store.clone();
    move |digest| match store.open_blob(digest) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(error.into_io()),
    }
}
