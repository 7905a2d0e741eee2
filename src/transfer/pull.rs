//! [`pull`]: makes an image present in the store.

use crate::image::manifest::{Descriptor, Manifest};

use super::unpack::Unpacking;
use super::workers::each;
use super::{Event, LayerIds, Progress, Remote, Resolved, TransferError, ensure_layers};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::layer::LayerStack;
use crate::store::{Store, StoreError, StoredImage, platform_of};

/// How many blobs are fetched at once: enough to fill a line, few enough to share it.
const PARALLEL: usize = 4;

/// When the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store does not have the image.
    IfMissing,
    /// Always; blobs that are there are not fetched again.
    Always,
    /// Never.
    Never,
}

/// What is to be pulled and when.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The platform to pick from an index.
    pub platform: Platform,
    /// Whether an image that comes without an index and is for another platform is refused. A
    /// build that was given no platform takes it, with a warning (spec S5).
    pub exact: bool,
    /// When the registry is asked.
    pub policy: PullPolicy,
}

/// Makes `name` present in the store for a platform: manifest, configuration and every layer's
/// blob, byte for byte as the registry has them.
///
/// # Errors
/// [`TransferError::NotHere`] when the registry was not to be asked; the registry's; when a blob
/// is not what its digest says.
pub fn pull(
    store: &Store,
    remote: &dyn Remote,
    name: &Reference,
    options: &PullOptions,
    progress: &Progress<'_>,
) -> Result<StoredImage, TransferError> {
    bring(store, remote, name, options, None, progress)
}

/// As [`pull`], and unpacks each layer as soon as it is there; gives the layers, lowest first.
///
/// # Errors
/// As [`pull`] and [`ensure_layers`].
pub fn pull_layers(
    store: &Store,
    remote: &dyn Remote,
    name: &Reference,
    options: &PullOptions,
    ids: &LayerIds<'_>,
    progress: &Progress<'_>,
) -> Result<(StoredImage, LayerStack), TransferError> {
    let image = bring(store, remote, name, options, Some(ids), progress)?;
    let layers = ensure_layers(store, &image, ids, progress)?;
    Ok((image, layers))
}

fn bring(
    store: &Store,
    remote: &dyn Remote,
    name: &Reference,
    options: &PullOptions,
    ids: Option<&LayerIds<'_>>,
    progress: &Progress<'_>,
) -> Result<StoredImage, TransferError> {
    let platform = &options.platform;
    if options.policy != PullPolicy::Always {
        if let Some(image) = present(store, name, platform)? {
            store.note_image_use(&image.target.digest);
            return Ok(image);
        }
        if options.policy == PullPolicy::Never {
            return Err(TransferError::NotHere {
                image: name.familiar(),
                platform: platform.to_string(),
            });
        }
    }
    let pulling = Pulling {
        store,
        remote,
        name,
        exact: options.exact.then_some(platform),
        ids,
        progress,
    };
    let resolved = remote
        .resolve(name, platform)
        .map_err(TransferError::Remote)?;
    pulling.fetch(&resolved)?;
    store.tag(name, &target(&resolved))?;
    let image = store.image(name)?;
    image.ok_or_else(|| {
        StoreError::NoImage {
            name: name.familiar(),
        }
        .into()
    })
}

/// The image, if the store has all that a build needs of it.
fn present(
    store: &Store,
    name: &Reference,
    platform: &Platform,
) -> Result<Option<StoredImage>, TransferError> {
    let image = match store.image(name) {
        Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }) => return Ok(None),
        result => result?,
    };
    let Some(image) = image.filter(|image| platform.accepts(&image.platform())) else {
        return Ok(None);
    };
    let diff_ids = &image.config.rootfs.diff_ids;
    for (at, layer) in image.manifest.layers.iter().enumerate() {
        // An unpacked layer is cheaper to find than a blob, which may have to be hashed.
        let diff_id = diff_ids.get(at).and_then(|text| text.parse().ok());
        let is_unpacked = match diff_id {
            Some(diff_id) => store.layer_by_diff_id(&diff_id)?.is_some(),
            None => false,
        };
        if !is_unpacked && !store.has_blob(&layer.digest) {
            return Ok(None);
        }
    }
    Ok(Some(image))
}

