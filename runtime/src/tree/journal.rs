//! Directories that are in a tree for a while and belong elsewhere: who is killed meanwhile leaves
//! behind where they are, and [`recover`] takes them home.
//!
//! For each there is a directory of two symbolic links, made before the directory leaves home and
//! deleted when it is back: `home`, an absolute path on the host, and `at`, a path beneath the root
//! of the tree.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, RenameFlags, renameat_with, statat};

use super::entry;

/// The note about one directory.
#[derive(Debug)]
pub struct Note {
    dir: PathBuf,
    home: PathBuf,
}

impl Note {
    /// Notes that `home` is about to go to `at`.
    pub fn write(dir: PathBuf, home: &Path, at: &Path) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        symlink(home, dir.join("home"))?;
        symlink(at, dir.join("at"))?;
        Ok(Self {
            dir,
            home: home.to_owned(),
        })
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// It is home again.
    pub fn erase(self) -> io::Result<()> {
        fs::remove_dir_all(self.dir)
    }
}

/// Takes home what the notes in the directory `notes` tell of the tree `root`.
pub fn recover(notes: &Path, root: BorrowedFd<'_>) -> io::Result<()> {
    let entries = match fs::read_dir(notes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let dir = entry?.path();
        let (home, at) = (
            fs::read_link(dir.join("home"))?,
            fs::read_link(dir.join("at"))?,
        );
        take_home(root, &at, &home)?;
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// What was not taken away yet, or is back already, is left alone.
fn take_home(root: BorrowedFd<'_>, at: &Path, home: &Path) -> io::Result<()> {
    let (parent, name) = match entry::open_parent(root, at) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let is_directory = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    if !is_directory || home.exists() {
        return Ok(());
    }
    renameat_with(parent.as_fd(), &name, CWD, home, RenameFlags::NOREPLACE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_away_is_taken_home_and_what_is_not_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let root = path("root");
        fs::create_dir_all(root.join("in")).unwrap();
        fs::create_dir(path("cache")).unwrap();
        fs::write(path("cache/kept"), "").unwrap();
        let tree = File::open(&root).unwrap();
        let note = |name: &str, home: &str, at: &str| {
            Note::write(path("notes").join(name), &path(home), Path::new(at)).unwrap();
        };
        note("0", "cache", "in/cache");
        note("1", "other", "gone/other");
        symlink(dir.path(), root.join("link")).unwrap();
        note("2", "stolen", "in/none");
        // Killed before it left.
        recover(&path("notes"), tree.as_fd()).unwrap();
        assert!(path("cache/kept").exists());
        // Killed while it was away.
        note("0", "cache", "in/cache");
        fs::rename(path("cache"), root.join("in/cache")).unwrap();
        recover(&path("notes"), tree.as_fd()).unwrap();
        assert!(path("cache/kept").exists());
        assert_eq!(fs::read_dir(path("notes")).unwrap().count(), 0);
        // A link in the tree leads nowhere.
        note("0", "stolen", "link/root");
        assert!(recover(&path("notes"), tree.as_fd()).is_err());
        assert!(root.exists() && !path("stolen").exists());
    }
}
