//! [`LazyLayer`]: a layer of a stage that is opened, or brought here, when somebody needs its files.
//!
//! A build knows its layers by id long before it needs them, and often never does: a step whose
//! result is known needs none of the layers below it, and a layer that goes to a registry as it came
//! from there needs not even its blob. A layer is one of
//!
//! * `Stored`: in the store, made by a step of this or an earlier build;
//! * `Sourced`: known by diff id, blob and where the blob may be had ([`SourcedLayer`]). It may be in
//!   the store or not: nobody has looked.
//!
//! The id of a sourced layer is that of its diff id, whether it is here or not, so what is remembered
//! of layers by their ids holds either way. [`Environment::stack`] gives the layers themselves: it
//! brings what is missing, once, several at a time and shown as a step of its own, and it puts them
//! on top of each other, for a foreign layer may have to be another one on top of other layers.
//!
//! Rules of the cache: a step is a hit if its own layer is here or can be had and was made on the
//! layers, by their ids, that are below now; whether those are here matters only when a later step is
//! executed or an output needs files. A layer of a step that is not here and that nobody has is a
//! miss: the step is executed again, and so is what was made on its earlier result.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::Result;

use super::image::BuiltLayer;
use super::{Environment, elsewhere};
use crate::image::Digest;
use crate::layer::{Layer, LayerStack};
use crate::progress::{Outcome, Step};
use crate::store::LayerRecord;
use crate::transfer::{Bringer, Event, SourcedLayer};

/// A layer that may not have been looked at yet. Cheap to clone; clones are opened together.
#[derive(Clone, Debug)]
pub struct LazyLayer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    place: Place,
    opened: OnceLock<Layer>,
}

#[derive(Debug)]
enum Place {
    Stored(PathBuf),
    Sourced(Box<SourcedLayer>),
}

impl LazyLayer {
    /// A layer that has just been made.
    pub fn made(layer: Layer) -> Self {
        let place = Place::Stored(layer.dir().to_owned());
        let lazy = Self::new(layer.id().to_owned(), place);
        // Nobody else has it yet.
        lazy.0.opened.get_or_init(|| layer);
        lazy
    }

    /// A layer of the store.
    pub fn stored(record: &LayerRecord) -> Self {
        Self::new(record.meta.id.clone(), Place::Stored(record.dir.clone()))
    }

    /// A layer that is here or can be had.
    pub fn sourced(layer: SourcedLayer) -> Self {
        Self::new(layer.id(), Place::Sourced(Box::new(layer)))
    }

    fn new(id: String, place: Place) -> Self {
        Self(Arc::new(Inner {
            id,
            place,
            opened: OnceLock::new(),
        }))
    }

    /// The layer's name, by which what is known of it is remembered.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Whether it is here and was looked at.
    pub(super) fn is_open(&self) -> bool {
        self.0.opened.get().is_some()
    }

    /// What is known of a layer that a step of this store did not make.
    pub fn source(&self) -> Option<&SourcedLayer> {
        match &self.0.place {
            Place::Stored(_) => None,
            Place::Sourced(layer) => Some(layer),
        }
    }

    /// The same layer for a place on top of other layers.
    fn on_others(&self) -> Self {
        match &self.0.place {
            Place::Stored(_) => self.clone(),
            Place::Sourced(layer) => Self::sourced(layer.as_ref().clone()),
        }
    }
}

impl BuiltLayer {
    /// The same layer for a place on top of other layers, where it may have to look different.
    pub(super) fn on_others(&self) -> Self {
        Self {
            layer: self.layer.on_others(),
            origin: self.origin.clone(),
        }
    }
}

/// What people call the layers that are brought together.
fn label(missing: &[SourcedLayer]) -> String {
    let mut images: Vec<&str> = missing.iter().map(|layer| layer.image.as_str()).collect();
    images.dedup();
    let count = missing.len();
    let layers = if count == 1 { "layer" } else { "layers" };
    format!("fetch {count} {layers} of {}", images.join(", "))
}

