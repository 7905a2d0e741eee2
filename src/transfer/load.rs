//! [`load`]: images out of an archive, OCI's or Docker's, told apart by what is in it.
//!
//! The archive is read once, from front to back, whatever the order of its entries: every file
//! becomes a blob under the digest that was computed over it, and only names and digests are
//! remembered. Names in the archive are keys of a table and never become paths.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::TransferError;
use super::make::store_image;
use crate::image::manifest::{
    DOCKER_INDEX, Descriptor, Index, Manifest, OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD,
};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::layer::Decoder;
use crate::store::{Store, StoreError};

/// More entries than this are no image archive.
const MAX_ENTRIES: usize = 100_000;
/// As many links one after the other as the kernel follows.
const MAX_LINKS: usize = 40;
/// An index of indexes of indexes is nobody's.
const MAX_NESTED: usize = 2;
const BLOBS: &str = "blobs/sha256/";

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The digest of its configuration.
    pub id: Digest,
    /// The names it got.
    pub names: Vec<Reference>,
}

/// One image of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What an archive holds, by the names in it.
struct Contents<'a> {
    store: &'a Store,
    archive: &'a str,
    files: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
}

/// Loads every image of the archive in `input`, compressed or not, and tags it with the names it
/// had. `label` is what errors call the archive.
///
/// # Errors
/// When it is no archive of images, when something is missing in it or is not what its digest
/// says, when the store takes no more. No image is tagged then that comes after the failure.
pub fn load(store: &Store, input: impl Read, label: &str) -> Result<Vec<Loaded>, TransferError> {
    let mut contents = Contents {
        store,
        archive: label,
        files: BTreeMap::new(),
        links: BTreeMap::new(),
    };
    let reader = Decoder::new(input).map_err(|error| contents.unreadable(error))?;
    contents.take_in(reader)?;
    if contents.files.contains_key("index.json") && contents.files.contains_key("oci-layout") {
        contents.load_layout()
    } else if contents.files.contains_key("manifest.json") {
        contents.load_docker()
    } else {
        Err(contents.bad(
            "it holds neither index.json nor manifest.json, so it is no archive of images; \
             «lapstrake import» takes the tar of a root file system",
        ))
    }
}

