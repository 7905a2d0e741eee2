//! Images: the tags in `index.json` and what they lead to.

use std::collections::BTreeMap;
use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{Sync, read_json};
use super::uses::note_use_of;
use super::{Store, StoreError};
use crate::image::manifest::{DOCKER_INDEX, Descriptor, Index, Manifest, OCI_INDEX};
use crate::image::{Digest, ImageConfig, Platform, Reference};

/// Where OCI tools look for a name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and Docker look for the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// What an image was pulled as: its name at that time, and the platform.
const PULLED_AS: &str = "io.lapstrake.pulled-as";
/// Fewer digits of an id are no id.
const SHORTEST_ID: usize = 2;

/// An image in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredImage {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// Its names; none when its tag has moved on.
    pub names: Vec<Reference>,
    /// What the names point to: a manifest, or an index that holds it.
    pub target: Descriptor,
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// Its manifest, as read; [`Store::read_blob`] has it byte for byte.
    pub manifest: Manifest,
    /// Its configuration, as read; [`Store::read_blob`] has it byte for byte.
    pub config: ImageConfig,
}

impl StoredImage {
    /// The platform that its configuration names.
    pub fn platform(&self) -> Platform {
        platform_of(&self.config)
    }
}

/// The platform that a configuration names.
pub fn platform_of(config: &ImageConfig) -> Platform {
    Platform {
        os: config.os.clone(),
        arch: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
    }
}

/// `index.json`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct IndexFile {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    pub(super) manifests: Vec<Descriptor>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The name of an image that cannot be read, and why.
pub type DamagedImage = (String, StoreError);

impl Store {
    /// Points `name` to a manifest or index whose blob is in the store.
    ///
    /// What the name pointed to before stays without a name until garbage is collected. The
    /// descriptor's platform and annotations are kept.
    ///
    /// # Errors
    /// When the manifest is not in the store, and when `index.json` cannot be read or written.
    pub fn tag(&self, name: &Reference, target: &Descriptor) -> Result<(), StoreError> {
        let entry = self.entry(target, Some(&stored_name(name)))?;
        self.note_image_use(&target.digest);
        self.change_index(|manifests| {
            set_name(manifests, &stored_name(name), entry);
        })
    }

