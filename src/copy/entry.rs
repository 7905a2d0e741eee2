//! [`Entry`]: one thing that a `COPY` copies, and whether it still is what was selected.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{FileType, Mode, OFlags, Stat, readlinkat};
use rustix::io::Errno;

use super::{CopyError, CopyOptions, Source, SourceOwners};
use crate::cache::FileState;
use crate::layer::{Meta, Truth, read_xattrs};
use crate::rootfs::RootPath;

/// What a selected entry is made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A socket of the context: an empty file.
    Empty,
    Directory,
    Symlink(OsString),
    Fifo,
    Device,
}

/// One entry to be copied.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where it is in the source, with no link in its parents.
    pub path: RootPath,
    /// Where it is below the hit; the root for the hit itself.
    pub relative: RootPath,
    pub kind: Kind,
    pub truth: Truth,
    /// Whether `truth` has the extended attributes, or the file is to be asked.
    has_xattrs: bool,
    /// Whether it is only on the way to a match of `--parents`.
    pub on_the_way: bool,
    ctime: (i64, u64),
}

/// An entry, unless it is none, and whether its owner on the disk is not the one that counts.
pub(super) struct FoundEntry {
    pub entry: Option<Entry>,
    pub is_foreign: bool,
}

impl Entry {
    /// The entry of `stat`; none for a socket of a stage. `at` is its directory and its name there,
    /// which is empty when the descriptor is the entry itself.
    pub(super) fn find(
        source: &Source<'_>,
        path: RootPath,
        relative: RootPath,
        stat: &Stat,
        at: (&OwnedFd, &OsStr),
        name: &OsStr,
    ) -> Result<FoundEntry, CopyError> {
        if name.as_bytes().starts_with(b".wh.") {
            return Err(CopyError::WhiteoutName {
                path,
                place: source.place.to_owned(),
            });
        }
        let recorded = match source.owners {
            SourceOwners::Context => None,
            SourceOwners::Stage(lookup) => lookup(&path)
                .map_err(|error| failed(source, "read the metadata of", &path, error))?,
        };
        let mut truth = Truth::new(stat, recorded.as_ref());
        let in_context = matches!(source.owners, SourceOwners::Context);
        let is_foreign = in_context && (truth.uid, truth.gid) != (0, 0);
        if is_foreign {
            (truth.uid, truth.gid) = (0, 0);
        }
        let kind = match truth.file_type() {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Fifo => Kind::Fifo,
            FileType::Symlink => {
                let target = readlinkat(at.0, at.1, Vec::new())
                    .map_err(|error| failed(source, "read the link", &path, error.into()))?;
                Kind::Symlink(OsString::from_vec(target.into_bytes()))
            }
            FileType::Socket if in_context => {
                truth.mode = FileType::RegularFile.as_raw_mode() | 0o755;
                truth.size = 0;
                Kind::Empty
            }
            FileType::Socket => {
                return Ok(FoundEntry {
                    entry: None,
                    is_foreign,
                });
            }
            _ => Kind::Device,
        };
        if let Some(inputs) = source.inputs {
            match kind {
                Kind::File | Kind::Empty => {
                    inputs.add_file(&path, (stat.st_mtime, stat.st_mtime_nsec));
                }
                Kind::Symlink(_) => inputs.add_link(&path),
                _ => {}
            }
        }
        let entry = Entry {
            path,
            relative,
            has_xattrs: in_context || recorded.is_some() || kind != Kind::File,
            kind,
            truth,
            on_the_way: false,
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        };
        Ok(FoundEntry {
            entry: Some(entry),
            is_foreign,
        })
    }

    /// What tells this state of a context's file from any other. Files of a stage have none: an
    /// overlay gives them another device at every mount.
    pub(super) fn state(&self, source: &Source<'_>) -> Option<FileState> {
        let is_lasting = matches!(source.owners, SourceOwners::Context);
        is_lasting.then_some(FileState {
            inode: self.truth.inode,
            size: self.truth.size,
            mtime: self.truth.mtime,
            ctime: (self.ctime.0, u32::try_from(self.ctime.1).ok()?),
        })
    }

    /// Opens the regular file, which must still be the one that was selected.
    pub(super) fn open(&self, source: &Source<'_>) -> Result<(File, std::fs::Metadata), CopyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = source
            .root
            .open_at(&self.path, flags, Mode::empty())
            .and_then(|fd| {
                let file = File::from(fd);
                let metadata = file.metadata()?;
                Ok((file, metadata))
            });
        let (file, metadata) = match opened {
            Ok(opened) => opened,
            Err(error) if is_missing(&error) || is_loop(&error) => {
                return Err(self.changed(source));
            }
            Err(error) => return Err(failed(source, "open", &self.path, error)),
        };
        if self.is(&metadata) {
            Ok((file, metadata))
        } else {
            Err(self.changed(source))
        }
    }

    /// Whether the open file is still in the state in which it was selected.
    pub(super) fn is_unchanged(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|metadata| self.is(&metadata))
    }

    fn is(&self, metadata: &std::fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        metadata.is_file()
            && (metadata.dev(), metadata.ino()) == self.truth.inode
            && metadata.len() == self.truth.size
            && metadata.mtime() == self.truth.mtime.0
            && metadata.mtime_nsec() == i64::from(self.truth.mtime.1)
            && metadata.ctime() == self.ctime.0
            && u64::try_from(metadata.ctime_nsec()) == Ok(self.ctime.1)
    }

    fn changed(&self, source: &Source<'_>) -> CopyError {
        CopyError::Changed {
            path: self.path.clone(),
            place: source.place.to_owned(),
        }
    }

    /// The metadata of the copy; `file` is the open file where the entry is one.
    pub(super) fn meta(
        &self,
        source: &Source<'_>,
        options: &CopyOptions,
        file: Option<&File>,
    ) -> Result<Meta, CopyError> {
        let mut meta = self.truth.to_meta();
        (meta.uid, meta.gid) = options.owner((meta.uid, meta.gid));
        if matches!(self.kind, Kind::File | Kind::Empty | Kind::Directory) {
            meta.mode = options.mode(self.truth.mode);
        }
        if self.on_the_way {
            meta.mtime = Some((options.dir_mtime, 0));
        }
        if let (false, Some(file)) = (self.has_xattrs, file) {
            meta.xattrs = read_xattrs(file.as_fd())
                .map_err(|error| failed(source, "read the attributes of", &self.path, error))?;
        }
        Ok(meta)
    }
}

pub(super) fn failed(
    source: &Source<'_>,
    operation: &'static str,
    path: &RootPath,
    error: io::Error,
) -> CopyError {
    CopyError::Read {
        operation,
        path: path.clone(),
        place: source.place.to_owned(),
        source: error,
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn is_loop(error: &io::Error) -> bool {
    // O_NOFOLLOW on a link, or a socket in the file's place.
    [Errno::LOOP, Errno::NXIO]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
