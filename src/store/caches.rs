//! Cache mounts: directories that outlive builds.
//!
//! ```text
//! cache-mounts/MAP/HEX/     one cache: the digest of its name and of what it began with
//!   name                    the name, for people
//!   N.lock                  a lock on directory N; its time is that of the last use
//!   N/                      the directory itself, made in `tmp/` and published by rename
//! ```
//!
//! Directory 0 is what everybody uses; others exist where a private user found the ones before
//! taken. A user holds the directory's lock: together with others, or alone. The locks are
//! `flock`s, so they hold between processes as well, and go with the process. The cache as a whole is
//! in use until the store is closed, so nobody collects it before.
//!
//! Where nothing can be mounted, whoever has a directory alone may move it to a tree of its own; if it is
//! killed, the directory comes back before what is left of the tree is deleted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::At;
use super::files::make_private_dir;
use super::locks::taken;
use super::uses::{Place, note_use_now};
use super::{Staging, Store, StoreError};
use crate::image::Digest;

/// How those who want one cache at the same time share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSharing {
    /// All at once.
    Shared,
    /// Another directory for who comes second.
    Private,
    /// One after the other.
    Locked,
}

/// A cache in use; dropping it lets others at it.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What an attempt to get a cache came to.
#[derive(Debug)]
pub enum CacheAttempt {
    /// It is the caller's.
    Taken(CacheMount),
    /// It does not exist, and the caller is the only one to make it: it fills a directory and
    /// calls [`NewCache::publish`].
    New(NewCache),
    /// Somebody else has it: ask again later.
    Busy,
}

/// The right to make a cache that does not exist; it is held alone until it is published.
#[derive(Debug)]
pub struct NewCache {
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
    sharing: CacheSharing,
}

impl Store {
    /// Tries to take the cache `key`, which people know as `name`, without waiting.
    ///
    /// # Errors
    /// When the store cannot be written or locked.
    pub fn try_cache(
        &self,
        key: &Digest,
        name: &str,
        sharing: CacheSharing,
    ) -> Result<CacheAttempt, StoreError> {
        self.hold(Place::cache(&self.inner.map, key.hex()))?;
        let dir = self.by_map("cache-mounts").join(key.hex());
        if !dir.exists() {
            make_private_dir(&dir).at("make", &dir)?;
            let label = dir.join("name");
            fs::write(&label, name).at("write", &label)?;
        }
        let mut number = 0_u32;
        loop {
            let attempt = self.try_one(&dir, number, sharing)?;
            if sharing != CacheSharing::Private || !matches!(attempt, CacheAttempt::Busy) {
                return Ok(attempt);
            }
            number += 1;
        }
    }

    fn try_one(
        &self,
        dir: &Path,
        number: u32,
        sharing: CacheSharing,
    ) -> Result<CacheAttempt, StoreError> {
        let (path, lock_path) = (
            dir.join(number.to_string()),
            dir.join(format!("{number}.lock")),
        );
        let lock = self.open_lock(&lock_path)?;
        if sharing == CacheSharing::Shared && path.exists() {
            return match taken(&lock_path, lock.try_lock_shared())? {
                true => Ok(CacheAttempt::Taken(in_use(path, &lock_path, lock))),
                false => Ok(CacheAttempt::Busy),
            };
        }
        // Who makes it is alone with it, however it will be shared.
        if !taken(&lock_path, lock.try_lock())? {
            return Ok(CacheAttempt::Busy);
        }
        let new = NewCache {
            path,
            lock_path,
            lock,
            sharing,
        };
        if new.path.exists() {
            return new.hand_over();
        }
        Ok(CacheAttempt::New(new))
    }
}

/// Notes the use, by which `prune` tells what nobody needs any more.
fn in_use(path: PathBuf, lock_path: &Path, lock: File) -> CacheMount {
    note_use_now(lock_path);
    CacheMount { path, _lock: lock }
}

impl NewCache {
    /// Gives `dir`, a directory of `staging`, its name as the cache's directory.
    ///
    /// # Errors
    /// When it cannot be renamed or locked.
    pub fn publish(self, staging: &Staging, dir: &Path) -> Result<CacheAttempt, StoreError> {
        debug_assert!(dir.starts_with(staging.path()));
        fs::rename(dir, &self.path).at("publish", &self.path)?;
        self.hand_over()
    }

