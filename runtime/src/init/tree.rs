//! The mounts of a sandbox, then the root itself.
//!
//! Every target is opened beneath the root's descriptor and mounted on by descriptor; nobody else
//! can change the tree, since the sandbox has no process yet and the workspace belongs to us.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use seccomp::supervise::{RECORD, Record};

use super::{Stop, device, place, step};
use crate::inroot;
use crate::mount::{Filesystem, INERT, attach, clone_tree, errno, set_inert, set_readonly, tmpfs};
use crate::sys;
use crate::wire::{Failure, Job, MountJob, MountKind};

/// Paths below `/proc` and `/sys` that tell too much about the machine or let root of the machine's
/// kernel change it: hidden.
const MASKED: [&str; 18] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
    // Mounts that a bound /sys brings along and a container's own does not have.
    "sys/kernel/debug",
    "sys/kernel/tracing",
    "sys/kernel/security",
    "sys/kernel/config",
    "sys/fs/bpf",
    "sys/fs/pstore",
];

/// Paths that programs read and nobody may write.
const READONLY: [&str; 5] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

/// Builds the tree and makes it this process's root.
pub fn build(job: &Job) -> Result<(), Stop> {
    // First of all, since a refusal sends us back to the builder with nothing used up.
    let proc = proc_mount(job)?;
    let sys_mount = sysfs(job).map_err(step("mount /sys"))?;
    let devices = device::host_nodes().map_err(step("open the machine's /dev"))?;
    let old_root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(step("open the old root"))?;
    let root = sys::adopt(job.root).map_err(step("take over the root file system"))?;
    attach(root.as_fd(), old_root.as_fd()).map_err(step("attach the root file system"))?;

    put(&root, "proc", &proc)?;
    put(&root, "sys", &sys_mount)?;
    let dev = tmpfs(0o755, Some(16 << 20), MountAttrFlags::MOUNT_ATTR_NOSUID)
        .map_err(step("make /dev"))?;
    put(&root, "dev", &dev)?;
    device::populate(&dev, job, &devices)?;
    for mount in &job.mounts {
        put_extra(&root, &dev, mount, job.supervised.is_some())?;
    }
    if job.masked {
        protect(&root, &devices)?;
    }
    change_root(&root, &old_root).map_err(step("change the root directory"))?;
    Ok(())
}

fn proc_mount(job: &Job) -> Result<OwnedFd, Stop> {
    if job.own_pids {
        return match Filesystem::open("proc").and_then(|fs| fs.mount(INERT)) {
            Err(e) if errno(&e) == Some(libc::EPERM) => Err(Stop::ProcRefused),
            other => Ok(other.map_err(step("mount /proc"))?),
        };
    }
    let proc = clone_tree(CWD, "/proc", true).map_err(step("bind the outer /proc"))?;
    set_inert(proc.as_fd()).map_err(step("make /proc read-only"))?;
    Ok(proc)
}

/// Our own `/sys` where the network namespace is ours and the kernel allows it, else the machine's.
fn sysfs(job: &Job) -> std::io::Result<OwnedFd> {
    if job.own_network {
        let attributes = INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
        match Filesystem::open("sysfs").and_then(|fs| fs.mount(attributes)) {
            Err(e) if errno(&e) == Some(libc::EPERM) => {}
            other => return other,
        }
    }
    let bound = clone_tree(CWD, "/sys", true)?;
    set_inert(bound.as_fd())?;
    Ok(bound)
}

/// Mounts on a directory of the root that has no symbolic link in its path.
fn put(root: &OwnedFd, path: &str, mount: &OwnedFd) -> Result<(), Failure> {
    let refuse = |why: String| Failure::MountPoint {
        target: format!("/{path}").into(),
        why,
    };
    let target = rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|e| refuse(e.to_string()))?;
    attach(mount.as_fd(), target.as_fd()).map_err(|e| refuse(e.to_string()))
}

/// Mounts what the specification asked for.
fn put_extra(
    root: &OwnedFd,
    dev: &OwnedFd,
    job: &MountJob,
    supervised: bool,
) -> Result<(), Failure> {
    let refuse = |why: String| Failure::MountPoint {
        target: job.target.clone(),
        why,
    };
    let mount = match &job.kind {
        MountKind::Attach(fd) => sys::adopt(*fd),
        MountKind::Tmpfs {
            size,
            mode,
            readonly,
        } => {
            let mut attributes =
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, *readonly);
            tmpfs(*mode, *size, attributes)
        }
        MountKind::Content {
            content,
            mode,
            uid,
            gid,
        } => content_mount(dev.as_fd(), content, *mode, (*uid, *gid), supervised),
    }
    .map_err(|e| refuse(e.to_string()))?;
    let directory = is_directory(&mount).map_err(|e| refuse(e.to_string()))?;
    let target = place::open(root, Path::new(&job.target), directory).map_err(refuse)?;
    attach(mount.as_fd(), target.as_fd()).map_err(|e| refuse(e.to_string()))?;
    if matches!(job.kind, MountKind::Content { .. }) {
        rustix::fs::unlinkat(dev, CONTENT, AtFlags::empty()).map_err(|e| refuse(e.to_string()))?;
    }
    Ok(())
}

