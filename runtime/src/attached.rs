//! [`Attached`]: a root file system out of which parts can be mounted.
//!
//! An overlay hangs in a directory of the builder's mount namespace for that.
//! A part of a mount can be bound elsewhere only while the mount belongs to the namespace of who
//! asks; before Linux 6.15 that rules out a detached one. So whoever wants to bind a directory or
//! file out of an overlay hangs it up first. The mount goes when the value is dropped; what was
//! bound out of it meanwhile stays.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::mount::attach;
use crate::roots::View;
use crate::tree::Changing;

/// A root file system for sources of [`crate::Mount::Bind`].
#[derive(Debug)]
pub struct Attached(Held);

#[derive(Debug)]
enum Held {
    Overlay(Hung),
    Changing(Box<Changing>),
    Read(View),
}

/// An overlay in a directory of the host.
#[derive(Debug)]
struct Hung {
    root: OwnedFd,
    point: PathBuf,
}

impl Attached {
    /// Hangs the detached `mount`, whose root is `root`, into the directory `point`.
    pub(crate) fn new(mount: &OwnedFd, root: OwnedFd, point: &Path) -> Result<Self, Error> {
        let hang = || -> io::Result<()> {
            std::fs::create_dir(point)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(point, flags, Mode::empty())?;
            attach(mount.as_fd(), dir.as_fd())
        };
        hang().map_err(Error::io("mount an overlay on", point))?;
        let point = point.to_owned();
        Ok(Self(Held::Overlay(Hung { root, point })))
    }

    /// A tree, which is thrown away afterwards.
    pub(crate) fn changing(tree: Changing) -> Self {
        Self(Held::Changing(Box::new(tree)))
    }

    /// Files that are only read.
    pub(crate) fn read(view: View) -> Self {
        Self(Held::Read(view))
    }

    /// The merged tree, a directory open for reading; what is opened beneath it can be bound.
    pub fn root(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Held::Overlay(hung) => hung.root.as_fd(),
            Held::Changing(tree) => tree.root().root(),
            Held::Read(view) => view.root(),
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // If it stays, it goes with the namespace, when this process ends.
        let gone = umount2(&self.point, MntFlags::MNT_DETACH);
        debug_assert!(gone.is_ok(), "{}: {gone:?}", self.point.display());
    }
}
