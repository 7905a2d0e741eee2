//! [`remove_tree`]: deletes a directory whatever modes are in it. [`Measure`]: how large one is.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What an owner needs to read, change and enter a directory.
const OWNER: u32 = 0o700;

/// Deletes `path` and what is below it, never following a link; nothing there is no error.
///
/// Directories that their owner may not read or write are made so first: a layer may well hold
/// some, and only root can delete those as they are.
///
/// # Errors
/// The kernel's for what could not be deleted.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Gives the owner every right on the directories of a tree.
///
/// The paths are joined by name: the tree is in the store, which is its owner's alone, and no
/// step runs on it any more.
fn open_up(path: &Path) -> io::Result<()> {
    let mut pending = vec![path.to_owned()];
    while let Some(dir) = pending.pop() {
        let mode = fs::symlink_metadata(&dir)?.permissions().mode();
        if mode & OWNER != OWNER {
            fs::set_permissions(&dir, Permissions::from_mode(mode & 0o7777 | OWNER))?;
        }
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Measures the space that trees take on the disk, a file with several names once.
#[derive(Default)]
pub(super) struct Measure {
    /// Device and inode of the files that have several names.
    linked: HashSet<(u64, u64)>,
}

impl Measure {
    /// What a file or a tree takes; what cannot be read counts nothing.
    pub(super) fn tree(&mut self, path: &Path) -> u64 {
        self.tree_without(path, &HashSet::new())
    }

    /// The same without the trees at some paths.
    pub(super) fn tree_without(&mut self, path: &Path, without: &HashSet<PathBuf>) -> u64 {
        const BLOCK: u64 = 512;
        let mut bytes = 0;
        let mut pending = vec![path.to_owned()];
        while let Some(next) = pending.pop() {
            if without.contains(&next) {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(&next) else {
                continue;
            };
            if metadata.is_dir() {
                let entries = fs::read_dir(&next).into_iter().flatten().flatten();
                pending.extend(entries.map(|entry| entry.path()));
            } else if metadata.nlink() > 1 && !self.linked.insert((metadata.dev(), metadata.ino()))
            {
                continue;
            }
            bytes += metadata.blocks() * BLOCK;
        }
        bytes
    }
}
