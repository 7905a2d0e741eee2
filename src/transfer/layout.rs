//! [`layout_image`]: an image out of an OCI layout in a directory, for `--build-context`.
//!
//! The layout is read where it is: manifest and configuration at once, the blob of a layer when it is
//! needed, each copied to the store under the digest that was computed over it. No tag is set. Paths in the layout are resolved
//! beneath its directory.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Event, Progress, TransferError};
use crate::image::manifest::{DOCKER_INDEX, Descriptor, Document, Index, Manifest, OCI_INDEX};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::rootfs::{RootDir, RootPath};
use crate::store::{Store, StoreError, StoredImage, platform_of};

/// How an image in a layout is written: `oci-layout://DIR[:TAG|@DIGEST]`.
pub const LAYOUT_SCHEME: &str = "oci-layout://";
/// The tag of an image that is named by none, if the layout has several.
const DEFAULT_TAG: &str = "latest";
/// A larger document is no index and no manifest.
const MAX_DOCUMENT: u64 = 32 << 20;
/// An index of indexes of indexes is nobody's.
const MAX_NESTED: usize = 2;
const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

/// An image in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRef {
    /// The directory that holds `oci-layout` and `index.json`.
    pub dir: PathBuf,
    /// Its tag, or its name there.
    pub tag: Option<String>,
    /// The digest of its manifest or index.
    pub digest: Option<Digest>,
}

impl FromStr for LayoutRef {
    type Err = String;

    /// Reads `DIR`, `DIR:TAG`, `DIR@DIGEST` or `DIR:TAG@DIGEST`, without the scheme.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|e| e.to_string())?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (dir, tag) = match rest.rsplit_once(':') {
            Some((dir, tag)) if !tag.contains('/') => (dir, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if dir.is_empty() || tag.as_deref() == Some("") {
            return Err(format!("{text:?}: expected DIR[:TAG|@DIGEST]"));
        }
        let dir = PathBuf::from(dir);
        Ok(Self { dir, tag, digest })
    }
}

impl fmt::Display for LayoutRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAYOUT_SCHEME}{}", self.dir.display())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Reads the image that `wanted` names: its manifest and configuration are in the store then, its
/// layers stay where they are, [`BlobSource::Layout`]. `exact` refuses an image without an index
/// that is for another platform (S5).
///
/// # Errors
/// When the directory is no layout, has no such image or none for the platform, when something in
/// it is missing or is not what its digest says, when the store takes no more.
///
/// [`BlobSource::Layout`]: super::BlobSource::Layout
pub fn layout_image(
    store: &Store,
    wanted: &LayoutRef,
    platform: &Platform,
    exact: bool,
) -> Result<StoredImage, TransferError> {
    let layout = Layout::open(wanted)?;
    let entry = layout.entry()?;
    let target = layout.manifest_for(&entry, platform, 0)?;
    let (bytes, Document::Image(manifest)) = layout.document(&target)? else {
        return Err(layout.bad(format!("{} is no image", target.digest)));
    };
    let config = layout.config(store, &manifest)?;
    let found = platform_of(&config);
    if exact && !found.arch.is_empty() && !platform.accepts(&found) {
        return Err(TransferError::Platform {
            image: wanted.to_string(),
            found: found.to_string(),
            wanted: platform.to_string(),
        });
    }
    for layer in &manifest.layers {
        layout.look_for(store, layer)?;
    }
    let manifest_digest = store.put_blob(&bytes)?;
    Ok(StoredImage {
        id: manifest.config.digest.clone(),
        names: Vec::new(),
        target,
        manifest_digest,
        manifest,
        config,
    })
}

/// Copies a blob out of the layout in `dir`.
///
/// # Errors
/// When it is not there or is not what its digest says, when the store takes no more.
pub(super) fn copy_blob(
    store: &Store,
    dir: &Path,
    blob: &Descriptor,
    progress: &Progress<'_>,
) -> Result<(), TransferError> {
    let wanted = LayoutRef {
        dir: dir.to_owned(),
        tag: None,
        digest: None,
    };
    Layout::open(&wanted)?.copy(store, blob, progress)
}

