//! Which steps of a build were found in the cache, and why the others were not.
//!
//! [`StepLog`] is told of every step by the threads of a build. A step that is not found is compared
//! with the nearest earlier run of the same step: the stage of the same name, the instruction at the
//! same place once those that were put in and taken out are set aside, and of its last runs the one
//! that has most in common. What was run is remembered when the build ends, and only if it differs
//! from what is remembered already, so that a build with nothing to do reads one small file.
//!
//! * `aligned`: the stage as it was and as it is, step by step
//! * `differs`: from a field that differs to a reason
//! * `content`: digests of files, with a listing to name the file that changed

mod aligned;
mod content;
mod differs;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::stage::Stage;
use crate::cache::{KeyBuilder, Runs, StepKey};
use crate::image::Digest;
use crate::plan::{Base, masked};
use crate::progress::Reason;
use crate::store::{Store, StoreError};

pub(super) use content::digest as content_digest;

/// A longer instruction is known by its beginning and its digest.
const MOST_TEXT: usize = 400;

/// What happens to the steps of a build.
pub struct StepLog {
    identity: Digest,
    /// The record of earlier builds, as it is on the disk.
    record: OnceLock<Vec<u8>>,
    /// The same, read when a step is not found.
    earlier: OnceLock<Runs>,
    stages: Mutex<BTreeMap<usize, StageLog>>,
}

/// What happened in one stage.
#[derive(Default)]
struct StageLog {
    label: String,
    /// What the stage begins with, if that is another stage.
    parent: Option<usize>,
    /// What its steps are going to be: what it begins with, then the instructions.
    texts: Vec<String>,
    /// The steps so far.
    seen: Vec<Seen>,
    /// The names of its arguments.
    args: Vec<String>,
}

/// A step that was begun, or what the stage begins with.
struct Seen {
    /// As progress shows it; none for what the stage begins with.
    name: Option<String>,
    text: String,
    /// Its place in the stage's texts.
    place: Option<usize>,
    key: StepKey,
    hit: bool,
    ended: bool,
    reason: Option<Reason>,
}

impl StepLog {
    /// A log for builds of what `identity` names: the context and the Dockerfile, and the id map,
    /// which layers are made for.
    pub fn new(identity: &[&str]) -> Self {
        let mut key = KeyBuilder::new("runs");
        key.list("part", identity);
        Self {
            identity: key.finish().digest,
            record: OnceLock::new(),
            earlier: OnceLock::new(),
            stages: Mutex::default(),
        }
    }

    /// Forgets the steps so far: the build begins anew.
    pub fn begin_anew(&self) {
        self.lock().clear();
    }

    /// The steps in the order of the Dockerfile, for the metadata file: `stage`, `name`, `key`,
    /// `result`, `reason`, and `completed` where a step did not come to its end.
    pub fn steps(&self) -> Vec<Value> {
        let stages = self.lock();
        let all = stages.values().flat_map(|stage| {
            let steps = stage
                .seen
                .iter()
                .filter_map(|seen| Some((seen.name.as_ref()?, seen)));
            steps.map(|(name, seen)| seen.value(&stage.label, name))
        });
        all.collect()
    }

