//! Importing: a root file system, as a tar or a directory, becomes an image of one layer.

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use super::TransferError;
use super::load::read_error;
use super::make::store_config;
use crate::image::manifest::{Descriptor, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::image::{Digest, Hashing, History, ImageConfig, Platform};
use crate::layer::{Decoder, LayerError, LayerStack, TarOptions, write_tree_tar};
use crate::rootfs::RootDir;
use crate::store::{BlobWriter, Store};

/// Enough to tell every compression by.
const MAGIC_LEN: u64 = 6;

/// What the image's configuration says.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// What the root file system is for.
    pub platform: Platform,
    /// When the image was made, RFC 3339.
    pub created: String,
    /// The comment in its history.
    pub message: String,
}

/// Makes an image of a root file system's tar, compressed or not, and gives its manifest, which
/// has no tag yet. `label` is what errors call the input.
///
/// A tar that registries know (plain, gzip, zstd) stays as it is; another is decompressed.
///
/// # Errors
/// When the input is no tar, cannot be read, or the store takes no more.
pub fn import_tar(
    store: &Store,
    mut input: impl Read,
    label: &str,
    options: &ImportOptions,
) -> Result<Descriptor, TransferError> {
    let unreadable = |error| read_error(label, error);
    let mut magic = Vec::new();
    (&mut input)
        .take(MAGIC_LEN)
        .read_to_end(&mut magic)
        .map_err(unreadable)?;
    let format = Decoder::new(Cursor::new(&magic))
        .map_err(unreadable)?
        .format();
    let media_type = match format {
        "gzip" => OCI_LAYER_GZIP,
        "zstd" => OCI_LAYER_ZSTD,
        _ => OCI_LAYER,
    };
    let mut writer = store.blob_writer()?;
    let input = Cursor::new(magic).chain(input);
    let diff_id = if matches!(format, "plain" | "gzip" | "zstd") {
        let mut tee = Tee {
            reader: input,
            writer: &mut writer,
        };
        let decoder = Decoder::new(&mut tee).map_err(unreadable)?;
        let diff_id = read_tar(decoder, label)?;
        io::copy(&mut tee, &mut io::sink()).map_err(unreadable)?;
        diff_id
    } else {
        let decoder = Decoder::new(input).map_err(unreadable)?;
        read_tar(
            Tee {
                reader: decoder,
                writer: &mut writer,
            },
            label,
        )?
    };
    let (digest, size) = writer.finish(None)?;
    let layer = Descriptor::new(media_type, &digest, size);
    one_layer(store, &diff_id, layer, options)
}

/// Makes an image of a directory's content and gives its manifest, which has no tag yet.
///
/// # Errors
/// When the directory cannot be read or the store takes no more.
pub fn import_dir(
    store: &Store,
    dir: &Path,
    options: &ImportOptions,
) -> Result<Descriptor, TransferError> {
    let root = RootDir::open(dir).map_err(|error| read_error(&dir.to_string_lossy(), error))?;
    let mut writer = store.blob_writer()?;
    let stack = LayerStack::default();
    write_tree_tar(&root, &stack, &TarOptions::default(), &mut writer).map_err(
        |error| match error {
            LayerError::Stream { source, .. } => read_error(&dir.to_string_lossy(), source),
            source => TransferError::Import {
                path: dir.to_owned(),
                source,
            },
        },
    )?;
    let (digest, size) = writer.finish(None)?;
    let layer = Descriptor::new(OCI_LAYER, &digest, size);
    one_layer(store, &digest, layer, options)
}

fn one_layer(
    store: &Store,
    diff_id: &Digest,
    layer: Descriptor,
    options: &ImportOptions,
) -> Result<Descriptor, TransferError> {
    let variant = &options.platform.variant;
    let mut config = ImageConfig {
        created: Some(options.created.clone()),
        architecture: options.platform.arch.clone(),
        os: options.platform.os.clone(),
        variant: (!variant.is_empty()).then(|| variant.clone()),
        history: vec![History {
            created: Some(options.created.clone()),
            comment: Some(options.message.clone()),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![diff_id.to_string()];
    Ok(store_config(store, &config, &[layer])?)
}

/// Reads a tar to its end and gives its digest; what is no tar, or an empty one, is refused.
fn read_tar(reader: impl Read, label: &str) -> Result<Digest, TransferError> {
    let mut hashing = Hashing::new(reader);
    let mut archive = tar::Archive::new(&mut hashing);
    let mut count = 0_u64;
    for entry in archive
        .entries()
        .map_err(|error| read_error(label, error))?
    {
        entry.map_err(|error| read_error(label, error))?;
        count += 1;
    }
    if count == 0 {
        return Err(TransferError::Archive {
            archive: label.to_owned(),
            reason: "it is no tar, or an empty one".into(),
        });
    }
    io::copy(&mut hashing, &mut io::sink()).map_err(|error| read_error(label, error))?;
    Ok(hashing.finish().1)
}

/// Writes down what is read.
struct Tee<'a, R> {
    reader: R,
    writer: &'a mut BlobWriter,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.writer.write_all(&buffer[..count])?;
        Ok(count)
    }
}
