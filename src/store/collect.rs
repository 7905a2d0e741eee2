//! Garbage collection: what no tag reaches goes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::image::manifest::{Descriptor, Index, Manifest};

use super::caches;
use super::error::At;
use super::files::{lock_error, read_record, taken};
use super::images::{is_index, name_of};
use super::remove::disk_usage;
use super::{ExportRecord, StepRecord, Store, StoreError, remove_tree};
use crate::image::{Digest, ImageConfig};

/// How long the tables of a context are kept after their last change.
const TABLE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is only worth something while its context is built.
const TABLES: [&str; 3] = ["files", "runs", "listings"];

/// What is to be collected.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneOptions {
    /// Named images too, and with them everything: the store is empty afterwards.
    pub all: bool,
    /// Only say what would go.
    pub dry_run: bool,
    /// Wait until no other process has the store open, instead of giving up.
    pub wait: bool,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// Digests of the manifests that were forgotten.
    pub images: Vec<String>,
    /// How many layers went.
    pub layers: usize,
    /// How many blobs went.
    pub blobs: usize,
    /// How many cache mounts went.
    pub caches: usize,
    /// How many cache records went.
    pub records: usize,
    /// The space that this gave back, in bytes.
    pub bytes: u64,
    /// What could not be deleted and why: layers of another id map belong to ids that this
    /// process may not touch.
    pub kept: Vec<String>,
}

/// What must stay.
#[derive(Default)]
struct Reached {
    blobs: HashSet<OsString>,
    diff_ids: HashSet<OsString>,
}

/// One pass over the store.
struct Collection<'a> {
    store: &'a Store,
    options: &'a PruneOptions,
    report: PruneReport,
}

impl Store {
    /// Deletes what no tag reaches: images without a name, layers, blobs and cache records.
    ///
    /// Step records whose layer stays are kept, so the next build of a tagged image still finds
    /// its steps. Cache mounts go when they were not used for a week. With `all` the tags go first,
    /// and every cache mount goes.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another process has the store open and waiting was not asked for,
    /// or when this one has something unfinished in it; when the disk fails.
    pub fn collect(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        if options.dry_run {
            return self.collect_alone(options);
        }
        let busy = || StoreError::Busy {
            root: self.root().to_owned(),
        };
        if Arc::strong_count(&self.inner.live) > 1 {
            return Err(busy());
        }
        let path = self.path("lock");
        let lock = &self.inner.lock;
        let alone = if options.wait {
            lock.lock().map_err(|error| lock_error(&path, error))?;
            true
        } else {
            taken(&path, lock.try_lock())?
        };
        let result = if alone {
            self.collect_alone(options)
        } else {
            Err(busy())
        };
        // Converting a lock gives up the old one first, even when the new one is refused.
        self.use_shared()?;
        result
    }

    fn collect_alone(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        let mut pass = Collection {
            store: self,
            options,
            report: PruneReport::default(),
        };
        pass.collect_rest()?;
        pass.collect_caches()?;
        let kept = pass.drop_tags()?;
        let mut reached = Reached::default();
        for entry in &kept {
            pass.reach(&entry.digest, is_index(entry), &mut reached)?;
        }
        for map in names_in(&self.path("layers"))? {
            pass.collect_map(&map, &mut reached)?;
        }
        pass.collect_blobs(&reached)?;
        Ok(pass.report)
    }
}

