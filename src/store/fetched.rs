//! What was fetched from the network: a record per URL, a bare repository per git remote.
//!
//! ```text
//! fetched/http/HEX     JSON: what a URL gave last; its body is a blob, which prune may take
//! fetched/git/HEX/     a bare repository with what was wanted of a remote so far
//! fetched/git/HEX.lock exclusive while the repository is used
//! ```
//!
//! HEX is the SHA-256 of the URL without credentials: no URL is written down, for its query may be
//! a secret too.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::At;
use super::files::{Sync, make_private_dir, read_record};
use super::locks::taken;
use super::uses::{Place, note_use_of};
use super::{Store, StoreError, remove_tree};
use crate::image::Digest;

/// How often a repository that another build uses is asked for.
const POLL: Duration = Duration::from_millis(50);

/// What a URL gave when it was asked last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedRecord {
    /// `ETag`, as the server wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`, as the server wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// The body.
    pub digest: Digest,
    /// Bytes of the body.
    pub size: u64,
    /// Its time, seconds since 1970; 0 if the server knows none.
    pub mtime: i64,
    /// Its file name.
    pub name: String,
}

/// A bare repository, this process' alone while this lives.
#[derive(Debug)]
pub struct RepositoryDir {
    /// Where it is; whoever uses it first makes it.
    pub path: PathBuf,
    _lock: File,
}

impl RepositoryDir {
    /// Deletes the repository, to begin anew.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn clear(&self) -> Result<(), StoreError> {
        remove_tree(&self.path).at("delete", &self.path)
    }
}

impl Store {
    /// What `url`, without credentials, gave last, if its body is still here.
    ///
    /// # Errors
    /// When the disk fails; a damaged record counts as none.
    pub fn fetched(&self, url: &str) -> Result<Option<FetchedRecord>, StoreError> {
        let path = self.fetched_path(url);
        let record = read_record::<FetchedRecord>(&path)?;
        note_use_of(&path);
        Ok(record.filter(|record| self.has_blob(&record.digest)))
    }

    /// Remembers what `url`, without credentials, gave.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_fetched(&self, url: &str, record: &FetchedRecord) -> Result<(), StoreError> {
        let dir = self.fetched_dir().join("http");
        make_private_dir(&dir).at("make", &dir)?;
        self.replace_json(&self.fetched_path(url), record, Sync::No)
    }

    /// The directory that holds the repositories.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn repositories(&self) -> Result<PathBuf, StoreError> {
        let dir = self.fetched_dir().join("git");
        make_private_dir(&dir).at("make", &dir)?;
        Ok(dir)
    }

    /// The repository for `remote`, a URL without credentials, as soon as no other build uses it;
    /// none when `give_up` says so before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn repository(
        &self,
        remote: &str,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Option<RepositoryDir>, StoreError> {
        let dir = self.repositories()?;
        let digest = Digest::of(remote.as_bytes());
        let path = dir.join(digest.hex());
        let lock_path = dir.join(format!("{}.lock", digest.hex()));
        self.hold(Place::repository(digest.hex()))?;
        let lock = self.open_lock(&lock_path)?;
        note_use_of(&lock_path);
        while !taken(&lock_path, lock.try_lock())? {
            if give_up() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
        Ok(Some(RepositoryDir { path, _lock: lock }))
    }

    fn fetched_path(&self, url: &str) -> PathBuf {
        let digest = Digest::of(url.as_bytes());
        self.fetched_dir().join("http").join(digest.hex())
    }
}
