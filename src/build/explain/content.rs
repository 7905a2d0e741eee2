//! Digests of selected files, with a listing for every content that is new.

use std::collections::HashSet;

use anyhow::Result;

use crate::build::stage::Stage;
use crate::cache::Runs;
use crate::copy::{CopyOptions, Selection, Source};
use crate::image::Digest;
use crate::store::{Store, StoreError};

/// The digest of what was selected. What it holds is listed unless that is known.
pub(in crate::build) fn digest(
    stage: &Stage<'_>,
    selection: &Selection,
    source: &Source<'_>,
    options: &CopyOptions,
) -> Result<Digest> {
    let store = stage.store();
    let is_new = |digest: &Digest| -> Result<bool> { Ok(!store.has_listing(digest)) };
    let files = &stage.shared.files;
    let (digest, listing) = selection.digest_and_list(source, options, files, is_new)?;
    if let Some(bytes) = listing.and_then(|listing| listing.to_bytes()) {
        store.put_listing(&digest, &bytes)?;
    }
    Ok(digest)
}

/// Deletes the listings of contents that `before` speaks of and `after` does not.
pub(super) fn forget_listings(
    store: &Store,
    before: &Runs,
    after: &Runs,
) -> Result<(), StoreError> {
    let kept: HashSet<Digest> = contents(after).collect();
    contents(before)
        .filter(|content| !kept.contains(content))
        .try_for_each(|content| store.remove_listing(&content))
}

/// The digests of contents in the fields of keys: COPY's own, and those of mounts.
fn contents(runs: &Runs) -> impl Iterator<Item = Digest> + '_ {
    let steps = runs.stages.iter().flat_map(|stage| &stage.steps);
    let fields = steps
        .flat_map(|step| &step.runs)
        .flat_map(|run| &run.fields);
    let of_files = fields.filter(|(name, _)| matches!(name.as_str(), "content" | "mount"));
    of_files.filter_map(|(_, value)| value.rsplit(' ').next()?.parse().ok())
}
