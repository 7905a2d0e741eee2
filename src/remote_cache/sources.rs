//! [`CacheSources`]: where a build looks for results of steps, in the order of the flags.
//!
//! Nothing that goes wrong here ends a build: what cannot be used is told once and is a miss. The
//! first request to a place is made alone, so that a place that is down costs its patience once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::entry::{Entry, Read, StepEntry};
use super::place::{Besides, Place, PlaceError};
use crate::image::{Digest, Reference};
use crate::transfer::BlobSource;

/// Tags begin so where the reference does not say otherwise.
pub(super) const PREFIX: &str = "lapstrake";
/// A tag has 128 characters at most, of which 65 are ours.
const PREFIX_LIMIT: usize = 63;

/// The beginning of the tags in the repository of `reference`.
///
/// # Errors
/// When the reference's tag is too long for that, or it is pinned by a digest.
pub fn tag_prefix(reference: &Reference) -> Result<&str, String> {
    match reference.tag() {
        _ if reference.digest().is_some() => Err(format!(
            "{} is pinned by a digest, but a cache has many tags",
            reference.familiar()
        )),
        None | Some("latest") => Ok(PREFIX),
        Some(tag) if tag.len() <= PREFIX_LIMIT => Ok(tag),
        Some(tag) => Err(format!(
            "the tag {tag} is too long: entries are called {tag}-HEX, so that it can have \
             {PREFIX_LIMIT} characters at most"
        )),
    }
}

/// What people call the repository of `reference`; a tag that nobody wrote says nothing.
pub fn repository_name(reference: &Reference) -> String {
    let name = reference.familiar();
    match name.strip_suffix(":latest") {
        Some(short) => short.to_owned(),
        None => name,
    }
}

/// The name of an entry.
pub(super) fn entry_tag(prefix: &str, key: &Digest) -> String {
    format!("{prefix}-{}", key.hex())
}

/// Reads the entry of `key`; none if there is none.
///
/// # Errors
/// The place's; an entry that is not what it should be is [`PlaceError::Damaged`].
pub(super) fn read_entry(
    place: &dyn Place,
    prefix: &str,
    key: &Digest,
) -> Result<Option<Entry>, PlaceError> {
    let tag = entry_tag(prefix, key);
    let Some(manifest) = place.manifest(&tag)? else {
        return Ok(None);
    };
    let damaged = |error: super::EntryError| PlaceError::Damaged {
        what: format!("its entry {tag}"),
        reason: error.to_string(),
    };
    let mut read = Read::manifest(&manifest).map_err(damaged)?;
    let config = match read.data.take() {
        Some(config) => config,
        None => place.small_blob(&read.config)?,
    };
    read.entry(&config, key).map(Some).map_err(damaged)
}

/// The result of a step, somewhere else.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheHit {
    /// What it is.
    pub step: StepEntry,
    /// Where its blob is.
    pub source: BlobSource,
    /// What people call that place.
    pub place: String,
}

/// A place to look in.
struct Source<'a> {
    place: Box<dyn Place + Send + 'a>,
    blobs: BlobSource,
    /// None for an image that is pinned by its digest, which has no entries beside it.
    prefix: Option<String>,
    /// Held during the first request.
    state: Mutex<State>,
    besides: OnceLock<HashMap<Digest, StepEntry>>,
    /// What the place is, if nothing of use.
    unusable: OnceLock<String>,
    asked: AtomicUsize,
    hits: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unasked,
    Open,
    Closed,
}

/// Where a build looks.
pub struct CacheSources<'a> {
    sources: Vec<Source<'a>>,
    warn: &'a (dyn Fn(&str) + Sync),
    known: Mutex<HashMap<Digest, Option<CacheHit>>>,
    refused: Mutex<HashSet<Digest>>,
    /// The keys that a diff id was found under.
    given: Mutex<HashMap<Digest, HashSet<Digest>>>,
}

impl<'a> CacheSources<'a> {
    /// Nowhere; `warn` is told what cannot be used.
    pub fn new(warn: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self {
            sources: Vec::new(),
            warn,
            known: Mutex::default(),
            refused: Mutex::default(),
            given: Mutex::default(),
        }
    }

    /// Adds a place to be asked after those that were added before.
    pub fn add(&mut self, place: impl Place + Send + 'a, blobs: BlobSource) {
        let prefix = match &blobs {
            BlobSource::Repository(reference) => tag_prefix(reference).ok().map(str::to_owned),
            BlobSource::Layout(_) => Some(PREFIX.to_owned()),
        };
        self.sources.push(Source {
            place: Box::new(place),
            blobs,
            prefix,
            state: Mutex::new(State::Unasked),
            besides: OnceLock::new(),
            unusable: OnceLock::new(),
            asked: AtomicUsize::new(0),
            hits: AtomicUsize::new(0),
        });
    }

