//! The `stat` family: what the kernel says of a file, with its record laid over it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::call::{Call, Layout};
use super::owners::Record;
use super::resolve::AT_FDCWD;
use super::sys::{self, STATX_SIZE};
use super::tracee::Tracee;
use super::{Answer, Answered, DONE};

const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
const EMPTY: i32 = libc::AT_EMPTY_PATH;
/// The flags of `statx` that say how far to ask a network file system.
const SYNC: u32 = libc::AT_STATX_SYNC_TYPE.cast_unsigned();
const USUAL: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// Answers one of them. What has no record the kernel shows as it is.
pub fn stat(tracee: &Tracee<'_>, call: Call) -> Answered {
    match recorded(tracee, call) {
        Ok(Some((bytes, argument))) => {
            tracee.write(tracee.pointer(argument), &bytes)?;
            DONE
        }
        // Its errors are the kernel's to tell, and so is what lies in /proc.
        Ok(None) | Err(_) => Ok(Answer::Continue),
    }
}

/// What to write, and which argument says where to; none for a file without a record.
fn recorded(tracee: &Tracee<'_>, call: Call) -> Result<Option<(Vec<u8>, usize)>, Errno> {
    let argument = result(call);
    let file = match call {
        Call::Stat => tracee.file(AT_FDCWD, &tracee.path(0)?, true, false)?,
        Call::Lstat => tracee.file(AT_FDCWD, &tracee.path(0)?, false, false)?,
        Call::Fstat => tracee.descriptor(tracee.int(0))?,
        Call::Fstatat => at(tracee, tracee.int(3))?,
        _ => at(tracee, tracee.int(2))?,
    };
    let Some(record) = tracee.owners().get(file.as_fd())? else {
        return Ok(None);
    };
    if call == Call::Statx {
        let flags = tracee.id(2) & SYNC;
        let mut stat = Metadata::of(sys::statx(file.as_fd(), flags, tracee.id(3))?);
        stat.overlay(&record);
        return Ok(Some((stat.0.to_vec(), argument)));
    }
    let mut stat = Metadata::open(file.as_fd())?;
    stat.overlay(&record);
    Ok(Some((stat.encode(tracee.layout()), argument)))
}

/// Which argument says where the result goes.
fn result(call: Call) -> usize {
    match call {
        Call::Stat | Call::Lstat | Call::Fstat => 1,
        Call::Fstatat => 2,
        _ => 4,
    }
}

/// What a call by path asks about: relative to which descriptor, the path, and whether its last link is
/// followed. The path is empty where it is the descriptor itself.
pub fn subject(tracee: &Tracee<'_>, call: Call) -> Result<(i32, Vec<u8>, bool), Errno> {
    let flags = match call {
        Call::Stat => return Ok((AT_FDCWD, tracee.path(0)?, true)),
        Call::Lstat => return Ok((AT_FDCWD, tracee.path(0)?, false)),
        Call::Fstatat => tracee.int(3),
        _ => tracee.int(2),
    };
    let path = match tracee.pointer(1) {
        0 => Vec::new(),
        _ => tracee.path(1)?,
    };
    Ok((tracee.int(0), path, flags & NOFOLLOW == 0))
}

/// Answers a call with what the kernel says of a file.
pub fn tell(tracee: &Tracee<'_>, call: Call, file: BorrowedFd<'_>) -> Answered {
    let bytes = match call {
        Call::Statx => sys::statx(file, tracee.id(2) & SYNC, tracee.id(3))?.to_vec(),
        _ => Metadata::open(file)?.encode(tracee.layout()),
    };
    tracee.write(tracee.pointer(result(call)), &bytes)?;
    DONE
}

/// The file of a call with a descriptor, a path and flags.
fn at(tracee: &Tracee<'_>, flags: i32) -> Result<std::os::fd::OwnedFd, Errno> {
    let empty = flags & EMPTY != 0;
    // Linux 6.11 takes no path for an empty one.
    let path = match tracee.pointer(1) {
        0 if empty => Vec::new(),
        _ => tracee.path(1)?,
    };
    tracee.file(tracee.int(0), &path, flags & NOFOLLOW == 0, empty)
}

