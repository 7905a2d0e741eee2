//! [`Owners`]: whose files are, and which files stand for devices.
//!
//! A [`Record`] is kept in the extended attribute [`RECORD`] of a regular file or directory, as text:
//! `UID:GID`, or for an empty file that stands for a device `UID:GID:c:MAJOR:MINOR` (`b` for blocks).
//! Everything else (symbolic links, FIFOs, sockets, pipes), and every file on a file system without
//! such attributes, is in a table by device, inode and time of birth. Files without a record belong to
//! whom the disk says.
//!
//! Programs are not shown the attribute in lists. One that knows its name can read and write it, and
//! gains nothing: chown is free here.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{FileType, XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::resolve::{link_of, own_path};
use super::stat::Metadata;

/// The name of the attribute that holds a [`Record`].
pub const RECORD: &str = "user.lapstrake.owner";

/// Longer than any record.
const MAX_RECORD: usize = 64;

/// What a device's stand-in stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Block or character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Whose a file is, and what it truly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that it stands for.
    pub device: Option<Device>,
}

impl Record {
    /// An ordinary file's.
    pub const fn new(uid: u32, gid: u32) -> Self {
        Self {
            uid,
            gid,
            device: None,
        }
    }

    /// The attribute's value.
    pub fn encode(&self) -> String {
        let Self { uid, gid, device } = self;
        match device {
            None => format!("{uid}:{gid}"),
            Some(device) => {
                let kind = if device.block { 'b' } else { 'c' };
                format!("{uid}:{gid}:{kind}:{}:{}", device.major, device.minor)
            }
        }
    }

    /// The record that a value stands for; none for what no record is.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(':');
        let mut number = || words.next()?.parse::<u32>().ok();
        let (uid, gid) = (number()?, number()?);
        let device = match words.next() {
            None => None,
            Some(kind @ ("b" | "c")) => {
                let mut number = || words.next()?.parse::<u32>().ok();
                Some(Device {
                    block: kind == "b",
                    major: number()?,
                    minor: number()?,
                })
            }
            Some(_) => return None,
        };
        words.next().is_none().then_some(Self { uid, gid, device })
    }
}

/// The records of a sandbox's files.
#[derive(Debug, Default)]
pub struct Owners {
    /// Of what can hold no attribute, by device and inode.
    table: RwLock<HashMap<(u64, u64), Kept>>,
    /// Whether the table has entries.
    used: AtomicBool,
    /// Whether anything was recorded.
    recorded: AtomicBool,
    /// Whether a file system took no attribute.
    refused: AtomicBool,
    /// Of links and the like in the layers below, by path.
    below: HashMap<Vec<u8>, Record>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    record: Record,
    born: (i64, u32),
}

impl Owners {
    /// `below`: what the lower layers of the tree say of files that hold no attribute, by their
    /// absolute paths.
    pub fn new(below: HashMap<Vec<u8>, Record>) -> Self {
        Self {
            below,
            ..Self::default()
        }
    }

    /// The table's record of an inode of the file system that overlay files have their inode numbers
    /// from, whatever the device is called where we look now.
    pub fn of_inode(&self, inode: u64, born: Option<(i64, u32)>) -> Option<Record> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = table
            .iter()
            .filter(|((_, i), kept)| *i == inode && born.is_none_or(|born| born == kept.born));
        found.next().map(|(_, kept)| kept.record)
    }

    /// Whether anything was recorded, in attributes or in the table.
    pub fn has_records(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }

    /// Whether there are records in the table.
    pub fn has_table(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Whether every record there is is an attribute of its file.
    pub(super) fn are_attributes(&self) -> bool {
        !self.has_table() && self.below.is_empty()
    }

    /// Whether a file system held no attribute, so that files and directories are in the table, too.
    pub fn attributes_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// The record of an open file, a mere path at least.
    pub(super) fn get(&self, fd: BorrowedFd<'_>) -> Result<Option<Record>, Errno> {
        let mut value = [0; MAX_RECORD];
        match getxattr(own_path(fd), RECORD, &mut value[..]) {
            Ok(length) => return Ok(Record::decode(&value[..length])),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
        if self.are_attributes() {
            return Ok(None);
        }
        let stat = Metadata::open(fd)?;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let kept = table.get(&(stat.device(), stat.inode()));
        if let Some(kept) = kept.filter(|kept| kept.born == stat.born()) {
            return Ok(Some(kept.record));
        }
        let held = matches!(stat.kind(), FileType::RegularFile | FileType::Directory);
        if held || self.below.is_empty() {
            return Ok(None);
        }
        Ok(self.below.get(&link_of(fd)?).copied())
    }

    /// Whether the table has an open file.
    pub(super) fn in_table(&self, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
        let stat = Metadata::open(fd)?;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let kept = table.get(&(stat.device(), stat.inode()));
        Ok(kept.is_some_and(|kept| kept.born == stat.born()))
    }

    /// Records an open file.
    pub(super) fn set(&self, fd: BorrowedFd<'_>, record: Record) -> Result<(), Errno> {
        self.recorded.store(true, Ordering::Release);
        let stat = Metadata::open(fd)?;
        if matches!(stat.kind(), FileType::RegularFile | FileType::Directory) {
            let value = record.encode();
            match setxattr(own_path(fd), RECORD, value.as_bytes(), XattrFlags::empty()) {
                Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {
                    self.refused.store(true, Ordering::Release);
                }
                other => return other,
            }
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let kept = Kept {
            record,
            born: stat.born(),
        };
        table.insert((stat.device(), stat.inode()), kept);
        self.used.store(true, Ordering::Release);
        Ok(())
    }

    /// Forgets what the table says of a new file's inode, which was another file's before.
    pub(super) fn forget(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.has_table() {
            let stat = Metadata::open(fd)?;
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            table.remove(&(stat.device(), stat.inode()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_nothing_else_is_one() {
        let device = |block| {
            Some(Device {
                block,
                major: 8,
                minor: 1_048_575,
            })
        };
        for (record, text) in [
            (Record::new(0, 0), "0:0"),
            (Record::new(4_294_967_294, 7), "4294967294:7"),
            (
                Record {
                    device: device(false),
                    ..Record::new(1, 2)
                },
                "1:2:c:8:1048575",
            ),
            (
                Record {
                    device: device(true),
                    ..Record::new(1, 2)
                },
                "1:2:b:8:1048575",
            ),
        ] {
            assert_eq!(record.encode(), text);
            assert_eq!(Record::decode(text.as_bytes()), Some(record));
        }
        for bad in [
            "",
            "1",
            "1:",
            "a:b",
            "1:2:x",
            "1:2:c:1",
            "1:2:c:1:2:3",
            "-1:2",
            "1:2:",
        ] {
            assert_eq!(Record::decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