    /// Whether there is nowhere to look.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The result of the step with this key, from the first place that has it.
    pub fn step(&self, key: &Digest) -> Option<CacheHit> {
        if self.sources.is_empty() || self.is_refused(key) {
            return None;
        }
        let usable = |hit: &CacheHit| !hit.step.has_any(&lock(&self.refused));
        if let Some(known) = lock(&self.known).get(key) {
            return known.clone().filter(usable);
        }
        let hit = self.sources.iter().find_map(|source| {
            let step = match self.ask(source, key)? {
                Entry::Step(step) => *step,
                Entry::Record(_) => return None,
            };
            Some(CacheHit {
                step,
                source: source.blobs.clone(),
                place: source.place.to_string(),
            })
        });
        lock(&self.known).insert(key.clone(), hit.clone());
        hit.filter(usable)
    }

    /// What was computed under this key, from the first place that knows it.
    pub fn record(&self, key: &Digest) -> Option<String> {
        self.sources
            .iter()
            .find_map(|source| match self.ask(source, key)? {
                Entry::Record(record) => Some(record.value),
                Entry::Step(_) => None,
            })
    }

    /// Notes that the step of `key` was found, here or elsewhere, as the layer of `diff_id`.
    pub fn gave(&self, key: &Digest, diff_id: &Digest) {
        let mut given = lock(&self.given);
        given
            .entry(diff_id.clone())
            .or_default()
            .insert(key.clone());
    }

    /// Has the results that are the layer of `diff_id` count as missing from now on: it cannot be had,
    /// for the reason given. Says whether they did not before.
    pub fn refuse(&self, diff_id: &Digest, reason: &str) -> bool {
        let keys = lock(&self.given).remove(diff_id).unwrap_or_default();
        if keys.is_empty() {
            return false;
        }
        let mut refused = lock(&self.refused);
        refused.extend(keys);
        refused.insert(diff_id.clone());
        drop(refused);
        (self.warn)(&format!(
            "the result of an earlier build is not used, and its step is executed: {reason}"
        ));
        true
    }

    /// Whether what is found under `key` is of no use.
    pub fn is_refused(&self, key: &Digest) -> bool {
        lock(&self.refused).contains(key)
    }

    /// The keys, and the diff ids of layers, that turned out to be of no use.
    pub fn refused(&self) -> HashSet<Digest> {
        lock(&self.refused).clone()
    }

    /// Tells of places in which nothing was found.
    pub fn close(&self) {
        for source in &self.sources {
            let asked = source.asked.load(Ordering::Relaxed);
            let is_open = *lock(&source.state) == State::Open;
            if !is_open || asked == 0 || source.hits.load(Ordering::Relaxed) > 0 {
                continue;
            }
            let text = match source.unusable.get() {
                Some(what) => format!("it is {what}"),
                None => format!("nothing was found there ({asked} looked for)"),
            };
            (self.warn)(&format!("--cache-from {}: {text}", source.place));
        }
    }

    fn ask(&self, source: &Source<'_>, key: &Digest) -> Option<Entry> {
        let answer = {
            let mut state = lock(&source.state);
            match *state {
                State::Closed => return None,
                State::Open => None,
                State::Unasked => {
                    let answer = source.find(key);
                    *state = match &answer {
                        Err(error) if error.is_closed() => State::Closed,
                        _ => State::Open,
                    };
                    Some(answer)
                }
            }
        };
        source.asked.fetch_add(1, Ordering::Relaxed);
        match answer.unwrap_or_else(|| source.find(key)) {
            Ok(Some(found)) => {
                source.hits.fetch_add(1, Ordering::Relaxed);
                Some(found)
            }
            Ok(None) => None,
            Err(error) => {
                self.failed(source, key, &error);
                None
            }
        }
    }

    fn failed(&self, source: &Source<'_>, key: &Digest, error: &PlaceError) {
        let place = &source.place;
        if !error.is_closed() {
            // Whoever writes to this place may put a good one there.
            lock(&self.refused).insert(key.clone());
            (self.warn)(&format!(
                "--cache-from {place}: {error}; it counts as missing"
            ));
            return;
        }
        let was = std::mem::replace(&mut *lock(&source.state), State::Closed);
        let is_first = source.unusable.set(error.to_string()).is_ok();
        if was != State::Closed || is_first {
            (self.warn)(&format!(
                "--cache-from {place}: {error}; going on without it"
            ));
        }
    }
}

impl Source<'_> {
    /// The entry of `key`, or else what the place's own image says of it.
    fn find(&self, key: &Digest) -> Result<Option<Entry>, PlaceError> {
        if let Some(prefix) = &self.prefix
            && let Some(entry) = read_entry(&*self.place, prefix, key)?
        {
            return Ok(Some(entry));
        }
        let besides = match self.besides.get() {
            Some(known) => known,
            None => {
                let found = match self.place.besides()? {
                    Besides::Nothing => HashMap::new(),
                    Besides::Image(steps) => steps
                        .into_iter()
                        .map(|step| (step.key.clone(), step))
                        .collect(),
                    Besides::Unusable(what) => {
                        // Told at the end, if there are no entries beside it.
                        self.unusable.get_or_init(|| what);
                        HashMap::new()
                    }
                };
                self.besides.get_or_init(|| found)
            }
        };
        Ok(besides.get(key).cloned().map(Box::new).map(Entry::Step))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
