//! Files of `/proc` that we write ourselves: what is mounted, as it looks from the tree.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, fstat, fstatfs, major, memfd_create, minor, open};
use rustix::io::Errno;

use super::Served;
use crate::supervise::resolve::own_path;

/// Where, of which kind and with which options besides the root.
const MOUNTS: [(&str, &str, &str, &str); 3] = [
    ("proc", "/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
    ("tmpfs", "/dev", "tmpfs", "rw,nosuid"),
    ("sysfs", "/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
];

/// `/proc/PID/mounts`.
pub fn mounts(served: &Served) -> Vec<u8> {
    let mut text = format!("overlay / {} rw,relatime 0 0\n", kind(served));
    for (source, target, kind, options) in MOUNTS {
        text += &format!("{source} {target} {kind} {options} 0 0\n");
    }
    text.into_bytes()
}

/// `/proc/PID/mountinfo`.
pub fn mountinfo(served: &Served) -> Vec<u8> {
    let device = fstat(&served.tree).map_or(0, |stat| stat.st_dev);
    let (high, low) = (major(device), minor(device));
    let mut text = format!(
        "1 0 {high}:{low} / / rw,relatime - {} overlay rw\n",
        kind(served)
    );
    for (at, (source, target, kind, options)) in MOUNTS.into_iter().enumerate() {
        let number = at + 2;
        text += &format!("{number} 1 0:{number} / {target} {options} - {kind} {source} rw\n");
    }
    text.into_bytes()
}

/// `/proc/PID/mountstats`.
pub fn mountstats(served: &Served) -> Vec<u8> {
    let mut text = format!("device overlay mounted on / with fstype {}\n", kind(served));
    for (source, target, kind, _) in MOUNTS {
        text += &format!("device {source} mounted on {target} with fstype {kind}\n");
    }
    text.into_bytes()
}

/// The name of the tree's file system.
fn kind(served: &Served) -> &'static str {
    let kinds = [
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x6969, "nfs"),
    ];
    let Ok(stat) = fstatfs(&served.tree) else {
        return "overlay";
    };
    #[allow(clippy::unnecessary_cast)] // the type differs between machines
    let magic = stat.f_type as i64;
    let known = kinds.iter().find(|(number, _)| *number == magic);
    known.map_or("overlay", |(_, name)| name)
}

/// A file with this text, open for reading.
pub fn file(text: &[u8]) -> Result<OwnedFd, Errno> {
    let mut memory = File::from(memfd_create("text", MemfdFlags::CLOEXEC)?);
    memory
        .write_all(text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    open(own_path(memory.as_fd()), flags, Mode::empty())
}
