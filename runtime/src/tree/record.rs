//! [`Record`]: what a kept tree stands for.
//!
//! ```text
//! DIR/NAME/record     the layers, and which names are one file; there only while the tree is exactly that
//! DIR/NAME/snapshot   what the tree was when the record was written
//! ```
//!
//! The record is the mark that the tree is clean: it is deleted before the first change and written,
//! by renaming, after the last one and after the snapshot. Neither is synced, so a record of another
//! boot is not believed: a machine that lost power may have kept it and lost files of the tree.
//!
//! A layer is known by its directory: where it lies, relative to the place that the layers and the trees
//! have in common, its inode and its time of birth. One that is not found so is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::fill::Links;
use super::snapshot::Snapshot;
use super::written::{Reader, Writer};
use super::{Layer, identity};
use crate::roots::Diff;

/// The form; another one is another word.
const FORM: &[u8] = b"lapstrake tree 1";
const RECORD: &str = "record";
const SNAPSHOT: &str = "snapshot";

/// Names of files that have several in their layer: the layer's place from below, and the inode there.
pub type Linked = BTreeMap<PathBuf, (usize, u64)>;

/// What a tree stands for.
#[derive(Debug, Default)]
pub struct Record {
    /// Lowest first.
    pub layers: Vec<Layer>,
    pub linked: Linked,
    /// Names that are one file in the tree.
    pub joined: Links,
}

/// Whether the tree in `dir` is marked as clean.
pub fn is_there(dir: &Path) -> bool {
    dir.join(RECORD).symlink_metadata().is_ok()
}

/// When the tree was used last; none if it is not clean.
pub fn used(dir: &Path) -> Option<SystemTime> {
    let found = dir.join(RECORD).symlink_metadata().ok()?;
    found.modified().ok()
}

/// Notes that the clean tree is used now.
pub fn note_use(dir: &Path) -> io::Result<()> {
    let file = fs::File::options().write(true).open(dir.join(RECORD))?;
    file.set_modified(SystemTime::now())
}

/// Takes the mark away.
pub fn erase(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Writes the snapshot and then the record of the tree in `dir`; layers lie below `base`.
pub fn write(
    dir: &Path,
    base: &Path,
    boot: &str,
    record: &Record,
    now: &Snapshot,
) -> io::Result<()> {
    let mut writer = Writer::default();
    now.write(&mut writer);
    fs::write(dir.join(SNAPSHOT), writer.done())?;
    let mut writer = Writer::default();
    writer.bytes(FORM);
    writer.bytes(boot.as_bytes());
    writer.list(record.layers.iter(), |writer, layer| {
        write_layer(writer, base, layer);
    });
    writer.list(record.linked.iter(), |writer, (path, (layer, inode))| {
        writer.path(path);
        writer.number(*layer as u64);
        writer.number(*inode);
    });
    writer.list(record.joined.iter(), |writer, names| {
        writer.list(names.iter(), |writer, path| writer.path(path));
    });
    let new = dir.join("record.new");
    fs::write(&new, writer.done())?;
    fs::rename(new, dir.join(RECORD))
}

/// Reads the record of the tree in `dir`, if it is clean and every layer is still there.
pub fn read(dir: &Path, base: &Path, boot: &str) -> Option<Record> {
    let bytes = fs::read(dir.join(RECORD)).ok()?;
    let mut reader = Reader::new(&bytes);
    if reader.bytes()? != FORM || reader.bytes()? != boot.as_bytes() {
        return None;
    }
    let record = Record {
        layers: reader.list(|reader| read_layer(reader, base))?,
        linked: reader
            .list(|reader| {
                let path = reader.path()?;
                let layer = usize::try_from(reader.number()?).ok()?;
                Some((path, (layer, reader.number()?)))
            })?
            .into_iter()
            .collect(),
        joined: reader.list(|reader| reader.list(Reader::path))?,
    };
    reader.is_done().then_some(record)
}

/// Reads the snapshot that goes with a record.
pub fn read_snapshot(dir: &Path) -> Option<Snapshot> {
    let bytes = fs::read(dir.join(SNAPSHOT)).ok()?;
    let mut reader = Reader::new(&bytes);
    let snapshot = Snapshot::read(&mut reader)?;
    reader.is_done().then_some(snapshot)
}

fn write_layer(writer: &mut Writer, base: &Path, layer: &Layer) {
    let Layer { identity, diff } = layer;
    writer.path(diff.dir.strip_prefix(base).unwrap_or(&diff.dir));
    writer.number(identity.1);
    let born = since_1970(identity.2);
    writer.number(born.as_secs());
    writer.small(born.subsec_nanos());
    for paths in [&diff.deleted, &diff.opaque] {
        writer.list(paths.iter(), |writer, path| writer.path(path));
    }
}

fn read_layer(reader: &mut Reader<'_>, base: &Path) -> Option<Layer> {
    let dir = base.join(reader.path()?);
    let inode = reader.number()?;
    let born = Duration::new(reader.number()?, reader.small()?);
    let diff = Diff {
        deleted: reader.list(Reader::path)?,
        opaque: reader.list(Reader::path)?,
        dir,
    };
    let identity = identity(&diff.dir).ok()?;
    let is_same = identity.1 == inode && since_1970(identity.2) == born;
    is_same.then_some(Layer { identity, diff })
}

/// A time of birth; zero where the file system knows none.
fn since_1970(time: Option<SystemTime>) -> Duration {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.unwrap_or_default()
}
