//! What a layer looks like on disk: overlayfs form, read through directory descriptors.
//!
//! A whiteout is a character device 0:0, an opaque directory has `user.overlay.opaque` = `y`, an
//! entry that was copied up carries `user.overlay.origin`. No function here follows a link.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, openat, statat};
use rustix::io::Errno;

/// The mark of a directory that hides everything below it.
pub(super) const OPAQUE: &CStr = c"user.overlay.opaque";
/// The mark of an entry that was copied up from a lower layer.
pub(super) const ORIGIN: &CStr = c"user.overlay.origin";
/// The one extended attribute that belongs in a layer.
pub(super) const CAPABILITY: &CStr = c"security.capability";
/// The prefix with which the OCI layer format marks deletions.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// How a directory is opened for its entries and marks, without following a link.
pub(super) const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Longest capability attribute the kernel knows, with room to see that one is longer.
const CAPABILITY_MAX: usize = 64;
/// `VFS_CAP_REVISION` of an attribute whose last field is the root id of a user namespace.
const CAPABILITY_WITH_ROOT: u8 = 3;
/// Bytes of a revision 2 attribute; revision 3 appends the root id.
const CAPABILITY_V2_LEN: usize = 20;

/// Opens the directory `name` of `dir` for reading, not following a link.
pub(super) fn open_dir(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, DIRECTORY_FLAGS, Mode::empty())
}

/// Opens the file `name` of `dir` for reading; neither a link nor a FIFO in its place does harm.
pub(super) fn open_file(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// `lstat` of the entry `name` of `dir`.
pub(super) fn stat(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Stat> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The names in `dir` with their types, in no order.
pub(super) fn list(dir: impl AsFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let dir = dir.as_fd();
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(stat(dir, name)?.st_mode),
            kind => kind,
        };
        names.push((name.to_owned(), kind));
    }
    Ok(names)
}

/// Whether this is a deletion.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether the open directory hides what lies below it.
pub(super) fn is_opaque(dir: impl AsFd) -> rustix::io::Result<bool> {
    Ok(xattr(dir, OPAQUE)?.is_some_and(|value| value == b"y"))
}

/// Whether the open file or directory was copied up from a lower layer.
pub(super) fn is_copied_up(fd: impl AsFd) -> rustix::io::Result<bool> {
    let mut probe = [0_u8; 256];
    match fgetxattr(fd, ORIGIN, &mut probe[..]) {
        // Longer than the probe is there all the same.
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Revision 3 becomes revision 2: its root id means something only in the namespace it names.
pub(super) fn canonical_capability(mut value: Vec<u8>) -> Vec<u8> {
    if value.len() > CAPABILITY_V2_LEN && value[3] == CAPABILITY_WITH_ROOT {
        value.truncate(CAPABILITY_V2_LEN);
        value[3] = CAPABILITY_WITH_ROOT - 1;
    }
    value
}

fn xattr(fd: impl AsFd, name: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = [0_u8; CAPABILITY_MAX];
    match fgetxattr(fd, name, &mut value[..]) {
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_the_root_id_of_their_namespace() {
        let v3: Vec<u8> = [&[1, 0, 0, 3][..], &[10; 16], &[0xe8, 3, 0, 0]].concat();
        let v2: Vec<u8> = [&[1, 0, 0, 2][..], &[10; 16]].concat();
        assert_eq!(canonical_capability(v3), v2);
        assert_eq!(canonical_capability(v2.clone()), v2);
        assert_eq!(canonical_capability(vec![3, 3, 3, 3]), vec![3, 3, 3, 3]);
    }
}
