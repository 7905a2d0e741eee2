//! The contents of the files of a selection: those that are known are not opened, the others are
//! read on all cores.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Kind, failed};
use super::{CopyError, CopyOptions, Source};
use crate::cache::FileDigests;
use crate::layer::Meta;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// What the digest takes of a file.
pub(super) struct FileContent {
    pub sha256: [u8; 32],
    pub meta: Meta,
}

/// The contents of the regular files among `entries`, one place for each entry; of several names of one
/// file the first has it.
pub(super) fn read_contents(
    entries: &[Entry],
    source: &Source<'_>,
    options: &CopyOptions,
    known: &FileDigests,
) -> Result<Vec<Option<FileContent>>, CopyError> {
    let mut found: Vec<Option<FileContent>> = Vec::new();
    found.resize_with(entries.len(), || None);
    let mut unread = Vec::new();
    let mut linked = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.kind != Kind::File || (entry.truth.links > 1 && !linked.insert(entry.truth.inode))
        {
            continue;
        }
        match entry.state(source).and_then(|state| known.get(&state)) {
            Some(sha256) => {
                let meta = entry.meta(source, options, None)?;
                found[index] = Some(FileContent { sha256, meta });
            }
            None => unread.push(index),
        }
    }
    let read = |index: usize| read(&entries[index], source, options, known);
    for (index, content) in on_all_cores(&unread, WORTH_A_THREAD, read)? {
        found[index] = Some(content);
    }
    Ok(found)
}

fn read(
    entry: &Entry,
    source: &Source<'_>,
    options: &CopyOptions,
    known: &FileDigests,
) -> Result<FileContent, CopyError> {
    let (file, _) = entry.open(source)?;
    let sha256 = hash(&file).map_err(|error| failed(source, "read", &entry.path, error))?;
    if let Some(state) = entry.state(source) {
        let read = SystemTime::now();
        if entry.is_unchanged(&file) {
            known.put(&state, sha256, read);
        }
    }
    let meta = entry.meta(source, options, Some(&file))?;
    Ok(FileContent { sha256, meta })
}

fn hash(mut file: &File) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
    }
}

/// Fewer files than this are not worth a thread.
const WORTH_A_THREAD: usize = 64;

/// Does `job` for every index; of several failures gives the one that stands first. Fewer indices
/// than `worth` are no work for another thread.
pub(super) fn on_all_cores<T: Send, E: Send>(
    indices: &[usize],
    worth: usize,
    job: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<(usize, T)>, E> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.min(indices.len() / worth).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
            match job(*index) {
                Ok(result) => done.push((*index, result)),
                Err(error) => return Err((*index, error)),
            }
        }
        Ok(done)
    };
    let parts = std::thread::scope(|scope| {
        // A thread that cannot be started is one less: this one works, too.
        let helpers: Vec<_> = (1..workers)
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut parts = vec![work()];
        for helper in helpers {
            parts.push(
                helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        parts
    });
    let mut done = Vec::with_capacity(indices.len());
    let mut first: Option<(usize, E)> = None;
    for part in parts {
        match part {
            Ok(part) => done.extend(part),
            Err((index, error)) => {
                if first.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
                    first = Some((index, error));
                }
            }
        }
    }
    match first {
        Some((_, error)) => Err(error),
        None => Ok(done),
    }
}
