//! Images of the store in the form in which exporters take them.

use std::io::{self, Read};

use crate::image::Digest;
use crate::image::ImageParts;
use crate::image::manifest::Descriptor;
use crate::store::{Store, StoreError, StoredImage};

/// The image as exporters take it, under the names it is to leave with.
///
/// # Errors
/// [`StoreError::NoBlob`] when one of its blobs is not in the store: a layer that a build has made
/// and that has never left has none yet.
pub fn parts(store: &Store, image: &StoredImage) -> Result<ImageParts, StoreError> {
    for layer in &image.manifest.layers {
        if !store.has_blob(&layer.digest) {
            return Err(StoreError::NoBlob {
                digest: layer.digest.clone(),
            });
        }
    }
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
