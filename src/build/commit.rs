//! From what a step wrote to a layer of the store.

use anyhow::Result;
use runtime::{Diff, Owners};

use super::LazyLayer;
use super::image::{BuiltLayer, Origin};
use super::stage::{CREATED, Stage, now};
use crate::layer::{Attributes, Ids, Inherit, Layer, LayerStack, Mark, seal};
use crate::rootfs::RootPath;
use crate::store::{LayerMeta, Staging};

impl Stage<'_> {
    /// Publishes `upper`, what a step wrote into a directory of `staging`, as a layer over `below`.
    pub(super) fn commit_over(
        &self,
        below: &LayerStack,
        staging: Staging,
        upper: &Diff,
        recorded: Attributes,
    ) -> Result<BuiltLayer> {
        let inherit = match self.shared.env.ids.is_single() {
            true => Inherit::Copies,
            false => Inherit::Nothing,
        };
        self.commit(below, staging, upper, recorded, inherit)
    }

    /// The same after a RUN, with what its supervisor kept if it had one.
    pub(super) fn commit_run(
        &self,
        below: &LayerStack,
        staging: Staging,
        upper: &Diff,
        recorded: Attributes,
        owners: Option<&Owners>,
    ) -> Result<BuiltLayer> {
        let inherit = match owners {
            Some(owners) => Inherit::Supervised(owners),
            None => Inherit::Copies,
        };
        self.commit(below, staging, upper, recorded, inherit)
    }

    fn commit(
        &self,
        below: &LayerStack,
        staging: Staging,
        upper: &Diff,
        mut recorded: Attributes,
        inherit: Inherit<'_>,
    ) -> Result<BuiltLayer> {
        if !self.shared.env.ids.holds_marks() {
            mark(&mut recorded, upper);
        }
        seal(staging.path(), &upper.dir, below, recorded, inherit)?;
        let created = now();
        let meta = LayerMeta {
            id: self.store().new_layer_id()?,
            notes: [(CREATED.to_owned(), created.clone())].into(),
            ..LayerMeta::default()
        };
        let published = self.store().publish_layer(staging, &meta)?;
        let layer = Layer::open(&meta.id, &published.dir)?;
        self.shared.env.roots.published(&layer.lower())?;
        Ok(BuiltLayer {
            layer: LazyLayer::made(layer),
            origin: Origin::Step {
                created,
                until: None,
            },
        })
    }
}

/// Has the table tell what the step has deleted: nothing on the disk does.
fn mark(recorded: &mut Attributes, upper: &Diff) {
    let marks = recorded.marks_mut_or_new();
    let lists = [
        (&upper.deleted, Mark::Deleted),
        (&upper.opaque, Mark::Opaque),
    ];
    for (paths, mark) in lists {
        for path in paths {
            marks.set(RootPath::new(path), mark);
        }
    }
}
