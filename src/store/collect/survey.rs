//! Everything in the store, put together into units that go or stay as a whole.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::error::At;
use super::super::files::read_record;
use super::super::kinds::{How, KINDS, Kind, LAYERS};
use super::super::layers::LayerMeta;
use super::super::uses::Place;
use super::super::{ExportRecord, FetchedRecord, StepRecord, Store, StoreError};

/// Something that goes as a whole.
pub(super) struct Unit {
    pub(super) kind: &'static Kind,
    /// Its id or digest.
    pub(super) name: String,
    /// What it is, for people.
    pub(super) about: String,
    /// What is put aside; empty for a layer that is known and not there.
    pub(super) main: PathBuf,
    /// Small files that go with it.
    pub(super) records: Vec<(&'static Kind, PathBuf)>,
    /// Where its uses are noted; nobody ever waits for a thing without.
    pub(super) place: Option<Place>,
    /// The blobs, by their digits, that are worth nothing without it.
    pub(super) blobs: HashSet<String>,
    /// The diff ids, by their digits, of a layer.
    pub(super) diff_ids: HashSet<OsString>,
    /// Whether it is a layer of an image that was pulled, imported or loaded.
    pub(super) is_base: bool,
    /// When it, or what needs it, was used last.
    pub(super) used: SystemTime,
    /// How many layers of steps are below it.
    pub(super) depth: usize,
    pub(super) state: State,
}

/// What became of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    There,
    /// Somebody has it.
    InUse,
    Gone,
}

/// Names a layer: the id map and the id.
type LayerKey = (OsString, String);

/// Puts the units together.
struct Survey<'s> {
    store: &'s Store,
    units: Vec<Unit>,
    layers: HashMap<LayerKey, usize>,
    /// What was built on a layer, and when it was used last.
    above: Vec<(LayerKey, SystemTime)>,
    /// Trees and what they were made of.
    trees: Vec<(usize, Vec<LayerKey>)>,
}

impl Unit {
    pub(super) fn new(kind: &'static Kind, main: PathBuf, used: SystemTime) -> Self {
        let name = main.file_name().unwrap_or_default();
        Self {
            kind,
            name: name.to_string_lossy().into_owned(),
            about: String::new(),
            main,
            records: Vec::new(),
            place: None,
            blobs: HashSet::new(),
            diff_ids: HashSet::new(),
            is_base: false,
            used,
            depth: 0,
            state: State::There,
        }
    }
}

/// Every unit of the store.
pub(super) fn units(store: &Store) -> Result<Vec<Unit>, StoreError> {
    let mut survey = Survey {
        store,
        units: Vec::new(),
        layers: HashMap::new(),
        above: Vec::new(),
        trees: Vec::new(),
    };
    for kind in &KINDS {
        let root = store.path(kind.dir);
        if !kind.by_map {
            survey.directory(kind, &root, OsStr::new(""))?;
            continue;
        }
        for map in names_in(&root)? {
            survey.directory(kind, &root.join(&map), &map)?;
        }
    }
    for (key, used) in std::mem::take(&mut survey.above) {
        if let Some(at) = survey.layers.get(&key) {
            let unit = &mut survey.units[*at];
            unit.used = unit.used.max(used);
        }
    }
    survey.put_trees_before_layers();
    Ok(survey.units)
}

