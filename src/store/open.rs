//! Opening a store: where it is, who may own it, what every store holds.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::At;
use super::files::{Sync, make_private_dir};
use super::kinds::KINDS;
use super::layers::TREES;
use super::locks::{Locks, had, taken};
use super::{Fresh, Inner, Own, Store, StoreError, remove_tree};
use crate::image::Digest;

/// The version of the layout; another layout is another directory.
const VERSION: &str = "v1";
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &[u8] = br#"{"manifests":[],"schemaVersion":2}"#;

/// Where this user's store is: `$LAPSTRAKE_ROOT`, else `$XDG_DATA_HOME/lapstrake`, else
/// `~/.local/share/lapstrake`, else, when there is no home that can be written,
/// `lapstrake-UID` in `$TMPDIR`, `/tmp` or `/var/tmp`.
///
/// `env` looks a variable up; `uid` is the user's id outside of any user namespace, so that in a
/// shared directory every user has a place of their own. The directory is made, with mode 0700. A
/// place that was named must do; only the ones tried by default fall through to the next.
///
/// # Errors
/// When the named place cannot be made, when none of the others can, or when the one in a shared
/// directory belongs to somebody else.
pub fn default_root(
    env: impl Fn(&str) -> Option<OsString>,
    uid: u32,
) -> Result<PathBuf, StoreError> {
    let path = |name: &str| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(root) = path("LAPSTRAKE_ROOT") {
        make_private_dir(&root).at("make the store", &root)?;
        return std::path::absolute(&root).at("find", &root);
    }
    // The base directory specification has a relative value ignored.
    if let Some(data) = path("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        let root = data.join("lapstrake");
        make_private_dir(&root).at("make the store", &root)?;
        return Ok(root);
    }
    let mut tried = Vec::new();
    match path("HOME").filter(|path| path.is_absolute()) {
        None => tried.push("HOME is not set".to_owned()),
        Some(home) => match usable_home(&home) {
            Ok(root) => return Ok(root),
            Err(error) => tried.push(format!("{}: {error}", home.display())),
        },
    }
    let shared = [path("TMPDIR"), Some("/tmp".into()), Some("/var/tmp".into())];
    for dir in shared.into_iter().flatten() {
        let root = dir.join(format!("lapstrake-{uid}"));
        match fs::DirBuilder::new().mode(0o700).create(&root) {
            Ok(()) => return Ok(root),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return private(root);
            }
            Err(error) => tried.push(format!("{}: {error}", root.display())),
        }
    }
    Err(StoreError::NoRoot {
        tried: tried.join("; "),
    })
}

fn usable_home(home: &Path) -> io::Result<PathBuf> {
    // A home that does not exist is one like /nonexistent, not one to make.
    fs::metadata(home)?;
    let root = home.join(".local/share/lapstrake");
    make_private_dir(&root)?;
    rustix::fs::access(&root, rustix::fs::Access::WRITE_OK)?;
    Ok(root)
}

/// Makes the directory of a store, if it is not there, so that only its owner can enter it.
///
/// # Errors
/// When it cannot be made.
pub fn make_root(root: &Path) -> Result<(), StoreError> {
    make_private_dir(root).at("make the store", root)
}

/// Where in a store, made or not, files may be tried: what a crash leaves there is swept with the rest, but
/// not as long as this is held.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    _held: Option<(Locks, File)>,
}

