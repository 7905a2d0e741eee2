//! [`compressed`]: an image of the store as it leaves for a registry.
//!
//! The store keeps the layers of its own builds as plain tars, for nobody gains from compressing
//! what stays. Layers that came compressed leave byte for byte as they came.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result};

use super::assemble::{made_as, media_type};
use crate::image::Digest;
use crate::image::ImageParts;
use crate::image::manifest::{Descriptor, OCI_LAYER};
use crate::layer::{Compression, Compressor};
use crate::store::{ExportedBlob, Store, StoredImage};
use crate::transfer::{self, Bringer};

/// `image` with its plain layers compressed; unchanged if it has none. The new blobs and the
/// manifest are in the store.
///
/// # Errors
/// When a blob cannot be read or written.
pub fn compressed(
    bringer: &Bringer<'_>,
    image: &StoredImage,
    compression: Compression,
) -> Result<ImageParts> {
    let store = bringer.store;
    let mut parts = transfer::parts(store, image)?;
    if !image.manifest.layers.iter().any(is_plain) {
        return Ok(parts);
    }
    let mut manifest = image.manifest.clone();
    for layer in manifest.layers.iter_mut().filter(|layer| is_plain(layer)) {
        bringer.blob(layer, &[])?;
        *layer = compress(store, &layer.digest, compression)?;
    }
    parts.manifest = serde_json::to_vec(&manifest)?;
    let digest = store.put_blob(&parts.manifest)?;
    let media_type = parts.descriptor.media_type.clone();
    parts.descriptor = Descriptor::new(&media_type, &digest, parts.manifest.len() as u64);
    Ok(parts)
}

fn is_plain(layer: &Descriptor) -> bool {
    layer.media_type == OCI_LAYER
}

/// The compressed form of a plain layer: the one made before, else a new one.
fn compress(store: &Store, diff_id: &Digest, compression: Compression) -> Result<Descriptor> {
    let made_as = made_as(compression);
    let layer = store.layer_by_diff_id(diff_id)?;
    let known = match &layer {
        Some(layer) => store.export_record(&layer.meta.id, "")?,
        None => None,
    };
    let mut known = known.filter(|record| record.diff_id == *diff_id);
    if let Some(blob) = known.as_ref().and_then(|record| record.made_as(&made_as))
        && store.has_blob(&blob.digest)
    {
        return Ok(Descriptor::new(&blob.media_type, &blob.digest, blob.size));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut writer = store.blob_writer()?;
    let mut copy = || -> std::io::Result<()> {
        let mut plain = std::io::BufReader::with_capacity(
            1 << 18,
            store.open_blob(diff_id).map_err(|error| error.into_io())?,
        );
        let mut compressor = Compressor::new(compression, threads, &mut writer)?;
        std::io::copy(&mut plain.by_ref(), &mut compressor)?;
        compressor.finish()?.flush()
    };
    copy().with_context(|| format!("cannot compress the layer {diff_id}"))?;
    let (digest, size) = writer.finish(None)?;
    let media_type = media_type(compression);
    if let (Some(record), Some(layer)) = (&mut known, &layer) {
        let media_type = media_type.to_owned();
        record.add(ExportedBlob {
            compression: made_as,
            media_type,
            digest: digest.clone(),
            size,
        });
        store.put_export_record(&layer.meta.id, "", record)?;
    }
    Ok(Descriptor::new(media_type, &digest, size))
}
