//! Base images: each resolved, fetched and unpacked once per build, whoever asks first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::Environment;
use super::image::{BuiltLayer, Origin};
use super::slot::Slot;
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::layer::LayerStack;
use crate::progress::{Outcome, Step};
use crate::store::StoredImage;
use crate::transfer::{self, Event, LAYOUT_SCHEME, LayoutRef, PullOptions, PullPolicy};

/// An image that stages begin with or copy from.
pub(super) struct Base {
    /// The manifest's digest: what the steps on top are keyed by.
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<BuiltLayer>,
    pub(super) stack: LayerStack,
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
    /// The image, unpacked. `name` is what progress shows while it is fetched.
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
    let tell = |event| tell(&shown, &event);
    let (image, stack) = bring(env, reference, platform, &tell)?;
    shown.finish(Outcome::Done);
    let layers = stack
        .layers()
        .iter()
        .zip(&image.config.rootfs.diff_ids)
        .zip(&image.manifest.layers);
    let layers = layers
        .map(|((layer, diff_id), blob)| {
            let origin = Origin::Base {
                diff_id: diff_id.parse()?,
                blob: blob.clone(),
            };
            Ok(BuiltLayer {
                layer: layer.clone(),
                origin,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let (digest, config) = (image.manifest_digest, image.config);
    Ok(Arc::new(Base {
        digest,
        config,
        layers,
        stack,
    }))
}

/// Fetches an image from a registry, or takes it out of a layout.
fn bring(
    env: &Environment<'_>,
    reference: &str,
    platform: &Platform,
    tell: &transfer::Progress<'_>,
) -> Result<(StoredImage, LayerStack)> {
    let exact = env.settings.platform_named;
    if let Some(layout) = reference.strip_prefix(LAYOUT_SCHEME) {
        let layout: LayoutRef = layout.parse().map_err(anyhow::Error::msg)?;
        let brought = transfer::layout_layers(env.store, &layout, platform, exact, env.ids, tell)?;
        return Ok(brought);
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
    };
    let reference: Reference = reference.parse()?;
    let brought =
        transfer::pull_layers(env.store, env.remote, &reference, &options, env.ids, tell)?;
    Ok(brought)
}

fn tell(shown: &Step, event: &Event) {
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
