//! [`export`]: a layer as a blob, with both of its digests, in one pass.

use std::io::Write;

use super::{Below, Compression, Compressor, Layer, LayerError, TarOptions, TarSummary, write_tar};
use crate::image::{Digest, Hashing};

/// A layer that was written as a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub diff_size: u64,
    /// Digest of the blob.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// What the tar has left out, a line each.
    pub warnings: Vec<String>,
}

/// Writes the canonical tar of `layer` on top of `below`, compressed, to `out`, which is flushed.
///
/// `threads` bounds the threads that compress; the bytes do not depend on it.
///
/// # Errors
/// Those of [`write_tar`], and [`LayerError::Stream`] for a level that does not exist.
pub fn export<W: Write>(
    below: &dyn Below,
    layer: &Layer,
    options: &TarOptions,
    compression: Compression,
    threads: usize,
    out: W,
) -> Result<Exported, LayerError> {
    let failed = || LayerError::stream("write the layer's blob");
    if compression == Compression::Uncompressed {
        let mut tar = Hashing::new(out);
        let summary = write_tar(below, layer, options, &mut tar)?;
        let (_, digest, size) = tar.finish();
        let blob = (digest.clone(), size);
        return Ok(Exported::new((digest, size), blob, summary));
    }
    let compressor = Compressor::new(compression, threads, Hashing::new(out)).map_err(failed())?;
    let mut tar = Hashing::new(compressor);
    let summary = write_tar(below, layer, options, &mut tar)?;
    let (compressor, diff_id, diff_size) = tar.finish();
    let mut packed = compressor.finish().map_err(failed())?;
    packed.flush().map_err(failed())?;
    let (_, blob, size) = packed.finish();
    Ok(Exported::new((diff_id, diff_size), (blob, size), summary))
}

impl Exported {
    fn new(diff: (Digest, u64), blob: (Digest, u64), summary: TarSummary) -> Self {
        Self {
            diff_id: diff.0,
            diff_size: diff.1,
            blob: blob.0,
            size: blob.1,
            warnings: summary.warnings,
        }
    }
}
