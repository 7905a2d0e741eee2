//! [`Pool`]: which trees there are, who gets which, and which stay.

use std::fs;
use std::io;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::one::Tree;
use super::{Home, IDLE, Identity, KEPT, KEPT_ALIKE, Kept, Layer, Reading, Trees, layers, record};
use crate::error::Error;
use crate::roots::Diff;

/// The trees that nobody of this process changes.
#[derive(Debug, Default)]
pub struct Pool {
    /// Least recently used first.
    idle: Vec<Tree>,
    /// Those that are read.
    read: Vec<Weak<Reading>>,
    /// What other processes had left when this was first asked for.
    left: Option<Vec<Left>>,
    made: u64,
    #[cfg(test)]
    pub doubts: Vec<String>,
}

/// A tree that another process has left.
#[derive(Debug)]
struct Left {
    name: String,
    chain: Vec<Identity>,
}

/// What is to be used.
enum Choice {
    Idle(Box<Tree>),
    Left(String),
    /// A new one, and its number.
    None(u64),
}

impl Trees {
    /// A tree that shows `lowers`, topmost first.
    pub(super) fn take(&self, lowers: &[Diff]) -> Result<Tree, Error> {
        let wanted = layers(lowers)?;
        loop {
            let choice = self.lock().choose(&self.0.home, &wanted);
            let found = match choice {
                Choice::Idle(tree) => Some(*tree),
                Choice::Left(name) => self.0.home.open(&name),
                Choice::None(number) => return self.make(number, &wanted),
            };
            let Some(mut tree) = found else {
                continue;
            };
            match tree.show(&wanted) {
                Ok(()) => return Ok(tree),
                // One that cannot be turned is thrown away, and the next one tried.
                Err(error) => self.lock().doubted(&error),
            }
        }
    }

    /// A new one. Where the disk is full, trees that nobody uses have to go.
    fn make(&self, number: u64, wanted: &[Layer]) -> Result<Tree, Error> {
        let home = &self.0.home;
        let make = |name: String| -> Result<Tree, Error> {
            let mut tree = Tree::new(home, name)?;
            tree.show(wanted)?;
            Ok(tree)
        };
        match home.name(number).and_then(make) {
            Err(error) if is_full(&error) => {}
            made => return made,
        }
        // Deleted while nobody waits for the list.
        let idle = std::mem::take(&mut self.lock().idle);
        drop(idle);
        home.trim(0);
        home.name(number).and_then(make)
    }

    pub(super) fn give_back(&self, tree: Tree) {
        let oldest = {
            let mut pool = self.lock();
            pool.idle.push(tree);
            (pool.idle.len() > IDLE).then(|| pool.idle.remove(0))
        };
        drop(oldest);
    }
}

fn is_full(error: &Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, Error::Io { source, .. } if full.contains(&source.kind()))
}

impl Pool {
    /// Takes the tree that shares most of the lowest of these layers, and of several the one with the
    /// fewest others on top.
    fn choose(&mut self, home: &Home, wanted: &[Layer]) -> Choice {
        let fit = |chain: &[Identity]| {
            let both = chain.iter().zip(wanted);
            let common = both.take_while(|(one, other)| **one == other.identity);
            let common = common.count();
            let others = chain.len() - common;
            let can_turn = home.sees_all || others == 0;
            (common > 0 && can_turn).then_some((common, usize::MAX - others))
        };
        let idle = self.idle.iter().enumerate();
        let idle = idle.filter(|(_, tree)| home.sees_all || !tree.is_to_revert());
        let idle = idle.filter_map(|(at, tree)| Some((fit(&tree.chain())?, at)));
        let idle = idle.max();
        let left = self.left.get_or_insert_with(|| home.left());
        let best = left.iter().enumerate();
        let best = best.filter_map(|(at, left)| Some((fit(&left.chain)?, at)));
        match (idle, best.max()) {
            (Some((fits, at)), other) if other.is_none_or(|(other, _)| fits >= other) => {
                Choice::Idle(Box::new(self.idle.remove(at)))
            }
            (_, Some((_, at))) => Choice::Left(left.remove(at).name),
            (_, None) => {
                self.made += 1;
                Choice::None(self.made)
            }
        }
    }

