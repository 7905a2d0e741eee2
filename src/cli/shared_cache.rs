//! `--cache-from` and `--cache-to` of a build: where it looks, and what it leaves for others when its
//! image is complete.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::build_args::BuildArgs;
use super::cache_spec::{CacheMode, CachePlace, CacheTo};
use crate::build::{
    self, BuiltAnswer, BuiltImage, BuiltLayer, BuiltStage, BuiltStep, Environment, Origin,
};
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Platform, Reference};
use crate::output;
use crate::progress::Outcome;
use crate::registry::Registries;
use crate::remote_cache::{
    CacheSources, CacheWriter, Directory, RecordEntry, Repository, StepEntry, StepLayer, Written,
    repository_name, tag_prefix,
};
use crate::store::StoreError;
use crate::transfer::{BlobSource, each};

/// How many results are written at once.
const PARALLEL: usize = 4;

/// Where the build looks; `warn` is told what cannot be used.
pub(super) fn sources<'a>(
    args: &BuildArgs,
    registries: &'a Registries,
    platform: &Platform,
    warn: &'a (dyn Fn(&str) + Sync),
) -> CacheSources<'a> {
    let mut sources = CacheSources::new(warn);
    for place in args.cache_from.iter().flat_map(|from| &from.0) {
        match place {
            CachePlace::Registry(name) => sources.add(
                Repository::new(registries, name, platform),
                BlobSource::Repository(name.clone()),
            ),
            CachePlace::Local(dir) => {
                sources.add(Directory::new(dir), BlobSource::Layout(dir.clone()));
            }
            // Which --cache-from refuses.
            CachePlace::Inline => {}
        }
    }
    sources
}

/// Whether the image is to carry the keys of its layers.
pub(super) fn is_inline(args: &BuildArgs) -> bool {
    let mut places = args.cache_to.iter().map(|to| &to.place);
    places.any(|place| *place == CachePlace::Inline)
}

/// Leaves what `--cache-to` asks for; `pushed` are the names under which the image is in registries.
///
/// # Errors
/// The first place's that took not all, but for those whose errors are to be ignored.
pub(super) fn leave(
    env: &Environment<'_>,
    args: &BuildArgs,
    registries: &Registries,
    image: &BuiltImage,
    pushed: &[Reference],
) -> Result<()> {
    for to in &args.cache_to {
        let platform = &env.settings.platform;
        let spoilt = env.cache.refused();
        let (writer, place) = match &to.place {
            CachePlace::Inline => continue,
            CachePlace::Registry(name) => {
                let prefix = tag_prefix(name).map_err(anyhow::Error::msg)?;
                let place = Repository::new(registries, name, platform);
                let writer = CacheWriter::new(place, prefix, platform, spoilt);
                (writer, repository_name(name))
            }
            CachePlace::Local(dir) => {
                let place = Directory::new(dir);
                let writer = CacheWriter::new(place, "lapstrake", platform, spoilt);
                (writer, dir.display().to_string())
            }
        };
        let shown = env.progress.start(&format!("leaving results in {place}"));
        let leaving = Leaving {
            env,
            to,
            image,
            pushed,
            writer: &writer,
            there: Mutex::default(),
        };
        let left = leaving
            .all()
            .and_then(|()| Ok(writer.finish()?))
            .with_context(|| format!("--cache-to {place}"));
        env.cancel.check()?;
        match left {
            Ok(Written { new, known }) => {
                shown.output(format!("{new} new, {known} known").as_bytes());
                shown.finish(Outcome::Done);
            }
            Err(error) if to.ignore_error => {
                shown.finish(Outcome::Failed);
                env.progress.warn(&format!("{error:#}"));
            }
            Err(error) => {
                return Err(error.context(
                    "the image is complete, but the results of its steps were not left for others",
                ));
            }
        }
    }
    Ok(())
}

struct Leaving<'a> {
    env: &'a Environment<'a>,
    to: &'a CacheTo,
    image: &'a BuiltImage,
    pushed: &'a [Reference],
    writer: &'a CacheWriter<'a>,
    /// Blobs that the place is known to have.
    there: Mutex<HashSet<Digest>>,
}

