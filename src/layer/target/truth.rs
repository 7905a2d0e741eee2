//! [`Meta`], what an entry is to have, and [`Truth`], what an entry has.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Stat, fgetxattr, major, minor};
use rustix::io::Errno;

use crate::layer::Attr;

/// The one extended attribute that belongs in a layer.
pub const CAPABILITY: &str = "security.capability";
/// Longer than any capability attribute that a kernel writes (24 bytes).
const CAPABILITY_MAX: usize = 64;

/// The metadata that an entry is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, `07777` at most; meaningless for symbolic links.
    pub mode: u32,
    /// Modification time in seconds and nanoseconds; none keeps the time of the writing.
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes; all but [`CAPABILITY`] are dropped.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// An entry of root's with permission bits `mode`.
    pub fn root_owned(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    pub(super) fn capability(&self) -> Option<&[u8]> {
        self.xattrs.get(CAPABILITY.as_bytes()).map(Vec::as_slice)
    }
}

/// What an entry truly is: the disk's word overlaid with the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Major and minor number of a device, zeros for everything else.
    pub rdev: (u32, u32),
    /// Size in bytes; for a symbolic link the length of its target.
    pub size: u64,
    /// Modification time in seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Device and inode number, the identity of hard links.
    pub inode: (u64, u64),
    /// Number of hard links.
    pub links: u64,
    /// [`CAPABILITY`], if there.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Truth {
    /// Overlays what `stat` says with a record.
    ///
    /// Without a record the extended attributes are empty: they need [`read_xattrs`].
    pub fn new(stat: &Stat, recorded: Option<&Attr>) -> Self {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_device = matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice);
        let disk = Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode,
            rdev: if is_device {
                (major(stat.st_rdev), minor(stat.st_rdev))
            } else {
                (0, 0)
            },
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            inode: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
            xattrs: BTreeMap::new(),
        };
        match recorded {
            None => disk,
            Some(attr) => Self {
                uid: attr.uid,
                gid: attr.gid,
                mode: attr.mode,
                rdev: attr.rdev,
                xattrs: attr.xattrs.clone(),
                ..disk
            },
        }
    }

    /// The true type of the entry.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The same as metadata for a new entry.
    pub fn to_meta(&self) -> Meta {
        Meta {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode & 0o7777,
            mtime: Some(self.mtime),
            xattrs: self.xattrs.clone(),
        }
    }
}

/// The extended attributes of an open regular file that belong in a layer.
///
/// A capability that a user namespace wrote is given in the form that does not name the
/// namespace's root, so that every mode reads the same bytes.
///
/// # Errors
/// The kernel's; a file system without extended attributes has none.
pub fn read_xattrs(file: BorrowedFd<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = [0_u8; CAPABILITY_MAX];
    match fgetxattr(file, CAPABILITY, &mut buffer[..]) {
        Ok(length) => {
            let value = without_namespace(&buffer[..length]);
            Ok(BTreeMap::from([(CAPABILITY.as_bytes().to_vec(), value)]))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// Turns revision 3 of `struct vfs_cap_data` (24 bytes, the last four the namespace's root) into
/// revision 2 (20 bytes).
fn without_namespace(value: &[u8]) -> Vec<u8> {
    match value {
        [flags, low, high, 3, sets @ .., _, _, _, _] if value.len() == 24 => {
            let mut plain = vec![*flags, *low, *high, 2];
            plain.extend_from_slice(sets);
            plain
        }
        _ => value.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_namespace;

    #[test]
    fn capabilities_lose_the_namespace_root() {
        let mut third = vec![1, 0, 0, 3];
        third.extend([7; 16]);
        third.extend(1000_u32.to_le_bytes());
        let mut second = vec![1, 0, 0, 2];
        second.extend([7; 16]);
        assert_eq!(without_namespace(&third), second);
        assert_eq!(without_namespace(&second), second);
    }
}