    /// Remembers what was run, for the next build. `finished` tells whether the build came to its
    /// end: steps that it did not come to are not forgotten.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn save(&self, store: &Store, finished: bool) -> Result<(), StoreError> {
        let stages = self.lock();
        if stages.is_empty() {
            return Ok(());
        }
        let steps = fingerprint(&stages);
        if Runs::is_of(self.record(store)?, steps.hex()) {
            return Ok(());
        }
        let mut runs = self.earlier(store)?.clone();
        let built = stages
            .iter()
            .map(|(index, stage)| stage.remembered(*index, &runs, finished))
            .collect();
        runs.put(built);
        store.put_runs(&self.identity, &runs.to_bytes(steps.hex()))?;
        content::forget_listings(store, self.earlier(store)?, &runs)
    }

    fn record(&self, store: &Store) -> Result<&[u8], StoreError> {
        if let Some(record) = self.record.get() {
            return Ok(record);
        }
        let read = store.runs(&self.identity)?;
        Ok(self.record.get_or_init(|| read))
    }

    fn earlier(&self, store: &Store) -> Result<&Runs, StoreError> {
        let record = self.record(store)?;
        Ok(self.earlier.get_or_init(|| Runs::from_bytes(record)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, StageLog>> {
        // What is in it explains, and decides nothing.
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for the steps of a build and their order.
fn fingerprint(stages: &BTreeMap<usize, StageLog>) -> Digest {
    let mut key = KeyBuilder::new("steps");
    for (index, stage) in stages {
        key.field("stage", &stage.label);
        key.field("index", index.to_string());
        for seen in &stage.seen {
            key.field("text", &seen.text);
            key.field("key", seen.key.digest.as_str());
            key.field("ended", seen.ended.to_string());
        }
    }
    key.finish().digest
}

impl Seen {
    fn value(&self, stage: &str, name: &str) -> Value {
        let mut value = json!({
            "stage": stage,
            "name": name,
            "key": self.key.digest,
            "result": if self.hit { "hit" } else { "miss" },
        });
        if let Some(reason) = &self.reason {
            value["reason"] = json!(reason);
        }
        if !self.ended {
            value["completed"] = json!(false);
        }
        value
    }
}

/// What a stage writes into the log.
impl Stage<'_> {
    /// The stage begins with its base; `texts` are its instructions that may make layers.
    pub(super) fn log_begin(&self, base: &Base, first: &str, texts: Vec<String>) {
        let mut key = KeyBuilder::new("from");
        let parent = match base {
            Base::Image { reference, .. } => {
                key.field("image", masked(reference));
                None
            }
            Base::Stage(index) => {
                key.field("stage", index.to_string());
                Some(*index)
            }
            Base::Scratch => None,
            // Its files are a step of the stage, which has been told.
            Base::Files(_) => {
                self.with_log(|stage| stage.expect(&[], texts));
                return;
            }
        };
        key.field("digest", self.chain());
        let first = short(first);
        self.with_log(|stage| {
            stage.parent = parent;
            stage.expect(&[first.as_str()], texts);
            stage.add(None, first, key.finish(), true, None);
        });
    }

    /// A step was found in the cache.
    pub(super) fn log_hit(&self, name: &str, key: &StepKey) {
        self.with_log(|stage| {
            stage.add(Some(name), text_of(name), key.clone(), true, None);
        });
    }

    /// A step was not found; gives why.
    pub(super) fn log_miss(&self, name: &str, key: &StepKey) -> Result<Reason, StoreError> {
        let reason = aligned::why(self, name, key)?;
        self.with_log(|stage| {
            stage.args = self.declared_args().to_vec();
            let told = Some(reason.clone());
            stage.add(Some(name), text_of(name), key.clone(), false, told);
        });
        Ok(reason)
    }

    /// The step that was not found has been executed.
    pub(super) fn log_done(&self) {
        self.with_log(|stage| {
            if let Some(last) = stage.seen.last_mut() {
                last.ended = true;
            }
        });
    }

    fn with_log(&self, write: impl FnOnce(&mut StageLog)) {
        let (index, label) = self.place();
        let mut stages = self.shared.env.steps.lock();
        let stage = stages.entry(index).or_insert_with(|| StageLog {
            label: label.to_owned(),
            ..StageLog::default()
        });
        write(stage);
    }
}

impl StageLog {
    /// What the stage's steps are going to be, after those it had already.
    fn expect(&mut self, first: &[&str], texts: Vec<String>) {
        let had = self.seen.iter().map(|seen| seen.text.clone());
        let first = first.iter().map(|text| (*text).to_owned());
        self.texts = had.chain(first).chain(texts).collect();
        for (place, seen) in self.seen.iter_mut().enumerate() {
            seen.place = Some(place);
        }
    }

    fn add(
        &mut self,
        name: Option<&str>,
        text: String,
        key: StepKey,
        hit: bool,
        reason: Option<Reason>,
    ) {
        let place = self.next_place(&text);
        self.seen.push(Seen {
            name: name.map(str::to_owned),
            text,
            place,
            key,
            hit,
            ended: hit,
            reason,
        });
    }

    /// Where the next step, with this text, stands.
    fn next_place(&self, text: &str) -> Option<usize> {
        let from = self.seen.last().and_then(|seen| seen.place);
        let from = from.map_or(0, |place| place + 1);
        let rest = self.texts.get(from..).unwrap_or_default();
        rest.iter()
            .position(|known| known == text)
            .map(|at| from + at)
    }
}

/// The instruction in what progress calls the step, `[build 2/4] COPY . .`.
fn text_of(name: &str) -> String {
    let text = match name.split_once("] ") {
        Some((place, text)) if place.starts_with('[') => text,
        _ => name,
    };
    short(text)
}

/// The text by which an instruction is found again.
pub(super) fn short(text: &str) -> String {
    if text.len() <= MOST_TEXT {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(MOST_TEXT);
    format!(
        "{}… {}",
        &text[..cut],
        &Digest::of(text.as_bytes()).hex()[..16]
    )
}
