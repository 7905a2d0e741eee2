//! Mounts held by descriptor, from the making to the attaching; no path of an image is walked here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Attributes of a mount that holds no program and no device.
pub const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A file system being configured. [`Self::mount`] makes a detached mount of it.
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Opens a context for the type `kind`.
    pub fn open(kind: &str) -> io::Result<Self> {
        Ok(Self(fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets an option that has a value.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        fsconfig_set_string(&self.0, key, value).map_err(|e| self.explain(e.into()))
    }

    /// Sets an option that is a word.
    pub fn flag(&self, key: &str) -> io::Result<()> {
        fsconfig_set_flag(&self.0, key).map_err(|e| self.explain(e.into()))
    }

    /// Creates the file system and mounts it, attached to nothing.
    pub fn mount(self, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
        fsconfig_create(&self.0).map_err(|e| self.explain(e.into()))?;
        Ok(fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }

    /// Adds what the kernel wrote to the context's log to an error, keeping its kind.
    fn explain(&self, error: io::Error) -> io::Error {
        let mut text = [0_u8; 512];
        let said = match rustix::io::read(&self.0, &mut text) {
            Ok(n) if n > 2 => String::from_utf8_lossy(&text[2..n]).trim().to_owned(),
            Ok(_) | Err(_) => return error,
        };
        match error.raw_os_error() {
            Some(errno) => Explained { errno, said }.into(),
            None => error,
        }
    }
}

/// An errno with the kernel's own words.
#[derive(Debug, thiserror::Error)]
#[error("{} (kernel: {said})", io::Error::from_raw_os_error(*errno))]
struct Explained {
    errno: i32,
    said: String,
}

impl From<Explained> for io::Error {
    fn from(e: Explained) -> Self {
        io::Error::new(io::Error::from_raw_os_error(e.errno).kind(), e)
    }
}

/// The errno of an error, also of one that [`Filesystem`] explained.
pub fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        error
            .get_ref()
            .and_then(|e| e.downcast_ref::<Explained>())
            .map(|e| e.errno)
    })
}

/// A detached tmpfs.
pub fn tmpfs(mode: u32, size: Option<u64>, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let fs = Filesystem::open("tmpfs")?;
    fs.set("mode", &format!("{mode:o}"))?;
    if let Some(size) = size {
        fs.set("size", &size.to_string())?;
    }
    fs.mount(attributes)
}

/// A detached copy of the mount at `path` beneath `dir`, with everything mounted below it if `recursive`.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &str, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(dir, path, flags)?)
}

/// Attaches a detached mount on top of the file or directory that `target` is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Makes a mount, and those below it if `recursive`, read only.
pub fn set_readonly(mount: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    crate::sys::mount_setattr(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, recursive)
}

/// Makes a mount and all below it read only and of no use for programs and devices.
pub fn set_inert(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    crate::sys::mount_setattr(mount.as_fd(), attributes, true)
}