/// A `struct statx`.
#[derive(Clone)]
pub struct Metadata([u8; STATX_SIZE]);

// Offsets in it.
const BLOCK_SIZE: usize = 4;
const LINKS: usize = 16;
const UID: usize = 20;
const GID: usize = 24;
const MODE: usize = 28;
const INODE: usize = 32;
const SIZE: usize = 40;
const BLOCKS: usize = 48;
const ACCESSED: usize = 64;
const BORN: usize = 80;
const CHANGED: usize = 96;
const MODIFIED: usize = 112;
const RDEV: usize = 128;
const DEVICE: usize = 136;

impl Metadata {
    pub(super) fn of(bytes: [u8; STATX_SIZE]) -> Self {
        Self(bytes)
    }

    /// What the kernel says of an open file; nothing of when it was made where a filter forbids `statx`.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        match sys::statx(fd, 0, USUAL) {
            Err(Errno::NOSYS | Errno::PERM) => Ok(Self::from_stat(&rustix::fs::fstat(fd)?)),
            other => Ok(Self(other?)),
        }
    }

    #[allow(clippy::unnecessary_cast)] // the types differ between machines
    fn from_stat(stat: &rustix::fs::Stat) -> Self {
        let mut all = Self([0; STATX_SIZE]);
        all.put(BLOCK_SIZE, stat.st_blksize as u32);
        all.put(LINKS, stat.st_nlink as u32);
        all.put(UID, stat.st_uid);
        all.put(GID, stat.st_gid);
        all.0[MODE..MODE + 2].copy_from_slice(&(stat.st_mode as u16).to_ne_bytes());
        all.put_long(INODE, stat.st_ino);
        all.put_long(SIZE, stat.st_size as u64);
        all.put_long(BLOCKS, stat.st_blocks as u64);
        for (at, seconds, nanoseconds) in [
            (ACCESSED, stat.st_atime, stat.st_atime_nsec),
            (CHANGED, stat.st_ctime, stat.st_ctime_nsec),
            (MODIFIED, stat.st_mtime, stat.st_mtime_nsec),
        ] {
            all.put_long(at, seconds as u64);
            all.put(at + 8, nanoseconds as u32);
        }
        for (at, device) in [(RDEV, stat.st_rdev), (DEVICE, stat.st_dev)] {
            all.put(at, rustix::fs::major(device));
            all.put(at + 4, rustix::fs::minor(device));
        }
        all
    }

    fn put_long(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn u32(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(word)
    }

    fn u64(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[at..at + 8]);
        u64::from_ne_bytes(word)
    }

    fn put(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// Type and permission bits.
    pub fn mode(&self) -> u32 {
        u32::from(u16::from_ne_bytes([self.0[MODE], self.0[MODE + 1]]))
    }

    /// Its type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode())
    }

    /// Owner and group on disk.
    pub fn owner(&self) -> (u32, u32) {
        (self.u32(UID), self.u32(GID))
    }

    /// Inode number.
    pub fn inode(&self) -> u64 {
        self.u64(INODE)
    }

    /// The file system's device number.
    pub fn device(&self) -> u64 {
        self.encoded(DEVICE)
    }

    /// When the inode was made: seconds and nanoseconds, zeros if nobody knows.
    pub fn born(&self) -> (i64, u32) {
        (self.u64(BORN).cast_signed(), self.u32(BORN + 8))
    }

    /// A device number as `stat` has it.
    fn encoded(&self, at: usize) -> u64 {
        let (major, minor) = (self.u32(at), self.u32(at + 4));
        u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }

    /// Lays a record over it.
    fn overlay(&mut self, record: &Record) {
        self.put(UID, record.uid);
        self.put(GID, record.gid);
        if let Some(device) = record.device {
            let kind = if device.block {
                libc::S_IFBLK
            } else {
                libc::S_IFCHR
            };
            let mode = kind | (self.mode() & 0o7777);
            let [low, high, ..] = mode.to_le_bytes();
            let mode = u16::from_le_bytes([low, high]).to_ne_bytes();
            self.0[MODE..MODE + 2].copy_from_slice(&mode);
            self.put(RDEV, device.major);
            self.put(RDEV + 4, device.minor);
        }
    }

    /// As `struct stat`, of 32-bit architectures `struct stat64`.
    fn encode(&self, layout: Layout) -> Vec<u8> {
        let mut out = Writer::default();
        let (links, mode) = (self.u32(LINKS), self.mode());
        let (uid, gid) = self.owner();
        out.u64(self.device());
        match layout {
            Layout::X86_64 => {
                out.u64(self.inode());
                out.u64(links.into());
                out.words(&[mode, uid, gid, 0]);
            }
            Layout::Aarch64 => {
                out.u64(self.inode());
                out.words(&[mode, links, uid, gid]);
            }
            // The inode number's low half; all of it comes at the end.
            Layout::I386 | Layout::Arm => {
                out.words(&[0, self.inode() as u32, mode, links, uid, gid]);
            }
        }
        out.u64(self.encoded(RDEV));
        match layout {
            Layout::X86_64 => {}
            Layout::Aarch64 | Layout::Arm => out.u64(0),
            Layout::I386 => out.words(&[0]),
        }
        out.u64(self.u64(SIZE));
        match layout {
            Layout::X86_64 => out.u64(self.u32(BLOCK_SIZE).into()),
            Layout::Aarch64 | Layout::Arm => out.words(&[self.u32(BLOCK_SIZE), 0]),
            Layout::I386 => out.words(&[self.u32(BLOCK_SIZE)]),
        }
        out.u64(self.u64(BLOCKS));
        for time in [ACCESSED, MODIFIED, CHANGED] {
            let (seconds, nanoseconds) = (self.u64(time), self.u32(time + 8));
            if layout.is_32() {
                out.words(&[seconds as u32, nanoseconds]);
            } else {
                out.u64(seconds);
                out.u64(nanoseconds.into());
            }
        }
        match layout {
            Layout::X86_64 => [0, 0, 0].map(|word| out.u64(word)).into_iter().collect(),
            Layout::Aarch64 => out.u64(0),
            Layout::I386 | Layout::Arm => out.u64(self.inode()),
        }
        out.0
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.0.extend_from_slice(&word.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::owners::Device;
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        let stat = Metadata([0; STATX_SIZE]);
        for (layout, size) in [
            (Layout::X86_64, 144),
            (Layout::Aarch64, 128),
            (Layout::I386, 96),
            (Layout::Arm, 104),
        ] {
            assert_eq!(stat.encode(layout).len(), size, "{layout:?}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_file_is_shown_as_the_kernel_shows_it_but_for_its_record() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let meta = file.metadata().unwrap();
        let mut stat = Metadata::open(file.as_fd()).unwrap();
        let word = |bytes: &[u8], at: usize| {
            u64::from_ne_bytes(<[u8; 8]>::try_from(&bytes[at..at + 8]).unwrap())
        };
        let bytes = stat.encode(Layout::X86_64);
        let found = [0, 8, 16, 48, 64, 88, 96, 104, 112].map(|at| word(&bytes, at));
        let expected = [
            meta.dev(),
            meta.ino(),
            meta.nlink(),
            meta.size(),
            meta.blocks(),
            meta.mtime() as u64,
            meta.mtime_nsec() as u64,
            meta.ctime() as u64,
            meta.ctime_nsec() as u64,
        ];
        assert_eq!(found, expected);
        stat.overlay(&Record {
            uid: 1,
            gid: 2,
            device: Some(Device {
                block: false,
                major: 5,
                minor: 257,
            }),
        });
        assert_eq!(stat.owner(), (1, 2));
        assert_eq!(stat.kind(), FileType::CharacterDevice);
        assert_eq!(stat.encoded(RDEV), rustix::fs::makedev(5, 257));
    }
}
