//! Archives that `ADD` extracts: [`sniff_archive`] and [`extract_archive`].

use std::io::{self, Read, Seek, SeekFrom};

use super::extract::{Extractor, Rules};
use super::tar::{BLOCK, TarReader, is_header};
use super::target::{Meta, Target};
use super::{Decoder, LayerError};
use crate::rootfs::RootPath;

/// Mode of the destination when it has to be made.
const DESTINATION_MODE: u32 = 0o755;

/// Whether `file`, decompressed if it is compressed, begins with a tar header (spec S7).
///
/// The name is not asked. The position is put back to where it was.
///
/// # Errors
/// Those of reading `file`; damaged compressed data is no archive and no error.
pub fn sniff_archive<F: Read + Seek>(file: &mut F) -> io::Result<bool> {
    let start = file.stream_position()?;
    let found = begins_with_header(&mut *file);
    file.seek(SeekFrom::Start(start))?;
    Ok(found)
}

fn begins_with_header(file: impl Read) -> bool {
    let mut block = [0; BLOCK];
    let read = Decoder::new(file).and_then(|mut decoder| decoder.read_exact(&mut block));
    read.is_ok() && is_header(&block)
}

/// Extracts the archive `reader`, in any compression, below `dest`, a path inside `target` whose
/// links are followed and which is made if it is missing.
///
/// Numeric owners of the archive are kept unless `chown` gives one for all. Links in the archive
/// cannot lead out of `dest`. An entry `./` changes nothing (spec S7). Unlike a layer's, names that
/// would mean a deletion are refused.
///
/// # Errors
/// For a damaged archive, an entry that must not be extracted, and what the disk refuses.
pub fn extract_archive<R: Read>(
    reader: R,
    target: &mut Target<'_>,
    dest: &RootPath,
    chown: Option<(u32, u32)>,
) -> Result<(), LayerError> {
    let dest = target.resolve(dest)?;
    make_directories(target, &dest, chown.unwrap_or_default())?;
    let decoder = Decoder::new(reader).map_err(LayerError::stream("read the archive"))?;
    let mut archive = TarReader::new(decoder);
    Extractor::new(target, &dest, Rules::Archive { chown })?.run(&mut archive)?;
    archive.drain()
}

fn make_directories(
    target: &mut Target<'_>,
    path: &RootPath,
    (uid, gid): (u32, u32),
) -> Result<(), LayerError> {
    if target.stat(path)?.is_some() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directories(target, &parent, (uid, gid))?;
    }
    let meta = Meta {
        uid,
        gid,
        ..Meta::root_owned(DESTINATION_MODE)
    };
    Ok(target.create_dir(path, &meta)?)
}

#[cfg(test)]
mod tests;