impl Contents<'_> {
    fn take_in(&mut self, reader: impl Read) -> Result<(), TransferError> {
        let mut archive = tar::Archive::new(reader);
        let entries = archive.entries().map_err(|error| self.unreadable(error))?;
        for (count, entry) in entries.enumerate() {
            let mut entry = entry.map_err(|error| self.unreadable(error))?;
            if count >= MAX_ENTRIES {
                return Err(self.bad(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(name) = clean("", &path) else {
                return Err(self.bad(format!("{path:?} leads out of it")));
            };
            let target = entry
                .link_name_bytes()
                .map(|target| String::from_utf8_lossy(&target).into_owned());
            match (entry.header().entry_type(), target) {
                (tar::EntryType::Directory, _) => {}
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                    let stored = self.take_file(&name, &mut entry)?;
                    self.files.insert(name, stored);
                }
                (tar::EntryType::Symlink, Some(target)) => self.link(name, &target, true)?,
                (tar::EntryType::Link, Some(target)) => self.link(name, &target, false)?,
                (kind, _) => {
                    return Err(self.bad(format!("{path:?} is an entry of type {kind:?}")));
                }
            }
        }
        Ok(())
    }

    fn take_file(
        &self,
        name: &str,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<(Digest, u64), TransferError> {
        let expected = match name.strip_prefix(BLOBS) {
            None => None,
            Some(hex) => {
                let digest = format!("sha256:{hex}").parse::<Digest>();
                Some(digest.map_err(|error| self.bad(format!("{name:?}: {error}")))?)
            }
        };
        if let Some(digest) = expected
            .as_ref()
            .filter(|digest| self.store.has_blob(digest))
        {
            return Ok((digest.clone(), self.store.blob_size(digest)?));
        }
        let mut writer = self.store.blob_writer()?;
        io::copy(entry, &mut writer).map_err(|error| self.unreadable(error))?;
        writer
            .finish(expected.as_ref())
            .map_err(|error| match error {
                StoreError::DigestMismatch { found, .. } => {
                    self.bad(format!("the content of {name} is {found}"))
                }
                error => error.into(),
            })
    }

    fn link(&mut self, name: String, target: &str, relative: bool) -> Result<(), TransferError> {
        let base = match name.rsplit_once('/') {
            Some((base, _)) if relative => base,
            _ => "",
        };
        let Some(target) = clean(base, target) else {
            return Err(self.bad(format!("the link {name:?} leads out of it to {target:?}")));
        };
        self.links.insert(name, target);
        Ok(())
    }

    /// The file of this name, through links.
    fn file(&self, name: &str) -> Result<&(Digest, u64), TransferError> {
        let mut at = clean("", name).unwrap_or_default();
        for _ in 0..MAX_LINKS {
            if let Some(file) = self.files.get(&at) {
                return Ok(file);
            }
            match self.links.get(&at) {
                Some(target) => at.clone_from(target),
                None => break,
            }
        }
        Err(self.bad(format!("{name} is missing in it")))
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, digest: &Digest) -> Result<T, TransferError> {
        let bytes = self.store.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| self.bad(format!("{name}: {error}")))
    }

    fn load_layout(&self) -> Result<Vec<Loaded>, TransferError> {
        let index: Index = self.parse("index.json", &self.file("index.json")?.0)?;
        let mut loaded = Vec::new();
        for entry in &index.manifests {
            let manifest = self.image_in(entry, 0)?;
            let id = self.check(&manifest)?;
            let name = layout_name(entry);
            match &name {
                Some(name) => self.store.tag(name, &manifest)?,
                None => self.store.keep_unnamed(&manifest)?,
            }
            add(&mut loaded, id, name);
        }
        if loaded.is_empty() {
            return Err(self.bad("index.json lists no image"));
        }
        Ok(loaded)
    }

    /// The image manifest that an entry leads to: itself, or of an index the one for this machine,
    /// among those that are there.
    fn image_in(&self, entry: &Descriptor, depth: usize) -> Result<Descriptor, TransferError> {
        if !matches!(entry.media_type.as_str(), OCI_INDEX | DOCKER_INDEX) {
            let plain = Descriptor::new(&entry.media_type, &entry.digest, entry.size);
            return Ok(Descriptor {
                platform: entry.platform.clone(),
                ..plain
            });
        }
        if depth > MAX_NESTED {
            return Err(self.bad("its indexes are nested too deep"));
        }
        let mut index: Index = self.parse(entry.digest.as_str(), &entry.digest)?;
        index
            .manifests
            .retain(|child| self.store.has_blob(&child.digest));
        let child = index
            .pick(&Platform::host())
            .map_err(|error| self.bad(format!("index {}: {error}", entry.digest)))?;
        self.image_in(child, depth + 1)
    }

    /// Sees to it that everything a manifest names is in the store, and gives the image's id.
    fn check(&self, entry: &Descriptor) -> Result<Digest, TransferError> {
        let digest = entry.digest.clone();
        if !self.store.has_blob(&digest) {
            return Err(self.bad(format!("the manifest {digest} is missing in it")));
        }
        let manifest: Manifest = self.parse(digest.as_str(), &digest)?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            let blob = part.digest.clone();
            if !self.store.has_blob(&blob) {
                return Err(self.bad(format!("the blob {blob} is missing in it")));
            }
            let found = self.store.blob_size(&blob)?;
            if found != part.size {
                return Err(self.bad(format!(
                    "the blob {blob} has {found} bytes, but its manifest says {}",
                    part.size
                )));
            }
        }
        let id = manifest.config.digest.clone();
        self.parse::<ImageConfig>("the configuration", &id)?;
        Ok(id)
    }

    fn load_docker(&self) -> Result<Vec<Loaded>, TransferError> {
        let digest = &self.file("manifest.json")?.0;
        let entries: Vec<DockerEntry> = self.parse("manifest.json", digest)?;
        let mut loaded = Vec::new();
        for entry in entries {
            let (id, target) = self.docker_image(&entry)?;
            let tags = entry.repo_tags.unwrap_or_default();
            for tag in &tags {
                let name: Reference = tag
                    .parse()
                    .map_err(|error| self.bad(format!("manifest.json: {error}")))?;
                self.store.tag(&name, &target)?;
                add(&mut loaded, id.clone(), Some(name));
            }
            if tags.is_empty() {
                self.store.keep_unnamed(&target)?;
                add(&mut loaded, id, None);
            }
        }
        if loaded.is_empty() {
            return Err(self.bad("manifest.json lists no image"));
        }
        Ok(loaded)
    }

    fn docker_image(&self, entry: &DockerEntry) -> Result<(Digest, Descriptor), TransferError> {
        let id = self.file(&entry.config)?.0.clone();
        let config: ImageConfig = self.parse(&entry.config, &id)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            return Err(self.bad(format!(
                "manifest.json has {} layers for {}, whose configuration has {}",
                entry.layers.len(),
                entry.config,
                diff_ids.len()
            )));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
            layers.push(self.docker_layer(name, diff_id)?);
        }
        let bytes = self.store.read_blob(&id)?;
        Ok((id, store_image(self.store, &bytes, &layers)?))
    }

    /// Describes a layer; a compression that no registry knows is undone.
    fn docker_layer(&self, name: &str, diff_id: &str) -> Result<Descriptor, TransferError> {
        let (digest, size) = self.file(name)?.clone();
        let blob = self.store.open_blob(&digest)?;
        let mut decoder = Decoder::new(blob).map_err(|error| self.unreadable(error))?;
        let plain = |digest: &Digest, size| {
            if digest.as_str() == diff_id {
                Ok(Descriptor::new(OCI_LAYER, digest, size))
            } else {
                Err(self.bad(format!(
                    "the layer {name} is {digest}, but its configuration says {diff_id}"
                )))
            }
        };
        match decoder.format() {
            "plain" => plain(&digest, size),
            "gzip" => Ok(Descriptor::new(OCI_LAYER_GZIP, &digest, size)),
            "zstd" => Ok(Descriptor::new(OCI_LAYER_ZSTD, &digest, size)),
            _ => {
                let mut writer = self.store.blob_writer()?;
                io::copy(&mut decoder, &mut writer).map_err(|error| self.unreadable(error))?;
                let (digest, size) = writer.finish(None)?;
                plain(&digest, size)
            }
        }
    }

    fn bad(&self, reason: impl Into<String>) -> TransferError {
        TransferError::Archive {
            archive: self.archive.to_owned(),
            reason: reason.into(),
        }
    }

    fn unreadable(&self, error: io::Error) -> TransferError {
        read_error(self.archive, error)
    }
}

/// Tells a store that takes no more from an input that gives no more.
pub(super) fn read_error(what: &str, error: io::Error) -> TransferError {
    match error.downcast::<StoreError>() {
        Ok(error) => error.into(),
        Err(source) => TransferError::Read {
            what: what.to_owned(),
            source,
        },
    }
}

fn add(loaded: &mut Vec<Loaded>, id: Digest, name: Option<Reference>) {
    match loaded.iter_mut().find(|image| image.id == id) {
        Some(image) => image.names.extend(name),
        None => loaded.push(Loaded {
            id,
            names: name.into_iter().collect(),
        }),
    }
}

/// The full name of an entry; a tag alone names nothing.
fn layout_name(entry: &Descriptor) -> Option<Reference> {
    let annotations = &entry.annotations;
    if let Some(name) = annotations.get("io.containerd.image.name") {
        return name.parse().ok();
    }
    let name = annotations.get("org.opencontainers.image.ref.name")?;
    let is_full = name.contains([':', '/']);
    is_full.then(|| name.parse().ok()).flatten()
}

/// `path` seen from `base`, without `.` and `..`; `None` when it leads out.
fn clean(base: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}
