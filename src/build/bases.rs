//! Base images: each resolved once per build, whoever asks first. What is known of one then is its
//! manifest and configuration; its layers come when their files are needed (`lazy`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::Environment;
use super::image::{BuiltLayer, Origin};
use super::lazy::{self, LazyLayer};
use super::slot::Slot;
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::progress::Outcome;
use crate::store::StoredImage;
use crate::transfer::{
    self, BlobSource, LAYOUT_SCHEME, LayoutRef, PullLayers, PullOptions, PullPolicy, SourcedLayer,
};

/// An image that stages begin with or copy from.
pub(super) struct Base {
    /// The manifest's digest: what the steps on top are keyed by.
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<BuiltLayer>,
}

type Key = (String, String);

/// The configurations of the images that a build has used so far, by reference and platform.
#[derive(Debug, Default)]
pub struct SeenBases(Mutex<HashMap<Key, ImageConfig>>);

impl SeenBases {
    /// The configuration, if the image was used.
    pub fn get(&self, reference: &str, platform: &Platform) -> Option<ImageConfig> {
        let key = (reference.to_owned(), platform.to_string());
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&key).cloned()
    }

    fn add(&self, key: Key, config: &ImageConfig) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(key, config.clone());
    }
}

/// The images of a build, by reference and platform.
#[derive(Default)]
pub(super) struct Bases {
    slots: Mutex<HashMap<Key, Arc<Slot<Arc<Base>>>>>,
}

impl Bases {
    /// The image. `name` is what progress shows while it is looked up.
    pub(super) fn get(
        &self,
        env: &Environment<'_>,
        reference: &str,
        platform: &Platform,
        name: &str,
    ) -> Result<Arc<Base>> {
        let key = (reference.to_owned(), platform.to_string());
        let (slot, is_first) = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = !slots.contains_key(&key);
            let slot = Arc::clone(slots.entry(key.clone()).or_default());
            (slot, is_first)
        };
        if !is_first {
            return Ok(slot.wait()?);
        }
        let made = make(env, reference, platform, name);
        match &made {
            Ok(base) => {
                env.seen.add(key, &base.config);
                slot.set(Arc::clone(base));
            }
            Err(_) => slot.abandon(),
        }
        made
    }

    /// Wakes all who wait for an image that will not come.
    pub(super) fn abandon_all(&self) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().for_each(|slot| slot.abandon());
    }
}

fn make(
    env: &Environment<'_>,
    reference: &str,
    platform: &Platform,
    name: &str,
) -> Result<Arc<Base>> {
    env.cancel.check()?;
    let shown = env.progress.start(name);
    let tell = |event| lazy::tell(&shown, &event);
    let (image, sources) = resolve(env, reference, platform, &tell)?;
    shown.finish(Outcome::Done);
    let layers = SourcedLayer::of_image(&image, reference, &sources)?;
    let built = |layer: SourcedLayer| BuiltLayer {
        origin: Origin::Base {
            diff_id: layer.diff_id.clone(),
            blob: layer.blob.clone(),
        },
        layer: LazyLayer::sourced(layer),
    };
    Ok(Arc::new(Base {
        digest: image.manifest_digest,
        config: image.config,
        layers: layers.into_iter().map(built).collect(),
    }))
}

/// Asks a registry, if need be, or reads a layout; and says where the layers may be had.
fn resolve(
    env: &Environment<'_>,
    reference: &str,
    platform: &Platform,
    tell: &transfer::Progress<'_>,
) -> Result<(StoredImage, Vec<BlobSource>)> {
    let exact = env.settings.platform_named;
    if let Some(layout) = reference.strip_prefix(LAYOUT_SCHEME) {
        let layout: LayoutRef = layout.parse().map_err(anyhow::Error::msg)?;
        let image = transfer::layout_image(env.store, &layout, platform, exact)?;
        return Ok((image, vec![BlobSource::Layout(layout.dir)]));
    }
    let policy = if env.settings.pull {
        PullPolicy::Always
    } else {
        PullPolicy::IfMissing
    };
    let options = PullOptions {
        platform: platform.clone(),
        exact,
        policy,
        layers: PullLayers::None,
    };
    let reference: Reference = reference.parse()?;
    let image = transfer::pull(env.store, env.remote, &reference, &options, tell)?;
    Ok((image, vec![BlobSource::Repository(reference)]))
}
