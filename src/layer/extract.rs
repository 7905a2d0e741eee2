//! [`Extractor`]: entries of an archive become files of a [`Target`].
//!
//! Names are taken relative to a base directory, `..` in them is refused. A symbolic link among the
//! parents of an entry is followed with the base as `/`, so nothing outside is reached; the entry
//! itself replaces whatever has its name, and never goes through a link. A hard link goes to an
//! entry inside the base. Parents that no entry has made are made, mode 0755. Devices are recorded,
//! never made; of the extended attributes `security.capability` is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, XattrFlags, mknodat, openat};

use super::tar::{Entry, Kind, TarReader};
use super::target::{Content, Meta, Target, TargetError};
use super::{LayerError, Mark, disk};
use crate::rootfs::{RootDir, RootPath};

/// Mode of a directory that no entry describes.
const IMPLIED_MODE: u32 = 0o755;
/// The name that deletes everything that lower layers have in its directory.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Names of aufs' own bookkeeping, which some old layers carry.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What an archive means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// An OCI layer: `.wh.` names are deletions, the entry `./` describes the root.
    Layer,
    /// An archive that is added to an image: all belong to `chown` if given, the entry `./` does
    /// not change the directory that is there.
    Archive { chown: Option<(u32, u32)> },
}

/// Extracts one archive.
pub(super) struct Extractor<'t, 'a> {
    target: &'t mut Target<'a>,
    base: RootPath,
    base_dir: RootDir,
    rules: Rules,
    /// The directory of the last entry: as the archive names it, and where it is.
    parent: Option<(RootPath, RootPath)>,
    /// Times that directories get when nothing more is made in them.
    times: BTreeMap<RootPath, (i64, u32)>,
    /// Directories that were made for what lies in them and that no entry has described.
    implied: BTreeSet<RootPath>,
}

impl<'t, 'a> Extractor<'t, 'a> {
    /// Extracts below `base`, an existing directory given by its resolved path.
    pub(super) fn new(
        target: &'t mut Target<'a>,
        base: &RootPath,
        rules: Rules,
    ) -> Result<Self, LayerError> {
        let base_dir = target
            .root()
            .open_dir(base)
            .map_err(LayerError::disk("open the directory", base))?;
        Ok(Self {
            target,
            base: base.clone(),
            base_dir: RootDir::from_fd(base_dir),
            rules,
            parent: None,
            times: BTreeMap::new(),
            implied: BTreeSet::new(),
        })
    }

    /// Extracts every entry; gives the directories that no entry describes, parents first.
    pub(super) fn run<R: Read>(
        mut self,
        archive: &mut TarReader<R>,
    ) -> Result<Vec<RootPath>, LayerError> {
        while let Some(entry) = archive.next_entry()? {
            self.entry(&entry, archive)?;
        }
        for (path, mtime) in &self.times {
            self.target.set_times(path, *mtime)?;
        }
        Ok(self.implied.into_iter().collect())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let path = relative(&entry.name).map_err(|reason| refused(entry, reason))?;
        let (Some(lexical), Some(name)) = (path.parent(), path.file_name()) else {
            return self.root(entry);
        };
        match self.deletion(&path) {
            Deletion::No => {}
            Deletion::Ignored => return Ok(()),
            Deletion::Refused(reason) => return Err(refused(entry, reason)),
            Deletion::Opaque => {
                let dir = self.parent(entry, &lexical)?;
                return self.set_opaque(&dir);
            }
            Deletion::Of(name) => {
                let dir = self.parent(entry, &lexical)?;
                return self.delete(&dir.join(OsStr::from_bytes(&name)));
            }
        }
        let path = self.parent(entry, &lexical)?.join(name);
        match entry.kind {
            Kind::Directory => self.directory(entry, &path),
            Kind::HardLink => self.hard_link(entry, &path),
            _ => self.make(entry, &path, archive),
        }
    }