    /// A tree could not be turned: for tests, since otherwise nobody would know.
    fn doubted(&mut self, why: &Error) {
        #[cfg(test)]
        self.doubts.push(why.to_string());
        #[cfg(not(test))]
        let _: &Error = why;
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    pub fn published(&mut self, layer: &Layer) {
        for tree in &mut self.idle {
            tree.published(layer);
        }
    }

    /// Somebody who reads a tree of these layers.
    pub fn read_by_others(&mut self, wanted: &[Identity]) -> Option<Arc<Reading>> {
        self.read.retain(|reading| reading.strong_count() > 0);
        let mut others = self.read.iter().filter_map(Weak::upgrade);
        others.find(|reading| reading.stands_for == wanted)
    }

    pub fn reads(&mut self, reading: &Arc<Reading>) {
        self.read.push(Arc::downgrade(reading));
    }

    /// Leaves for others what there is, and no more than may stay.
    pub fn close(self, home: &Home) {
        for tree in self.idle {
            // One that cannot be kept is gone.
            drop(tree.leave());
        }
        home.trim(KEPT);
    }
}

impl Home {
    /// The name of a new tree, which is this process's.
    fn name(&self, number: u64) -> Result<String, Error> {
        let Some(Kept { keeper, .. }) = &self.kept else {
            return Ok(number.to_string());
        };
        let failed = Error::io("name a tree in", &self.dir);
        let name = keeper.name().map_err(&failed)?;
        match keeper.take(&name).map_err(&failed)? {
            true => Ok(name),
            false => Err(failed(io::ErrorKind::ResourceBusy.into())),
        }
    }

    /// Opens a tree that another process has left, if nobody has it and it is what it was. What is
    /// not is deleted.
    fn open(&self, name: &str) -> Option<Tree> {
        let keeper = &self.kept.as_ref()?.keeper;
        if !keeper.take(name).ok()? {
            return None;
        }
        match Tree::open(self, name) {
            Ok(Some(tree)) => return Some(tree),
            Ok(None) | Err(_) => self.delete(name),
        }
        keeper.give_back(name);
        None
    }

    /// Deletes a tree that is nobody else's.
    fn delete(&self, name: &str) {
        let dir = self.dir.join(name);
        // What stays is swept with the rest.
        if record::erase(&dir).is_ok() && Trees::recover_one(&dir).is_ok() {
            drop(fs::remove_dir_all(dir));
        }
    }

    /// The trees that others have left.
    fn left(&self) -> Vec<Left> {
        let Some(Kept { base, keeper }) = &self.kept else {
            return Vec::new();
        };
        let left = self.clean().into_iter().filter_map(|(_, name)| {
            let record = record::read(&self.dir.join(&name), base, keeper.boot())?;
            let chain = record.layers.iter().map(|layer| layer.identity);
            Some(Left {
                chain: chain.collect(),
                name,
            })
        });
        left.collect()
    }

    /// When the clean trees were used last, and their names; the last one first.
    fn clean(&self) -> Vec<(SystemTime, String)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let trees = entries.filter_map(|entry| {
            let used = record::used(&entry.path())?;
            Some((used, entry.file_name().into_string().ok()?))
        });
        let mut trees: Vec<_> = trees.collect();
        trees.sort_unstable_by(|one, other| other.cmp(one));
        trees
    }

    /// Deletes all but `most` of the trees that are kept and used by nobody, least recently used first,
    /// and those whose layers are gone.
    fn trim(&self, most: usize) {
        let Some(Kept { base, keeper }) = &self.kept else {
            return;
        };
        let mut bases: Vec<Identity> = Vec::new();
        for (_, name) in self.clean() {
            let record = record::read(&self.dir.join(&name), base, keeper.boot());
            if let Some(lowest) = record.as_ref().and_then(|record| record.layers.first()) {
                let alike = bases.iter().filter(|base| **base == lowest.identity);
                if bases.len() < most && alike.count() < KEPT_ALIKE {
                    bases.push(lowest.identity);
                    continue;
                }
            }
            if keeper.take(&name).is_ok_and(|taken| taken) {
                self.delete(&name);
                keeper.give_back(&name);
            }
        }
    }
}
