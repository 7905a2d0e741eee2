//! Where a store can be when its usual place will not do: volumes, temporary directories, memory.
//!
//! A container's own root cannot hold the upper directory of an overlay, but what is mounted into it can.
//! A directory is taken only if nobody else can have prepared it: made here with mode 0700, or ours
//! alone already; and only below a directory in which others cannot replace it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::open::private;

/// Memory that every machine has, taken last.
const MEMORY: &str = "/dev/shm";

/// File systems that hold no files of ours.
const PSEUDO: [&str; 16] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "mqueue",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "bpf",
    "pstore",
    "autofs",
    "hugetlbfs",
    "overlay",
];

/// A directory that could hold the store.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The directory; it is there, of mode 0700 and ours.
    pub path: PathBuf,
    /// It was not there before.
    made: bool,
}

impl Candidate {
    /// Takes it away again if it was made for the asking.
    pub fn give_back(self) {
        if self.made {
            // It is in nobody's way.
            drop(fs::remove_dir(self.path));
        }
    }
}

/// The directories besides the usual place in which the store of the user `uid` could be, best first.
///
/// With `make` false only those that are there already. `env` looks a variable up. `alone` says that
/// nobody but us and whom we trust shares this file system, as in a container: there a volume that
/// everybody may write to will do.
pub fn other_places(
    env: impl Fn(&str) -> Option<OsString>,
    uid: u32,
    alone: bool,
    make: bool,
) -> Vec<Candidate> {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let (disks, memory) = volumes(&mounts);
    let temporary = env("TMPDIR")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let named = ["/tmp", "/var/tmp"].map(PathBuf::from);
    let parents = disks
        .into_iter()
        .chain(temporary.into_iter().chain(named))
        .chain(memory)
        .chain([PathBuf::from(MEMORY)]);
    let mut found: Vec<Candidate> = Vec::new();
    for parent in parents {
        let path = parent.join(format!("lapstrake-{uid}"));
        if !parent.is_absolute() || found.iter().any(|other| other.path == path) {
            continue;
        }
        if is_safe(&parent, alone) {
            found.extend(take(path, make));
        }
    }
    found
}

/// Whether others cannot replace what we make in `parent`.
fn is_safe(parent: &Path, alone: bool) -> bool {
    let Ok(metadata) = fs::symlink_metadata(parent) else {
        return false;
    };
    let us = rustix::process::geteuid().as_raw();
    let is_sticky = metadata.mode() & 0o1000 != 0;
    let is_shared = metadata.mode() & 0o022 != 0 && !is_sticky;
    let is_trusted = metadata.uid() == us || metadata.uid() == 0;
    metadata.is_dir() && (alone || (is_trusted && !is_shared))
}

/// Makes the directory, or finds it ours alone.
fn take(path: PathBuf, make: bool) -> Option<Candidate> {
    if make {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Some(Candidate { path, made: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
    }
    let path = private(path).ok()?;
    Some(Candidate { path, made: false })
}

/// The mount points that could be volumes, on disk and in memory, in the kernel's order.
fn volumes(mountinfo: &[u8]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut disks, mut memory) = (Vec::new(), Vec::new());
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(4).map(unescaped);
        let options = fields.next().unwrap_or_default();
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        let (Some(point), Some(kind)) = (point, kind.and_then(|kind| str::from_utf8(kind).ok()))
        else {
            continue;
        };
        let is_read_only = options.split(|byte| *byte == b',').any(|o| o == b"ro");
        let is_system = ["/proc", "/sys", "/dev", "/boot", "/etc", "/run"]
            .iter()
            .any(|dir| point.starts_with(dir));
        let is_root = point == Path::new("/");
        if is_read_only || is_system || is_root || PSEUDO.contains(&kind) {
            continue;
        }
        match kind {
            "tmpfs" | "ramfs" => memory.push(point),
            _ => disks.push(point),
        }
    }
    (disks, memory)
}

/// A path of `mountinfo`, in which white space and backslashes are octal.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn volumes_are_told_from_the_rest() {
        let text = b"\
21 1 0:20 / / rw - overlay overlay rw
22 21 0:21 / /proc rw,nosuid - proc proc rw
23 21 8:1 /x /scratch\\040disk rw,relatime shared:1 - ext4 /dev/sda1 rw
24 21 0:22 / /mem rw - tmpfs tmpfs rw
25 21 8:1 /y /config ro,relatime - ext4 /dev/sda1 rw
26 21 0:23 / /dev/shm rw - tmpfs shm rw
27 21 0:24 / /run/secrets rw - tmpfs tmpfs rw
28 21 8:1 /h /etc/hosts rw - ext4 /dev/sda1 rw
29 21 0:25 / /other rw - overlay overlay rw
";
        let (disks, memory) = volumes(text);
        assert_eq!(disks, [PathBuf::from("/scratch disk")]);
        assert_eq!(memory, [PathBuf::from("/mem")]);
    }

    #[test]
    fn what_somebody_else_could_have_prepared_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let path = dir.path().join("lapstrake-7");
        assert!(is_safe(dir.path(), false));
        let made = take(path.clone(), true).unwrap();
        assert!(made.made);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        assert!(!take(path.clone(), true).unwrap().made);
        mode(&path, 0o770);
        assert_eq!(take(path.clone(), true), None);
        made.give_back();
        assert!(!path.exists());
        assert_eq!(take(path.clone(), false), None);
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &path).unwrap();
        assert_eq!(take(path, true), None);
        mode(dir.path(), 0o777);
        assert!(!is_safe(dir.path(), false));
        assert!(is_safe(dir.path(), true));
        mode(dir.path(), 0o1777);
        assert!(is_safe(dir.path(), false));
    }
}