fn is_directory(mount: &OwnedFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(mount)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// The name in `/dev` of a file on its way to its mount point.
const CONTENT: &str = ".content";

/// A file in memory as a read-only mount: made in our `/dev`, where its name goes once it is attached
/// (the kernel attaches nothing that has no name).
fn content_mount(
    dev: BorrowedFd<'_>,
    content: &[u8],
    mode: u32,
    owner: (u32, u32),
    supervised: bool,
) -> std::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::openat(dev, CONTENT, flags, Mode::RUSR)?);
    file.write_all(content)?;
    if supervised {
        let value = Record::new(owner.0, owner.1).encode();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::fsetxattr(&file, RECORD, value.as_bytes(), flags) {
            // Before Linux 6.6 a tmpfs holds no attribute: it is shown as root's.
            Err(Errno::NOTSUP) => {}
            other => other?,
        }
    } else {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    drop(file);
    let mount = clone_tree(dev, CONTENT, false)?;
    set_readonly(mount.as_fd(), false)?;
    Ok(mount)
}

/// Hides and write-protects what is not for a build step.
fn protect(root: &OwnedFd, devices: &device::Nodes) -> Result<(), Failure> {
    let mut empty = None;
    for path in MASKED {
        let Some((target, directory)) = existing(root, path)? else {
            continue;
        };
        let cover = if directory {
            one_more(empty.as_ref())
        } else {
            devices.null()
        }
        .map_err(step(&format!("hide /{path}")))?;
        attach(cover.as_fd(), target.as_fd()).map_err(step(&format!("hide /{path}")))?;
        if directory {
            empty = Some(cover);
        }
    }
    for path in READONLY {
        let Some((target, _)) = existing(root, path)? else {
            continue;
        };
        let doing = format!("make /{path} read-only");
        let copy = clone_tree(target.as_fd(), "", true).map_err(step(&doing))?;
        set_readonly(copy.as_fd(), true).map_err(step(&doing))?;
        attach(copy.as_fd(), target.as_fd()).map_err(step(&doing))?;
    }
    Ok(())
}

/// Another mount of `empty`, the file system with nothing in it that hides directories; the first
/// makes it. It has to be attached by then, since older kernels copy no detached mount.
fn one_more(empty: Option<&OwnedFd>) -> std::io::Result<OwnedFd> {
    match empty {
        Some(attached) => clone_tree(attached.as_fd(), "", false),
        None => tmpfs(0o755, Some(0), INERT | MountAttrFlags::MOUNT_ATTR_RDONLY),
    }
}

/// Opens a path below `/proc` or `/sys` if the kernel has it; whether it is a directory.
fn existing(root: &OwnedFd, path: &str) -> Result<Option<(OwnedFd, bool)>, Failure> {
    let target = match inroot::open(
        root.as_fd(),
        Path::new(path),
        OFlags::PATH | OFlags::NOFOLLOW,
    ) {
        // EACCES: the outer /sys hides it from us already.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
        other => other.map_err(step(&format!("open /{path}")))?,
    };
    let stat = rustix::fs::fstat(&target).map_err(step(&format!("look at /{path}")))?;
    Ok(Some((
        target,
        FileType::from_raw_mode(stat.st_mode).is_dir(),
    )))
}

/// Makes `root`, which is attached over the old root, the root; nothing of the old one stays.
fn change_root(root: &OwnedFd, old_root: &OwnedFd) -> nix::Result<()> {
    nix::unistd::fchdir(root)?;
    match nix::unistd::pivot_root(".", ".") {
        Ok(()) => {
            // The old root now lies over the new one, under the same name.
            nix::unistd::fchdir(old_root)?;
            umount2(".", MntFlags::MNT_DETACH)?;
        }
        // Some seccomp profiles lack pivot_root. The new root covers the old one at `/`, and above
        // that nothing is mounted, so a way out of the chroot leads nowhere.
        Err(nix::Error::EPERM | nix::Error::ENOSYS) => nix::unistd::chroot(".")?,
        Err(errno) => return Err(errno),
    }
    nix::unistd::chdir("/")
}