impl ScratchDir {
    /// That of the store in `root`. Waits while somebody has the store alone.
    pub fn of(root: &Path) -> Self {
        let store = root.join(VERSION);
        let tmp = store.join("tmp");
        if !tmp.is_dir() {
            let path = root.to_owned();
            return Self { path, _held: None };
        }
        let hold = || -> Result<(Locks, File), StoreError> {
            let path = store.join("lock");
            let locks = Locks::find(&store, |name| std::env::var_os(name))?;
            let lock = locks.open(&store, &path)?;
            had(&path, lock.lock_shared())?;
            Ok((locks, lock))
        };
        Self {
            path: tmp,
            // Why it cannot be had is told when the store is opened.
            _held: hold().ok(),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Refuses a directory that somebody else could have put there or can write to.
pub(super) fn private(root: PathBuf) -> Result<PathBuf, StoreError> {
    let metadata = fs::symlink_metadata(&root).at("examine", &root)?;
    let us = rustix::process::geteuid().as_raw();
    let reason = if !metadata.is_dir() {
        "it is no directory".to_owned()
    } else if metadata.uid() != us {
        format!("it belongs to user {}, not to {us}", metadata.uid())
    } else if metadata.mode() & 0o077 != 0 {
        format!("its mode {:o} lets others in", metadata.mode() & 0o7777)
    } else {
        return Ok(root);
    };
    Err(StoreError::NotPrivate { path: root, reason })
}

impl Store {
    /// Opens the store in `root`, making what is missing, and holds it until the last clone goes.
    ///
    /// `id_map_key` names the id map under which this process makes files: layers and cache
    /// records of another key are not seen. When nobody else has the store open, what crashed
    /// processes left in `tmp/` is swept.
    ///
    /// # Errors
    /// When `root` cannot be made, written or locked.
    pub fn open(root: &Path, id_map_key: &str) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).at("find", root)?.join(VERSION);
        let map = map_name(id_map_key);
        make_private_dir(&root).at("make the store", &root)?;
        let lock_path = root.join("lock");
        let locks = Locks::find(&root, |name| std::env::var_os(name))?;
        let lock = locks.open(&root, &lock_path)?;
        let alone = taken(&lock_path, lock.try_lock())? && !matches!(locks, Locks::Nowhere);
        let uses = Self::open_uses(&root, &locks)?;
        let store = Self {
            inner: Arc::new(Inner {
                root,
                map,
                boot: boot_id(),
                locks,
                lock,
                uses,
                live: Arc::new(()),
                fresh: Mutex::new(Fresh::default()),
                own: Mutex::new(Own::default()),
            }),
        };
        if alone {
            store.sweep();
            store.sweep_trees();
        }
        store.use_shared()?;
        store.make_missing()?;
        Ok(store)
    }

    /// Holds the store together with others; waits while one has it alone.
    pub(super) fn use_shared(&self) -> Result<(), StoreError> {
        had(&self.path("lock"), self.inner.lock.lock_shared())
    }

    /// Empties `tmp/`. Needs the lock; what cannot be deleted (another id map's) stays.
    fn sweep(&self) {
        let entries = fs::read_dir(self.tmp()).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            // A cache mount that a killed step had is worth more than the rest.
            drop(runtime::Trees::recover(&path.join(TREES)));
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_dir {
                remove_tree(&path)
            } else {
                fs::remove_file(&path)
            };
            // Space that stays taken is no reason to refuse a build.
            drop(removed);
        }
    }

    fn make_missing(&self) -> Result<(), StoreError> {
        let index = self.path("oci/index.json");
        if !index.exists() {
            for kind in KINDS
                .iter()
                .filter(|kind| !kind.by_map && kind.is_made_early())
            {
                let path = self.path(kind.dir);
                make_private_dir(&path).at("make", &path)?;
            }
            let _held = self.lock_file("index.lock")?;
            // Another process may have been faster, and have tagged an image already.
            if !index.exists() {
                self.replace(&self.path("oci/oci-layout"), OCI_LAYOUT, Sync::No)?;
                self.replace(&index, EMPTY_INDEX, Sync::No)?;
            }
        }
        for kind in KINDS
            .iter()
            .filter(|kind| kind.by_map && kind.is_made_early())
        {
            let path = self.by_map(kind.dir);
            if !path.exists() {
                make_private_dir(&path).at("make", &path)?;
            }
        }
        Ok(())
    }

    /// The directory of one kind of things made under this id map.
    pub(super) fn by_map(&self, kind: &str) -> PathBuf {
        self.path(kind).join(&self.inner.map)
    }
}

/// The key as a short directory name; paths of layers go into mount options of limited length.
fn map_name(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !key.is_empty() && key.len() <= 16 && key.bytes().all(plain) {
        key.to_owned()
    } else {
        Digest::of(key.as_bytes()).hex()[..12].to_owned()
    }
}

/// This boot of the kernel; where it is hidden, every process counts as a boot of its own.
fn boot_id() -> String {
    let unknown = || format!("unknown-{:016x}", getrandom::u64().unwrap_or_default());
    let read = File::open(OsStr::new("/proc/sys/kernel/random/boot_id"))
        .and_then(io::read_to_string)
        .map(|text| text.trim().to_owned());
    read.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sweeps_where_files_are_tried() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(ScratchDir::of(root).path(), root, "there is no store yet");
        drop(Store::open(root, "test").unwrap());
        let held = ScratchDir::of(root);
        let file = held.path().join("file");
        fs::write(&file, "").unwrap();
        drop(Store::open(root, "test").unwrap());
        assert!(file.exists());
        drop(held);
        drop(Store::open(root, "test").unwrap());
        assert!(!file.exists());
    }
}