    /// The entry `./` itself.
    fn root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(refused(entry, "the root can only be a directory"));
        }
        if self.rules == Rules::Layer {
            let root = RootPath::root();
            self.target.set_metadata(&root, &self.meta(entry))?;
            self.times.insert(root, entry.mtime);
        }
        Ok(())
    }

    fn deletion(&self, path: &RootPath) -> Deletion {
        let names: Vec<&[u8]> = path.components().map(OsStr::as_bytes).collect();
        let is_mark = |name: &&[u8]| name.starts_with(disk::WHITEOUT_PREFIX);
        if !names.iter().any(is_mark) {
            return Deletion::No;
        }
        if self.rules != Rules::Layer {
            return Deletion::Refused("in a layer its name would mean a deletion");
        }
        let [parents @ .., last] = &names[..] else {
            return Deletion::No;
        };
        if *last == OPAQUE_NAME && !parents.iter().any(is_mark) {
            return Deletion::Opaque;
        }
        if names.iter().any(|name| name.starts_with(AUFS_PREFIX)) {
            return Deletion::Ignored;
        }
        match last.strip_prefix(disk::WHITEOUT_PREFIX) {
            _ if parents.iter().any(is_mark) => {
                Deletion::Refused("it lies below a name that means a deletion")
            }
            Some(b"" | b"." | b"..") => Deletion::Refused("it deletes no name"),
            Some(name) => Deletion::Of(name.to_vec()),
            None => Deletion::No,
        }
    }

    /// Where the directory `lexical` of the archive is; it is made if it is not there.
    fn parent(&mut self, entry: &Entry, lexical: &RootPath) -> Result<RootPath, LayerError> {
        if let Some((known, resolved)) = &self.parent
            && known == lexical
        {
            return Ok(resolved.clone());
        }
        let inside = self
            .base_dir
            .canonicalize(lexical)
            .map_err(LayerError::disk("resolve", lexical))?;
        let resolved = self.base.join(inside.relative());
        self.ensure_directory(entry, &resolved)?;
        self.parent = Some((lexical.clone(), resolved.clone()));
        Ok(resolved)
    }

    fn ensure_directory(&mut self, entry: &Entry, path: &RootPath) -> Result<(), LayerError> {
        let stat = match self.target.stat(path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotADirectory => None,
            result => result?,
        };
        let was_deleted = self.is_deleted(path, stat.as_ref());
        match stat {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Ok(());
            }
            Some(_) if was_deleted => {
                self.target.remove_file(path)?;
            }
            Some(_) => return Err(refused(entry, format!("{path} is not a directory"))),
            None => {}
        }
        if let Some(parent) = path.parent() {
            self.ensure_directory(entry, &parent)?;
        }
        let mut meta = Meta::root_owned(IMPLIED_MODE);
        match self.rules {
            Rules::Layer => drop(self.times.insert(path.clone(), (0, 0))),
            Rules::Archive { chown } => (meta.uid, meta.gid) = chown.unwrap_or_default(),
        }
        self.target.create_dir(path, &meta)?;
        self.implied.insert(path.clone());
        if was_deleted {
            self.set_opaque(path)?;
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, path: &RootPath) -> Result<(), LayerError> {
        let meta = self.meta(entry);
        let existing = self.target.stat(path)?;
        let was_deleted = self.is_deleted(path, existing.as_ref());
        match existing {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.target.set_metadata(path, &meta)?;
            }
            existing => {
                if existing.is_some() {
                    // A link in its place may have been the way to the last parent.
                    self.parent = None;
                    self.target.remove_file(path)?;
                }
                self.target.create_dir(path, &meta)?;
            }
        }
        if was_deleted {
            self.set_opaque(path)?;
        }
        self.times.insert(path.clone(), entry.mtime);
        self.implied.remove(path);
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &RootPath) -> Result<(), LayerError> {
        let shown = String::from_utf8_lossy(&entry.link).into_owned();
        let link = relative(&entry.link)
            .map_err(|reason| refused(entry, format!("its link target {shown}: {reason}")))?;
        let (Some(lexical), Some(name)) = (link.parent(), link.file_name()) else {
            return Err(refused(entry, "it is a hard link to the root"));
        };
        let inside = self
            .base_dir
            .canonicalize(&lexical)
            .map_err(LayerError::disk("resolve", &lexical))?;
        let existing = self.base.join(inside.relative()).join(name);
        if existing == *path {
            return Err(refused(entry, "it is a hard link to itself"));
        }
        match self.target.stat(&existing)? {
            stat if self.is_deleted(&existing, stat.as_ref()) => {
                return Err(refused(
                    entry,
                    format!("it is a hard link to {shown}, a deletion"),
                ));
            }
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(refused(
                    entry,
                    format!("it is a hard link to {shown}, a directory"),
                ));
            }
            Some(_) => {}
            None => {
                let reason = format!("it is a hard link to {shown}, which is not there");
                return Err(refused(entry, reason));
            }
        }
        self.replacing(path, |target| target.hardlink(path, &existing))
    }

    /// Makes an entry that is neither a directory nor a hard link.
    fn make<R: Read>(
        &mut self,
        entry: &Entry,
        path: &RootPath,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let meta = self.meta(entry);
        match entry.kind {
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(refused(entry, "it is a symbolic link without a target"));
                }
                let link = OsStr::from_bytes(&entry.link);
                self.replacing(path, |target| target.create_symlink(path, link, &meta))
            }
            Kind::Fifo => self.replacing(path, |target| target.create_fifo(path, &meta)),
            Kind::CharacterDevice | Kind::BlockDevice => {
                let kind = match entry.kind {
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::CharacterDevice,
                };
                let make =
                    |target: &mut Target<'_>| target.create_device(path, kind, entry.rdev, &meta);
                self.replacing(path, make)
            }
            _ => self.replacing(path, |target| {
                let mut content = archive.content();
                let content = Content::Reader(&mut content);
                target.create_file(path, content, &meta).map(drop)
            }),
        }
    }

    /// Runs `make`, and again when what was in its way is gone.
    fn replacing(
        &mut self,
        path: &RootPath,
        mut make: impl FnMut(&mut Target<'a>) -> Result<(), TargetError>,
    ) -> Result<(), LayerError> {
        match make(self.target) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
            result => return Ok(result?),
        }
        self.parent = None;
        self.times.retain(|dir, _| !dir.starts_with(path));
        self.implied.retain(|dir| !dir.starts_with(path));
        self.target.remove_tree(path)?;
        Ok(make(self.target)?)
    }

    fn meta(&self, entry: &Entry) -> Meta {
        let (uid, gid) = match self.rules {
            Rules::Archive { chown: Some(owner) } => owner,
            _ => (entry.uid, entry.gid),
        };
        let name = disk::CAPABILITY.to_bytes();
        let capability = entry.xattrs.get(name).map(|value| {
            let value = disk::canonical_capability(value.clone());
            (name.to_vec(), value)
        });
        Meta {
            uid,
            gid,
            mode: entry.mode,
            mtime: Some(entry.mtime),
            xattrs: capability.into_iter().collect(),
        }
    }

    /// Whether the entry with this `stat`, or none, marks a deletion.
    fn is_deleted(&self, path: &RootPath, stat: Option<&rustix::fs::Stat>) -> bool {
        let marks = self.target.attributes().marks();
        self.rules == Rules::Layer
            && match stat {
                Some(stat) => disk::is_whiteout(stat),
                None => marks.is_some_and(|marks| marks.is_deleted(path)),
            }
    }

    /// Hides what lower layers have in `dir`.
    fn set_opaque(&mut self, dir: &RootPath) -> Result<(), LayerError> {
        if self.target.mark(dir, Mark::Opaque) {
            return Ok(());
        }
        let failed = || LayerError::disk::<rustix::io::Errno>("mark as opaque", dir);
        let (parent, name) = self.target.parent_of(dir)?;
        let flags = disk::DIRECTORY_FLAGS;
        let fd = openat(&*parent, name, flags, Mode::empty()).map_err(failed())?;
        rustix::fs::fsetxattr(&fd, disk::OPAQUE, b"y", XattrFlags::empty()).map_err(failed())
    }

    /// Hides what lower layers have at `path`, and nothing that this layer has there.
    fn delete(&mut self, path: &RootPath) -> Result<(), LayerError> {
        match self.target.stat(path)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.set_opaque(path)
            }
            Some(_) => Ok(()),
            None if self.target.mark(path, Mark::Deleted) => Ok(()),
            None => {
                let (parent, name) = self.target.parent_of(path)?;
                let kind = FileType::CharacterDevice;
                mknodat(&*parent, name, kind, Mode::empty(), 0)
                    .map_err(LayerError::disk("make the whiteout", path))
            }
        }
    }
}

/// What a name says in a layer beside naming a file.
enum Deletion {
    No,
    /// Everything that lower layers have in the directory.
    Opaque,
    /// One name that lower layers have.
    Of(Vec<u8>),
    Ignored,
    Refused(&'static str),
}

/// A name of an archive as a path below the base.
fn relative(name: &[u8]) -> Result<RootPath, &'static str> {
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.contains(&0) {
        return Err("its name holds a NUL");
    }
    if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err("its name leads upwards with ..");
    }
    let start = name
        .iter()
        .position(|byte| *byte != b'/')
        .unwrap_or(name.len());
    Ok(RootPath::new(OsStr::from_bytes(&name[start..])))
}

fn refused(entry: &Entry, reason: impl Into<String>) -> LayerError {
    LayerError::Refused {
        name: entry.shown(),
        reason: reason.into(),
    }
}
