//! Making entries and giving them their metadata.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fremovexattr, fsetxattr, fstat, futimens, linkat, mkdirat,
    mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::{CAPABILITY, Content, Meta, Result, Superseded, Target, failed, read_xattrs};
use crate::layer::{Attr, supervised};
use crate::rootfs::RootPath;

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// An entry whose metadata is being set.
struct Entry<'e> {
    dir: BorrowedFd<'e>,
    name: &'e OsStr,
    /// Open for reading or writing; none for a symbolic link.
    open: Option<BorrowedFd<'e>>,
    /// The true type, whose bits the record gets.
    kind: FileType,
    rdev: (u32, u32),
    /// Whether it was there before, perhaps with a capability.
    existed: bool,
}

impl Target<'_> {
    /// Makes a regular file; the number of bytes it got.
    ///
    /// # Errors
    /// Those of the disk and of reading `content`; `AlreadyExists` when there is an entry.
    pub fn create_file(
        &mut self,
        path: &RootPath,
        content: Content<'_>,
        meta: &Meta,
    ) -> Result<u64> {
        const WHAT: &str = "create the file";
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed(WHAT, path, error))?;
        let file = new_file(dir.as_fd(), name).map_err(|error| failed(WHAT, path, error))?;
        let bytes = self
            .copier
            .fill(&file, content)
            .map_err(|error| failed("write the content of", path, error))?;
        let entry = Entry {
            dir: dir.as_fd(),
            name,
            open: Some(file.as_fd()),
            kind: FileType::RegularFile,
            rdev: (0, 0),
            existed: false,
        };
        self.settle(path, &entry, meta)?;
        Ok(bytes)
    }

    /// Makes a directory. What is then made inside changes its time: see [`Target::set_times`].
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` when there is an entry.
    pub fn create_dir(&mut self, path: &RootPath, meta: &Meta) -> Result<()> {
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed("create the directory", path, error))?;
        mkdirat(&*dir, name, Mode::RWXU)
            .map_err(|error| failed("create the directory", path, error))?;
        self.set_named(path, FileType::Directory, (0, 0), meta, false)
    }

    /// Makes a symbolic link to `link`, which is kept as it is written.
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` when there is an entry.
    pub fn create_symlink(&mut self, path: &RootPath, link: &OsStr, meta: &Meta) -> Result<()> {
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed("create the symbolic link", path, error))?;
        symlinkat(link, &*dir, name)
            .map_err(|error| failed("create the symbolic link", path, error))?;
        self.set_named(path, FileType::Symlink, (0, 0), meta, false)
    }

    /// Makes a FIFO.
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` when there is an entry.
    pub fn create_fifo(&mut self, path: &RootPath, meta: &Meta) -> Result<()> {
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed("create the FIFO", path, error))?;
        mknodat(&*dir, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|error| failed("create the FIFO", path, error))?;
        self.set_named(path, FileType::Fifo, (0, 0), meta, false)
    }

    /// Makes an empty file that stands for a device: the node itself is only recorded.
    ///
    /// # Errors
    /// Those of the disk, and `InvalidInput` for the character device 0:0 (an overlay's mark of a
    /// deleted file) and for a `kind` that is no device.
    pub fn create_device(
        &mut self,
        path: &RootPath,
        kind: FileType,
        rdev: (u32, u32),
        meta: &Meta,
    ) -> Result<()> {
        const WHAT: &str = "create the device";
        if let Some(reason) = unfit_device(kind, rdev) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, reason);
            return Err(failed(WHAT, path, error));
        }
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed(WHAT, path, error))?;
        new_file(dir.as_fd(), name).map_err(|error| failed(WHAT, path, error))?;
        self.set_named(path, kind, rdev, meta, false)
    }

    /// Gives the entry at `existing` a second name, and its record too.
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` when there is an entry at `path`.
    pub fn hardlink(&mut self, path: &RootPath, existing: &RootPath) -> Result<()> {
        const WHAT: &str = "create the hard link";
        let (from, old) = self
            .locate(existing)
            .map_err(|error| failed("find for a hard link", existing, error))?;
        let recorded = self
            .recorded(existing)
            .map_err(|error| failed("read the metadata of", existing, error))?;
        let (to, name) = self
            .locate(path)
            .map_err(|error| failed(WHAT, path, error))?;
        linkat(&*from, old, &*to, name, AtFlags::empty())
            .map_err(|error| failed(WHAT, path, error))?;
        self.record(path, recorded)
    }

    /// Gives the existing entry at `path` the metadata `meta`; a link is not followed.
    ///
    /// A device stays the device it is recorded to be.
    ///
    /// # Errors
    /// Those of the disk, `NotFound` when there is no entry.
    pub fn set_metadata(&mut self, path: &RootPath, meta: &Meta) -> Result<()> {
        let Some(truth) = self.metadata(path)? else {
            return Err(failed("set the metadata of", path, Errno::NOENT));
        };
        self.set_named(path, truth.file_type(), truth.rdev, meta, true)
    }

    /// Sets the modification time of the existing entry at `path`; a link is not followed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set_times(&mut self, path: &RootPath, mtime: (i64, u32)) -> Result<()> {
        const WHAT: &str = "set the times of";
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed(WHAT, path, error))?;
        utimensat(&*dir, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed(WHAT, path, error))?;
        // Changing the time copies the entry up from a lower layer: its record comes along.
        let recorded = self
            .recorded(path)
            .map_err(|error| failed(WHAT, path, error))?;
        if let Some(attr) = recorded {
            self.attributes.insert(path.clone(), attr);
        }
        Ok(())
    }

    fn set_named(
        &mut self,
        path: &RootPath,
        kind: FileType,
        rdev: (u32, u32),
        meta: &Meta,
        existed: bool,
    ) -> Result<()> {
        let (dir, name) = self
            .locate(path)
            .map_err(|error| failed("open", path, error))?;
        let open = open_entry(dir.as_fd(), name, kind)
            .map_err(|error| failed("open for its metadata", path, error))?;
        let entry = Entry {
            dir: dir.as_fd(),
            name,
            open: open.as_ref().map(AsFd::as_fd),
            kind,
            rdev,
            existed,
        };
        self.settle(path, &entry, meta)
    }

    /// Sets owner, mode, times and attributes, in this order, and records what did not go.
    fn settle(&mut self, path: &RootPath, entry: &Entry<'_>, meta: &Meta) -> Result<()> {
        let held = self
            .settle_owner(entry, meta)
            .map_err(|error| failed("set the owner of", path, error))?
            & self
                .settle_mode(entry, meta)
                .map_err(|error| failed("set the mode of", path, error))?;
        if let Some(mtime) = meta.mtime {
            entry
                .set_times(mtime)
                .map_err(|error| failed("set the times of", path, error))?;
        }
        let held = held
            & entry
                .set_capability(meta.capability())
                .map_err(|error| failed("set the attributes of", path, error))?;
        let attr = (!held).then(|| entry.attr(meta));
        if self.ids.are_supervised() {
            entry
                .set_record(attr.as_ref())
                .map_err(|error| failed("record the owner of", path, error))?;
        }
        self.record(path, attr)
    }

    /// The end of whatever makes or changes an entry, which is therefore not deleted.
    fn record(&mut self, path: &RootPath, attr: Option<Attr>) -> Result<()> {
        if let Some(marks) = self.attributes.marks_mut()
            && marks.is_deleted(path)
        {
            marks.clear(path);
        }
        if let Some(attr) = attr {
            self.attributes.insert(path.clone(), attr);
            return Ok(());
        }
        self.attributes.remove(path);
        self.supersede(path, Superseded::Entry)
            .map_err(|error| failed("read the metadata of", path, error))
    }

    fn holds(&self, meta: &Meta) -> bool {
        // The highest number means "leave it alone" to chown.
        meta.uid != u32::MAX
            && meta.gid != u32::MAX
            && self.ids.holds_uid(meta.uid)
            && self.ids.holds_gid(meta.gid)
    }

    /// Whether the disk has the owner now.
    fn settle_owner(&self, entry: &Entry<'_>, meta: &Meta) -> io::Result<bool> {
        if entry.is_device() || !self.holds(meta) {
            return Ok(false);
        }
        let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        let result = match entry.open {
            Some(fd) => fchown(fd, uid, gid),
            None => chownat(entry.dir, entry.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        };
        held(result)
    }

    /// Whether the disk has the mode now.
    fn settle_mode(&self, entry: &Entry<'_>, meta: &Meta) -> io::Result<bool> {
        if entry.kind == FileType::Symlink {
            return Ok(true);
        }
        let mut mode = meta.mode & 0o7777;
        if entry.is_device() || !(self.holds(meta) || self.ids.are_supervised()) {
            mode &= !SET_ID;
        }
        if !self.ids.bypasses_modes() {
            mode |= if entry.kind == FileType::Directory {
                0o700
            } else {
                0o600
            };
        }
        let bits = Mode::from_raw_mode(mode);
        let set = held(match entry.open {
            Some(fd) => fchmod(fd, bits),
            None => chmodat(entry.dir, entry.name, bits, AtFlags::empty()),
        })?;
        // The kernel takes set-id bits away without a word from who may not set them.
        let kept = mode & SET_ID == 0
            || match entry.open {
                Some(fd) => fstat(fd)?.st_mode & 0o7777 == mode,
                None => true,
            };
        Ok(set && kept && mode == meta.mode & 0o7777)
    }
}