impl Survey<'_> {
    fn directory(
        &mut self,
        kind: &'static Kind,
        dir: &Path,
        map: &OsStr,
    ) -> Result<(), StoreError> {
        for name in names_in(dir)? {
            let path = dir.join(&name);
            let used = used_at(&path);
            match kind.how {
                How::Blobs => {
                    let mut unit = Unit::new(kind, path, used);
                    unit.place = Some(Place::blob(&unit.name));
                    self.units.push(unit);
                }
                How::Layers => self.layer_dir(map, &name, &path)?,
                How::Diffs => {
                    let id = fs::read_link(&path).at("read", &path)?;
                    let unit = self.layer(map, &id.to_string_lossy());
                    unit.diff_ids.insert(name);
                    unit.records.push((kind, path));
                }
                How::Exports => self.export(kind, map, &name, path)?,
                How::Steps => self.step(kind, map, path)?,
                How::Directories { .. } => {
                    let mut unit = Unit::new(kind, path, SystemTime::UNIX_EPOCH);
                    unit.used = locks_of(&unit.main)?;
                    let label = unit.main.join("name");
                    unit.about = fs::read_to_string(label).unwrap_or_default();
                    unit.place = Some(Place::cache(&map.to_string_lossy(), &unit.name));
                    self.units.push(unit);
                }
                How::Trees => self.tree(kind, map, path),
                How::Repositories if path.extension().is_some() => {}
                How::Repositories => {
                    let lock = path.with_extension("lock");
                    let mut unit = Unit::new(kind, path, used_at(&lock));
                    unit.place = Some(Place::repository(&unit.name));
                    self.units.push(unit);
                }
                How::Files { .. } => {
                    let record = match kind.dir {
                        "fetched/http" => read_record::<FetchedRecord>(&path)?,
                        _ => None,
                    };
                    let mut unit = Unit::new(kind, path, used);
                    if let Some(record) = record {
                        unit.about = record.name;
                        unit.blobs.insert(record.digest.hex().to_owned());
                    }
                    self.units.push(unit);
                }
                How::Temporary | How::OfBlobs => self.units.push(Unit::new(kind, path, used)),
            }
        }
        Ok(())
    }

    fn tree(&mut self, kind: &'static Kind, map: &OsStr, path: PathBuf) {
        // One that is no longer of use was never used.
        let used = runtime::Trees::used(&path).unwrap_or(SystemTime::UNIX_EPOCH);
        let layers = self.store.layers_of_tree(&path);
        let mut unit = Unit::new(kind, path, used);
        unit.place = Some(Place::tree(&map.to_string_lossy(), &unit.name));
        match layers {
            None => unit.used = SystemTime::UNIX_EPOCH,
            Some(layers) => {
                unit.about = format!("{} layers", layers.len());
                let keys = layers.into_iter().map(|id| (map.to_owned(), id));
                self.trees.push((self.units.len(), keys.collect()));
            }
        }
        self.units.push(unit);
    }

    /// Without one of its layers a tree is worth nothing, so it is its turn first.
    fn put_trees_before_layers(&mut self) {
        for (at, layers) in std::mem::take(&mut self.trees) {
            let found = layers.iter().filter_map(|key| self.layers.get(key));
            let oldest = found.map(|layer| self.units[*layer].used).min();
            let unit = &mut self.units[at];
            unit.used = oldest.map_or(unit.used, |oldest| unit.used.min(oldest));
            unit.depth = usize::MAX;
        }
    }

    /// The unit of a layer, which need not be there.
    fn layer(&mut self, map: &OsStr, id: &str) -> &mut Unit {
        let key = (map.to_owned(), id.to_owned());
        let at = *self.layers.entry(key).or_insert_with(|| {
            // Only a directory that was found may be deleted: what a record says is no path.
            let mut unit = Unit::new(&LAYERS, PathBuf::new(), SystemTime::UNIX_EPOCH);
            unit.name = id.to_owned();
            unit.place = Some(Place::layer(&map.to_string_lossy(), id));
            self.units.push(unit);
            self.units.len() - 1
        });
        &mut self.units[at]
    }

    fn layer_dir(&mut self, map: &OsStr, name: &OsStr, path: &Path) -> Result<(), StoreError> {
        let meta = path.join("meta.json");
        let used = used_at(&meta);
        let meta: Option<LayerMeta> = read_record(&meta)?;
        let unit = self.layer(map, &name.to_string_lossy());
        unit.main = path.to_owned();
        unit.used = unit.used.max(used);
        if let Some(meta) = meta {
            unit.is_base = meta.diff_id.is_some();
            unit.about = meta.origin;
        }
        Ok(())
    }

    fn export(
        &mut self,
        kind: &'static Kind,
        map: &OsStr,
        name: &OsStr,
        path: PathBuf,
    ) -> Result<(), StoreError> {
        let name = name.to_string_lossy();
        let id = name.split_once('@').map_or(&*name, |(id, _)| id);
        let record = read_record::<ExportRecord>(&path)?;
        let unit = self.layer(map, id);
        if let Some(record) = record {
            unit.diff_ids.insert(record.diff_id.hex().into());
            let blobs = record.blobs.iter();
            unit.blobs
                .extend(blobs.map(|blob| blob.digest.hex().to_owned()));
        }
        unit.used = unit.used.max(used_at(&path));
        unit.records.push((kind, path));
        Ok(())
    }

    fn step(&mut self, kind: &'static Kind, map: &OsStr, path: PathBuf) -> Result<(), StoreError> {
        let used = used_at(&path);
        let record = read_record::<StepRecord>(&path)?.unwrap_or_default();
        let Some(id) = &record.layer else {
            let mut unit = Unit::new(kind, path, used);
            unit.about = described(&record);
            self.units.push(unit);
            return Ok(());
        };
        let unit = self.layer(map, id);
        unit.records.push((kind, path));
        let below = record.below.clone().unwrap_or_default();
        unit.depth = unit.depth.max(below.len());
        unit.used = unit.used.max(used);
        if unit.about.is_empty() {
            unit.about = described(&record);
        }
        let used = unit.used;
        for below in below {
            self.above.push(((map.to_owned(), below), used));
        }
        Ok(())
    }
}

/// The instruction of a step, as far as its key tells it.
fn described(record: &StepRecord) -> String {
    const LONGEST: usize = 80;
    let field = |wanted: &str| {
        let found = record.fields.iter().rev().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let text = match (field("argument"), field("dest")) {
        (Some(command), _) => format!("RUN {command}"),
        (_, Some(dest)) => format!("COPY to {dest}"),
        _ => String::new(),
    };
    text.chars().take(LONGEST).collect()
}

/// When a file was used last: its time, by which uses are noted. One that is gone never was.
fn used_at(path: &Path) -> SystemTime {
    let time = fs::symlink_metadata(path).and_then(|found| found.modified());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The latest use of the directories of a cache mount.
fn locks_of(dir: &Path) -> Result<SystemTime, StoreError> {
    let mut latest = SystemTime::UNIX_EPOCH;
    for name in names_in(dir)? {
        let path = dir.join(name);
        if path.extension().is_some_and(|is| is == "lock") {
            latest = latest.max(used_at(&path));
        }
    }
    Ok(latest)
}

/// The names in a directory; none when there is no such directory.
pub(super) fn names_in(dir: &Path) -> Result<Vec<OsString>, StoreError> {
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
