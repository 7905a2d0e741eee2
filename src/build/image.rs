//! [`BuiltImage`]: what a build hands to the exporters.

use std::collections::BTreeMap;

use super::lazy::LazyLayer;
use crate::cache::KeyBuilder;
use crate::image::manifest::Descriptor;
use crate::image::{Digest, History, ImageConfig, Platform};
use crate::transfer::SourcedLayer;

/// The comment of history entries for layers that came without any (S11).
const UNKNOWN_LAYER: &str = "buildkit.exporter.image.v0";

/// Where a layer of the result came from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A base image: the blob is used as it is.
    Base {
        /// The layer's digest in the image configuration.
        diff_id: Digest,
        /// The blob in the base's manifest.
        blob: Descriptor,
    },
    /// The files of a named context that a stage begins with.
    Files {
        /// When it was made, RFC 3339.
        created: String,
    },
    /// A step of the build.
    Step {
        /// When it was made, RFC 3339.
        created: String,
        /// For one that another machine has made: later times in it were set back to this.
        until: Option<i64>,
    },
}

impl Origin {
    /// When a step has made it, RFC 3339, and what times in it were set back to; none for a layer of
    /// a base.
    pub fn times(&self) -> Option<(&str, Option<i64>)> {
        match self {
            Self::Base { .. } => None,
            Self::Files { created } => Some((created, None)),
            Self::Step { created, until } => Some((created, *until)),
        }
    }
}

/// The layers of a stage, and which of them steps have made.
#[derive(Clone, Debug)]
pub struct BuiltStage {
    /// The layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// The steps, those of the stage it is built on among them.
    pub steps: Vec<BuiltStep>,
}

/// A step that made a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltStep {
    /// Which layer of the stage, from 0.
    pub layer: usize,
    /// The step's key.
    pub key: Digest,
    /// Whether it depends on what is below: a linked copy does not.
    pub is_bound: bool,
}

/// Something that a build had to know of the files in layers.
#[derive(Clone, Debug)]
pub struct BuiltAnswer {
    /// The layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// What was asked of them; the key of the answer but for the layers.
    pub question: KeyBuilder,
    /// The answer.
    pub value: String,
}

/// A layer of a stage and where it came from.
#[derive(Clone, Debug)]
pub struct BuiltLayer {
    /// The layer, which may not be here yet.
    pub layer: LazyLayer,
    /// Where it came from.
    pub origin: Origin,
}

/// The result of a build, before anything is archived or compressed.
#[derive(Debug)]
pub struct BuiltImage {
    /// The configuration; `rootfs.diff_ids` is filled in by the exporter, which computes them.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// What it was built for.
    pub platform: Platform,
    /// Annotations of the manifest. Those of a base are not inherited (S14).
    pub annotations: BTreeMap<String, String>,
    /// Annotations of what points to the manifest.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// `SOURCE_DATE_EPOCH`: later times in layers are set back to it.
    pub epoch: Option<i64>,
    /// The stages of the build; the first is the one whose image this is.
    pub stages: Vec<BuiltStage>,
    /// What the build had to know of files in layers.
    pub answers: Vec<BuiltAnswer>,
}

impl BuiltImage {
    /// The layers that this store has not made: their blobs may not be here.
    pub fn sourced(&self) -> Vec<SourcedLayer> {
        let sourced = self.layers.iter().filter_map(|built| built.layer.source());
        sourced.cloned().collect()
    }
}

/// Gives every entry of the history its time, and every layer an entry (S11).
///
/// Entries without a time are this build's. An entry that made a layer takes the layer's time, any
/// other the one before it, and those before the first layer that layer's. `epoch` replaces all of
/// these.
pub(super) fn finish_history(config: &mut ImageConfig, layers: &[BuiltLayer], epoch: Option<&str>) {
    let times: Vec<&String> = layers
        .iter()
        .filter_map(|built| match &built.origin {
            Origin::Step { created, .. } => Some(created),
            Origin::Base { .. } | Origin::Files { .. } => None,
        })
        .collect();
    let bases: Vec<Option<&str>> = layers
        .iter()
        .filter_map(|built| match &built.origin {
            Origin::Base { .. } => Some(None),
            Origin::Files { created } => Some(Some(epoch.unwrap_or(created))),
            Origin::Step { .. } => None,
        })
        .collect();
    complete_base_entries(&mut config.history, &bases);
    let inherited = config
        .history
        .iter()
        .rev()
        .find_map(|entry| entry.created.clone());
    let mut time = times.first().map(|time| (*time).clone()).or(inherited);
    let mut made = times.iter();
    for entry in config
        .history
        .iter_mut()
        .filter(|entry| entry.created.is_none() && is_ours(entry))
    {
        if !entry.empty_layer
            && let Some(layer) = made.next()
        {
            time = Some((*layer).clone());
        }
        entry.created = epoch.map(str::to_owned).or_else(|| time.clone());
    }
    config.created = epoch.map(str::to_owned).or_else(|| {
        config
            .history
            .iter()
            .rev()
            .find_map(|entry| entry.created.clone())
    });
}

fn is_ours(entry: &History) -> bool {
    entry.comment.as_deref() == Some(crate::plan::HISTORY_COMMENT)
}

/// Inserts entries for base layers that the base's history does not tell of. `layers` are their
/// times, as far as they are known.
fn complete_base_entries(history: &mut Vec<History>, layers: &[Option<&str>]) {
    let end = history
        .iter()
        .position(|entry| entry.created.is_none() && is_ours(entry))
        .unwrap_or(history.len());
    let told = history[..end]
        .iter()
        .filter(|entry| !entry.empty_layer)
        .count();
    for (at, created) in (end..).zip(layers.iter().skip(told)) {
        let entry = History {
            created: created.map(str::to_owned),
            comment: Some(UNKNOWN_LAYER.into()),
            ..History::default()
        };
        history.insert(at, entry);
    }
    let mut left = layers.len();
    for entry in history[..end].iter_mut().filter(|entry| !entry.empty_layer) {
        if left == 0 {
            entry.empty_layer = true;
        } else {
            left -= 1;
        }
    }
}
