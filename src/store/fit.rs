//! Whether the store's file system was found fit for the work of steps: once for every boot, since mounts
//! may be others after it. The file `fit` holds the boot.

use std::path::Path;

use super::files::{Sync, read_limited};
use super::{Store, StoreError};

const FILE: &str = "fit";

impl Store {
    /// Has `check` look at the file system, in an empty directory, unless it was found fit in this boot.
    ///
    /// # Errors
    /// Those of `check`, and when the store cannot be read or written.
    pub fn find_fit<E: From<StoreError>>(
        &self,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path(FILE);
        let boot = self.inner.boot.as_bytes();
        if read_limited(&path)?.is_some_and(|found| found == boot) {
            return Ok(());
        }
        check(self.staging()?.path())?;
        Ok(self.replace(&path, boot, Sync::No)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_fit_is_not_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), "test").unwrap();
        let refuse = |_: &Path| Err(StoreError::NoImage { name: "no".into() });
        assert!(store.find_fit(refuse).is_err());
        let mut looked = 0;
        for _ in 0..2 {
            let look = |dir: &Path| {
                looked += 1;
                assert_eq!(dir.read_dir().unwrap().count(), 0);
                Ok::<(), StoreError>(())
            };
            store.find_fit(look).unwrap();
        }
        assert_eq!(looked, 1);
        assert!(store.find_fit(refuse).is_ok());
    }
}
