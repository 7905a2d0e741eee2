//! Manifests of our own: descriptors, and an image of one layer.

use serde_json::json;

use crate::image::ImageConfig;
use crate::image::manifest::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use crate::store::{Store, StoreError};

/// Stores a configuration and a manifest of these layers, and describes the manifest.
pub(super) fn store_image(
    store: &Store,
    config: &[u8],
    layers: &[Descriptor],
) -> Result<Descriptor, StoreError> {
    let config_digest = store.put_blob(config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG,
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = store.put_blob(&bytes)?;
    Ok(Descriptor::new(OCI_MANIFEST, &digest, bytes.len() as u64))
}

/// As [`store_image`], for a configuration that is not bytes yet.
pub(super) fn store_config(
    store: &Store,
    config: &ImageConfig,
    layers: &[Descriptor],
) -> Result<Descriptor, StoreError> {
    let bytes = serde_json::to_vec(config)
        .map_err(|error| StoreError::at("write a configuration to", store.root(), error.into()))?;
    store_image(store, &bytes, layers)
}