impl Leaving<'_> {
    fn all(&self) -> Result<()> {
        let stages = &self.image.stages;
        let wanted = match self.to.mode {
            CacheMode::Min => stages.iter().take(1),
            CacheMode::Max => stages.iter().take(stages.len()),
        };
        // Stages that are built on each other, or have equal steps, share results.
        let mut steps: BTreeMap<&Digest, (&BuiltStage, &BuiltStep)> = BTreeMap::new();
        for stage in wanted {
            for step in &stage.steps {
                steps.entry(&step.key).or_insert((stage, step));
            }
        }
        let steps: Vec<_> = steps.into_iter().collect();
        each(PARALLEL, &steps, |(key, (stage, step))| {
            self.step(key, stage, step)
        })?;
        self.answers()
    }

    fn step(&self, key: &Digest, stage: &BuiltStage, step: &BuiltStep) -> Result<()> {
        self.env.cancel.check()?;
        if self.writer.has(key)? {
            return Ok(());
        }
        let Some(own) = self.layer(stage, step.layer)? else {
            return Ok(());
        };
        let mut below = Vec::new();
        if step.is_bound {
            for index in 0..step.layer {
                below.extend(self.layer(stage, index)?);
            }
        }
        let key = key.clone();
        Ok(self.writer.put_step(StepEntry { key, own, below })?)
    }

    /// A layer of a step, whose blob is in the place now; none for a layer of a base.
    fn layer(&self, stage: &BuiltStage, index: usize) -> Result<Option<StepLayer>> {
        self.env.cancel.check()?;
        let built = &stage.layers[index];
        let Some((created, until)) = built.origin.times() else {
            return Ok(None);
        };
        let compression = self.to.compression;
        let (diff_id, blob) = output::layer_blob(self.env, &stage.layers, index, compression)?;
        let until = match built.layer.source() {
            Some(_) => until,
            None => self.env.settings.epoch,
        };
        let layer = StepLayer {
            diff_id,
            blob,
            created: created.to_owned(),
            until,
        };
        self.put_blob(built, &layer.blob)?;
        Ok(Some(layer))
    }

    fn put_blob(&self, built: &BuiltLayer, blob: &Descriptor) -> Result<()> {
        let there = || self.there.lock().unwrap_or_else(PoisonError::into_inner);
        if there().contains(&blob.digest) {
            return Ok(());
        }
        let from = self.mount_sources(built, blob)?;
        let store = self.env.store;
        if !store.has_blob(&blob.digest)
            && !self.writer.takes_blob(blob, &from)?
            && let Some(layer) = built.layer.source()
        {
            self.env.bring_blobs(std::slice::from_ref(layer))?;
        }
        let open = || store.open_blob(&blob.digest).map_err(StoreError::into_io);
        self.writer.put_blob(blob, &from, &open)?;
        there().insert(blob.digest.clone());
        Ok(())
    }

    /// Repositories that may have the blob.
    fn mount_sources(&self, built: &BuiltLayer, blob: &Descriptor) -> Result<Vec<Reference>> {
        let mut from = self.pushed.to_vec();
        let source = built.layer.source();
        from.extend(
            source
                .into_iter()
                .flat_map(|layer| layer.repositories().cloned()),
        );
        from.extend(self.env.store.blob_sources(&blob.digest)?);
        let mut seen = HashSet::new();
        from.retain(|name| seen.insert((name.registry().to_owned(), name.repository().to_owned())));
        Ok(from)
    }

    /// What had to be known of layers that others can have, too.
    fn answers(&self) -> Result<()> {
        let own: HashSet<&str> = self
            .image
            .layers
            .iter()
            .map(|built| built.layer.id())
            .collect();
        let is_left = |built: &BuiltLayer| {
            matches!(built.origin, Origin::Base { .. }) || own.contains(built.layer.id())
        };
        let mut records: BTreeMap<Digest, &str> = BTreeMap::new();
        for answer in &self.image.answers {
            let BuiltAnswer {
                layers,
                question,
                value,
            } = answer;
            if self.to.mode == CacheMode::Min && !layers.iter().all(is_left) {
                continue;
            }
            let epoch = self.env.settings.epoch;
            // Of a layer that was never archived here nobody can have the diff id from us.
            if let Some(key) = build::answer_key(self.env.store, question, layers, epoch)? {
                records.insert(key, value);
            }
        }
        let records: Vec<_> = records.into_iter().collect();
        each(PARALLEL, &records, |(key, value)| {
            self.env.cancel.check()?;
            if self.writer.has(key)? {
                return Ok(());
            }
            let record = RecordEntry {
                key: key.clone(),
                value: (*value).to_owned(),
            };
            Ok(self.writer.put_record(record)?)
        })
    }
}
