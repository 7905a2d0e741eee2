//! A built image's layers, configuration and manifest, as blobs in the store.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::build::{BuiltImage, BuiltLayer, Cancel, Environment, Origin, rfc3339};
use crate::image::Digest;
use crate::image::manifest::{
    DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, Descriptor, OCI_CONFIG, OCI_LAYER,
    OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use crate::layer::{Below, Compression, LayerError, LayerStack, TarOptions, export};
use crate::progress::Outcome;
use crate::remote_cache::{Inline, InlineStep};
use crate::store::{ExportRecord, ExportedBlob};

/// An image whose manifest, configuration and new layers are in the store. Layers of a base need not
/// be: [`BuiltImage::sourced`] tells where they are.
pub struct Assembled {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// What names and pushes point to.
    pub descriptor: Descriptor,
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// The configuration.
    pub config: Descriptor,
}

/// Makes the blobs of `image`, its new layers compressed as asked, several at once.
///
/// # Errors
/// When a layer cannot be read or the store cannot be written, or the build is cancelled.
pub fn assemble(
    env: &Environment<'_>,
    image: &BuiltImage,
    compression: Compression,
    cancel: &Cancel,
) -> Result<Assembled> {
    let store = env.store;
    let shown = env.progress.start("exporting layers");
    let blobs = export_all(env, image, compression, cancel)?;
    shown.finish(Outcome::Done);
    let mut config = image.config.clone();
    config.architecture.clone_from(&image.platform.arch);
    config.os.clone_from(&image.platform.os);
    config.variant = Some(image.platform.variant.clone()).filter(|variant| !variant.is_empty());
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = blobs
        .iter()
        .map(|(diff_id, _)| diff_id.to_string())
        .collect();
    inline(env, image).put(&mut config)?;
    let config = serde_json::to_vec(&config)?;
    let id = store.put_blob(&config)?;
    let config = Descriptor::new(OCI_CONFIG, &id, config.len() as u64);
    let layers: Vec<Descriptor> = blobs.into_iter().map(|(_, blob)| blob).collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    if !image.annotations.is_empty() {
        manifest["annotations"] = json!(image.annotations);
    }
    let manifest = serde_json::to_vec(&manifest)?;
    let digest = store.put_blob(&manifest)?;
    let mut descriptor = Descriptor::new(OCI_MANIFEST, &digest, manifest.len() as u64);
    descriptor
        .annotations
        .clone_from(&image.descriptor_annotations);
    Ok(Assembled {
        manifest,
        descriptor,
        id,
        config,
    })
}

type Blob = (Digest, Descriptor);

/// How many layers are made at a time: each holds the buffers of a compressor.
const MAX_LAYERS: usize = 4;

/// The blobs of all layers in order; the new ones are made by as many threads as `--jobs` allows.
fn export_all(
    env: &Environment<'_>,
    image: &BuiltImage,
    compression: Compression,
    cancel: &Cancel,
) -> Result<Vec<Blob>> {
    let cores = env.jobs.limit();
    let jobs: Mutex<VecDeque<usize>> = Mutex::new((0..image.layers.len()).collect());
    let done: Mutex<Vec<Option<Result<Blob>>>> = Mutex::new(
        std::iter::repeat_with(|| None)
            .take(image.layers.len())
            .collect(),
    );
    let new = image
        .layers
        .iter()
        .filter(|built| !matches!(built.origin, Origin::Base { .. }))
        .count();
    let workers = cores.min(new.max(1)).min(MAX_LAYERS);
    let threads = match compression {
        // One layer is often larger than all others together: it may have every thread.
        Compression::Gzip { .. } => cores,
        // zstd keeps several megabytes for each of its threads.
        Compression::Uncompressed | Compression::Zstd { .. } => cores.div_ceil(workers),
    };
    let work = || {
        loop {
            // Not in the loop's head, where the lock would be held until its end.
            let Some(index) = lock(&jobs).pop_front() else {
                break;
            };
            let exporter = Exporter {
                env,
                layers: &image.layers,
                compression,
                threads,
            };
            let result = cancel
                .check()
                .map_err(Into::into)
                .and_then(|()| exporter.blob(index));
            if result.is_err() {
                lock(&jobs).clear();
            }
            lock(&done)[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        // We are one of them, so that the work is done where no thread can be had.
        for _ in 1..workers {
            if std::thread::Builder::new()
                .spawn_scoped(scope, work)
                .is_err()
            {
                break;
            }
        }
        work();
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // An error comes before the layers that were not begun because of it.
    let (finished, missing): (Vec<_>, Vec<_>) = done.into_iter().partition(Option::is_some);
    let blobs = finished
        .into_iter()
        .flatten()
        .collect::<Result<Vec<Blob>>>()?;
    anyhow::ensure!(
        missing.is_empty(),
        "{} layers were not exported",
        missing.len()
    );
    Ok(blobs)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The diff id and the blob of a layer of a stage, made if need be, with as many threads as `--jobs`
/// allows.
///
/// # Errors
/// As [`assemble`].
pub fn layer_blob(
    env: &Environment<'_>,
    layers: &[BuiltLayer],
    index: usize,
    compression: Compression,
) -> Result<(Digest, Descriptor)> {
    let exporter = Exporter {
        env,
        layers,
        compression,
        threads: env.jobs.limit(),
    };
    exporter.blob(index)
}

/// Which layers are whose, for a later build that reads the image's configuration.
fn inline(env: &Environment<'_>, image: &BuiltImage) -> Inline {
    let epoch = env.settings.epoch;
    let time = epoch.and_then(rfc3339);
    let steps = image.stages.first().map_or(&[][..], |stage| &stage.steps);
    let steps = steps.iter().filter_map(|step| {
        let (created, until) = image.layers.get(step.layer)?.origin.times()?;
        Some(InlineStep {
            key: step.key.clone(),
            layer: step.layer,
            created: time.clone().unwrap_or_else(|| created.to_owned()),
            until: epoch.or(until),
        })
    });
    match env.settings.inline_cache {
        true => Inline {
            steps: steps.collect(),
        },
        false => Inline::default(),
    }
}

/// What a layer lies on, which may not be here: most layers delete nothing, and need none of it.
struct LazyBelow<'a> {
    env: &'a Environment<'a>,
    layers: &'a [BuiltLayer],
    stack: OnceLock<LayerStack>,
}

impl Below for LazyBelow<'_> {
    fn stack(&self) -> Result<&LayerStack, LayerError> {
        if let Some(stack) = self.stack.get() {
            return Ok(stack);
        }
        let stack = self.env.stack(self.layers);
        let stack = stack.map_err(|error| LayerError::Below(error.into()))?;
        Ok(self.stack.get_or_init(|| stack))
    }
}

struct Exporter<'a> {
    env: &'a Environment<'a>,
    layers: &'a [BuiltLayer],
    compression: Compression,
    threads: usize,
}

impl Exporter<'_> {
    /// The blob of a layer. Those of a base, and of steps that somebody else has executed, are used as
    /// they are, wherever they are; those of the steps of this store are made unless they were.
    fn blob(&self, index: usize) -> Result<Blob> {
        let built = &self.layers[index];
        match (&built.origin, built.layer.source()) {
            (Origin::Base { diff_id, blob }, _) => Ok((diff_id.clone(), as_oci(blob))),
            (_, Some(layer)) => Ok((layer.diff_id.clone(), as_oci(&layer.blob))),
            (_, None) => self.step_blob(index),
        }
    }

    /// The blob of a step's layer: the one that was made before, else a new one.
    fn step_blob(&self, index: usize) -> Result<Blob> {
        let (store, id) = (self.env.store, self.layers[index].layer.id());
        let (variant, made_as) = (
            ExportRecord::variant(self.env.settings.epoch),
            made_as(self.compression),
        );
        let mut record = store.export_record(id, &variant)?;
        if let Some(record) = &record
            && let Some(blob) = record.made_as(&made_as)
            && store.has_blob(&blob.digest)
        {
            let found = Descriptor::new(&blob.media_type, &blob.digest, blob.size);
            return Ok((record.diff_id.clone(), found));
        }
        let layers = self.layers;
        let own = self.env.stack(&layers[index..=index])?;
        let below = LazyBelow {
            env: self.env,
            layers: &layers[..index],
            stack: OnceLock::new(),
        };
        let mut writer = store.blob_writer()?;
        let options = TarOptions {
            clamp_mtime: self.env.settings.epoch,
        };
        let made = export(
            &below,
            &own.layers()[0],
            &options,
            self.compression,
            self.threads,
            &mut writer,
        )
        .context("cannot export a layer")?;
        writer.flush()?;
        writer.finish(Some(&made.blob))?;
        let media_type = media_type(self.compression);
        let blob = ExportedBlob {
            compression: made_as,
            media_type: media_type.to_owned(),
            digest: made.blob.clone(),
            size: made.size,
        };
        let record = record.get_or_insert_with(|| ExportRecord {
            diff_id: made.diff_id.clone(),
            size: made.diff_size,
            blobs: Vec::new(),
        });
        record.add(blob);
        store.put_export_record(id, &variant, record)?;
        Ok((
            made.diff_id,
            Descriptor::new(media_type, &made.blob, made.size),
        ))
    }
}

/// What a blob compressed this way is called in the store's records.
pub(super) fn made_as(compression: Compression) -> String {
    match compression {
        Compression::Uncompressed => "uncompressed".into(),
        Compression::Gzip { level } => format!("gzip-{level}"),
        Compression::Zstd { level } => format!("zstd-{level}"),
    }
}

/// The media type of a layer compressed this way.
pub(super) fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Uncompressed => OCI_LAYER,
        Compression::Gzip { .. } => OCI_LAYER_GZIP,
        Compression::Zstd { .. } => OCI_LAYER_ZSTD,
    }
}

/// The same blob with OCI's name for its type: the bytes of Docker's layers are the same.
fn as_oci(blob: &Descriptor) -> Descriptor {
    let media_type = match blob.media_type.as_str() {
        DOCKER_LAYER => OCI_LAYER,
        DOCKER_LAYER_GZIP => OCI_LAYER_GZIP,
        DOCKER_LAYER_ZSTD => OCI_LAYER_ZSTD,
        other => other,
    };
    Descriptor::new(media_type, &blob.digest, blob.size)
}
