//! [`Selection::apply`]: writing the selected entries into a root file system.
//!
//! The destination, and only it, is followed through symbolic links; below it a link in a file's
//! place is replaced. Directories get their times last, since filling them changes the times.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;

use rustix::fs::FileType;

use super::entry::{Entry, Kind};
use super::select::Hit;
use super::{CopyError, CopyOptions, Selection, Source};
use crate::layer::{Content, Meta, Target, TargetError};
use crate::rootfs::RootPath;

/// What a copy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Entries that were copied and are no directories.
    pub files: u64,
    /// Bytes of content that were written.
    pub bytes: u64,
}

impl Selection {
    /// Copies everything selected to `dest`, as it is written in the Dockerfile, into `target`.
    ///
    /// # Errors
    /// A file over a directory or the other way round, a source that cannot be read or that
    /// changed, and the target's errors.
    pub fn apply(
        &self,
        source: &Source<'_>,
        target: &mut Target<'_>,
        dest: &str,
        workdir: &RootPath,
        options: &CopyOptions,
    ) -> Result<CopyReport, CopyError> {
        let dest = Dest::new(dest, workdir);
        let mut writer = Writer::new(target, options);
        for hit in &self.hits {
            writer.hit(hit, source, &dest)?;
        }
        writer.finish()
    }
}

/// A file that is in no source: it stands in the Dockerfile, or was fetched.
pub struct LooseFile<'f> {
    /// Its name in a destination that is a directory.
    pub name: &'f str,
    /// Its content.
    pub content: Content<'f>,
    /// Its permission bits, unless `--chmod` says others.
    pub mode: u32,
    /// Its time, seconds since 1970.
    pub mtime: i64,
}

impl LooseFile<'_> {
    /// Writes the file to `dest`.
    ///
    /// # Errors
    /// A directory in the file's place, and the target's errors.
    pub fn write(
        self,
        target: &mut Target<'_>,
        dest: &str,
        workdir: &RootPath,
        options: &CopyOptions,
    ) -> Result<CopyReport, CopyError> {
        let dest = Dest::new(dest, workdir);
        let mut writer = Writer::new(target, options);
        let path = writer.file_place(&dest, OsStr::new(self.name))?;
        let (uid, gid) = options.owner((0, 0));
        let meta = Meta {
            uid,
            gid,
            mode: options.mode(FileType::RegularFile.as_raw_mode() | self.mode),
            mtime: Some((self.mtime, 0)),
            xattrs: BTreeMap::new(),
        };
        // First, because the content can be read once only.
        match writer.target.remove_file(&path) {
            Ok(_) => {}
            Err(error) if error.source.kind() == io::ErrorKind::IsADirectory => {
                return Err(CopyError::FileOverDirectory { path });
            }
            Err(error) => return Err(error.into()),
        }
        writer.report.bytes += writer.target.create_file(&path, self.content, &meta)?;
        writer.report.files += 1;
        writer.finish()
    }
}

/// The destination as the Dockerfile writes it.
struct Dest {
    path: RootPath,
    /// Whether it is written as a directory.
    is_directory: bool,
}

impl Dest {
    fn new(dest: &str, workdir: &RootPath) -> Self {
        Self {
            path: workdir.join(dest),
            is_directory: dest.is_empty()
                || dest == "."
                || dest.ends_with('/')
                || dest.ends_with("/."),
        }
    }
}

struct Writer<'w, 't> {
    target: &'w mut Target<'t>,
    options: &'w CopyOptions,
    /// The times that directories get at the end.
    times: BTreeMap<RootPath, (i64, u32)>,
    report: CopyReport,
}

impl<'w, 't> Writer<'w, 't> {
    fn new(target: &'w mut Target<'t>, options: &'w CopyOptions) -> Self {
        Self {
            target,
            options,
            times: BTreeMap::new(),
            report: CopyReport::default(),
        }
    }

    fn finish(self) -> Result<CopyReport, CopyError> {
        for (path, mtime) in &self.times {
            self.target.set_times(path, *mtime)?;
        }
        Ok(self.report)
    }

    fn hit(&mut self, hit: &Hit, source: &Source<'_>, dest: &Dest) -> Result<(), CopyError> {
        let top = hit.entries.first();
        let is_tree = hit.parents || top.is_some_and(|entry| entry.kind == Kind::Directory);
        let place = if is_tree {
            self.directory_place(&dest.path)?
        } else {
            self.file_place(dest, &hit.name)?
        };
        let mut links = HashMap::new();
        for entry in &hit.entries {
            if entry.relative.is_root() && is_tree {
                let mtime = entry.truth.mtime;
                self.times.insert(place.clone(), mtime);
                continue;
            }
            let path = match entry.relative.is_root() {
                true => place.clone(),
                false => place.join(entry.relative.relative()),
            };
            self.entry(entry, source, path, &mut links)?;
        }
        Ok(())
    }

