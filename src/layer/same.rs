//! [`Comparer`]: whether an entry of an upper directory is still what a layer below has at its
//! path.
//!
//! Compared is what a layer can tell of an entry, and what steps on this machine see of it: type,
//! mode, owner, size, the time of its last modification to the nanosecond, device, target, extended
//! attributes, content. The cheapest comes first: two files are read only when everything else
//! about them is the same, side by side and no further than they agree. Time and size alone are not
//! trusted, for a program may set the time back (`touch -r`, `cp -p`) after it has written.
//!
//! Owners and devices are those of the tables where these speak, as for every reader of layers. Of
//! extended attributes those count that overlayfs copies and that say something about the entry:
//! `user.*` but for overlayfs' marks and the supervisor's record, POSIX access lists, capabilities.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::RECORD;
use rustix::fs::{FileType, Stat, fgetxattr, flistxattr, readlinkat};
use rustix::io::Errno;

use super::{Attr, Truth, disk, read_xattrs};

/// How much of each of two files is read at once.
const CHUNK: usize = 64 << 10;
/// The kernel's limit for the names of all attributes of a file, and for the value of one.
const XATTR_MAX: usize = 64 << 10;

/// An entry of a directory on disk.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub dir: BorrowedFd<'a>,
    pub name: &'a CStr,
    pub stat: &'a Stat,
    /// What the table of its layer says of it.
    pub recorded: Option<&'a Attr>,
}

impl Entry<'_> {
    fn truth(&self) -> Truth {
        Truth::new(self.stat, self.recorded)
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Compares entries, one pair after the other.
#[derive(Default)]
pub(super) struct Comparer {
    chunks: [Vec<u8>; 2],
}

impl Comparer {
    /// Whether two entries are the same; of directories, without what is in them.
    pub fn are_same(&mut self, above: &Entry<'_>, below: &Entry<'_>) -> io::Result<bool> {
        if above.kind() != below.kind() || !is_same_metadata(&above.truth(), &below.truth()) {
            return Ok(false);
        }
        match above.kind() {
            FileType::Directory => {
                let open = |entry: &Entry<'_>| disk::open_dir(entry.dir, entry.name);
                have_same_attributes(open(above)?.as_fd(), open(below)?.as_fd())
            }
            FileType::RegularFile => self.files_are_same(above, below),
            FileType::Symlink => {
                let target = |entry: &Entry<'_>| readlinkat(entry.dir, entry.name, Vec::new());
                Ok(target(above)? == target(below)?)
            }
            _ => Ok(true),
        }
    }

    fn files_are_same(&mut self, above: &Entry<'_>, below: &Entry<'_>) -> io::Result<bool> {
        let open = |entry: &Entry<'_>| disk::open_file(entry.dir, entry.name);
        let files = [open(above)?, open(below)?];
        if capability(above, &files[0])? != capability(below, &files[1])?
            || !have_same_attributes(files[0].as_fd(), files[1].as_fd())?
        {
            return Ok(false);
        }
        let [above, below] = files.map(File::from);
        self.have_same_content(above, below)
    }

    fn have_same_content(&mut self, mut above: File, mut below: File) -> io::Result<bool> {
        let [first, second] = &mut self.chunks;
        first.resize(CHUNK, 0);
        second.resize(CHUNK, 0);
        loop {
            let count = fill(&mut above, first)?;
            if fill(&mut below, second)? != count || first[..count] != second[..count] {
                return Ok(false);
            }
            if count < CHUNK {
                return Ok(true);
            }
        }
    }
}

fn is_same_metadata(above: &Truth, below: &Truth) -> bool {
    // The size of a directory is the file system's affair.
    let is_sized = above.file_type() != FileType::Directory;
    (above.mode, above.uid, above.gid, above.rdev, above.mtime)
        == (below.mode, below.uid, below.gid, below.rdev, below.mtime)
        && (!is_sized || above.size == below.size)
}

type Xattrs = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;

fn capability(entry: &Entry<'_>, file: &OwnedFd) -> io::Result<Xattrs> {
    match entry.recorded {
        Some(attr) => Ok(attr.xattrs.clone()),
        None => read_xattrs(file.as_fd()),
    }
}

/// Whether two files have the same extended attributes, their capabilities apart.
fn have_same_attributes(above: BorrowedFd<'_>, below: BorrowedFd<'_>) -> io::Result<bool> {
    let (names, others) = (names(above)?, names(below)?);
    if names != others {
        return Ok(false);
    }
    for name in &names {
        if value(above, name)? != value(below, name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names of attributes that count, in order.
fn names(file: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut list = [0; 512];
    let all = match flistxattr(file, &mut list[..]) {
        Ok(length) => list[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0; XATTR_MAX];
            let length = flistxattr(file, &mut list[..])?;
            list.truncate(length);
            list
        }
        Err(Errno::NOTSUP | Errno::NOSYS) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let names = all.split(|byte| *byte == 0).filter(|name| counts(name));
    let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    Ok(names)
}

fn counts(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && name != RECORD.as_bytes())
        || name.starts_with(b"system.posix_acl_")
}

fn value(file: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = vec![0; XATTR_MAX];
    let length = fgetxattr(file, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// Reads until `chunk` is full or the file ends.
fn fill(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < chunk.len() {
        match file.read(&mut chunk[count..]) {
            Ok(0) => break,
            Ok(got) => count += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
