//! Blobs: content by its digest, checked while it is written.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::At;
use super::files::{discard, is_settled, mark_settled, read_limited, sync_file};
use super::uses::Place;
use super::{Store, StoreError};
use crate::image::{Digest, Hashing};

/// A blob up to this size is synced at once; a larger one with the whole store.
const SMALL: u64 = 1 << 20;

/// A blob being written. Nothing is in the store until [`BlobWriter::finish`]; dropping discards.
///
/// A failed write is an [`io::Error`] that holds a [`StoreError`] with the path, and that
/// [`StoreError::at`] takes out again.
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: Option<Hashing<File>>,
    /// What the kernel said when a write failed.
    errno: Option<i32>,
    _live: Arc<()>,
}

impl Store {
    /// Where the blob is, if the store has it.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("oci/blobs/sha256").join(digest.hex())
    }

    /// Whether the store has the blob whole.
    ///
    /// One that was not known to be on the disk, and that this process has not written, is read
    /// and hashed; a blob that cannot be read is not there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        if self.hold(Place::blob(digest.hex())).is_err() {
            // What might be collected at any time is not there.
            return false;
        }
        let path = self.blob_path(digest);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return false;
        };
        if !metadata.is_file() {
            return false;
        }
        if is_settled(&metadata) || self.fresh().blobs.contains(digest) {
            return true;
        }
        let whole = digest_of_file(&path).is_ok_and(|found| found == *digest);
        if whole {
            self.fresh().blobs.insert(digest.clone());
        }
        whole
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] when the store does not have it.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        if !self.has_blob(digest) {
            return Err(StoreError::NoBlob {
                digest: digest.clone(),
            });
        }
        let path = self.blob_path(digest);
        File::open(&path).at("open the blob", &path)
    }

    /// Reads a small blob (a manifest, a configuration) whole.
    ///
    /// # Errors
    /// As [`Store::open_blob`]; [`StoreError::Corrupt`] for one of more than 32 MiB.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::NoBlob {
            digest: digest.clone(),
        };
        if !self.has_blob(digest) {
            return Err(missing());
        }
        read_limited(&self.blob_path(digest))?.ok_or_else(missing)
    }

    /// The size of a blob in bytes.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] when the store does not have it.
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::NoBlob {
                digest: digest.clone(),
            }),
            result => Ok(result.at("examine the blob", &path)?.len()),
        }
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When no file can be made in the store.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let path = self.tmp_name("blob")?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .at("make", &path)?;
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file: Some(Hashing::new(file)),
            errno: None,
            _live: Arc::clone(&self.inner.live),
        })
    }

    /// Stores a small blob and says what its digest is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            let mut writer = self.blob_writer()?;
            let result = writer.write_all(bytes);
            result.map_err(|error| StoreError::at("write", &writer.path, error))?;
            writer.finish(Some(&digest))?;
        }
        Ok(digest)
    }
}

impl BlobWriter {
    /// How many bytes were written: where a broken transfer is to be resumed.
    pub fn bytes_written(&self) -> u64 {
        self.file.as_ref().map_or(0, Hashing::bytes)
    }

    /// Why a write failed, for callers whose own error has swallowed the reason.
    pub fn failure(&self) -> Option<StoreError> {
        let error = io::Error::from_raw_os_error(self.errno?);
        Some(StoreError::at("write", &self.path, error))
    }

    /// Forgets what was written, for a sender that cannot resume.
    ///
    /// # Errors
    /// When the file cannot be truncated.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        if let Some(hashing) = self.file.take() {
            let (mut file, ..) = hashing.finish();
            file.set_len(0).at("truncate", &self.path)?;
            file.rewind().at("rewind", &self.path)?;
            self.file = Some(Hashing::new(file));
        }
        Ok(())
    }

    /// Puts the blob into the store and says its digest and its size in bytes.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when it is not the `expected` one: then nothing is stored.
    pub fn finish(mut self, expected: Option<&Digest>) -> Result<(Digest, u64), StoreError> {
        let Some(hashing) = self.file.take() else {
            // `restart` failed before; what is in the file is nobody's content.
            return Err(StoreError::Corrupt {
                path: self.path.clone(),
                reason: "it could not be written anew".into(),
            });
        };
        let (file, digest, size) = hashing.finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(StoreError::DigestMismatch {
                what: format!("the blob of {size} bytes"),
                expected: expected.clone(),
                found: digest,
            });
        }
        if !self.store.has_blob(&digest) {
            self.publish(&file, &digest, size)?;
        }
        Ok((digest, size))
    }

    fn publish(&self, file: &File, digest: &Digest, size: u64) -> Result<(), StoreError> {
        if size <= SMALL {
            sync_file(file).at("sync", &self.path)?;
            mark_settled(&self.path)?;
        } else {
            let readable = Permissions::from_mode(0o644);
            file.set_permissions(readable)
                .at("change the mode of", &self.path)?;
            self.store.fresh().blobs.insert(digest.clone());
        }
        let path = self.store.blob_path(digest);
        self.store.hold(Place::blob(digest.hex()))?;
        fs::rename(&self.path, &path).at("publish the blob", &path)?;
        self.store.own().written.push(path);
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let result = file.write(bytes);
        result.map_err(|error| {
            self.errno = error.raw_os_error();
            StoreError::at("write", &self.path, error).into_io()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After `finish` the name is gone from `tmp/` and this finds nothing.
        discard(&self.path);
    }
}

fn digest_of_file(path: &std::path::Path) -> io::Result<Digest> {
    let mut hashing = Hashing::new(File::open(path)?);
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hashing.finish().1)
}
