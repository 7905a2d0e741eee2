//! One pass over the units of the store, least recently used first.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::error::At;
use super::super::kinds::How;
use super::super::locks::taken;
use super::super::remove::Measure;
use super::super::uses::Taker;
use super::super::{Store, StoreError, remove_tree};
use super::reach::{self, Reached, Root, Seen};
use super::survey::{self, State, Unit, names_in};
use super::{PruneOptions, PruneReport};

/// How many units are taken alone at a time: who looks for one of them waits for all.
const BATCH: usize = 64;

/// One pass.
struct Pass<'a> {
    store: &'a Store,
    options: &'a PruneOptions,
    taker: Taker,
    units: Vec<Unit>,
    sizes: HashMap<usize, u64>,
    roots: Vec<Root>,
    seen: Seen,
    reached: Reached,
    /// The space of the store as it shrinks, and what it is to come down to.
    space: Option<(u64, u64)>,
    report: PruneReport,
}

impl Store {
    /// Deletes what no image reaches and nobody uses: images without a name, layers, blobs, cache
    /// mounts, what was fetched, records; as far as the options go, and until `stop` says so.
    ///
    /// # Errors
    /// When the disk fails, or a manifest cannot be understood.
    pub fn collect(
        &self,
        options: &PruneOptions,
        stop: &dyn Fn() -> bool,
    ) -> Result<PruneReport, StoreError> {
        let _one = self.lock_file("collect.lock")?;
        let (roots, seen) = reach::roots(self)?;
        let mut pass = Pass {
            store: self,
            options,
            taker: Taker::new(self)?,
            units: Vec::new(),
            sizes: HashMap::new(),
            roots,
            seen,
            reached: Reached::default(),
            space: None,
            report: PruneReport::default(),
        };
        pass.sweep()?;
        pass.units = survey::units(self)?;
        pass.look_at_space()?;
        if pass.space.is_none() {
            pass.forget_images(usize::MAX)?;
        }
        pass.reach()?;
        while !stop() && pass.one_batch()? {}
        Ok(pass.report)
    }

    /// Opens the store alone for a moment in which `work` is done; says whether nobody else had it
    /// open, and nothing of this process is unfinished in it.
    pub(super) fn alone(
        &self,
        work: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        if Arc::strong_count(&self.inner.live) > 1 || !self.has_locks() {
            return Ok(false);
        }
        let path = self.path("lock");
        let alone = taken(&path, self.inner.lock.try_lock())?;
        let result = if alone { work() } else { Ok(()) };
        // Converting a lock gives up the old one first, even when the new one is refused.
        self.use_shared()?;
        result.map(|()| alone)
    }
}