    /// From being alone with it to sharing it. Changing a lock gives it up for a moment, in which
    /// another may come first.
    fn hand_over(self) -> Result<CacheAttempt, StoreError> {
        if self.sharing == CacheSharing::Shared
            && !taken(&self.lock_path, self.lock.try_lock_shared())?
        {
            return Ok(CacheAttempt::Busy);
        }
        Ok(CacheAttempt::Taken(in_use(
            self.path,
            &self.lock_path,
            self.lock,
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::store::PruneOptions;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), "test").unwrap();
        (dir, store)
    }

    fn attempt(store: &Store, key: &str, sharing: CacheSharing) -> CacheAttempt {
        let key = Digest::of(key.as_bytes());
        store.try_cache(&key, "a cache", sharing).unwrap()
    }

    /// Takes a cache, made if need be, or not.
    fn take(store: &Store, key: &str, sharing: CacheSharing) -> Option<CacheMount> {
        let attempt = match attempt(store, key, sharing) {
            CacheAttempt::New(new) => {
                let staging = store.staging().unwrap();
                let dir = staging.path().join("new");
                fs::create_dir(&dir).unwrap();
                new.publish(&staging, &dir).unwrap()
            }
            other => other,
        };
        match attempt {
            CacheAttempt::Taken(cache) => Some(cache),
            CacheAttempt::Busy => None,
            CacheAttempt::New(new) => panic!("{new:?}"),
        }
    }

    #[test]
    fn s9_sharing_of_caches() {
        use CacheSharing::{Locked, Private, Shared};
        let (_dir, store) = store();
        for (index, (first, second, same)) in [
            (Shared, Shared, Some(true)),
            (Locked, Locked, None),
            (Shared, Locked, None),
            (Locked, Shared, None),
            (Private, Private, Some(false)),
            (Shared, Private, Some(false)),
            (Private, Shared, None),
        ]
        .into_iter()
        .enumerate()
        {
            let key = format!("cache {index}");
            let one = take(&store, &key, first).unwrap();
            fs::write(one.path().join("file"), "").unwrap();
            let other = take(&store, &key, second);
            let is_same = other.as_ref().map(|other| other.path() == one.path());
            assert_eq!(is_same, same, "{first:?} {second:?}");
            let path = one.path().to_owned();
            drop((one, other));
            // A process that another test is just starting has every lock of this one, for a moment.
            let again = (0..200).find_map(|_| {
                let taken = take(&store, &key, first).filter(|taken| taken.path() == path);
                if taken.is_none() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                taken
            });
            let again = again.expect("it stays busy");
            assert_eq!(again.path(), path, "the first directory is used again");
            assert!(path.join("file").exists());
        }
    }

    #[test]
    fn a_cache_is_made_by_one_and_only_whole() {
        let (_dir, store) = store();
        let CacheAttempt::New(new) = attempt(&store, "k", CacheSharing::Shared) else {
            panic!("it exists");
        };
        let second = attempt(&store, "k", CacheSharing::Shared);
        assert!(matches!(second, CacheAttempt::Busy), "{second:?}");
        drop(new);
        // Whoever began it has gone without finishing it.
        assert!(take(&store, "k", CacheSharing::Shared).is_some());
    }

    #[test]
    fn caches_go_when_they_are_forgotten() {
        let (dir, store) = store();
        let old = take(&store, "old", CacheSharing::Shared).unwrap();
        let new = take(&store, "new", CacheSharing::Locked).unwrap();
        let (old_path, new_path) = (old.path().to_owned(), new.path().to_owned());
        let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
        old._lock.set_modified(long_ago).unwrap();
        drop((old, new, store));
        let collect = |options: &PruneOptions| {
            // A process that another test is just starting has every lock of this one, for a moment.
            for _ in 0..200 {
                let store = Store::open(dir.path(), "test").unwrap();
                let report = store.collect(options, &|| false).unwrap();
                if report.in_use == 0 {
                    return report.caches;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("it stays in use");
        };
        let dry = PruneOptions {
            dry_run: true,
            ..PruneOptions::default()
        };
        assert_eq!(collect(&dry), 1);
        assert!(old_path.exists());
        assert_eq!(collect(&PruneOptions::default()), 1);
        assert!(!old_path.exists() && new_path.exists());
        let all = PruneOptions {
            all: true,
            ..PruneOptions::default()
        };
        assert_eq!(collect(&all), 1);
        assert!(!new_path.exists());
    }
}