struct Pulling<'a> {
    store: &'a Store,
    remote: &'a dyn Remote,
    name: &'a Reference,
    /// Refuse an image for another platform than this one.
    exact: Option<&'a Platform>,
    ids: Option<&'a LayerIds<'a>>,
    progress: &'a Progress<'a>,
}

impl Pulling<'_> {
    /// Fetches what the manifest names, and stores the manifest when all of it is there.
    fn fetch(&self, resolved: &Resolved) -> Result<(), TransferError> {
        let found = Digest::of(&resolved.manifest);
        if found != resolved.digest {
            return Err(StoreError::DigestMismatch {
                what: format!("the manifest of {}", self.name.familiar()),
                expected: resolved.digest.clone(),
                found,
            }
            .into());
        }
        let manifest: Manifest = serde_json::from_slice(&resolved.manifest)
            .map_err(|error| self.bad(error.to_string()))?;
        let config = self.fetch_config(&manifest.config)?;
        self.check_platform(&config)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(self.bad(format!(
                "it has {layers} layers, but its configuration {diff_ids}"
            )));
        }
        let diff_ids = config.rootfs.diff_ids.iter();
        let pairs: Vec<_> = manifest.layers.iter().zip(diff_ids).collect();
        each(PARALLEL, &pairs, |(layer, diff_id)| {
            self.fetch_blob(layer)?;
            self.unpack(layer, diff_id)
        })?;
        self.store.put_blob(&resolved.manifest)?;
        Ok(())
    }

    /// An image that names no platform is taken as it is.
    fn check_platform(&self, config: &ImageConfig) -> Result<(), TransferError> {
        let found = platform_of(config);
        match self.exact {
            Some(wanted) if !found.arch.is_empty() && !wanted.accepts(&found) => {
                Err(TransferError::Platform {
                    image: self.name.familiar(),
                    found: found.to_string(),
                    wanted: wanted.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    fn fetch_config(&self, config: &Descriptor) -> Result<ImageConfig, TransferError> {
        self.fetch_blob(config)?;
        let bytes = self.store.read_blob(&config.digest)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.bad(format!("its configuration cannot be understood: {error}")))
    }

    fn fetch_blob(&self, descriptor: &Descriptor) -> Result<(), TransferError> {
        let blob = descriptor.digest.clone();
        if self.store.has_blob(&blob) {
            (self.progress)(Event::Exists { blob });
            return Ok(());
        }
        (self.progress)(Event::Started {
            blob: blob.clone(),
            size: descriptor.size,
        });
        let mut writer = self.store.blob_writer()?;
        self.remote
            .fetch_blob(self.name, descriptor, &mut writer)
            .map_err(|error| match writer.failure() {
                // A full disk is the store's fault, whatever the registry's side makes of it.
                Some(failure) => failure.into(),
                None => TransferError::Remote(error),
            })?;
        writer.finish(Some(&blob))?;
        (self.progress)(Event::Done { blob });
        Ok(())
    }

    /// Unpacks a layer on the thread that has fetched it, while others are still on their way.
    fn unpack(&self, layer: &Descriptor, diff_id: &str) -> Result<(), TransferError> {
        let Some(ids) = self.ids else { return Ok(()) };
        let unpacking = Unpacking {
            store: self.store,
            image: &self.name.familiar(),
            ids,
            progress: self.progress,
        };
        unpacking.ensure(&unpacking.part(layer, diff_id)?)
    }

    fn bad(&self, reason: String) -> TransferError {
        TransferError::Manifest {
            image: self.name.familiar(),
            reason,
        }
    }
}

fn target(resolved: &Resolved) -> Descriptor {
    let size = resolved.manifest.len() as u64;
    Descriptor::new(&resolved.media_type, &resolved.digest, size)
}
