//! Small files of the store: written whole or not at all, read with a limit.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::At;
use super::{Store, StoreError};

/// No file of ours is larger; a larger one is none of ours.
pub(super) const LIMIT: u64 = 32 << 20;

/// Whether a file has to be on the disk before it gets its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Yes,
    No,
}

impl Store {
    /// A path in `tmp/` that nobody else uses.
    pub(super) fn tmp_name(&self, kind: &str) -> Result<PathBuf, StoreError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let tmp = self.tmp();
        let random = random().at("name a file in", &tmp)?;
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Ok(tmp.join(format!("{kind}-{random:016x}{count:04x}")))
    }

    /// Writes `bytes` to `path` so that a reader finds the old content or the new one.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8], sync: Sync) -> Result<(), StoreError> {
        let tmp = self.tmp_name("file")?;
        let result = write_new(&tmp, bytes, sync)
            .at("write", &tmp)
            .and_then(|()| put_in_place(&tmp, path, sync).at("write", path));
        if result.is_err() {
            discard(&tmp);
        } else if sync == Sync::Yes {
            sync_parent(path)?;
        }
        result
    }

    /// As [`Store::replace`], for a value as JSON.
    pub(super) fn replace_json(
        &self,
        path: &Path,
        value: &impl Serialize,
        sync: Sync,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| StoreError::at("write", path, error.into()))?;
        self.replace(path, &bytes, sync)
    }
}

/// A number that nobody else has.
pub(super) fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|error| {
        let told = format!("the system gives no random numbers: {error}; is /dev mounted?");
        io::Error::new(io::ErrorKind::Unsupported, told)
    })
}

/// Makes a directory that only its owner can enter, with the directories above it.
pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Reads a JSON file of the store: `None` when it is missing.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = read_limited(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StoreError::Corrupt {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// As [`read_json`], for records that may be lost: damage counts as absence.
pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match read_json(path) {
        Err(StoreError::Corrupt { .. }) => Ok(None),
        result => result,
    }
}

/// Reads a small file whole: `None` when it is missing.
pub(super) fn read_limited(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::at("open", path, error)),
    };
    let too_large = || StoreError::Corrupt {
        path: path.to_owned(),
        reason: format!("it is larger than {LIMIT} bytes"),
    };
    if file.metadata().at("examine", path)?.len() > LIMIT {
        return Err(too_large());
    }
    // Not through `take`, which hides the size: so one read gets all, and one finds the end.
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).at("read", path)?;
    match bytes.len() as u64 > LIMIT {
        true => Err(too_large()),
        false => Ok(Some(bytes)),
    }
}

/// Takes away a file that is of no more use; what stays behind in `tmp/` is swept later.
pub(super) fn discard(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) | Err(_) => {}
    }
}

/// Takes the write bits: «this is known to be on the disk».
pub(super) fn mark_settled(path: &Path) -> Result<(), StoreError> {
    fs::set_permissions(path, Permissions::from_mode(0o444)).at("change the mode of", path)
}

/// Whether the file is known to be on the disk.
pub(super) fn is_settled(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o222 == 0
}

/// Sees to it that a file is on the disk, and everything else where one alone cannot be synced.
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if cannot_sync(&error) => {
            rustix::fs::sync();
            Ok(())
        }
        result => result,
    }
}

/// Whether the file system, or a filter, has no such call, rather than the disk having failed.
pub(super) fn cannot_sync(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::NOTSUP)
    )
}

fn write_new(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(bytes)?;
    if sync == Sync::Yes {
        sync_file(&file)?;
    }
    Ok(())
}

/// Gives a file its name. One that need not be on the disk changes places with an old one instead of
/// replacing it: on ext4 a rename over a file waits until the new content is written out.
fn put_in_place(tmp: &Path, path: &Path, sync: Sync) -> io::Result<()> {
    if sync == Sync::No {
        let exchanged = renameat_with(CWD, tmp, CWD, path, RenameFlags::EXCHANGE);
        if exchanged.is_ok() {
            discard(tmp);
            return Ok(());
        }
    }
    fs::rename(tmp, path)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|dir| sync_file(&dir))
        .at("sync", parent)
}
