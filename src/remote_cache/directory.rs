//! [`Directory`]: entries as images of an OCI image layout.
//!
//! `index.json` is read once by whoever looks things up. Writers put blobs first, each by rename, and
//! then add all their entries to `index.json` at once, holding the lock `index.json.lock` that other
//! writers of layouts (BuildKit) hold, too: of two builds that write at the same time neither loses
//! anything.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::entry::CONFIG_LIMIT;
use super::place::{Besides, INDEX, Place, PlaceError};
use super::registry::{BUILDKIT_CACHE, is_buildkit_cache};
use super::sources::PREFIX;
use crate::image::manifest::{Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::image::{Digest, Hashing, Reference};

/// The annotation by which an index names its images.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// No index is larger: some hundred thousand entries.
const INDEX_LIMIT: u64 = 128 << 20;
/// No manifest of an entry is.
const MANIFEST_LIMIT: u64 = 1 << 20;

type Names = HashMap<String, Descriptor>;

/// A directory with an image layout.
pub struct Directory {
    dir: PathBuf,
    /// What was there when it was first asked.
    names: OnceLock<Names>,
    /// What was put and is not yet in the index.
    added: Mutex<BTreeMap<String, Descriptor>>,
}

impl Directory {
    /// The layout in `dir`, which need not exist before something is written.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            names: OnceLock::new(),
            added: Mutex::default(),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.blob(digest))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// What there is, by name. One of two that come at the same time reads in vain.
    fn names(&self) -> Result<&Names, PlaceError> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let index = read_index(&self.dir)?;
        Ok(self.names.get_or_init(|| named(&index)))
    }

    /// Reads a blob that is checked against its descriptor.
    fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, PlaceError> {
        let path = self.blob(&blob.digest);
        let damaged = |reason: String| PlaceError::Damaged {
            what: path.display().to_string(),
            reason,
        };
        if blob.size > limit {
            return Err(damaged(format!("it has {} bytes", blob.size)));
        }
        let mut bytes = Vec::new();
        self.open_blob(&blob.digest)
            .and_then(|file| file.take(blob.size + 1).read_to_end(&mut bytes))
            .map_err(disk("read", &path))?;
        match Digest::of(&bytes) {
            found if found == blob.digest => Ok(bytes),
            found => Err(damaged(format!("its digest is {found}"))),
        }
    }

    /// Writes a blob whole or not at all.
    fn write(&self, blob: &Descriptor, mut from: impl io::Read) -> Result<(), PlaceError> {
        let path = self.blob(&blob.digest);
        let dir = self.dir.join("blobs/sha256");
        fs::create_dir_all(&dir).map_err(disk("make", &dir))?;
        replace(&path, |file| {
            let mut file = Hashing::new(file);
            io::copy(&mut from, &mut file)?;
            match file.finish() {
                (_, found, _) if found == blob.digest => Ok(()),
                (_, found, _) => Err(io::Error::other(format!("its content is {found}"))),
            }
        })
    }

    fn add_to_index(&self, added: &BTreeMap<String, Descriptor>) -> Result<(), PlaceError> {
        let (lock_path, path) = (self.dir.join("index.json.lock"), self.dir.join(INDEX));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(disk("open", &lock_path))?;
        lock.lock().map_err(disk("lock", &lock_path))?;
        let mut index = match fs::exists(&path).map_err(disk("examine", &path))? {
            true => read_index(&self.dir)?,
            false => json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }),
        };
        let Some(all) = index["manifests"].as_array_mut() else {
            return Err(PlaceError::Damaged {
                what: path.display().to_string(),
                reason: "it names no manifests".into(),
            });
        };
        all.retain(|entry| !name_of(entry).is_some_and(|name| added.contains_key(name)));
        for (name, manifest) in added {
            let mut entry = json!(manifest);
            entry["annotations"] = json!({ REF_NAME: name });
            all.push(entry);
        }
        replace(&self.dir.join("oci-layout"), |file| file.write_all(LAYOUT))?;
        replace(&path, |file| file.write_all(index.to_string().as_bytes()))
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.display().fmt(f)
    }
}

impl Place for Directory {
    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        match self.names()?.get(tag) {
            Some(descriptor) => self.read(descriptor, MANIFEST_LIMIT).map(Some),
            None => Ok(None),
        }
    }

    fn besides(&self) -> Result<Besides, PlaceError> {
        let names = self.names()?;
        let ours = format!("{PREFIX}-");
        if names.keys().any(|name| name.starts_with(&ours)) {
            return Ok(Besides::Nothing);
        }
        for descriptor in names.values() {
            if let Ok(manifest) = self.read(descriptor, MANIFEST_LIMIT)
                && is_buildkit_cache(&manifest)
            {
                return Ok(Besides::Unusable(BUILDKIT_CACHE.into()));
            }
        }
        Ok(Besides::Nothing)
    }

    fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, PlaceError> {
        self.read(blob, CONFIG_LIMIT)
    }

    fn takes_blob(&self, blob: &Descriptor, _mount_from: &[Reference]) -> Result<bool, PlaceError> {
        let found = fs::metadata(self.blob(&blob.digest));
        Ok(found.is_ok_and(|found| found.len() == blob.size))
    }

    fn put_blob(
        &self,
        blob: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<bool, PlaceError> {
        if self.takes_blob(blob, mount_from)? {
            return Ok(false);
        }
        let file = open().map_err(disk("read the blob for", &self.blob(&blob.digest)))?;
        self.write(blob, file)?;
        Ok(true)
    }

    fn put_manifest(&self, tag: &str, manifest: &[u8]) -> Result<(), PlaceError> {
        let descriptor =
            Descriptor::new(OCI_MANIFEST, &Digest::of(manifest), manifest.len() as u64);
        self.write(&descriptor, manifest)?;
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.insert(tag.to_owned(), descriptor);
        Ok(())
    }

    fn finish(&self) -> Result<(), PlaceError> {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        if added.is_empty() {
            return Ok(());
        }
        self.add_to_index(&added)
    }
}

fn read_index(dir: &Path) -> Result<Value, PlaceError> {
    let path = dir.join(INDEX);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(INDEX_LIMIT).read_to_end(&mut bytes))
        .map_err(disk("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| PlaceError::Damaged {
        what: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError + use<> {
    let path = path.to_owned();
    move |source| PlaceError::Disk {
        doing,
        path,
        source,
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}

/// The images of an index by name; what has none is told apart by its digest. Entries of other kinds
/// are nobody's here.
fn named(index: &Value) -> Names {
    let entries = index["manifests"].as_array().into_iter().flatten();
    let descriptors = entries.filter_map(|entry| {
        let descriptor = serde_json::from_value::<Descriptor>(entry.clone()).ok()?;
        let name = name_of(entry).unwrap_or(descriptor.digest.as_str());
        Some((name.to_owned(), descriptor))
    });
    descriptors.collect()
}

/// Fills a file beside `path` and gives it that name when it is whole.
fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), PlaceError> {
    let number = getrandom::u64().map_err(|error| disk("name", path)(io::Error::other(error)))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:016x}"));
    let tmp = PathBuf::from(name);
    let make = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
        fill(&mut file)?;
        fs::rename(&tmp, path)
    };
    make().map_err(|error| {
        // The first failure is the news; what stays behind has a name of its own.
        drop(fs::remove_file(&tmp));
        disk("write", path)(error)
    })
}