/// An open layout.
struct Layout<'a> {
    wanted: &'a LayoutRef,
    root: RootDir,
}

impl<'a> Layout<'a> {
    fn open(wanted: &'a LayoutRef) -> Result<Self, TransferError> {
        let root = RootDir::open(&wanted.dir).map_err(|source| TransferError::Read {
            what: format!("the image layout {}", wanted.dir.display()),
            source,
        })?;
        Ok(Self { wanted, root })
    }

    /// The entry of `index.json` that is meant.
    fn entry(&self) -> Result<Descriptor, TransferError> {
        let path = Path::new("index.json");
        let bytes = self.read(path)?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|error| self.bad(format!("{}: {error}", path.display())))?;
        let mut entries = index.manifests;
        if let Some(digest) = &self.wanted.digest {
            let found = entries.into_iter().find(|entry| entry.digest == *digest);
            // Only what an index leads to is listed, yet every blob has a digest.
            return Ok(found.unwrap_or_else(|| Descriptor::new("", digest, 0)));
        }
        let tag = self.wanted.tag.as_deref();
        if tag.is_none() && entries.len() == 1 {
            return Ok(entries.remove(0));
        }
        let tag = tag.unwrap_or(DEFAULT_TAG);
        let known: Vec<String> = entries.iter().flat_map(tags).collect();
        let found = entries
            .into_iter()
            .find(|entry| tags(entry).any(|known| known == tag));
        found.ok_or_else(|| {
            let there = match known.as_slice() {
                [] => "no image in it has a tag: name one by its digest".to_owned(),
                known => format!("it has {}", known.join(", ")),
            };
            self.bad(format!("it has no image with the tag {tag:?}; {there}"))
        })
    }

    /// The image manifest that `entry` leads to for `platform`.
    fn manifest_for(
        &self,
        entry: &Descriptor,
        platform: &Platform,
        depth: usize,
    ) -> Result<Descriptor, TransferError> {
        let (bytes, document) = self.document(entry)?;
        let Document::Index(index) = document else {
            let media_type = entry.media_type.as_str();
            let is_index = matches!(media_type, OCI_INDEX | DOCKER_INDEX);
            if is_index {
                return Err(self.bad(format!("{} is no index", entry.digest)));
            }
            let size = bytes.len() as u64;
            return Ok(Descriptor::new(media_type, &entry.digest, size));
        };
        if depth > MAX_NESTED {
            return Err(self.bad("its indexes are nested too deep"));
        }
        let child = index
            .pick(platform)
            .map_err(|error| self.bad(format!("index {}: {error}", entry.digest)))?;
        self.manifest_for(child, platform, depth + 1)
    }

    /// Reads an index or a manifest and checks that it is what it is called by.
    fn document(&self, entry: &Descriptor) -> Result<(Vec<u8>, Document), TransferError> {
        let bytes = self.read(&blob_path(&entry.digest))?;
        let found = Digest::of(&bytes);
        if found != entry.digest {
            return Err(self.bad(format!("the content of {} is {found}", entry.digest)));
        }
        let media_type = Some(entry.media_type.as_str()).filter(|text| !text.is_empty());
        let (document, _) = Document::parse(&bytes, media_type)
            .map_err(|error| self.bad(format!("{}: {error}", entry.digest)))?;
        Ok((bytes, document))
    }

    fn config(&self, store: &Store, manifest: &Manifest) -> Result<ImageConfig, TransferError> {
        let digest = &manifest.config.digest;
        self.copy(store, &manifest.config, &|_| {})?;
        serde_json::from_slice(&store.read_blob(digest)?)
            .map_err(|error| self.bad(format!("the configuration {digest}: {error}")))
    }

    /// Sees that a layer's blob is there, which is copied when its files are needed. One that the
    /// store has is needed from nowhere.
    fn look_for(&self, store: &Store, blob: &Descriptor) -> Result<(), TransferError> {
        if !store.has_blob(&blob.digest) {
            self.open_file(&blob_path(&blob.digest))?;
        }
        Ok(())
    }

    /// Copies a blob into the store, which computes its digest.
    fn copy(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &Progress<'_>,
    ) -> Result<(), TransferError> {
        let digest = || blob.digest.clone();
        if store.has_blob(&blob.digest) {
            progress(Event::Exists { blob: digest() });
            return Ok(());
        }
        progress(Event::Started {
            blob: digest(),
            size: blob.size,
        });
        let path = blob_path(&blob.digest);
        let mut file = self.open_file(&path)?.take(blob.size.saturating_add(1));
        let mut writer = store.blob_writer()?;
        let copied = io::copy(&mut file, &mut writer);
        let size = copied.map_err(|error| match writer.failure() {
            Some(failure) => failure.into(),
            None => self.unreadable(&path, error),
        })?;
        if size != blob.size {
            let than = if size < blob.size {
                "shorter"
            } else {
                "longer"
            };
            let expected = blob.size;
            return Err(self.bad(format!(
                "the blob {} is {than} than the {expected} bytes its manifest says",
                digest()
            )));
        }
        writer
            .finish(Some(&blob.digest))
            .map_err(|error| match error {
                StoreError::DigestMismatch { found, .. } => {
                    self.bad(format!("the content of {} is {found}", digest()))
                }
                error => error.into(),
            })?;
        progress(Event::Done { blob: digest() });
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, TransferError> {
        let mut bytes = Vec::new();
        let mut file = self.open_file(path)?.take(MAX_DOCUMENT + 1);
        file.read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(path, error))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(self.bad(format!("{} is too large to be one", path.display())));
        }
        Ok(bytes)
    }

    fn open_file(&self, path: &Path) -> Result<std::fs::File, TransferError> {
        let file = self.root.open_file(&RootPath::new(path.as_os_str()));
        file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.bad(format!("{} is missing in it", path.display())),
            _ => self.unreadable(path, error),
        })
    }

    fn bad(&self, reason: impl Into<String>) -> TransferError {
        TransferError::Archive {
            archive: format!("the image layout {}", self.wanted.dir.display()),
            reason: reason.into(),
        }
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> TransferError {
        TransferError::Read {
            what: self.wanted.dir.join(path).display().to_string(),
            source,
        }
    }
}

fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

/// What an entry can be asked for by: the names it has, and of full names the tags.
fn tags(entry: &Descriptor) -> impl Iterator<Item = String> {
    let mut tags: Vec<String> = Vec::new();
    for name in NAMES.iter().filter_map(|key| entry.annotations.get(*key)) {
        let is_full = name.contains([':', '/']);
        let reference = name.parse::<Reference>().ok().filter(|_| is_full);
        let tag = match &reference {
            Some(reference) => reference.tag().map(str::to_owned),
            None => Some(name.clone()),
        };
        tags.extend(tag.filter(|tag| !tags.contains(tag)));
    }
    tags.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_image_in_a_layout_is_written() {
        let digest = Digest::of(b"x");
        let pinned = format!("./a:b/c@{digest}");
        for (text, dir, tag, digest) in [
            ("dir", "dir", None, None),
            ("/a/dir:v1", "/a/dir", Some("v1"), None),
            ("../a:b/c", "../a:b/c", None, None),
            (pinned.as_str(), "./a:b/c", None, Some(&digest)),
        ] {
            let parsed: LayoutRef = text.parse().unwrap();
            assert_eq!(parsed.dir, Path::new(dir), "{text}");
            assert_eq!(parsed.tag.as_deref(), tag, "{text}");
            assert_eq!(parsed.digest.as_ref(), digest, "{text}");
            assert_eq!(parsed.to_string(), format!("{LAYOUT_SCHEME}{text}"));
        }
        for text in ["", ":v1", "dir:", "dir@sha256:12", "@"] {
            assert!(text.parse::<LayoutRef>().is_err(), "{text}");
        }
    }
}
