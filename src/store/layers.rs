//! Layers: directories that are written in `tmp/` and published whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::At;
use super::files::{is_settled, random, read_record};
use super::uses::{Place, note_use};
use super::{Store, StoreError, remove_tree};
use crate::image::Digest;

/// How many digits of a diff id name the layer that was unpacked from it. The whole digest stands
/// in `meta.json` and is compared; short names leave room in mount options.
const ID_DIGITS: usize = 32;

/// The name of a directory of trees in one of these.
pub(super) const TREES: &str = "trees";

/// What is known of a layer when it is published; `meta.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerMeta {
    /// The layer's name in the store: 1 to 100 of `a-z 0-9 . _ -`, not beginning with a dot.
    pub id: String,
    /// The digest of the tar it was unpacked from; none for one that a step made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    /// How many bytes its regular files hold.
    #[serde(default)]
    pub size: u64,
    /// How many entries it has.
    #[serde(default)]
    pub entries: u64,
    /// The instruction or image it comes from, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// Whatever else the maker wants to find again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

/// A published layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRecord {
    /// The directory that holds `diff/` and, if the table is not empty, `attributes`.
    pub dir: PathBuf,
    /// What was recorded when it was published.
    pub meta: LayerMeta,
}

#[derive(Serialize, Deserialize)]
struct MetaFile {
    #[serde(flatten)]
    meta: LayerMeta,
    /// The boot in which it was published.
    boot: String,
}

/// A directory in `tmp/` in which a layer is made; dropping it deletes it.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _live: Arc<()>,
}

impl Staging {
    /// The directory itself; `attributes` goes here.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where trees may be kept: what is in them of the store is taken back if nobody else does.
    pub fn trees(&self) -> PathBuf {
        self.path.join(TREES)
    }

    /// The directory that becomes the layer's content; whoever fills it makes it.
    pub fn diff(&self) -> PathBuf {
        self.path.join("diff")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Published, it is gone from here; what cannot be deleted is swept with `tmp/`.
        drop(remove_tree(&self.path));
    }
}

impl LayerRecord {
    /// The layer's content, in overlayfs form.
    pub fn diff(&self) -> PathBuf {
        self.dir.join("diff")
    }

    /// The table of what the disk could not hold; missing when it is empty.
    pub fn attributes(&self) -> PathBuf {
        self.dir.join("attributes")
    }
}

impl LayerMeta {
    /// The name that everybody gives the layer with this diff id, so that it is unpacked once.
    pub fn for_diff_id(diff_id: &Digest) -> Self {
        Self {
            id: diff_id.hex()[..ID_DIGITS].to_owned(),
            diff_id: Some(diff_id.clone()),
            ..Self::default()
        }
    }
}

