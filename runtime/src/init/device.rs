//! A `/dev` with what programs rely on and no hardware.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::step;
use crate::dev::{LINKS, NODES};
use crate::mount::{Filesystem, INERT, attach, clone_tree, tmpfs};
use crate::wire::{Failure, Job};

/// Detached mounts of the machine's device nodes.
pub struct Nodes {
    nodes: Vec<(&'static str, OwnedFd)>,
    null: OwnedFd,
}

impl Nodes {
    /// One more mount of `/dev/null`.
    pub fn null(&self) -> io::Result<OwnedFd> {
        clone_tree(self.null.as_fd(), "", false)
    }
}

/// Takes the nodes from the machine's `/dev`, since user namespaces cannot make them, each checked to be the
/// device it is called.
pub fn host_nodes() -> io::Result<Nodes> {
    let mut nodes = Vec::new();
    for (name, major, minor) in NODES {
        let node = clone_tree(CWD, &format!("/dev/{name}"), false)
            .map_err(|e| io::Error::new(e.kind(), format!("/dev/{name}: {e}")))?;
        let stat = rustix::fs::fstat(&node)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != rustix::fs::makedev(major, minor)
        {
            return Err(io::Error::other(format!(
                "/dev/{name} is not device {major}:{minor}"
            )));
        }
        nodes.push((name, node));
    }
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Nodes { nodes, null })
}

/// Fills the fresh tmpfs `dev`, which is attached already.
pub fn populate(dev: &OwnedFd, job: &Job, nodes: &Nodes) -> Result<(), Failure> {
    for (name, node) in &nodes.nodes {
        bind_node(dev, name, node).map_err(step(&format!("bind /dev/{name}")))?;
    }
    for (to, name) in LINKS {
        symlinkat(to, dev, name).map_err(step(&format!("link /dev/{name}")))?;
    }
    let shm = tmpfs(0o1777, Some(job.shm_size), INERT).map_err(step("make /dev/shm"))?;
    put(dev, "shm", &shm).map_err(step("mount /dev/shm"))?;
    let mqueue = Filesystem::open("mqueue")
        .and_then(|fs| fs.mount(INERT))
        .map_err(step("make /dev/mqueue"))?;
    put(dev, "mqueue", &mqueue).map_err(step("mount /dev/mqueue"))?;
    let pts = terminals(job.tty_group).map_err(step("make /dev/pts"))?;
    put(dev, "pts", &pts).map_err(step("mount /dev/pts"))
}

fn bind_node(dev: &OwnedFd, name: &str, node: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let point = openat(dev, name, flags, Mode::from_raw_mode(0o666))?;
    attach(node.as_fd(), point.as_fd())
}

fn put(dev: &OwnedFd, name: &str, mount: &OwnedFd) -> io::Result<()> {
    mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    attach(
        mount.as_fd(),
        openat(dev, name, flags, Mode::empty())?.as_fd(),
    )
}

fn terminals(tty_group: bool) -> io::Result<OwnedFd> {
    let fs = Filesystem::open("devpts")?;
    fs.flag("newinstance")?;
    fs.set("ptmxmode", "0666")?;
    fs.set("mode", "0620")?;
    if tty_group {
        fs.set("gid", "5")?;
    }
    fs.mount(MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
}
