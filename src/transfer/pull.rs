//! [`pull`]: makes an image present in the store, with its layers or without.
//!
//! What a name stands for is a manifest and a configuration, which are small. A build needs no more
//! to begin with: the layers' blobs come when they are needed (`bring`), and until then the store
//! remembers who has them.

use crate::image::manifest::{Descriptor, Manifest};

use super::bring::{BlobSource, Bringer, Bringing, SourcedLayer};
use super::{Progress, Remote, Resolved, TransferError};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::store::{Store, StoreError, StoredImage, platform_of};

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
    /// What comes with it.
    pub layers: PullLayers,
}

/// What is brought with an image's manifest and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullLayers {
    /// Every layer's blob.
    All,
    /// None: they stay where they are, and the store remembers that the name's repository has them.
    None,
}

/// Makes `name` present in the store for a platform: manifest, configuration and what else the
/// options say, byte for byte as the registry has them. The name is set last.
///
/// Nobody is asked for an image that is known unless the policy says so, nor, whatever it says, for
/// one that is named by its digest.
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
    let pulling = Pulling {
        store,
        remote,
        name,
        options,
        progress,
    };
    let (image, is_new) = match pulling.known()? {
        Some(image) => (image, false),
        None => (
            pulling.ask().map_err(|error| pulling.only_for(error))?,
            true,
        ),
    };
    match (options.layers, is_new) {
        (PullLayers::All, _) => pulling.bring_layers(&image)?,
        (PullLayers::None, true) => pulling.note_layers(&image)?,
        (PullLayers::None, false) => {}
    }
    match is_new {
        true => pulling.tag(image),
        false => Ok(image),
    }
}

struct Pulling<'a> {
    store: &'a Store,
    remote: &'a dyn Remote,
    name: &'a Reference,
    options: &'a PullOptions,
    progress: &'a Progress<'a>,
}

impl Pulling<'_> {
    /// The image, if the store knows it and the registry need not be asked.
    fn known(&self) -> Result<Option<StoredImage>, TransferError> {
        let (platform, policy) = (&self.options.platform, self.options.policy);
        // What a digest names does not change.
        if policy == PullPolicy::Always && self.name.digest().is_none() {
            return Ok(None);
        }
        let mut image = readable(self.store.image(self.name))?;
        let fits = |image: &StoredImage| platform.accepts(&image.platform());
        if image.as_ref().is_some_and(|image| !fits(image)) {
            // The name was given to another platform's since.
            image = readable(self.store.pulled(self.name, platform))?;
        }
        match image.filter(fits) {
            None if policy == PullPolicy::Never => Err(TransferError::NotHere {
                image: self.name.familiar(),
                platform: platform.to_string(),
            }),
            known => {
                if let Some(image) = &known {
                    self.store.note_image_use(&image.target.digest);
                }
                Ok(known)
            }
        }
    }

    /// Tells of the image that the name has in the store, if that is for another platform.
    fn only_for(&self, error: TransferError) -> TransferError {
        let wanted = &self.options.platform;
        match self.store.image(self.name).map(|i| i.map(|i| i.platform())) {
            Ok(Some(found)) if !wanted.accepts(&found) => TransferError::OnlyFor {
                image: self.name.familiar(),
                found: found.to_string(),
                wanted: wanted.to_string(),
                source: Box::new(error),
            },
            _ => error,
        }
    }

    /// Remembers who has the layers.
    fn note_layers(&self, image: &StoredImage) -> Result<(), TransferError> {
        for layer in &image.manifest.layers {
            self.store.add_blob_source(&layer.digest, self.name)?;
        }
        Ok(())
    }

    /// Asks the registry. What it says is in the store then, though under no name.
    fn ask(&self) -> Result<StoredImage, TransferError> {
        let resolved = self
            .remote
            .resolve(self.name, &self.options.platform)
            .map_err(TransferError::Remote)?;
        let found = Digest::of(&resolved.manifest);
        if found != resolved.digest {
            return Err(StoreError::DigestMismatch {
                what: format!("the manifest of {}", self.name.familiar()),
                expected: resolved.digest,
                found,
            }
            .into());
        }
        let manifest: Manifest = serde_json::from_slice(&resolved.manifest)
            .map_err(|error| self.bad(error.to_string()))?;
        let config = self.fetch_config(&manifest.config)?;
        self.check_platform(&config)?;
        let image = StoredImage {
            id: manifest.config.digest.clone(),
            names: vec![self.name.clone()],
            target: target(&resolved),
            manifest_digest: resolved.digest,
            manifest,
            config,
        };
        // Layers that cannot be told apart are of no use to anybody.
        SourcedLayer::of_image(&image, &self.name.familiar(), &[])?;
        self.store.put_blob(&resolved.manifest)?;
        Ok(image)
    }

    /// Sets the name. A name is one image's, so another stage may have set it to that of another platform
    /// since: what was asked for is `image` all the same.
    fn tag(&self, image: StoredImage) -> Result<StoredImage, TransferError> {
        self.store.tag(self.name, &image.target)?;
        let platform = &self.options.platform;
        self.store.note_pulled(self.name, platform, &image.target)?;
        let now = self.store.image(self.name)?;
        Ok(now
            .filter(|now| now.manifest_digest == image.manifest_digest)
            .unwrap_or(image))
    }

    /// Fetches the blobs of the layers.
    fn bring_layers(&self, image: &StoredImage) -> Result<(), TransferError> {
        let sources = [BlobSource::Repository(self.name.clone())];
        let layers = SourcedLayer::of_image(image, &self.name.familiar(), &sources)?;
        self.bringer(&Bringing::default()).blobs(&layers)
    }

    fn bringer<'s>(&'s self, bringing: &'s Bringing) -> Bringer<'s> {
        Bringer::alone(self.store, self.remote, bringing, self.progress)
    }

    /// An image that names no platform is taken as it is.
    fn check_platform(&self, config: &ImageConfig) -> Result<(), TransferError> {
        let (found, wanted) = (platform_of(config), &self.options.platform);
        if self.options.exact && !found.arch.is_empty() && !wanted.accepts(&found) {
            return Err(TransferError::Platform {
                image: self.name.familiar(),
                found: found.to_string(),
                wanted: wanted.to_string(),
            });
        }
        Ok(())
    }

    fn fetch_config(&self, config: &Descriptor) -> Result<ImageConfig, TransferError> {
        let sources = [BlobSource::Repository(self.name.clone())];
        self.bringer(&Bringing::default()).blob(config, &sources)?;
        let bytes = self.store.read_blob(&config.digest)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.bad(format!("its configuration cannot be understood: {error}")))
    }

    fn bad(&self, reason: String) -> TransferError {
        TransferError::Manifest {
            image: self.name.familiar(),
            reason,
        }
    }
}

/// An image that is damaged is as good as none: it is fetched again.
fn readable(
    image: Result<Option<StoredImage>, StoreError>,
) -> Result<Option<StoredImage>, StoreError> {
    match image {
        Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }) => Ok(None),
        other => other,
    }
}

fn target(resolved: &Resolved) -> Descriptor {
    let size = resolved.manifest.len() as u64;
    Descriptor::new(&resolved.media_type, &resolved.digest, size)
}
