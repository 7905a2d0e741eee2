//! [`FileDigests`]: what is known of the contents of files, so that they are not read twice.
//!
//! A file is recognised by device, inode, size and both its times. Whoever changes a file's content
//! moves its ctime on, so a content is remembered only once the clock has left the tick of that time:
//! a second edit in the same tick would leave no trace.
//!
//! On disk: `lapstrake.files.2` and a line feed, records of eleven little-endian 64-bit numbers (device,
//! inode, size, mtime and its nanoseconds, ctime and its nanoseconds, the digest's four quarters) in
//! ascending order of device and inode, each pair once, and the SHA-256 of all that. A table that does
//! not end with its digest is as good as none. In memory the records stay as they were read, and are
//! searched where they lie.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

const MAGIC: &[u8] = b"lapstrake.files.2\n";
const NUMBERS: usize = 11;
const RECORD: usize = NUMBERS * 8;
const SUM: usize = 32;
/// How long after a file's last change its content is believed to have a time of its own.
const TICK: Duration = Duration::from_millis(100);
/// The same on file systems that count whole seconds, or two.
const COARSE_TICK: Duration = Duration::from_millis(2100);
/// How many files that this build did not ask for are kept, besides as many as it did.
const SPARE: usize = 10_000;
/// A table of more records, 23 MB, is cut.
const MOST: usize = 256 * 1024;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileState {
    /// Device and inode.
    pub inode: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

#[derive(Clone, Copy)]
struct Known {
    state: FileState,
    sha256: [u8; 32],
}

/// A table of contents, shared by the threads of a build.
#[derive(Default)]
pub struct FileDigests {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Records as they were read, without what stands around them.
    read: Vec<u8>,
    /// For each of these whether this build asked for it.
    asked_for: Vec<bool>,
    /// What was learned since; it holds where there is a record, too.
    learned: BTreeMap<(u64, u64), Known>,
}

impl FileDigests {
    /// Reads a table that [`FileDigests::to_bytes`] wrote; a damaged one is empty.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let read = records(bytes).unwrap_or_default().to_vec();
        Self {
            table: Mutex::new(Table {
                asked_for: vec![false; read.len() / RECORD],
                read,
                learned: BTreeMap::new(),
            }),
        }
    }

    /// The SHA-256 of a file in this state.
    pub fn get(&self, state: &FileState) -> Option<[u8; 32]> {
        let mut table = self.lock();
        let known = match table.learned.get(&state.inode) {
            Some(known) => *known,
            None => {
                let index = table.find(state.inode)?;
                table.asked_for[index] = true;
                table.record(index)?
            }
        };
        (known.state == *state).then_some(known.sha256)
    }

    /// Remembers what was read of a file that was in `state` before and after; `read` is the time
    /// when reading ended.
    pub fn put(&self, state: &FileState, sha256: [u8; 32], read: SystemTime) {
        if !is_settled(state.ctime, read) {
            return;
        }
        let known = Known {
            state: *state,
            sha256,
        };
        self.lock().learned.insert(state.inode, known);
    }

    /// The table as it goes to the disk; none when it says what was read from there.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let table = self.lock();
        if table.learned.is_empty() {
            return None;
        }
        let asked = table.asked_for.iter().filter(|asked| **asked).count();
        let wanted = asked + table.learned.len();
        let mut spare = (wanted + SPARE).min(MOST.saturating_sub(wanted));
        let mut kept: BTreeMap<(u64, u64), Known> = BTreeMap::new();
        for (index, asked) in table.asked_for.iter().enumerate() {
            if !asked && spare == 0 {
                continue;
            }
            spare -= usize::from(!asked);
            kept.extend(table.record(index).map(|known| (known.state.inode, known)));
        }
        kept.extend(&table.learned);
        let mut bytes = Vec::with_capacity(MAGIC.len() + kept.len() * RECORD + SUM);
        bytes.extend_from_slice(MAGIC);
        for known in kept.values().take(MOST) {
            known.write(&mut bytes);
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        Some(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn record(&self, index: usize) -> Option<Known> {
        Known::read(self.read.get(index * RECORD..(index + 1) * RECORD)?)
    }

    /// The number of the record of this device and inode.
    fn find(&self, inode: (u64, u64)) -> Option<usize> {
        let (mut from, mut to) = (0, self.asked_for.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match inode_of(self.read.get(middle * RECORD..)?)?.cmp(&inode) {
                Ordering::Equal => return Some(middle),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        None
    }
}

/// Whether a change after `read` would show in the change time.
fn is_settled((seconds, nanoseconds): (i64, u32), read: SystemTime) -> bool {
    let Ok(seconds) = u64::try_from(seconds) else {
        return false;
    };
    let tick = match nanoseconds {
        0 => COARSE_TICK,
        _ => TICK,
    };
    let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds) + tick);
    changed.is_some_and(|settled| settled <= read)
}

impl Known {
    fn write(&self, bytes: &mut Vec<u8>) {
        let state = &self.state;
        for number in [state.inode.0, state.inode.1, state.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (seconds, nanoseconds) in [state.mtime, state.ctime] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
            bytes.extend_from_slice(&u64::from(nanoseconds).to_le_bytes());
        }
        bytes.extend_from_slice(&self.sha256);
    }

    fn read(record: &[u8]) -> Option<Self> {
        let number = |index: usize| -> Option<[u8; 8]> {
            record.get(index * 8..index * 8 + 8)?.try_into().ok()
        };
        let unsigned = |index| number(index).map(u64::from_le_bytes);
        let time = |index| -> Option<(i64, u32)> {
            let seconds = i64::from_le_bytes(number(index)?);
            Some((seconds, u32::try_from(unsigned(index + 1)?).ok()?))
        };
        Some(Self {
            state: FileState {
                inode: (unsigned(0)?, unsigned(1)?),
                size: unsigned(2)?,
                mtime: time(3)?,
                ctime: time(5)?,
            },
            sha256: record.get(7 * 8..)?.try_into().ok()?,
        })
    }
}

/// The device and inode of a record.
fn inode_of(record: &[u8]) -> Option<(u64, u64)> {
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    Some((number(record.get(..8)?)?, number(record.get(8..16)?)?))
}

/// The records of a table that is what it was when it was written.
fn records(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    if Sha256::digest(rest).as_slice() != sum {
        return None;
    }
    let records = rest.strip_prefix(MAGIC)?;
    let is_ordered = records
        .chunks_exact(RECORD)
        .map(inode_of)
        .is_sorted_by(|a, b| a < b);
    (records.len() % RECORD == 0 && is_ordered).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(inode: u64, ctime: (i64, u32)) -> FileState {
        FileState {
            inode: (1, inode),
            size: 3,
            mtime: (-5, 7),
            ctime,
        }
    }

    fn at(seconds: u64, milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_table_is_read_back_as_it_was_written() {
        let digests = FileDigests::default();
        assert!(digests.to_bytes().is_none());
        for inode in 0..100 {
            digests.put(&state(inode, (50, 1)), [inode as u8; 32], at(60, 0));
        }
        let bytes = digests.to_bytes().unwrap();
        let read = FileDigests::from_bytes(&bytes);
        assert!(read.to_bytes().is_none(), "nothing was changed");
        for inode in 0..100 {
            assert_eq!(read.get(&state(inode, (50, 1))), Some([inode as u8; 32]));
        }
        assert_eq!(read.get(&state(100, (50, 1))), None);
    }

    #[test]
    fn any_difference_is_another_state() {
        let known = state(1, (50, 1));
        let digests = FileDigests::default();
        digests.put(&known, [1; 32], at(60, 0));
        for other in [
            FileState { size: 4, ..known },
            FileState {
                mtime: (-5, 8),
                ..known
            },
            FileState {
                mtime: (-4, 7),
                ..known
            },
            FileState {
                ctime: (50, 2),
                ..known
            },
            FileState {
                ctime: (51, 1),
                ..known
            },
            FileState {
                inode: (2, 1),
                ..known
            },
        ] {
            assert_eq!(digests.get(&other), None, "{other:?}");
        }
        assert_eq!(digests.get(&known), Some([1; 32]));
    }

    #[test]
    fn a_content_is_remembered_once_its_tick_is_over() {
        for (ctime, read, remembered) in [
            ((50, 1), at(50, 0), false),
            ((50, 1), at(50, 100), false),
            ((50, 1), at(50, 101), true),
            ((50, 999_999_999), at(51, 0), false),
            // A file system that counts seconds, or two.
            ((50, 0), at(51, 500), false),
            ((50, 0), at(52, 100), true),
            // Changed in the future, or before there was time.
            ((70, 1), at(60, 0), false),
            ((-1, 1), at(60, 0), false),
            ((i64::MAX, 1), at(60, 0), false),
        ] {
            let digests = FileDigests::default();
            digests.put(&state(1, ctime), [1; 32], read);
            assert_eq!(
                digests.get(&state(1, ctime)).is_some(),
                remembered,
                "{ctime:?} {read:?}"
            );
        }
    }

    #[test]
    fn a_damaged_table_is_empty() {
        let digests = FileDigests::default();
        digests.put(&state(1, (50, 1)), [1; 32], at(60, 0));
        let bytes = digests.to_bytes().unwrap();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            let read = FileDigests::from_bytes(&damaged);
            assert_eq!(read.get(&state(1, (50, 1))), None, "byte {index}");
            let cut = FileDigests::from_bytes(&bytes[..index]);
            assert_eq!(cut.get(&state(1, (50, 1))), None, "cut at {index}");
        }
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_in_time() {
        let digests = FileDigests::default();
        for inode in 0..30_000 {
            digests.put(&state(inode, (50, 1)), [1; 32], at(60, 0));
        }
        let next = FileDigests::from_bytes(&digests.to_bytes().unwrap());
        next.put(&state(40_000, (50, 1)), [2; 32], at(60, 0));
        let bytes = next.to_bytes().unwrap();
        assert_eq!((bytes.len() - MAGIC.len() - SUM) / RECORD, 1 + 1 + SPARE);
    }
}