    /// Keeps an image that has no name; one that has any is left as it is.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn keep_unnamed(&self, target: &Descriptor) -> Result<(), StoreError> {
        let entry = self.entry(target, None)?;
        self.note_image_use(&target.digest);
        self.change_index(|manifests| add_unnamed(manifests, entry))
    }

    /// Notes that an image is used now, by what its names point to ([`StoredImage::target`]).
    pub fn note_image_use(&self, target: &Digest) {
        note_use_of(&self.blob_path(target));
    }

    /// Takes a name away and says whether the image has others; `None` if there is no such name.
    ///
    /// # Errors
    /// When `index.json` cannot be read or written.
    pub fn untag(&self, name: &Reference) -> Result<Option<bool>, StoreError> {
        let name = stored_name(name);
        self.change_index(|manifests| {
            let at = manifests
                .iter()
                .position(|entry| name_of(entry) == Some(&name))?;
            let gone = manifests.remove(at);
            let notes = format!("{name} ");
            for other in manifests.iter_mut() {
                other
                    .annotations
                    .retain(|key, note| key != PULLED_AS || !note.starts_with(&notes));
            }
            Some(manifests.iter().any(|entry| entry.digest == gone.digest))
        })
    }

    /// Remembers that `name` is this image, which has that name, for `platform`: the name may be given to
    /// that of another platform. It is remembered as long as the image is here and the name is not taken away.
    ///
    /// # Errors
    /// When `index.json` cannot be read or written.
    pub fn note_pulled(
        &self,
        name: &Reference,
        platform: &Platform,
        target: &Descriptor,
    ) -> Result<(), StoreError> {
        let note = pulled_as(name, platform);
        self.change_index(|manifests| {
            for entry in manifests.iter_mut().filter(|entry| is_noted(entry, &note)) {
                entry.annotations.remove(PULLED_AS);
            }
            let mut same = manifests.iter_mut();
            if let Some(entry) = same.find(|entry| entry.digest == target.digest) {
                entry.annotations.insert(PULLED_AS.into(), note);
            }
        })
    }

    /// The image that was pulled as `name` for `platform`, whatever the name stands for now.
    ///
    /// # Errors
    /// When it is known but cannot be read.
    pub fn pulled(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Option<StoredImage>, StoreError> {
        let index = self.index()?;
        let note = pulled_as(name, platform);
        let mut entries = index.manifests.iter();
        let found = entries.find(|entry| is_noted(entry, &note));
        found
            .map(|entry| self.load(entry, &index.manifests))
            .transpose()
    }

    /// Forgets an image under every name.
    ///
    /// # Errors
    /// When `index.json` cannot be read or written.
    pub fn forget(&self, image: &StoredImage) -> Result<(), StoreError> {
        self.change_index(|manifests| {
            manifests.retain(|entry| entry.digest != image.target.digest);
        })
    }

    /// The image with this name.
    ///
    /// # Errors
    /// When there is a name but what it points to cannot be read.
    pub fn image(&self, name: &Reference) -> Result<Option<StoredImage>, StoreError> {
        let index = self.index()?;
        let wanted = stored_name(name);
        let exact = index
            .manifests
            .iter()
            .find(|entry| name_of(entry) == Some(&wanted));
        let found = exact.or_else(|| {
            let digest = name.digest()?;
            index.manifests.iter().find(|entry| {
                let parsed = name_of(entry).and_then(|text| text.parse::<Reference>().ok());
                entry.digest == *digest
                    && parsed.is_some_and(|known| is_same_repository(&known, name))
            })
        });
        found
            .map(|entry| self.load(entry, &index.manifests))
            .transpose()
    }

    /// The image that a person means: a whole id, a name, or the first digits of one id.
    ///
    /// # Errors
    /// [`StoreError::NoImage`] and [`StoreError::Ambiguous`]; when `index.json` cannot be read.
    pub fn find_image(&self, text: &str) -> Result<StoredImage, StoreError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let may_be_id = digits.len() >= SHORTEST_ID && is_hex(digits);
        if (!may_be_id || digits.len() < 64)
            && let Ok(name) = text.parse::<Reference>()
            && let Some(image) = self.image(&name)?
        {
            return Ok(image);
        }
        let mut found: Vec<StoredImage> = Vec::new();
        if may_be_id {
            found = self.images()?.0;
            found.retain(|image| {
                image.id.hex().starts_with(digits) || image.manifest_digest.hex() == digits
            });
        }
        if found.len() > 1 {
            let ids: Vec<_> = found.iter().map(|image| &image.id.hex()[..12]).collect();
            return Err(StoreError::Ambiguous {
                prefix: text.to_owned(),
                ids: ids.join(", "),
            });
        }
        found.pop().ok_or_else(|| StoreError::NoImage {
            name: text.to_owned(),
        })
    }

    /// Every image that can be read, each once, in the order in which they came, and a name and
    /// what is wrong of each of the others: one damaged image hides no other.
    ///
    /// # Errors
    /// When `index.json` cannot be read.
    pub fn images(&self) -> Result<(Vec<StoredImage>, Vec<DamagedImage>), StoreError> {
        let index = self.index()?;
        let mut seen = HashSet::new();
        let (mut images, mut damaged) = (Vec::new(), Vec::new());
        for entry in &index.manifests {
            if !seen.insert(&entry.digest) {
                continue;
            }
            match self.load(entry, &index.manifests) {
                Ok(image) => images.push(image),
                Err(error) => {
                    let name = name_of(entry).cloned();
                    damaged.push((name.unwrap_or_else(|| entry.digest.to_string()), error));
                }
            }
        }
        Ok((images, damaged))
    }

    pub(super) fn index(&self) -> Result<IndexFile, StoreError> {
        let path = self.path("oci/index.json");
        read_json(&path)?.ok_or_else(|| StoreError::Corrupt {
            path,
            reason: "the file is missing".into(),
        })
    }

    /// Reads, changes and writes `index.json` while nobody else does; unchanged, it is not written.
    pub(super) fn change_index<T>(
        &self,
        change: impl FnOnce(&mut Vec<Descriptor>) -> T,
    ) -> Result<T, StoreError> {
        let _held = self.lock_file("index.lock")?;
        let before = self.index()?;
        let mut after = before.clone();
        let result = change(&mut after.manifests);
        if after != before {
            // By way of `Value`, whose objects are sorted: annotations are in no order.
            let path = self.path("oci/index.json");
            let value = serde_json::to_value(&after)
                .map_err(|error| StoreError::at("write", &path, error.into()))?;
            self.replace_json(&path, &value, Sync::Yes)?;
        }
        Ok(result)
    }

    fn entry(&self, target: &Descriptor, name: Option<&str>) -> Result<Descriptor, StoreError> {
        let digest = target.digest.clone();
        if !self.has_blob(&digest) {
            return Err(StoreError::NoBlob { digest });
        }
        let mut entry = target.clone();
        strip_name(&mut entry.annotations);
        entry.annotations.remove(PULLED_AS);
        if let Some(name) = name {
            for key in [REF_NAME, CONTAINERD_NAME] {
                entry.annotations.insert(key.into(), name.into());
            }
        }
        Ok(entry)
    }

    fn load(&self, entry: &Descriptor, all: &[Descriptor]) -> Result<StoredImage, StoreError> {
        let names = all
            .iter()
            .filter(|other| other.digest == entry.digest)
            .filter_map(|other| name_of(other)?.parse().ok())
            .collect();
        let manifest_digest = self.manifest_of(entry)?;
        let manifest: Manifest = self.parse_blob(&manifest_digest)?;
        let id = manifest.config.digest.clone();
        let mut target = entry.clone();
        // Nobody else's matter.
        target.annotations.remove(PULLED_AS);
        Ok(StoredImage {
            names,
            target,
            config: self.parse_blob(&id)?,
            manifest_digest,
            manifest,
            id,
        })
    }

    /// Follows an index to the manifest for this machine.
    fn manifest_of(&self, entry: &Descriptor) -> Result<Digest, StoreError> {
        if !is_index(entry) {
            return Ok(entry.digest.clone());
        }
        let index: Index = self.parse_blob(&entry.digest)?;
        let chosen = index.pick(&Platform::host());
        chosen
            .map(|entry| entry.digest.clone())
            .map_err(|error| StoreError::Unsupported {
                name: name_of(entry)
                    .map_or(entry.digest.as_str(), String::as_str)
                    .to_owned(),
                reason: error.to_string(),
            })
    }

    pub(super) fn parse_blob<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, StoreError> {
        let bytes = self.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Corrupt {
            path: self.blob_path(digest),
            reason: error.to_string(),
        })
    }
}

