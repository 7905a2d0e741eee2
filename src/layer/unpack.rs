//! [`unpack`]: a blob becomes the `diff/` and `attributes` of a layer.
//!
//! One thread decompresses and hashes, the caller's makes the files; between them lie a few chunks.
//! OCI whiteouts become overlayfs form, in either order with an entry of the same name: a deleted
//! directory that the layer has itself is opaque, anything else of its own hides what was there
//! anyway. A link among the parents of an entry is resolved inside the layer; one that only a lower
//! layer has is not seen, and the parent becomes a directory of this layer.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::extract::{Extractor, Rules};
use super::tar::TarReader;
use super::target::{Ids, Meta, Target};
use super::{Attributes, Decoder, LayerError, LayerStack};
use crate::image::{Digest, Hashing};
use crate::rootfs::{RootDir, RootPath};

/// Decompressed bytes handed over at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait.
const QUEUE: usize = 8;

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the decompressed tar, all of it.
    pub diff_id: Digest,
    /// Its length in bytes.
    pub diff_size: u64,
    /// Directories that the layer needs but does not describe: they got mode 0755, owner 0:0 and
    /// time zero, which need not be what a lower layer has there: see [`adopt_implied`].
    pub implied: Vec<RootPath>,
}

/// Unpacks the layer blob `reader`, in any compression, to `staging/diff` and
/// `staging/attributes`.
///
/// `reader` is read to its end, so that a digest computed on the way is complete. `ids` says which
/// owners the disk can hold; the others are recorded.
///
/// # Errors
/// For a damaged archive, an entry that must not be extracted, and what the disk refuses; `staging`
/// is then to be thrown away.
pub fn unpack<R: Read + Send>(
    reader: R,
    staging: &Path,
    ids: &dyn Ids,
) -> Result<Unpacked, LayerError> {
    let diff = staging.join("diff");
    std::fs::create_dir(&diff).map_err(LayerError::disk("create", diff.display()))?;
    let root = RootDir::open(&diff).map_err(LayerError::disk("open", diff.display()))?;
    let mut target = Target::new(root, ids);
    let mut meta = Meta::root_owned(0o755);
    meta.mtime = Some((0, 0));
    target.set_metadata(&RootPath::root(), &meta)?;
    let (chunks, input) = sync_channel(QUEUE);
    let (extracted, decoded) = thread::scope(|scope| {
        let decoder = thread::Builder::new()
            .spawn_scoped(scope, move || decode(reader, &chunks))
            .map_err(LayerError::stream("start a thread to read the layer"))?;
        let extracted = extract(&mut target, input);
        Ok::<_, LayerError>((extracted, decoder.join()))
    })?;
    let implied = extracted?;
    let Ok(Some((diff_id, diff_size))) = decoded else {
        let lost = io::Error::other("the thread that reads it ended early");
        return Err(LayerError::stream("read the layer")(lost));
    };
    target.into_attributes().save(staging)?;
    Ok(Unpacked {
        diff_id,
        diff_size,
        implied,
    })
}

/// Gives the directories that a layer needs but does not describe ([`Unpacked::implied`]) what the
/// layers `below` have there, as if the layer had been unpacked on top of them.
///
/// To be called before `staging` is published, if the layer is kept for this one stack. What is no
/// directory below stays as it is.
///
/// # Errors
/// What the disk refuses; `staging` is then to be thrown away.
pub fn adopt_implied(
    staging: &Path,
    below: &LayerStack,
    implied: &[RootPath],
    ids: &dyn Ids,
) -> Result<(), LayerError> {
    let diff = staging.join("diff");
    let root = RootDir::open(&diff).map_err(LayerError::disk("open", diff.display()))?;
    let mut target = Target::new(root, ids).with_attributes(Attributes::load(staging)?);
    for path in implied {
        if let Some(truth) = below.directory(path)? {
            target.set_metadata(path, &truth.to_meta())?;
        }
    }
    target.into_attributes().save(staging)
}

fn extract(
    target: &mut Target<'_>,
    input: Receiver<io::Result<Vec<u8>>>,
) -> Result<Vec<RootPath>, LayerError> {
    let mut archive = TarReader::new(Chunks::new(input));
    let implied = Extractor::new(target, &RootPath::root(), Rules::Layer)?.run(&mut archive)?;
    archive.drain()?;
    Ok(implied)
}

/// Decompresses `reader` into `chunks`; nothing when the other side has gone or an error was sent.
fn decode<R: Read>(reader: R, chunks: &SyncSender<io::Result<Vec<u8>>>) -> Option<(Digest, u64)> {
    let mut input = match Decoder::new(reader) {
        Ok(decoder) => Hashing::new(decoder),
        Err(error) => return give_up(chunks, error),
    };
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        match (&mut input).take(CHUNK as u64).read_to_end(&mut chunk) {
            Ok(0) => {
                let (_, digest, size) = input.finish();
                return Some((digest, size));
            }
            Ok(_) => match chunks.send(Ok(chunk)) {
                Ok(()) => {}
                Err(_) => return None,
            },
            Err(error) => return give_up(chunks, error),
        }
    }
}

fn give_up<T>(chunks: &SyncSender<io::Result<Vec<u8>>>, error: io::Error) -> Option<T> {
    // Who hung up has an error of its own to tell.
    drop(chunks.send(Err(error)));
    None
}

/// The receiving end as a reader.
struct Chunks {
    input: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    read: usize,
}

impl Chunks {
    fn new(input: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self {
            input,
            chunk: Vec::new(),
            read: 0,
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.chunk.len() {
            // A closed channel is the end: an error was sent as such before.
            let Ok(next) = self.input.recv() else {
                return Ok(0);
            };
            self.chunk = next?;
            self.read = 0;
        }
        let rest = &self.chunk[self.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
