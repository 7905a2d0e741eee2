//! An OCI image layout as a directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use super::parts::{Blob, Source, add_entries, blobs, index_json};
use super::{OpenBlob, OutputError};
use crate::image::ImageParts;
use crate::image::{Digest, Hashing};

/// The content of `oci-layout`.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes images to the layout in `dir`, which is made or added to.
///
/// Blobs come first and `index.json` last, each by rename: a reader never finds half of an image.
///
/// # Errors
/// When `dir` is a directory of something else, when a blob cannot be read or is not what its
/// manifest says, when the disk refuses.
pub fn write_layout(
    dir: &Path,
    images: &[ImageParts],
    open: &OpenBlob<'_>,
) -> Result<(), OutputError> {
    let blob_dir = dir.join("blobs/sha256");
    let mut manifests = existing(dir)?;
    fs::create_dir_all(&blob_dir).map_err(at("make", &blob_dir))?;
    for (digest, blob) in blobs(images)? {
        let path = blob_dir.join(digest.hex());
        let is_there = fs::metadata(&path).is_ok_and(|found| found.len() == blob.size);
        if !is_there {
            replace(&path, |file| copy_blob(&digest, &blob, open, file))?;
        }
    }
    add_entries(&mut manifests, images)?;
    let whole = |path: &Path, bytes: &[u8]| {
        replace(path, |file| {
            file.write_all(bytes).map_err(at("write", path))
        })
    };
    whole(&dir.join("oci-layout"), OCI_LAYOUT)?;
    whole(&dir.join("index.json"), &index_json(manifests))
}

/// Copies a blob and checks that it is what its manifest says.
pub(super) fn copy_blob(
    digest: &Digest,
    blob: &Blob<'_>,
    open: &OpenBlob<'_>,
    out: &mut dyn Write,
) -> Result<(), OutputError> {
    let bytes = match blob.source {
        Source::Bytes(bytes) => {
            return out
                .write_all(bytes)
                .map_err(|source| OutputError::Archive { source });
        }
        Source::Store => open(digest),
    };
    let failed = |source| OutputError::Blob {
        digest: digest.clone(),
        source,
    };
    let mut reader = Hashing::new(io::Read::take(bytes.map_err(failed)?, blob.size + 1));
    let found = io::copy(&mut reader, out).map_err(failed)?;
    if found != blob.size {
        return Err(OutputError::Size {
            digest: digest.clone(),
            expected: blob.size,
            found,
        });
    }
    let (_, content, _) = reader.finish();
    if content != *digest {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("its content is {content}"),
        )));
    }
    Ok(())
}

/// The entries of a layout that is there already.
fn existing(dir: &Path) -> Result<Vec<Value>, OutputError> {
    let path = dir.join("index.json");
    let no_layout = |reason: String| OutputError::NoLayout {
        path: dir.to_owned(),
        reason,
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_used = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
            return if is_used {
                Err(no_layout("it holds files but no index.json".into()))
            } else {
                Ok(Vec::new())
            };
        }
        Err(error) => return Err(at("read", &path)(error)),
    };
    let mut index: Value = serde_json::from_slice(&bytes)
        .map_err(|error| no_layout(format!("index.json: {error}")))?;
    match index["manifests"].take() {
        Value::Array(manifests) => Ok(manifests),
        _ => Err(no_layout("index.json lists no manifests".into())),
    }
}

fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let tmp = path.with_extension(format!("tmp-{}", std::process::id()));
    let result = File::create(&tmp)
        .map_err(at("make", &tmp))
        .and_then(|mut file| write(&mut file))
        .and_then(|()| fs::rename(&tmp, path).map_err(at("write", path)));
    if result.is_err() {
        // The first error is the one to report.
        drop(fs::remove_file(&tmp));
    }
    result
}

fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OutputError + 'a {
    move |source| OutputError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
