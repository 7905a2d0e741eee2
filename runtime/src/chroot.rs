//! The builder's part of a process in a tree, without namespaces: what it cannot have, which
//! capabilities it gets, and its `/dev`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, fchmod, makedev, mkdirat, mknodat, openat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use seccomp::supervise::Served;

use crate::capabilities::{self, Capabilities};
use crate::child::Child;
use crate::dev::{LINKS, NODES};
use crate::error::Error;
use crate::fence::Fence;
use crate::hosts;
use crate::spawn::spawn_in;
use crate::spec::{Mount, Network, RunSpec};
use crate::tree::TreeRoot;

/// Starts `spec` in a tree, with everything that it wants mounted put there.
pub fn spawn(
    tree: &TreeRoot,
    mut spec: RunSpec,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Child, Error> {
    check(&spec)?;
    let mut mounts: Vec<Mount> = KERNEL
        .map(|(target, mode)| Mount::Tmpfs {
            target: target.into(),
            size: None,
            mode,
            readonly: false,
        })
        .into();
    mounts.extend(hosts::mounts(&spec)?);
    mounts.append(&mut spec.mounts);
    let placed = tree.place(mounts)?;
    let mut child = spawn_in(tree.root(), spec, stdout, stderr)?;
    child.placed = Some(placed);
    Ok(child)
}

/// Directories in place of the kernel's file systems, and their modes.
const KERNEL: [(&str, u32); 3] = [("/proc", 0o555), ("/sys", 0o555), ("/dev", 0o755)];

/// What is different for a process without namespaces.
pub struct InTree {
    /// What it gets of the capabilities that were asked for.
    pub capabilities: Capabilities,
    /// What keeps it in its tree besides the root directory.
    pub fence: Fence,
    hostname: String,
    masked: bool,
    /// Whether `/dev` has real nodes.
    nodes: bool,
}

impl InTree {
    /// For a step in `tree`, whose `/dev` is filled.
    pub fn of(tree: BorrowedFd<'_>, spec: &RunSpec) -> Result<Self, Error> {
        check(spec)?;
        let dev = directory(tree, "dev")?;
        Ok(Self {
            capabilities: capabilities(spec.capabilities, dev.as_fd())?,
            fence: Fence::here(),
            hostname: spec.hostname.clone(),
            masked: spec.masked,
            nodes: devices(dev.as_fd())?,
        })
    }

    /// What its supervisor shows it.
    pub fn served(&self, tree: OwnedFd, init: libc::pid_t) -> io::Result<Served> {
        Served::new(tree, init, &self.hostname, self.masked, self.nodes)
    }
}

/// Refuses by name what only namespaces can do.
fn check(spec: &RunSpec) -> Result<(), Error> {
    let refuse = |what, advice| Err(Error::Unsupported { what, advice });
    if spec.network == Network::None {
        return refuse(
            "a step without network",
            "run the build where user namespaces are allowed, or let the step use the network",
        );
    }
    if spec.capabilities == Capabilities::all() || !spec.seccomp {
        return refuse(
            "a step with --security=insecure",
            "run the build where user namespaces are allowed",
        );
    }
    if spec.shm_size.is_some() {
        return refuse(
            "a size of /dev/shm",
            "leave --shm-size out: /dev/shm is a directory of the disk here",
        );
    }
    Ok(())
}

/// Those of `wanted` that we have to give, without the one by which a process could leave its tree.
/// `dev` is a directory in which a node may be made.
fn capabilities(wanted: Capabilities, dev: BorrowedFd<'_>) -> Result<Capabilities, Error> {
    let ours = capabilities::permitted().map_err(|error| Error::Setup {
        doing: "ask for our capabilities".to_owned(),
        why: error.to_string(),
    })?;
    let mut keep = wanted.and(ours).without(caps::Capability::CAP_SYS_CHROOT);
    if !disks_are_refused(dev) {
        keep = keep.without(caps::Capability::CAP_MKNOD);
    }
    Ok(keep)
}

/// Whether the disks of the machine are refused to processes here, as the device controller of a
/// container's cgroup does: where they are not, whoever makes a node could read everything. Tried once.
fn disks_are_refused(dev: BorrowedFd<'_>) -> bool {
    static REFUSED: OnceLock<bool> = OnceLock::new();
    *REFUSED.get_or_init(|| {
        let found = std::fs::read_dir("/sys/class/block").into_iter().flatten();
        let disks: Vec<u64> = found
            .flatten()
            .filter_map(|disk| {
                let text = std::fs::read_to_string(disk.path().join("dev")).ok()?;
                let (major, minor) = text.trim().split_once(':')?;
                Some(makedev(major.parse().ok()?, minor.parse().ok()?))
            })
            .take(DISKS)
            .collect();
        !disks.is_empty() && disks.into_iter().all(|disk| is_refused(dev, disk))
    })
}

/// As many as there may be of no use (loop devices without a file) before one that is.
const DISKS: usize = 64;

fn is_refused(dev: BorrowedFd<'_>, disk: u64) -> bool {
    match mknodat(dev, PROBE, FileType::BlockDevice, Mode::RUSR, disk) {
        Ok(()) => {}
        Err(_) => return true,
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(dev, PROBE, flags, Mode::empty());
    let removed = unlinkat(dev, PROBE, AtFlags::empty());
    // No such disk, or none in its drive: nothing there to be read.
    removed.is_ok() && opened.is_err()
}

/// The name of a node on trial.
const PROBE: &str = ".node";

/// Opens a directory right below the root, which no link may stand for.
fn directory(tree: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(tree, name, flags, Mode::empty()).map_err(|errno| Error::MountPoint {
        target: Path::new("/").join(name),
        why: errno.to_string(),
    })
}

/// Fills the empty `/dev`; whether it has real nodes. Where those are refused there are empty files in
/// their place, for which a supervisor opens the machine's.
fn devices(dev: BorrowedFd<'_>) -> Result<bool, Error> {
    let refuse = |errno: Errno| Error::Setup {
        doing: "fill /dev".to_owned(),
        why: errno.to_string(),
    };
    let nodes = have_nodes(dev);
    for (at, (name, major, minor)) in NODES.into_iter().enumerate() {
        match (nodes, at) {
            (false, _) => stand_in(dev, name).map_err(refuse)?,
            (true, 0) => {}
            (true, _) => node(dev, name, makedev(major, minor)).map_err(refuse)?,
        }
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name).map_err(refuse)?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777)] {
        mkdirat(dev, name, Mode::RWXU).map_err(refuse)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(dev, name, flags, Mode::empty()).map_err(refuse)?;
        fchmod(&made, Mode::from_raw_mode(mode)).map_err(refuse)?;
    }
    Ok(nodes)
}

/// Makes the first node and opens it: a user namespace refuses the one, a file system for data the other.
fn have_nodes(dev: BorrowedFd<'_>) -> bool {
    let (name, major, minor) = NODES[0];
    if node(dev, name, makedev(major, minor)).is_err() {
        return false;
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if openat(dev, name, flags, Mode::empty()).is_ok() {
        return true;
    }
    // If it stays, making the file in its place fails by name.
    unlinkat(dev, name, AtFlags::empty()).is_err()
}

fn node(dev: BorrowedFd<'_>, name: &str, device: u64) -> Result<(), Errno> {
    mknodat(dev, name, FileType::CharacterDevice, Mode::RUSR, device)?;
    chmodat(dev, name, Mode::from_raw_mode(0o666), AtFlags::empty())
}

fn stand_in(dev: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    fchmod(
        openat(dev, name, flags, Mode::RUSR)?,
        Mode::from_raw_mode(0o666),
    )
}