impl Pass<'_> {
    /// Empties `tmp/`, if what is in there is left over.
    fn sweep(&mut self) -> Result<(), StoreError> {
        if self.options.dry_run {
            return Ok(());
        }
        let store = self.store;
        let everything = self.options.only.is_none();
        let alone = store.alone(|| {
            let tmp = store.tmp();
            for name in names_in(&tmp)?.into_iter().filter(|_| everything) {
                let path = tmp.join(name);
                let bytes = Measure::default().tree(&path);
                if self.delete(&path) {
                    self.report.bytes += bytes;
                }
            }
            if everything {
                store.sweep_trees();
            }
            Ok(())
        })?;
        self.report.others = !alone;
        Ok(())
    }

    /// Where space decides, how much there is and what it is to come down to. The three limits
    /// work together as BuildKit's do.
    fn look_at_space(&mut self) -> Result<(), StoreError> {
        let options = self.options;
        if !options.has_space() {
            return Ok(());
        }
        let root = self.store.root();
        let total = Measure::default().tree(root);
        self.report.before = Some(total);
        let mut target = options.max_used;
        if let Some(wanted) = options.min_free {
            let disk = rustix::fs::statvfs(root).at("examine the file system of", root)?;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let fitting = total.saturating_sub(wanted.saturating_sub(free));
            target = Some(target.map_or(fitting, |target| target.min(fitting)));
        }
        let target = target.unwrap_or(0).max(options.reserved.unwrap_or(0));
        self.space = Some((total, target));
        Ok(())
    }

    fn has_enough(&self) -> bool {
        self.space.is_some_and(|(now, target)| now <= target)
    }

    /// Computes anew what stays. Images without a name do, until they are forgotten.
    fn reach(&mut self) -> Result<(), StoreError> {
        let roots = self.roots.iter();
        self.reached = Reached::new(self.store, roots, &self.units, Some(&self.taker))?;
        Ok(())
    }

    /// The images that may go, least recently used first.
    fn forgettable(&self) -> Vec<usize> {
        if self
            .options
            .only
            .as_deref()
            .is_some_and(|only| only != "regular")
        {
            return Vec::new();
        }
        let may_go = |root: &Root| {
            (self.options.all || root.name().is_none())
                && is_older(root.used, self.options.unused_for.unwrap_or_default())
        };
        let mut found: Vec<usize> = (0..self.roots.len())
            .filter(|at| may_go(&self.roots[*at]))
            .collect();
        found.sort_by_key(|at| self.roots[*at].used);
        found
    }

    /// Forgets at most `count` images; what only they reached can go then.
    fn forget_images(&mut self, count: usize) -> Result<(), StoreError> {
        let mut going = self.forgettable();
        going.truncate(count);
        if going.is_empty() {
            return Ok(());
        }
        let is_going = |at: &usize| going.contains(at);
        let entries: Vec<_> = going.iter().map(|at| &self.roots[*at].entry).collect();
        if !self.options.dry_run {
            self.store
                .change_index(|manifests| manifests.retain(|entry| !entries.contains(&entry)))?;
        }
        for at in &going {
            let root = &self.roots[*at];
            self.report.untagged.extend(root.name().cloned());
            let digest = root.entry.digest.to_string();
            if !self.report.images.contains(&digest) {
                self.report.images.push(digest);
            }
        }
        let mut at = 0;
        self.roots.retain(|_| {
            at += 1;
            !is_going(&(at - 1))
        });
        if !self.options.dry_run {
            self.seen = reach::seen(self.store)?;
        }
        Ok(())
    }

    /// Takes some more away, and says whether there may be more to take.
    fn one_batch(&mut self) -> Result<bool, StoreError> {
        if self.has_enough() {
            return Ok(false);
        }
        let mut batch = self.candidates();
        let image = match self.space {
            Some(_) => self.forgettable().first().map(|at| self.roots[*at].used),
            None => None,
        };
        if let Some(image) = image {
            // An image that was used before them goes before them.
            batch.retain(|at| self.units[*at].used <= image);
            if batch.is_empty() {
                self.forget_images(1)?;
                self.reach()?;
                return Ok(true);
            }
        }
        batch.truncate(BATCH);
        if batch.is_empty() {
            return Ok(false);
        }
        self.shorten(&mut batch);
        self.take(&batch)?;
        Ok(true)
    }

    /// What may go, least recently used first, and what is on top before what is below.
    fn candidates(&self) -> Vec<usize> {
        let mut needed = HashSet::new();
        for unit in self.units.iter().filter(|unit| unit.state != State::Gone) {
            needed.extend(unit.blobs.iter().map(String::as_str));
        }
        let may_go = |unit: &Unit| {
            let free = match unit.kind.how {
                How::Blobs | How::OfBlobs => {
                    !self.reached.blobs.contains(&unit.name) && !needed.contains(unit.name.as_str())
                }
                How::Layers => !self.reached.has_layer(unit),
                How::Temporary => false,
                _ => true,
            };
            free && unit.state == State::There && self.is_wanted(unit)
        };
        let mut found: Vec<usize> = (0..self.units.len())
            .filter(|at| may_go(&self.units[*at]))
            .collect();
        found.sort_by_key(|at| {
            let unit = &self.units[*at];
            (unit.used, Reverse(unit.depth))
        });
        found
    }

    /// Whether the options are meant for it.
    fn is_wanted(&self, unit: &Unit) -> bool {
        let options = self.options;
        if let Some(only) = &options.only
            && only != unit.kind.filter
        {
            return false;
        }
        let stays = match (options.unused_for, unit.kind.how) {
            (Some(age), _) => age,
            (None, How::Directories { stays } | How::Files { stays })
                if !options.all && !options.has_space() && options.only.is_none() =>
            {
                stays
            }
            (None, _) => Duration::ZERO,
        };
        is_older(unit.used, stays)
    }

    /// Leaves out what is not needed to have enough.
    fn shorten(&mut self, batch: &mut Vec<usize>) {
        let Some((now, target)) = self.space else {
            return;
        };
        let mut left = now;
        let mut count = 0;
        for at in batch.iter() {
            if left <= target {
                break;
            }
            left = left.saturating_sub(self.size(*at));
            count += 1;
        }
        batch.truncate(count);
    }

    fn size(&mut self, at: usize) -> u64 {
        let unit = &self.units[at];
        *self.sizes.entry(at).or_insert_with(|| {
            let mut measure = Measure::default();
            let records = unit.records.iter().map(|(_, path)| path);
            let all = records.chain([&unit.main]);
            all.map(|path| measure.tree(path)).sum()
        })
    }

    /// Takes the units of a batch that nobody has in use.
    fn take(&mut self, batch: &[usize]) -> Result<(), StoreError> {
        // Before anybody waits.
        let sizes: Vec<u64> = batch.iter().map(|at| self.size(*at)).collect();
        let mut ours = Vec::new();
        for (at, size) in batch.iter().zip(sizes) {
            let is_free = match self.units[*at].place {
                Some(place) => self.taker.take(place)?,
                None => true,
            };
            if is_free {
                ours.push((*at, size));
            } else {
                self.units[*at].state = State::InUse;
                self.report.in_use += 1;
            }
        }
        // Whoever has named an image since then may have given up what it is made of.
        let is_same = reach::seen(self.store)? == self.seen;
        let mut aside = Vec::new();
        if is_same {
            for (at, size) in &ours {
                aside.extend(self.put_aside(*at, *size)?.map(|path| (path, *size)));
            }
        }
        for (at, _) in &ours {
            if let Some(place) = self.units[*at].place {
                self.taker.give_back(place)?;
            }
        }
        for (path, size) in aside {
            if !self.delete(&path) {
                self.report.bytes = self.report.bytes.saturating_sub(size);
            }
        }
        if !is_same {
            self.look_again()?;
        }
        Ok(())
    }

    /// The images have changed: those that were not there before stay in any case.
    fn look_again(&mut self) -> Result<(), StoreError> {
        (self.roots, self.seen) = reach::roots(self.store)?;
        self.reach()
    }

    /// Takes a unit away under its name, so that a crash leaves no half of it, and gives back what
    /// is to be deleted.
    fn put_aside(&mut self, at: usize, size: u64) -> Result<Option<PathBuf>, StoreError> {
        let dry_run = self.options.dry_run;
        let unit = &mut self.units[at];
        unit.state = State::Gone;
        let mut aside = None;
        let mut gone = true;
        if !dry_run {
            for (_, path) in &unit.records {
                unlink(path)?;
            }
            if is_there(&unit.main) {
                let path = self.store.tmp_name("gone")?;
                // What a killed process has left in a tree does not go with it.
                let emptied = match unit.kind.how {
                    How::Trees => {
                        runtime::Trees::recover_one(&unit.main).map_err(|e| e.to_string())
                    }
                    _ => Ok(()),
                };
                let moved =
                    emptied.and_then(|()| fs::rename(&unit.main, &path).map_err(|e| e.to_string()));
                match moved {
                    Ok(()) => aside = Some(path),
                    Err(error) => {
                        gone = false;
                        let main = unit.main.display();
                        self.report.kept.push(format!("{main}: {error}"));
                    }
                }
            }
        }
        let is_there = is_there(&unit.main) || aside.is_some();
        let report = &mut self.report;
        report.records += unit.records.len();
        if gone {
            report.bytes += size;
            if let Some((now, _)) = &mut self.space {
                *now = now.saturating_sub(size);
            }
            match unit.kind.how {
                How::Blobs => report.blobs += 1,
                How::Layers => report.layers += usize::from(is_there),
                How::Directories { .. } => report.caches += 1,
                How::Trees => report.trees += 1,
                How::Repositories => report.fetched += 1,
                How::Files { .. } if !unit.blobs.is_empty() => report.fetched += 1,
                _ => report.records += 1,
            }
        }
        Ok(aside)
    }

    /// Deletes a file or a tree and says whether it is gone.
    fn delete(&mut self, path: &Path) -> bool {
        let result = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => remove_tree(path),
            _ => fs::remove_file(path),
        };
        if let Err(error) = &result {
            let line = format!("{}: {error}", path.display());
            self.report.kept.push(line);
        }
        result.is_ok()
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Deletes a small file; somebody else may have been faster.
fn unlink(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("delete", path),
    }
}

/// Whether something was used no later than `age` ago; a time in the future is now.
fn is_older(used: SystemTime, age: Duration) -> bool {
    used.elapsed().unwrap_or_default() >= age
}
