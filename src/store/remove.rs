//! [`remove_tree`]: deletes a directory whatever modes are in it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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

/// The space that a tree takes on the disk; what cannot be read counts nothing.
pub(super) fn disk_usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&next) else {
            continue;
        };
        let sharers = if metadata.is_dir() {
            1
        } else {
            metadata.nlink().max(1)
        };
        bytes += metadata.blocks() * BLOCK / sharers;
        if metadata.is_dir() {
            let entries = fs::read_dir(&next).into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()));
        }
    }
    bytes
}
