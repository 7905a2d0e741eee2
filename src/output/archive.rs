//! An image layout as a tar, with Docker's `manifest.json` if it is to be read by `docker load`.
//!
//! Both kinds hold `oci-layout`, `index.json` and `blobs/sha256/…`; a docker archive also holds
//! `manifest.json` and `repositories`, which point to the same blobs. Equal images give equal
//! bytes: entries are sorted, owned by nobody in particular and as old as the epoch.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use super::layout::{OCI_LAYOUT, copy_blob};
use super::parts::{add_entries, blobs, index_json};
use super::{OpenBlob, OutputError};
use crate::image::ImageParts;

/// Which readers an archive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// Readers of OCI layouts.
    Oci,
    /// `docker load` and whatever reads its archives; readers of OCI layouts too.
    Docker,
}

/// Size of a tar block.
const BLOCK: u64 = 512;

/// Writes images as one archive to `out`, which is flushed.
///
/// # Errors
/// When a blob cannot be read or is not what its manifest says, when `out` takes no more.
pub fn write_archive(
    out: &mut dyn Write,
    kind: ArchiveKind,
    images: &[ImageParts],
    open: &OpenBlob<'_>,
) -> Result<(), OutputError> {
    let mut manifests = Vec::new();
    add_entries(&mut manifests, images)?;
    let mut archive = Archive { out };
    archive.file("index.json", &index_json(manifests))?;
    if kind == ArchiveKind::Docker {
        let mut repositories = BTreeMap::new();
        let entries = images
            .iter()
            .map(|image| image.docker_entry(&mut repositories))
            .collect::<Result<Vec<Value>, _>>()?;
        archive.file("manifest.json", Value::from(entries).to_string().as_bytes())?;
        archive.file("oci-layout", OCI_LAYOUT)?;
        archive.file(
            "repositories",
            serde_json::json!(repositories).to_string().as_bytes(),
        )?;
    } else {
        archive.file("oci-layout", OCI_LAYOUT)?;
    }
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    for (digest, blob) in blobs(images)? {
        let name = format!("blobs/sha256/{}", digest.hex());
        archive.header(&name, blob.size, tar::EntryType::Regular)?;
        copy_blob(&digest, &blob, open, archive.out)?;
        archive.pad(blob.size)?;
    }
    archive.finish()
}

struct Archive<'a> {
    out: &'a mut dyn Write,
}

impl Archive<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let size = bytes.len() as u64;
        self.header(name, size, tar::EntryType::Regular)?;
        self.write(bytes)?;
        self.pad(size)
    }

    fn directory(&mut self, name: &str) -> Result<(), OutputError> {
        self.header(name, 0, tar::EntryType::Directory)
    }

    fn header(&mut self, name: &str, size: u64, kind: tar::EntryType) -> Result<(), OutputError> {
        let mut header = tar::Header::new_ustar();
        header
            .set_path(name)
            .map_err(|source| OutputError::Archive { source })?;
        let is_dir = kind == tar::EntryType::Directory;
        header.set_entry_type(kind);
        header.set_mode(if is_dir { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<(), OutputError> {
        let rest = (BLOCK - size % BLOCK) % BLOCK;
        self.write(&[0; BLOCK as usize][..rest as usize])
    }

    fn finish(mut self) -> Result<(), OutputError> {
        self.write(&[0; 2 * BLOCK as usize])?;
        self.out
            .flush()
            .map_err(|source: io::Error| OutputError::Archive { source })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.out
            .write_all(bytes)
            .map_err(|source| OutputError::Archive { source })
    }
}
