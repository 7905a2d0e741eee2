//! An image as its exporters see it: its blobs, and its entries in an index and a manifest list.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde_json::{Value, json};

use super::OutputError;
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::{Digest, ImageParts, Reference};

/// Opens a blob by its digest, as often as it is asked to.
pub type OpenBlob<'a> = dyn Fn(&Digest) -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// One blob of an image: where its bytes are.
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    Store,
}

pub(super) struct Blob<'a> {
    pub size: u64,
    pub source: Source<'a>,
}

impl ImageParts {
    /// What errors call it.
    fn label(&self) -> String {
        match self.names.first() {
            Some(name) => name.familiar(),
            None => self.descriptor.digest.to_string(),
        }
    }

    fn parsed(&self) -> Result<Manifest, OutputError> {
        serde_json::from_slice(&self.manifest).map_err(|error| self.bad(error))
    }

    fn bad(&self, reason: impl ToString) -> OutputError {
        OutputError::Manifest {
            image: self.label(),
            reason: reason.to_string(),
        }
    }

    /// One index entry for every name, one without a name if there is none.
    fn entries(&self) -> Vec<Descriptor> {
        let named = |name: Option<&Reference>| {
            let mut entry = self.descriptor.clone();
            if let Some(name) = name {
                let name = name.to_string();
                entry
                    .annotations
                    .insert("org.opencontainers.image.ref.name".into(), name.clone());
                entry
                    .annotations
                    .insert("io.containerd.image.name".into(), name);
            }
            entry
        };
        if self.names.is_empty() {
            return vec![named(None)];
        }
        self.names.iter().map(|name| named(Some(name))).collect()
    }

    /// The image's line in `manifest.json`, and for every tag the last layer's name.
    pub(super) fn docker_entry(
        &self,
        repositories: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Value, OutputError> {
        let manifest = self.parsed()?;
        let at = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest.hex());
        let layers: Vec<_> = manifest.layers.iter().map(at).collect();
        let tagged = self
            .names
            .iter()
            .filter(|name| name.tag().is_some() && name.digest().is_none());
        let mut tags = Vec::new();
        for name in tagged {
            let familiar = name.familiar();
            if let (Some((repository, tag)), Some(last)) =
                (familiar.rsplit_once(':'), manifest.layers.last())
            {
                let last = last.digest.hex().to_owned();
                let known = repositories.entry(repository.to_owned()).or_default();
                known.insert(tag.to_owned(), last);
            }
            tags.push(familiar);
        }
        Ok(json!({ "Config": at(&manifest.config), "RepoTags": tags, "Layers": layers }))
    }
}

/// Every blob of the images, each once.
pub(super) fn blobs(images: &[ImageParts]) -> Result<BTreeMap<Digest, Blob<'_>>, OutputError> {
    let mut blobs = BTreeMap::new();
    for image in images {
        let manifest = image.parsed()?;
        let mut bytes = |digest: &Digest, bytes| {
            let size = <[u8]>::len(bytes) as u64;
            blobs.insert(
                digest.clone(),
                Blob {
                    size,
                    source: Source::Bytes(bytes),
                },
            );
        };
        bytes(&image.descriptor.digest, &image.manifest);
        bytes(&manifest.config.digest, &image.config);
        for layer in manifest.layers {
            let size = layer.size;
            let blob = Blob {
                size,
                source: Source::Store,
            };
            blobs.entry(layer.digest).or_insert(blob);
        }
    }
    Ok(blobs)
}

/// Adds the images to the entries of an index; a name or nameless image that is there is replaced.
pub(super) fn add_entries(
    manifests: &mut Vec<Value>,
    images: &[ImageParts],
) -> Result<(), OutputError> {
    let name_of = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].clone();
    for image in images {
        for entry in image.entries() {
            let entry = serde_json::to_value(&entry).map_err(|error| image.bad(error))?;
            let (name, digest) = (name_of(&entry), entry["digest"].clone());
            manifests.retain(|known| {
                name_of(known) != name || (name.is_null() && known["digest"] != digest)
            });
            manifests.push(entry);
        }
    }
    Ok(())
}

/// An index as JSON; its objects are sorted, so equal images give equal bytes.
pub(super) fn index_json(manifests: Vec<Value>) -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
    .to_string()
    .into_bytes()
}