impl Collection<'_> {
    /// Forgets the images that are to go and gives back those that stay.
    fn drop_tags(&mut self) -> Result<Vec<Descriptor>, StoreError> {
        let all = self.options.all;
        let split = |manifests: &mut Vec<Descriptor>| -> Vec<Descriptor> {
            let stays = |entry: &Descriptor| !all && name_of(entry).is_some();
            let gone = manifests
                .iter()
                .filter(|entry| !stays(entry))
                .cloned()
                .collect();
            manifests.retain(stays);
            gone
        };
        let (gone, kept) = if self.options.dry_run {
            let mut manifests = self.store.index()?.manifests;
            (split(&mut manifests), manifests)
        } else {
            self.store
                .change_index(|manifests| (split(manifests), manifests.clone()))?
        };
        let mut images = HashSet::new();
        for entry in gone {
            self.report.untagged.extend(name_of(&entry).cloned());
            if images.insert(entry.digest.to_string()) {
                self.report.images.push(entry.digest.to_string());
            }
        }
        Ok(kept)
    }

    /// Follows a manifest or index; what a partly fetched index names need not be there.
    fn reach(&self, digest: &Digest, index: bool, reached: &mut Reached) -> Result<(), StoreError> {
        reached.blobs.insert(digest.hex().into());
        if !self.store.has_blob(digest) {
            return Ok(());
        }
        if index {
            let index: Index = self.store.parse_blob(digest)?;
            for entry in &index.manifests {
                self.reach(&entry.digest, is_index(entry), reached)?;
            }
            return Ok(());
        }
        let manifest: Manifest = self.store.parse_blob(digest)?;
        for layer in &manifest.layers {
            reached.blobs.insert(layer.digest.hex().into());
        }
        let config = manifest.config.digest.clone();
        reached.blobs.insert(config.hex().into());
        if self.store.has_blob(&config) {
            // The configuration of an artifact is whatever its maker liked.
            if let Ok(config) = self.store.parse_blob::<ImageConfig>(&config) {
                let diff_ids = config.rootfs.diff_ids.iter();
                let hex = diff_ids.filter_map(|id| id.parse::<Digest>().ok());
                reached
                    .diff_ids
                    .extend(hex.map(|id| OsString::from(id.hex())));
            }
        }
        Ok(())
    }

    /// Collects layers and cache records of one id map.
    fn collect_map(&mut self, map: &OsStr, reached: &mut Reached) -> Result<(), StoreError> {
        let live = self.live_layers(map, reached)?;
        let layers = self.store.path("layers").join(map);
        for name in names_in(&layers)? {
            if !live.contains(&name) {
                self.remove_layer(&layers.join(&name))?;
            }
        }
        let steps = self.store.path("steps").join(map);
        for name in names_in(&steps)? {
            let path = steps.join(&name);
            let layer = read_record::<StepRecord>(&path)?.and_then(|record| record.layer);
            if !layer.is_some_and(|id| live.contains(&OsString::from(id))) {
                self.remove_record(&path)?;
            }
        }
        Ok(())
    }

    /// The layers that reached diff ids lead to, by their link or their export record. Several may
    /// have one diff id: equal ones, or one that was unpacked for two chains.
    fn live_layers(
        &mut self,
        map: &OsStr,
        reached: &mut Reached,
    ) -> Result<HashSet<OsString>, StoreError> {
        let mut live = HashSet::new();
        let diffs = self.store.path("diffs").join(map);
        for name in names_in(&diffs)? {
            let link = diffs.join(&name);
            if reached.diff_ids.contains(&name) {
                live.insert(fs::read_link(&link).at("read", &link)?.into_os_string());
            } else {
                self.remove_record(&link)?;
            }
        }
        let exports = self.store.path("exports").join(map);
        for name in names_in(&exports)? {
            let path = exports.join(&name);
            let record = read_record::<ExportRecord>(&path)?
                .filter(|record| reached.diff_ids.contains(OsStr::new(record.diff_id.hex())));
            let Some(record) = record else {
                self.remove_record(&path)?;
                continue;
            };
            live.insert(layer_of_export(&name));
            let blobs = record.blobs.iter().map(|blob| blob.digest.hex().into());
            reached.blobs.extend(blobs);
        }
        Ok(live)
    }

    fn collect_blobs(&mut self, reached: &Reached) -> Result<(), StoreError> {
        let dir = self.store.path("oci/blobs/sha256");
        for name in names_in(&dir)? {
            if reached.blobs.contains(&name) {
                continue;
            }
            let path = dir.join(&name);
            self.report.bytes += fs::symlink_metadata(&path).at("examine", &path)?.len();
            self.report.blobs += 1;
            if !self.options.dry_run {
                fs::remove_file(&path).at("delete", &path)?;
            }
        }
        Ok(())
    }

    /// What nothing refers to: leftovers, and with `all` everything that can be made again.
    fn collect_rest(&mut self) -> Result<(), StoreError> {
        // The bodies of what was fetched are blobs that nothing reaches: they go in any case.
        let mut kinds = vec!["fetched"];
        if !self.options.dry_run {
            // While others work, what is in there is not left over.
            kinds.push("tmp");
        }
        if self.options.all {
            kinds.extend(TABLES);
        }
        for kind in kinds {
            let dir = self.store.path(kind);
            for name in names_in(&dir)? {
                let path = dir.join(name);
                self.report.bytes += disk_usage(&path);
                self.remove_any(&path);
            }
        }
        if !self.options.all {
            self.collect_old_tables()?;
        }
        Ok(())
    }

    /// Tables that have not been written for long. One too few costs a reading, or an explanation.
    fn collect_old_tables(&mut self) -> Result<(), StoreError> {
        for kind in TABLES {
            self.collect_old(&self.store.path(kind))?;
        }
        Ok(())
    }

    fn collect_old(&mut self, dir: &Path) -> Result<(), StoreError> {
        for name in names_in(dir)? {
            let path = dir.join(name);
            let metadata = fs::symlink_metadata(&path).at("examine", &path)?;
            let age = metadata
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > TABLE_AGE) {
                self.report.bytes += metadata.len();
                self.remove_record(&path)?;
            }
        }
        Ok(())
    }

    /// Cache mounts that no build has used for a while; with `all` every one.
    fn collect_caches(&mut self) -> Result<(), StoreError> {
        let root = self.store.path("cache-mounts");
        for map in names_in(&root)? {
            for name in names_in(&root.join(&map))? {
                let path = root.join(&map).join(&name);
                if !self.options.all && !caches::is_forgotten(&path)? {
                    continue;
                }
                let bytes = disk_usage(&path);
                if self.remove_any(&path) {
                    self.report.caches += 1;
                    self.report.bytes += bytes;
                }
            }
        }
        Ok(())
    }

    fn remove_record(&mut self, path: &Path) -> Result<(), StoreError> {
        self.report.records += 1;
        if self.options.dry_run {
            return Ok(());
        }
        fs::remove_file(path).at("delete", path)
    }

    /// Takes a layer away at once and deletes it then, so that a crash leaves no half of it.
    fn remove_layer(&mut self, path: &Path) -> Result<(), StoreError> {
        let bytes = disk_usage(path);
        if !self.options.dry_run {
            let aside: PathBuf = self.store.tmp_name("gone")?;
            fs::rename(path, &aside).at("put aside", path)?;
            if !self.remove_any(&aside) {
                return Ok(());
            }
        }
        self.report.layers += 1;
        self.report.bytes += bytes;
        Ok(())
    }

    /// Deletes a file or a tree and says whether it is gone.
    fn remove_any(&mut self, path: &Path) -> bool {
        if self.options.dry_run {
            return true;
        }
        let result = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => remove_tree(path),
            _ => fs::remove_file(path),
        };
        match result {
            Ok(()) => true,
            Err(error) => {
                self.report
                    .kept
                    .push(format!("{}: {error}", path.display()));
                false
            }
        }
    }
}

/// `ID` or `ID@VARIANT` → `ID`.
fn layer_of_export(name: &OsString) -> OsString {
    let name = name.to_string_lossy();
    name.split_once('@').map_or(&*name, |(id, _)| id).into()
}

/// The names in a directory; none when there is no such directory.
fn names_in(dir: &Path) -> Result<Vec<OsString>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::at("list", dir, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.at("list", dir)?.file_name());
    }
    names.sort();
    Ok(names)
}