    /// The directory that `path` leads to, made if it is not there.
    fn directory_place(&mut self, path: &RootPath) -> Result<RootPath, CopyError> {
        let place = self.target.resolve(path)?;
        self.make_directories(&place)?;
        Ok(place)
    }

    /// Where a file called `name` goes: into a directory, else to the destination itself.
    fn file_place(&mut self, dest: &Dest, name: &OsStr) -> Result<RootPath, CopyError> {
        let place = self.find_file_place(dest, name)?;
        let own = place.file_name().unwrap_or_default();
        if own.as_encoded_bytes().starts_with(b".wh.") {
            return Err(CopyError::WhiteoutName {
                path: place,
                place: "the image".to_owned(),
            });
        }
        Ok(place)
    }

    fn find_file_place(&mut self, dest: &Dest, name: &OsStr) -> Result<RootPath, CopyError> {
        if dest.is_directory {
            return Ok(self.directory_place(&dest.path)?.join(name));
        }
        let place = self.target.resolve(&dest.path)?;
        if let Some(stat) = self.target.stat(&place)?
            && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        {
            return Ok(place.join(name));
        }
        if let Some(parent) = place.parent() {
            self.make_directories(&parent)?;
        }
        Ok(place)
    }

    /// Makes the directory `path`, and those above it, where they are not there.
    fn make_directories(&mut self, path: &RootPath) -> Result<(), CopyError> {
        let mut missing = Vec::new();
        let mut next = Some(path.clone());
        while let Some(dir) = next {
            match self.target.stat(&dir) {
                Ok(None) => {}
                Ok(Some(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    break;
                }
                Ok(Some(_)) => return Err(CopyError::DirectoryOverFile { path: dir }),
                // Something above it is no directory.
                Err(error) if error.source.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => return Err(error.into()),
            }
            next = dir.parent();
            missing.push(dir);
        }
        let (uid, gid) = self.options.owner((0, 0));
        let mtime = (self.options.dir_mtime, 0);
        let meta = Meta {
            uid,
            gid,
            mode: self.options.parent_mode(),
            mtime: Some(mtime),
            xattrs: BTreeMap::new(),
        };
        for dir in missing.into_iter().rev() {
            self.target.create_dir(&dir, &meta)?;
            self.times.insert(dir, mtime);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &Entry,
        source: &Source<'_>,
        path: RootPath,
        links: &mut HashMap<(u64, u64), RootPath>,
    ) -> Result<(), CopyError> {
        if entry.kind == Kind::Directory {
            let meta = entry.meta(source, self.options, None)?;
            return self.directory(path, &meta);
        }
        self.report.files += 1;
        if entry.truth.links > 1 {
            if let Some(first) = links.get(&entry.truth.inode) {
                let first = first.clone();
                return self.replacing(&path, &mut |target| target.hardlink(&path, &first));
            }
            links.insert(entry.truth.inode, path.clone());
        }
        if entry.kind == Kind::File {
            let (file, _) = entry.open(source)?;
            let meta = entry.meta(source, self.options, Some(&file))?;
            self.report.bytes += self.replacing(&path, &mut |target| {
                target.create_file(&path, Content::File(&file), &meta)
            })?;
            return Ok(());
        }
        let meta = entry.meta(source, self.options, None)?;
        let (kind, rdev) = (entry.truth.file_type(), entry.truth.rdev);
        self.replacing(&path, &mut |target| match &entry.kind {
            Kind::Symlink(link) => target.create_symlink(&path, link, &meta),
            Kind::Fifo => target.create_fifo(&path, &meta),
            Kind::Device => target.create_device(&path, kind, rdev, &meta),
            Kind::Empty | Kind::File | Kind::Directory => target
                .create_file(&path, Content::Reader(&mut io::empty()), &meta)
                .map(drop),
        })
    }

    /// A directory below the destination: an existing one gets the source's metadata too.
    fn directory(&mut self, path: RootPath, meta: &Meta) -> Result<(), CopyError> {
        match self.target.create_dir(&path, meta) {
            Ok(()) => {}
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                let stat = self.target.stat(&path)?;
                let is_directory = stat.is_some_and(|stat| {
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                });
                if !is_directory {
                    return Err(CopyError::DirectoryOverFile { path });
                }
                self.target.set_metadata(&path, meta)?;
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(mtime) = meta.mtime {
            self.times.insert(path, mtime);
        }
        Ok(())
    }

    /// Creates an entry, and again without the one that was in its place.
    fn replacing<T>(
        &mut self,
        path: &RootPath,
        create: &mut dyn FnMut(&mut Target<'t>) -> Result<T, TargetError>,
    ) -> Result<T, CopyError> {
        match create(self.target) {
            Ok(made) => return Ok(made),
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        match self.target.remove_file(path) {
            Ok(_) => Ok(create(self.target)?),
            Err(error) if error.source.kind() == io::ErrorKind::IsADirectory => {
                Err(CopyError::FileOverDirectory { path: path.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }
}
