//! From what a step wrote to a layer of the store.

use std::path::Path;

use anyhow::Result;
use runtime::Owners;

use super::LazyLayer;
use super::image::{BuiltLayer, Origin};
use super::stage::{CREATED, Stage, now};
use crate::layer::{Attributes, Inherit, Layer, LayerStack, seal};
use crate::store::{LayerMeta, Staging};

impl Stage<'_> {
    /// Publishes what a step wrote into `upper`, a directory of `staging`, as a layer over `below`.
    pub(super) fn commit_over(
        &self,
        below: &LayerStack,
        staging: Staging,
        upper: &Path,
        recorded: Attributes,
    ) -> Result<BuiltLayer> {
        self.commit_run(below, staging, upper, recorded, None)
    }

    /// The same after a RUN, with what its supervisor kept if it had one.
    pub(super) fn commit_run(
        &self,
        below: &LayerStack,
        staging: Staging,
        upper: &Path,
        recorded: Attributes,
        owners: Option<&Owners>,
    ) -> Result<BuiltLayer> {
        let inherit = match owners {
            Some(owners) => Inherit::Supervised(owners),
            None => Inherit::Copies,
        };
        seal(staging.path(), upper, below, recorded, inherit)?;
        let created = now();
        let meta = LayerMeta {
            id: self.store().new_layer_id()?,
            notes: [(CREATED.to_owned(), created.clone())].into(),
            ..LayerMeta::default()
        };
        let published = self.store().publish_layer(staging, &meta)?;
        let layer = Layer::open(&meta.id, &published.dir)?;
        Ok(BuiltLayer {
            layer: LazyLayer::made(layer),
            origin: Origin::Step {
                created,
                until: None,
            },
        })
    }
}