/// No name has a space in it.
fn pulled_as(name: &Reference, platform: &Platform) -> String {
    format!("{} {platform}", stored_name(name))
}

fn is_noted(entry: &Descriptor, note: &str) -> bool {
    entry
        .annotations
        .get(PULLED_AS)
        .is_some_and(|own| own == note)
}

/// The form in which a name is kept: a digest pins the content, a tag beside it says nothing.
fn stored_name(name: &Reference) -> String {
    match name.digest() {
        Some(digest) => name.with_digest(digest.clone()).to_string(),
        None => name.to_string(),
    }
}

pub(super) fn name_of(entry: &Descriptor) -> Option<&String> {
    let annotations = &entry.annotations;
    annotations
        .get(CONTAINERD_NAME)
        .or_else(|| annotations.get(REF_NAME))
}

pub(super) fn is_index(entry: &Descriptor) -> bool {
    matches!(entry.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
}

fn is_same_repository(left: &Reference, right: &Reference) -> bool {
    (left.registry(), left.repository()) == (right.registry(), right.repository())
}

fn strip_name(annotations: &mut BTreeMap<String, String>) {
    annotations.remove(REF_NAME);
    annotations.remove(CONTAINERD_NAME);
}

fn set_name(manifests: &mut Vec<Descriptor>, name: &str, entry: Descriptor) {
    let digest = entry.digest.clone();
    manifests.retain(|other| other.digest != digest || name_of(other).is_some());
    let holder = manifests
        .iter()
        .position(|other| name_of(other).is_some_and(|other| other == name));
    let Some(at) = holder else {
        manifests.push(entry);
        return;
    };
    let mut before = std::mem::replace(&mut manifests[at], entry);
    if before.digest != digest {
        strip_name(&mut before.annotations);
        add_unnamed(manifests, before);
    }
}

fn add_unnamed(manifests: &mut Vec<Descriptor>, entry: Descriptor) {
    if !manifests.iter().any(|other| other.digest == entry.digest) {
        manifests.push(entry);
    }
}
