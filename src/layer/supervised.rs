//! Owners as the supervisor of a RUN keeps them, and as layers do.
//!
//! Where there is one id, a record stands twice: in the layer's table, for readers of the layer, and in
//! an attribute of the file in `diff/`, for the supervisor, so that overlayfs hands it on with the file.
//! What holds no attribute, symbolic links and FIFOs, the supervisor is told by path.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use runtime::{Device, Owners, RECORD, Record};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, XattrFlags};
use rustix::fs::{fgetxattr, fremovexattr, fsetxattr, openat2, statx};
use rustix::io::Errno;

use super::{Attr, Layer, LayerError, LayerStack, read_xattrs};
use crate::rootfs::RootPath;

/// Longer than any record.
const MAX_RECORD: usize = 64;

/// The owners of the files of a step over `stack`.
///
/// # Errors
/// [`LayerError::Disk`] when a layer cannot be read, [`LayerError::NoAttributes`] when its files have
/// owners that its file system could not note: overlayfs would not hand them on, and what the step
/// changes would become root's.
pub fn owners(stack: &LayerStack) -> Result<Arc<Owners>, LayerError> {
    let mut below = HashMap::new();
    for layer in stack.layers() {
        is_noted(layer)?;
    }
    for (path, attr) in stack.layers().iter().flat_map(|l| l.attributes().iter()) {
        let kind = FileType::from_raw_mode(attr.mode);
        if matches!(kind, FileType::Symlink | FileType::Fifo)
            && stack.attr(path)?.as_ref() == Some(attr)
        {
            let record = Record::new(attr.uid, attr.gid);
            below.insert(path.as_bytes().to_vec(), record);
        }
    }
    Ok(Arc::new(Owners::new(below)))
}

/// Looks at the first file of a layer that somebody else owns: all were written on one file system.
fn is_noted(layer: &Layer) -> Result<(), LayerError> {
    let mut held = layer.attributes().iter().filter(|(_, attr)| {
        let kind = FileType::from_raw_mode(attr.mode);
        !matches!(kind, FileType::Symlink | FileType::Fifo) && (attr.uid, attr.gid) != (0, 0)
    });
    let Some((path, attr)) = held.next() else {
        return Ok(());
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = openat2(
        layer.open_diff()?,
        path.relative(),
        flags,
        Mode::empty(),
        beneath,
    )
    .map_err(LayerError::disk("open", path))?;
    let mut value = [0; MAX_RECORD];
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let noted = match rustix::fs::getxattr(link, RECORD, &mut value[..]) {
        Ok(length) => Record::decode(&value[..length]),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => None,
        Err(errno) => return Err(LayerError::disk("read the owner of", path)(errno)),
    };
    match noted {
        Some(record) if (record.uid, record.gid) == (attr.uid, attr.gid) => Ok(()),
        _ => Err(LayerError::NoAttributes {
            path: path.to_string(),
            dir: layer.dir().display().to_string(),
        }),
    }
}

/// The record of an open file or directory.
pub(super) fn get(fd: impl AsFd) -> Result<Option<Record>, Errno> {
    let mut value = [0; MAX_RECORD];
    match fgetxattr(fd, RECORD, &mut value[..]) {
        Ok(length) => Ok(Record::decode(&value[..length])),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the record of an open file or directory, or takes it away. A disk that holds no attribute
/// leaves it to the layer's table.
pub(super) fn set(fd: impl AsFd, attr: Option<&Attr>) -> Result<(), Errno> {
    let done = match attr {
        Some(attr) => {
            let value = record(attr).encode();
            fsetxattr(fd, RECORD, value.as_bytes(), XattrFlags::empty())
        }
        None => fremovexattr(fd, RECORD),
    };
    match done {
        Err(Errno::NOTSUP | Errno::NODATA) => Ok(()),
        other => other,
    }
}

/// Records the owner of an open file or directory that is in no layer.
///
/// # Errors
/// The kernel's; a file system without such attributes is none.
pub fn record_owner(fd: impl AsFd, uid: u32, gid: u32) -> std::io::Result<()> {
    let value = Record::new(uid, gid).encode();
    match fsetxattr(fd, RECORD, value.as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOTSUP) => Ok(()),
        other => Ok(other?),
    }
}

fn record(attr: &Attr) -> Record {
    let kind = FileType::from_raw_mode(attr.mode);
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let device = is_device.then_some(Device {
        block: kind == FileType::BlockDevice,
        major: attr.rdev.0,
        minor: attr.rdev.1,
    });
    Record {
        device,
        ..Record::new(attr.uid, attr.gid)
    }
}

/// What the supervisor's table says of the entry `name` of `dir`, without a name of `dir` itself.
///
/// What holds no attribute is shown under the inode number that it has in `below`, at `path`, for as
/// long as the kernel remembers that it has copied it up.
pub(super) fn in_table(
    owners: &Owners,
    (dir, name): (&OwnedFd, &CStr),
    (below, path): (&LayerStack, &RootPath),
) -> Result<Option<Record>, LayerError> {
    if !owners.has_table() {
        return Ok(None);
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let looked = statx(dir, name, flags, StatxFlags::INO | StatxFlags::BTIME);
    let (inode, born) = match looked {
        // A filter forbids it, so the table knows no times either.
        Err(Errno::NOSYS | Errno::PERM) => {
            let stat = rustix::fs::statat(dir, name, flags);
            let stat = stat.map_err(LayerError::disk("look up the owner of", path))?;
            (stat.st_ino, None)
        }
        Err(errno) => return Err(LayerError::disk("look up the owner of", path)(errno)),
        Ok(stat) => {
            let born = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
            (stat.stx_ino, Some(born))
        }
    };
    if let Some(record) = owners.of_inode(inode, born) {
        return Ok(Some(record));
    }
    let lower = below.file(path)?;
    Ok(lower.and_then(|(_, _, lower)| owners.of_inode(lower.st_ino, born)))
}

/// What a layer's table says of an entry with this record; none if the disk says it all.
pub(super) fn attr(
    record: &Record,
    stat: &Stat,
    file: Option<&OwnedFd>,
) -> std::io::Result<Option<Attr>> {
    if *record == Record::new(stat.st_uid, stat.st_gid) {
        return Ok(None);
    }
    let mut attr = Attr {
        uid: record.uid,
        gid: record.gid,
        mode: stat.st_mode,
        rdev: (0, 0),
        xattrs: BTreeMap::new(),
    };
    if let Some(device) = record.device {
        let kind = match device.block {
            true => FileType::BlockDevice,
            false => FileType::CharacterDevice,
        };
        attr.mode = kind.as_raw_mode() | (stat.st_mode & 0o7777);
        attr.rdev = (device.major, device.minor);
    } else if let Some(file) = file
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    {
        attr.xattrs = read_xattrs(file.as_fd())?;
    }
    Ok(Some(attr))
}