impl Environment<'_> {
    /// The layers on top of each other, lowest first. Those that are not here are brought and
    /// unpacked.
    ///
    /// # Errors
    /// When one cannot be had, unpacked or opened; [`super::Cancelled`] when the build was ended.
    pub fn stack(&self, layers: &[BuiltLayer]) -> Result<LayerStack> {
        if layers.iter().all(|built| built.layer.is_open()) {
            return Ok(opened(layers));
        }
        self.bring(layers)?;
        let mut below = LayerStack::default();
        let mut chain = String::new();
        for built in layers {
            let lazy = &built.layer.0;
            match &lazy.place {
                Place::Stored(_) => chain.push_str(&lazy.id),
                Place::Sourced(layer) => chain.push_str(layer.diff_id.as_str()),
            }
            if let Some(layer) = lazy.opened.get() {
                below.push(layer.clone());
                continue;
            }
            let layer = match &lazy.place {
                Place::Stored(dir) => Layer::open(&lazy.id, dir)?,
                Place::Sourced(layer) => self.with_bringer(&|_| {}, |bringer| {
                    bringer.over(layer, &below, &chain, self.ids)
                })?,
            };
            // Another thread may have been faster; it has opened the same one.
            below.push(lazy.opened.get_or_init(|| layer).clone());
        }
        Ok(below)
    }

    /// Whether all of the layers are here.
    pub(super) fn has_all(&self, layers: &[BuiltLayer]) -> Result<bool> {
        for built in layers {
            if let Place::Sourced(layer) = &built.layer.0.place
                && self.store.layer_by_diff_id(&layer.diff_id)?.is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings and unpacks the layers that are not here.
    fn bring(&self, layers: &[BuiltLayer]) -> Result<()> {
        let mut missing = Vec::new();
        for built in layers {
            if let Place::Sourced(layer) = &built.layer.0.place
                && built.layer.0.opened.get().is_none()
                && self.store.layer_by_diff_id(&layer.diff_id)?.is_none()
            {
                missing.push(layer.as_ref().clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let brought = self.shown(&label(&missing), |tell| {
            self.with_bringer(tell, |bringer| bringer.layers(&missing, self.ids))
        });
        brought.map_err(|error| {
            elsewhere::explained(layers, error, |layer| {
                self.with_bringer(&|_| {}, |bringer| bringer.layer(layer, self.ids))
            })
        })
    }

    /// Brings the blobs that are not in the store, for outputs that write them.
    ///
    /// # Errors
    /// As [`Environment::stack`].
    pub fn bring_blobs(&self, layers: &[SourcedLayer]) -> Result<()> {
        let mut missing = layers.to_vec();
        missing.retain(|layer| !self.store.has_blob(&layer.blob.digest));
        if missing.is_empty() {
            return Ok(());
        }
        self.shown(&label(&missing), |tell| {
            self.with_bringer(tell, |bringer| bringer.blobs(&missing))
        })
    }

    /// Does `work` as a step that is shown.
    fn shown(
        &self,
        name: &str,
        work: impl FnOnce(&(dyn Fn(Event) + Sync)) -> Result<()>,
    ) -> Result<()> {
        self.cancel.check()?;
        let shown = self.progress.start(name);
        let done = work(&|event| tell(&shown, &event));
        let cancelled = self.cancel.why().is_some();
        shown.finish(match done {
            Ok(()) => Outcome::Done,
            Err(_) if cancelled => Outcome::Cancelled,
            Err(_) => Outcome::Failed,
        });
        if done.is_err() {
            self.cancel.check()?;
        }
        done
    }

    fn with_bringer<T>(
        &self,
        progress: &(dyn Fn(Event) + Sync),
        work: impl FnOnce(&Bringer<'_>) -> Result<T, crate::transfer::TransferError>,
    ) -> Result<T> {
        let bringer = Bringer {
            store: self.store,
            remote: self.remote,
            bringing: self.bringing,
            compute: &|work| {
                // Without a permit the build was ended, and so is what was to be done.
                if let Ok(_permit) = self.jobs.take(self.cancel) {
                    work();
                }
            },
            stopped: &|| self.cancel.why().is_some(),
            progress,
        };
        Ok(work(&bringer)?)
    }
}

/// Those layers that are open, which are all.
fn opened(layers: &[BuiltLayer]) -> LayerStack {
    let mut stack = LayerStack::default();
    for layer in layers.iter().filter_map(|built| built.layer.0.opened.get()) {
        stack.push(layer.clone());
    }
    stack
}

/// Passes on what happens to a blob.
pub(super) fn tell(shown: &Step, event: &Event) {
    let line = match event {
        Event::Exists { .. } | Event::Unpacking { .. } => return,
        Event::Started { blob, size } => format!("fetching {} ({size} bytes)", short(blob)),
        Event::Done { blob } => format!("fetched {}", short(blob)),
        Event::Unpacked { blob } => format!("unpacked {}", short(blob)),
    };
    shown.output(line.as_bytes());
}

/// As many digits as people tell blobs apart by.
fn short(digest: &Digest) -> &str {
    &digest.hex()[..12]
}
