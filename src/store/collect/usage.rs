//! What the store holds, by kind, for `du`.

use std::collections::HashSet;
use std::time::SystemTime;

use super::super::kinds::{How, KINDS};
use super::super::remove::Measure;
use super::super::uses::Taker;
use super::super::{Store, StoreError};
use super::reach::{self, Reached};
use super::survey::{self, State, Unit};

/// The kinds in the order in which they are told; `layers` is told as two.
const IMAGE_LAYERS: &str = "image layers";
const STEP_LAYERS: &str = "step layers";
const REST: &str = "locks, directories";

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// One for every kind, empty ones too.
    pub rows: Vec<UsageRow>,
    /// Everything, one by one.
    pub things: Vec<UsageThing>,
    /// The space of the store on the disk in bytes: that of all rows.
    pub total: u64,
    /// The part of it that no image with a name needs and nobody uses now.
    pub reclaimable: u64,
}

/// What the store holds of one kind.
#[derive(Clone, Debug, Default)]
pub struct UsageRow {
    /// The kind, as people call it.
    pub kind: &'static str,
    /// How many there are.
    pub count: usize,
    /// The space on the disk in bytes; a file with several names counts once.
    pub bytes: u64,
    /// The part of it that no image with a name needs and nobody uses now.
    pub reclaimable: u64,
    /// The latest use of any.
    pub used: Option<SystemTime>,
}

/// One thing in the store.
#[derive(Clone, Debug)]
pub struct UsageThing {
    /// The kind, as in [`UsageRow`].
    pub kind: &'static str,
    /// Its id or digest.
    pub name: String,
    /// What it is, for people.
    pub about: String,
    /// The space on the disk in bytes, with its records.
    pub bytes: u64,
    /// Whether no image with a name needs it and nobody uses it now.
    pub reclaimable: bool,
    /// Its last use, to an hour.
    pub used: SystemTime,
}

impl Store {
    /// Measures everything in the store.
    ///
    /// # Errors
    /// When the disk fails, or a manifest cannot be understood.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let _one = self.lock_file("collect.lock")?;
        let taker = Taker::new(self)?;
        let units = survey::units(self)?;
        let (roots, _) = reach::roots(self)?;
        let named = roots.iter().filter(|root| root.name().is_some());
        let reached = Reached::new(self, named, &units, Some(&taker))?;
        let mut usage = Usage::empty();
        let mut measure = Measure::default();
        let mut seen = HashSet::new();
        let needed = needed(&units, &reached);
        for unit in &units {
            let free = is_free(unit, &reached, &needed) && is_idle(unit, &taker)?;
            usage.add(unit, free, &mut measure, &mut seen);
        }
        let images: HashSet<_> = roots.iter().map(|root| &root.entry.digest).collect();
        usage.row("image blobs").count = images.len();
        usage.row("image blobs").kind = "images";
        let rest = measure.tree_without(self.root(), &seen);
        usage.row(REST).bytes = rest;
        usage.total += rest;
        Ok(usage)
    }
}

/// The blobs that layers keep which stay.
fn needed<'a>(units: &'a [Unit], reached: &Reached) -> HashSet<&'a str> {
    let layers = units
        .iter()
        .filter(|unit| unit.kind.how == How::Layers && reached.has_layer(unit));
    layers
        .flat_map(|unit| unit.blobs.iter().map(String::as_str))
        .collect()
}

fn is_free(unit: &Unit, reached: &Reached, needed: &HashSet<&str>) -> bool {
    match unit.kind.how {
        How::Blobs | How::OfBlobs => {
            !reached.blobs.contains(&unit.name) && !needed.contains(unit.name.as_str())
        }
        How::Layers => !reached.has_layer(unit),
        How::Temporary => false,
        _ => unit.state == State::There,
    }
}

fn is_idle(unit: &Unit, taker: &Taker) -> Result<bool, StoreError> {
    let Some(place) = unit.place else {
        return Ok(true);
    };
    let idle = taker.take(place)?;
    if idle {
        taker.give_back(place)?;
    }
    Ok(idle)
}

impl Usage {
    fn empty() -> Self {
        let mut usage = Self::default();
        for kind in &KINDS {
            match kind.how {
                How::Layers => {
                    usage.row(IMAGE_LAYERS);
                    usage.row(STEP_LAYERS);
                }
                _ => drop(usage.row(kind.name)),
            }
        }
        usage
    }

    /// The row of a kind, which is made where there is none.
    fn row(&mut self, kind: &'static str) -> &mut UsageRow {
        let known = self.rows.iter().position(|row| row.kind == kind);
        let at = known.unwrap_or(self.rows.len());
        if known.is_none() {
            self.rows.push(UsageRow {
                kind,
                ..UsageRow::default()
            });
        }
        &mut self.rows[at]
    }

    fn count(&mut self, kind: &'static str, bytes: u64, free: bool, used: SystemTime) {
        let row = self.row(kind);
        row.count += 1;
        row.bytes += bytes;
        row.used = row.used.max(Some(used));
        if free {
            row.reclaimable += bytes;
            self.reclaimable += bytes;
        }
        self.total += bytes;
    }

    fn add(
        &mut self,
        unit: &Unit,
        free: bool,
        measure: &mut Measure,
        seen: &mut HashSet<std::path::PathBuf>,
    ) {
        let kind = match unit.kind.how {
            How::Layers if unit.is_base => IMAGE_LAYERS,
            How::Layers => STEP_LAYERS,
            _ => unit.kind.name,
        };
        let mut bytes = 0;
        for (kind, path) in &unit.records {
            let size = measure.tree(path);
            self.count(kind.name, size, free, unit.used);
            bytes += size;
            seen.insert(path.clone());
        }
        let is_there = std::fs::symlink_metadata(&unit.main).is_ok();
        if is_there {
            let size = measure.tree(&unit.main);
            self.count(kind, size, free, unit.used);
            bytes += size;
            seen.insert(unit.main.clone());
        }
        self.things.push(UsageThing {
            kind,
            name: unit.name.clone(),
            about: unit.about.clone(),
            bytes,
            reclaimable: free,
            used: unit.used,
        });
    }
}
