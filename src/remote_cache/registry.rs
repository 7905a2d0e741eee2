//! [`Repository`]: entries as tags of a repository.

use std::fmt;
use std::fs::File;
use std::io;

use serde_json::Value;

use super::Inline;
use super::entry::CONFIG_LIMIT;
use super::place::{Besides, Place, PlaceError};
use super::sources::repository_name;
use crate::image::manifest::{Descriptor, Document, Manifest, OCI_MANIFEST};
use crate::image::{ImageConfig, Platform, Reference};
use crate::registry::{Pushed, Registries};

/// No configuration of an image is larger.
const IMAGE_CONFIG_LIMIT: u64 = 8 << 20;
/// By this type BuildKit's cache manifests are known.
const BUILDKIT_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The field in which BuildKit keeps its inline cache.
const BUILDKIT_INLINE: &str = "moby.buildkit.cache.v0";
/// What is said of them.
pub(super) const BUILDKIT_CACHE: &str = "BuildKit's cache manifest, which lapstrake cannot use; \
    fill a cache of its own with --cache-to";

/// A repository of a registry.
pub struct Repository<'a> {
    registries: &'a Registries,
    reference: Reference,
    /// Whose image is taken from an index.
    platform: Platform,
}

impl<'a> Repository<'a> {
    /// The repository of `reference`, for builds for `platform`.
    pub fn new(registries: &'a Registries, reference: &Reference, platform: &Platform) -> Self {
        Self {
            registries,
            reference: reference.clone(),
            platform: platform.clone(),
        }
    }
}

impl Repository<'_> {
    /// The image whose manifest or index was found; none if the index has nothing for the platform.
    fn image(&self, raw: &[u8]) -> Result<Option<(Manifest, ImageConfig)>, PlaceError> {
        let damaged = |reason: String| PlaceError::Damaged {
            what: self.to_string(),
            reason,
        };
        let document = Document::parse(raw, None).map_err(|error| damaged(error.to_string()))?;
        let manifest = match document.0 {
            Document::Image(manifest) => manifest,
            Document::Index(index) => {
                let Ok(picked) = index.pick(&self.platform) else {
                    return Ok(None);
                };
                let name = self.reference.with_digest(picked.digest.clone());
                let found = self.registries.manifest(&name)?;
                let raw = found.ok_or_else(|| damaged(format!("{name} is missing")))?;
                serde_json::from_slice(&raw.bytes).map_err(|error| damaged(error.to_string()))?
            }
        };
        let config =
            self.registries
                .fetch_small(&self.reference, &manifest.config, IMAGE_CONFIG_LIMIT)?;
        let config = serde_json::from_slice(&config).map_err(|error| damaged(error.to_string()))?;
        Ok(Some((manifest, config)))
    }
}

impl fmt::Display for Repository<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repository_name(&self.reference))
    }
}

impl Place for Repository<'_> {
    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let found = self.registries.manifest(&self.reference.with_tag(tag))?;
        Ok(found.map(|raw| raw.bytes))
    }

    fn besides(&self) -> Result<Besides, PlaceError> {
        let Some(raw) = self.registries.manifest(&self.reference)? else {
            return Ok(Besides::Nothing);
        };
        if is_buildkit_cache(&raw.bytes) {
            return Ok(Besides::Unusable(BUILDKIT_CACHE.into()));
        }
        let (image, config) = match self.image(&raw.bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Besides::Unusable("no image for this platform".into())),
            Err(error) => return Err(error),
        };
        Ok(match Inline::of(&config) {
            Some(inline) => Besides::Image(inline.entries(&config, &image)),
            None if config.other.contains_key(BUILDKIT_INLINE) => Besides::Unusable(
                "an image with BuildKit's inline cache, which lapstrake cannot use; build it with \
                 --cache-to type=inline"
                    .into(),
            ),
            None => Besides::Unusable(
                "an image without a cache; build it with --cache-to type=inline, or give \
                 --cache-to type=registry a repository"
                    .into(),
            ),
        })
    }

    fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, PlaceError> {
        let fetched = self
            .registries
            .fetch_small(&self.reference, blob, CONFIG_LIMIT)?;
        Ok(fetched)
    }

    fn takes_blob(&self, blob: &Descriptor, mount_from: &[Reference]) -> Result<bool, PlaceError> {
        let name = &self.reference;
        Ok(self.registries.has_or_mounts_blob(name, blob, mount_from)?)
    }

    fn put_blob(
        &self,
        blob: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<bool, PlaceError> {
        let pushed = self
            .registries
            .push_blob(&self.reference, blob, mount_from, open)?;
        Ok(pushed == Pushed::Sent)
    }

    fn put_manifest(&self, tag: &str, manifest: &[u8]) -> Result<(), PlaceError> {
        let name = self.reference.with_tag(tag);
        self.registries
            .push_manifest(&name, OCI_MANIFEST, manifest)?;
        Ok(())
    }

    fn finish(&self) -> Result<(), PlaceError> {
        Ok(())
    }
}

/// What `value`, a manifest, says of BuildKit's cache, if it is one.
pub(super) fn is_buildkit_cache(manifest: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(manifest) else {
        return false;
    };
    let entries = value["manifests"].as_array().into_iter().flatten();
    entries
        .chain([&value["config"]])
        .any(|entry| entry["mediaType"] == BUILDKIT_CONFIG)
}