impl Store {
    /// A fresh empty directory on the file system that layers live on.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn staging(&self) -> Result<Staging, StoreError> {
        let staging = Staging {
            path: self.tmp_name("stage")?,
            _live: Arc::clone(&self.inner.live),
        };
        fs::create_dir(&staging.path).at("make", &staging.path)?;
        Ok(staging)
    }

    /// An id for a layer that nothing names: 32 random hexadecimal digits.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new_layer_id(&self) -> Result<String, StoreError> {
        let number = || random().at("name a layer in", self.root());
        Ok(format!("{:016x}{:016x}", number()?, number()?))
    }

    /// Gives a finished directory its place among the layers.
    ///
    /// Whoever is first wins: when the id is there already, the staged directory is dropped and
    /// the published layer given back.
    ///
    /// # Errors
    /// For an id that is none, and when the disk refuses.
    pub fn publish_layer(
        &self,
        staging: Staging,
        meta: &LayerMeta,
    ) -> Result<LayerRecord, StoreError> {
        let dir = self.layer_path(&meta.id)?;
        self.hold(Place::layer(&self.inner.map, &meta.id))?;
        let file = MetaFile {
            meta: meta.clone(),
            boot: self.inner.boot.clone(),
        };
        let path = staging.path.join("meta.json");
        let bytes = serde_json::to_vec(&file)
            .map_err(|error| StoreError::at("write", &path, error.into()))?;
        fs::write(&path, bytes).at("write", &path)?;
        let record = match fs::rename(&staging.path, &dir) {
            Ok(()) => self.published(dir, meta),
            Err(error) if is_occupied(&error) => match self.layer(&meta.id)? {
                Some(first) => first,
                None => self.supersede(&staging, dir, meta)?,
            },
            Err(error) => return Err(StoreError::at("publish the layer", &dir, error)),
        };
        if let Some(diff_id) = &record.meta.diff_id {
            self.link_diff_id(diff_id, &record.meta.id)?;
        }
        Ok(record)
    }

    fn published(&self, dir: PathBuf, meta: &LayerMeta) -> LayerRecord {
        self.fresh().layers.insert(meta.id.clone());
        self.own().written.push(dir.clone());
        LayerRecord {
            dir,
            meta: meta.clone(),
        }
    }

    /// Puts a layer in the place of one that did not survive a power cut.
    fn supersede(
        &self,
        staging: &Staging,
        dir: PathBuf,
        meta: &LayerMeta,
    ) -> Result<LayerRecord, StoreError> {
        let _held = self.lock_file("publish.lock")?;
        if let Some(first) = self.layer(&meta.id)? {
            return Ok(first);
        }
        let aside = Staging {
            path: self.tmp_name("stale")?,
            _live: Arc::clone(&self.inner.live),
        };
        fs::rename(&dir, &aside.path).at("put aside", &dir)?;
        fs::rename(&staging.path, &dir).at("publish the layer", &dir)?;
        Ok(self.published(dir, meta))
    }

    /// The layer with this id, if it is there and can be relied upon.
    ///
    /// # Errors
    /// For an id that is none, and when the disk fails.
    pub fn layer(&self, id: &str) -> Result<Option<LayerRecord>, StoreError> {
        let dir = self.layer_path(id)?;
        self.hold(Place::layer(&self.inner.map, id))?;
        let path = dir.join("meta.json");
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(StoreError::at("examine", &path, error)),
        };
        let Some(MetaFile { meta, boot }) = read_record::<MetaFile>(&path)? else {
            return Ok(None);
        };
        if !is_settled(&metadata) {
            if boot != self.inner.boot {
                return Ok(None);
            }
            self.fresh().layers.insert(id.to_owned());
        }
        note_use(&path, &metadata);
        Ok((meta.id == id).then_some(LayerRecord { dir, meta }))
    }

    /// The directory of the layer with this id; one that cannot be read is not there.
    pub fn layer_dir(&self, id: &str) -> Option<PathBuf> {
        match self.layer(id) {
            Ok(record) => record.map(|record| record.dir),
            Err(_) => None,
        }
    }

    /// The layer whose tar has this digest: one that was unpacked from it, or one of ours whose
    /// export has been recorded.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn layer_by_diff_id(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        let link = self.by_map("diffs").join(diff_id.hex());
        let id = match fs::read_link(&link) {
            Ok(target) => target.to_string_lossy().into_owned(),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(StoreError::at("read", &link, error)),
        };
        match self.layer(&id) {
            Err(StoreError::LayerId { .. }) => Ok(None),
            result => result,
        }
    }

    /// Remembers under which diff id a layer is found; a link that still leads somewhere stays.
    pub(super) fn link_diff_id(&self, diff_id: &Digest, id: &str) -> Result<(), StoreError> {
        if self.layer_by_diff_id(diff_id)?.is_some() {
            return Ok(());
        }
        let link = self.by_map("diffs").join(diff_id.hex());
        let tmp = self.tmp_name("link")?;
        std::os::unix::fs::symlink(id, &tmp).at("make", &tmp)?;
        fs::rename(&tmp, &link).at("make", &link)
    }

    /// Where the layer with this id is or would be.
    fn layer_path(&self, id: &str) -> Result<PathBuf, StoreError> {
        Ok(self.by_map("layers").join(checked_id(id)?))
    }
}

/// An id that may become a file name.
pub(super) fn checked_id(id: &str) -> Result<&str, StoreError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=100).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(allowed) {
        Ok(id)
    } else {
        Err(StoreError::LayerId { id: id.to_owned() })
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn is_occupied(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOTEMPTY | Errno::EXIST))
}
