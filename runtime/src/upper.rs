//! Whether a place can hold the upper directory of an overlay in all that overlayfs does to one.
//!
//! Some file systems can be mounted on and only fail the step that renames a file of the image, or makes a
//! directory in the place of one that it has removed: they have no whiteouts, or no attributes of users.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, mkdirat, renameat, unlinkat};

use crate::error::Error;
use crate::roots::Workspace;

/// Tries it in `dir`, an empty directory, which it leaves full of its remains.
///
/// # Errors
/// [`Error::Overlay`] where it cannot be mounted or lacks something.
pub fn check_upper(dir: &Path) -> Result<(), Error> {
    let (lower, work) = (dir.join("lower"), dir.join("workspace"));
    let make = |path: &Path| fs::create_dir_all(path).map_err(Error::io("create", path));
    make(&lower.join("dir"))?;
    make(&work)?;
    for name in ["file", "dir/file"] {
        let path = lower.join(name);
        fs::write(&path, "").map_err(Error::io("write", &path))?;
    }
    let workspace = Workspace::overlay(&[lower], &work)?;
    replace(&workspace).map_err(|source| Error::Overlay {
        dir: dir.to_owned(),
        source,
        advice: "its file system has no whiteouts or no extended attributes (user.*), so that no step could \
                 rename or replace what is in its image: put the store on ext4, xfs, btrfs or, from Linux 6.6 \
                 on, tmpfs, with LAPSTRAKE_ROOT or --root"
            .to_owned(),
    })?;
    workspace.finish().map(drop)
}

fn replace(workspace: &Workspace) -> io::Result<()> {
    let root = workspace.root();
    renameat(root, "file", root, "moved")?;
    unlinkat(root, "dir/file", AtFlags::empty())?;
    unlinkat(root, "dir", AtFlags::REMOVEDIR)?;
    mkdirat(root, "dir", Mode::RWXU)?;
    Ok(())
}
