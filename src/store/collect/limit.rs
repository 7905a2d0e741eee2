//! Staying within a number of bytes.
//!
//! Measuring a store is a walk over it, too much for the end of every build. The file `usage` holds
//! what the store took when it was measured last, and what builds with a limit say that they have
//! added since. Only when the sum is over the limit, or the measure is a day old, is the store
//! measured again; what cache mounts grow by, and what builds without a limit write, counts from then
//! on. A build that added nothing reads that file and no more.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::super::files::{Sync, read_record};
use super::super::remove::Measure;
use super::super::{Store, StoreError};
use super::{PruneOptions, PruneReport};

/// How long a measure is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);
/// Collecting goes on until this part of the limit is free, so that not every build collects.
const HEADROOM: u64 = 10;

/// The file `usage`.
#[derive(Serialize, Deserialize)]
struct Measured {
    /// Bytes of the store when it was measured.
    bytes: u64,
    /// When that was, seconds since 1970.
    at: u64,
    /// Bytes that were added since.
    added: u64,
}

impl Store {
    /// Takes away what was used least recently if the store is larger than `limit` bytes, down to
    /// nine tenths of that: what a plain [`Store::collect`] would, never an image with a name or
    /// what anybody uses. Gives what was done, if anything was.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn keep_within(
        &self,
        limit: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<PruneReport>, StoreError> {
        let path = self.path("usage");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let added = self.added();
        let known = read_record::<Measured>(&path)?.filter(|known| {
            let age = now.checked_sub(Duration::from_secs(known.at));
            age.is_some_and(|age| age < BELIEVED)
        });
        if let Some(mut known) = known
            && known
                .bytes
                .saturating_add(known.added)
                .saturating_add(added)
                <= limit
        {
            if added > 0 {
                // Of two builds that end together one is forgotten until the next measure.
                known.added += added;
                self.replace_json(&path, &known, Sync::No)?;
            }
            return Ok(None);
        }
        let bytes = Measure::default().tree(self.root());
        let mut measured = Measured {
            bytes,
            at: now.as_secs(),
            added: 0,
        };
        let mut report = None;
        if bytes > limit {
            let options = PruneOptions {
                max_used: Some(limit - limit / HEADROOM),
                ..PruneOptions::default()
            };
            let collected = self.collect(&options, stop)?;
            measured.bytes = bytes.saturating_sub(collected.bytes);
            report = Some(collected);
        }
        self.replace_json(&path, &measured, Sync::No)?;
        Ok(report)
    }

    /// The bytes of what this process has added, which is counted from here on.
    fn added(&self) -> u64 {
        let written = std::mem::take(&mut self.own().written);
        let mut measure = Measure::default();
        written.iter().map(|path| measure.tree(path)).sum()
    }
}