impl Entry<'_> {
    fn is_device(&self) -> bool {
        matches!(self.kind, FileType::CharacterDevice | FileType::BlockDevice)
    }

    fn set_times(&self, mtime: (i64, u32)) -> io::Result<()> {
        let times = timestamps(mtime);
        let result = match self.open {
            Some(fd) => futimens(fd, &times),
            None => utimensat(self.dir, self.name, &times, AtFlags::SYMLINK_NOFOLLOW),
        };
        Ok(result?)
    }

    /// Whether the disk has the capability now, or rightly none.
    fn set_capability(&self, value: Option<&[u8]>) -> io::Result<bool> {
        let (Some(fd), FileType::RegularFile) = (self.open, self.kind) else {
            return Ok(true);
        };
        match value {
            Some(value) => held(fsetxattr(fd, CAPABILITY, value, XattrFlags::empty())),
            // Who may not remove one is told so even where there is none.
            None if self.existed && !read_xattrs(fd)?.is_empty() => {
                held(fremovexattr(fd, CAPABILITY))
            }
            None => Ok(true),
        }
    }

    /// Tells the supervisor of programs, as far as the disk can. Who had no record needs none gone.
    fn set_record(&self, attr: Option<&Attr>) -> io::Result<()> {
        match self.open {
            Some(fd) if self.kind != FileType::Fifo && (attr.is_some() || self.existed) => {
                Ok(supervised::set(fd, attr)?)
            }
            _ => Ok(()),
        }
    }

    fn attr(&self, meta: &Meta) -> Attr {
        let permissions = if self.kind == FileType::Symlink {
            0o777
        } else {
            meta.mode & 0o7777
        };
        let capability = meta
            .capability()
            .filter(|_| self.kind == FileType::RegularFile);
        Attr {
            uid: meta.uid,
            gid: meta.gid,
            mode: self.kind.as_raw_mode() | permissions,
            rdev: self.rdev,
            xattrs: capability
                .map(|value| (CAPABILITY.as_bytes().to_vec(), value.to_vec()))
                .into_iter()
                .collect(),
        }
    }
}

/// Whether the disk took it; refusals that a table can make good are no error.
fn held(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn new_file(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(
        dir,
        name,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

/// Opens an entry so that its mode can be set without naming it again.
///
/// None for a link, which cannot be opened, and for a file whose mode keeps even its owner out.
fn open_entry(dir: BorrowedFd<'_>, name: &OsStr, kind: FileType) -> io::Result<Option<OwnedFd>> {
    if kind == FileType::Symlink {
        return Ok(None);
    }
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if kind == FileType::Directory {
        flags |= OFlags::DIRECTORY;
    }
    match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn unfit_device(kind: FileType, rdev: (u32, u32)) -> Option<&'static str> {
    match (kind, rdev) {
        (FileType::CharacterDevice, (0, 0)) => {
            Some("the character device 0:0 marks a deleted file in an overlay")
        }
        (FileType::CharacterDevice | FileType::BlockDevice, _) => None,
        _ => Some("this type of file is no device"),
    }
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        },
    }
}
