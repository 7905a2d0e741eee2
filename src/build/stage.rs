//! One stage, from its base to its last step.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use runtime::{Owners, View};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::image::{BuiltLayer, Origin};
use super::scheduler::Shared;
use super::{Settings, StepFailed, add, copy, run, supported, workdir};
use crate::cache::{KeyBuilder, StepKey};
use crate::dockerfile::{Instruction, InstructionKind};
use crate::image::{Digest, ImageConfig};
use crate::layer::{Attr, Attributes, Inherit, Layer, LayerStack, seal};
use crate::plan::{self, Base, StageState, StepKind};
use crate::progress::{Outcome, Step};
use crate::rootfs::{RootDir, RootPath};
use crate::store::{LayerMeta, Staging, StepRecord, Store};

/// The note of a layer that tells when it was made, RFC 3339.
const CREATED: &str = "created";

/// A finished stage, shared by those that are built from it or copy from it.
pub(super) type Finished = Arc<StageResult>;

/// What a stage leaves behind.
pub(super) struct StageResult {
    pub(super) state: StageState,
    pub(super) layers: Vec<BuiltLayer>,
    pub(super) stack: LayerStack,
    /// Stands for everything below the next step in that step's key.
    pub(super) chain: Digest,
}

/// A stage being built.
pub(super) struct Stage<'a> {
    pub(super) shared: &'a Shared<'a>,
    result: StageResult,
    /// Whether every step is executed.
    no_cache: bool,
}

/// Builds `stage` and hands over its result.
pub(super) fn run(shared: &Shared<'_>, stage: &plan::Stage) -> Result<Finished> {
    let label = label(stage);
    let begins = u32::from(matches!(stage.base, Base::Image { .. } | Base::Files(_)));
    let own = begins + count_layers(&stage.instructions);
    let first = match stage.replaced {
        true => format!("the build context {label} in place of the stage"),
        false => summary(&stage.from),
    };
    let name = format!("[{label} {begins}/{own}] {first}");
    let mut running = Stage::begin(shared, stage, &name).map_err(|source| StepFailed {
        name,
        span: stage.from.span,
        source,
    })?;
    let triggers = running
        .result
        .state
        .triggers()
        .context("in an ONBUILD trigger of the base image")?;
    let total = own + count_layers(&triggers);
    let steps = triggers.iter().chain(&stage.instructions);
    let mut number = begins;
    for instruction in steps {
        shared.env.cancel.check()?;
        let mut position = if makes_layer(instruction) {
            number += 1;
            format!("[{label} {number}/{total}]")
        } else {
            format!("[{label}]")
        };
        if instruction.trigger.is_some() {
            position.push_str(" ONBUILD");
        }
        running
            .step(instruction, &position)
            .map_err(|(name, source)| StepFailed {
                name,
                span: match instruction.trigger {
                    None => instruction.span,
                    Some(_) => stage.from.span,
                },
                source,
            })?;
    }
    Ok(Arc::new(running.result))
}

/// Whether the instruction is one of those that are counted and shown.
fn makes_layer(instruction: &Instruction) -> bool {
    use InstructionKind::{Add, Copy, Run, Workdir};
    matches!(instruction.kind, Run(_) | Copy(_) | Add(_) | Workdir(_))
}

fn count_layers(instructions: &[Instruction]) -> u32 {
    instructions
        .iter()
        .map(|instruction| u32::from(makes_layer(instruction)))
        .sum()
}

/// What progress calls the stage.
pub(super) fn label(stage: &plan::Stage) -> String {
    stage
        .name
        .clone()
        .unwrap_or_else(|| format!("stage-{}", stage.index))
}

impl<'a> Stage<'a> {
    /// The stage as its base leaves it; `name` is what progress shows while that is fetched.
    fn begin(shared: &'a Shared<'a>, stage: &plan::Stage, name: &str) -> Result<Self> {
        let result = match &stage.base {
            Base::Scratch => StageResult::scratch(shared, stage),
            Base::Files(number) => return Self::begin_with_files(shared, stage, name, *number),
            Base::Stage(index) => {
                let parent = shared.stage(*index)?;
                StageResult {
                    state: StageState::from_stage(shared.plan, stage, &parent.state),
                    layers: parent.layers.clone(),
                    stack: parent.stack.clone(),
                    chain: parent.chain.clone(),
                }
            }
            Base::Image {
                reference,
                platform,
                ..
            } => {
                let base = shared.bases.get(shared.env, reference, platform, name)?;
                StageResult {
                    state: StageState::from_image(shared.plan, stage, Some(&base.config)),
                    layers: base.layers.clone(),
                    stack: base.stack.clone(),
                    chain: base.digest.clone(),
                }
            }
        };
        Ok(Self::new(shared, stage, result))
    }

    fn new(shared: &'a Shared<'a>, stage: &plan::Stage, result: StageResult) -> Self {
        let settings = &shared.env.settings;
        let is_named = |name| settings.no_cache_stages.contains(name);
        Self {
            shared,
            result,
            no_cache: settings.no_cache || stage.name.as_ref().is_some_and(is_named),
        }
    }

    /// The stage as one layer, the files of a named context, over nothing.
    fn begin_with_files(
        shared: &'a Shared<'a>,
        stage: &plan::Stage,
        name: &str,
        number: usize,
    ) -> Result<Self> {
        let result = StageResult::scratch(shared, stage);
        let mut begun = Self::new(shared, stage, result);
        copy::whole(&mut begun, name, number)?;
        for layer in &mut begun.result.layers {
            if let Origin::Step { created } = &layer.origin {
                let created = created.clone();
                layer.origin = Origin::Files { created };
            }
        }
        Ok(begun)
    }
}

impl StageResult {
    fn scratch(shared: &Shared<'_>, stage: &plan::Stage) -> Self {
        Self {
            state: StageState::from_image(shared.plan, stage, None),
            layers: Vec::new(),
            stack: LayerStack::default(),
            chain: Digest::of(b"scratch"),
        }
    }
}

impl<'a> Stage<'a> {
    pub(super) fn store(&self) -> &'a Store {
        self.shared.env.store
    }

    pub(super) fn settings(&self) -> &'a Settings {
        &self.shared.env.settings
    }

    pub(super) fn stack(&self) -> &LayerStack {
        &self.result.stack
    }

    pub(super) fn layers(&self) -> &[BuiltLayer] {
        &self.result.layers
    }

    /// The configuration so far, the current instruction included.
    pub(super) fn config(&self) -> &ImageConfig {
        self.result.state.config()
    }

    /// The metadata that the disk under the stage so far does not hold.
    pub(super) fn lower(&self) -> impl Fn(&RootPath) -> io::Result<Option<Attr>> + '_ {
        |path| self.result.stack.attr(path).map_err(io::Error::other)
    }

    pub(super) fn chain(&self) -> &str {
        self.result.chain.as_str()
    }

    /// Does one instruction; on failure gives the name that was shown for it.
    fn step(
        &mut self,
        instruction: &Instruction,
        position: &str,
    ) -> std::result::Result<(), (String, anyhow::Error)> {
        let name = format!("{position} {}", summary(instruction));
        // A trigger of a base image is seen here for the first time.
        if let Err(error) = supported::check_instruction(instruction, self.settings()) {
            return Err((name, error));
        }
        let step = match self.result.state.apply(instruction) {
            Ok(step) => step,
            Err(diagnostic) => return Err((name, diagnostic.into())),
        };
        let done = match &step.kind {
            StepKind::Config => Ok(()),
            StepKind::Run(run) => run::step(self, &name, run),
            StepKind::Copy(copy) => copy::step(self, &name, copy),
            StepKind::Add(add) => add::step(self, &name, add),
            StepKind::Workdir { path, user } => {
                let key = workdir::key(self, path, user);
                self.layer_step(&name, key, |stage, _| workdir::execute(stage, path, user))
            }
        };
        done.map_err(|error| (name, error))
    }

    /// Finds the layer under `key` or has it made, and puts it on the stage.
    pub(super) fn layer_step(
        &mut self,
        name: &str,
        key: StepKey,
        execute: impl FnOnce(&Self, &Step) -> Result<BuiltLayer>,
    ) -> Result<()> {
        self.shared.env.cancel.check()?;
        let shown = self.shared.env.progress.start(name);
        let built = match self.cached(&key)? {
            Some(found) => {
                shown.finish(Outcome::Cached);
                found
            }
            None => match execute(self, &shown) {
                Ok(built) => {
                    self.remember(&key, &built.layer)?;
                    shown.finish(Outcome::Done);
                    built
                }
                Err(error) => {
                    let cancelled = self.shared.env.cancel.why().is_some();
                    shown.finish(if cancelled {
                        Outcome::Cancelled
                    } else {
                        Outcome::Failed
                    });
                    self.shared.env.cancel.check()?;
                    return Err(error);
                }
            },
        };
        self.result.stack.push(built.layer.clone());
        self.result.layers.push(built);
        self.result.chain = chained(&self.result.chain, &key);
        Ok(())
    }

    fn cached(&self, key: &StepKey) -> Result<Option<BuiltLayer>> {
        if self.no_cache {
            return Ok(None);
        }
        let Some(record) = self.store().step(&key.digest)? else {
            return Ok(None);
        };
        let Some(id) = record.layer else {
            return Ok(None);
        };
        let Some(found) = self.store().layer(&id)? else {
            return Ok(None);
        };
        let Some(created) = found.meta.notes.get(CREATED) else {
            return Ok(None);
        };
        let origin = Origin::Step {
            created: created.clone(),
        };
        Ok(Some(BuiltLayer {
            layer: Layer::open(&id, &found.dir)?,
            origin,
        }))
    }

    fn remember(&self, key: &StepKey, layer: &Layer) -> Result<()> {
        let layer = Some(layer.id().to_owned());
        let record = StepRecord {
            layer,
            fields: key.fields.clone(),
        };
        Ok(self.store().put_step(&key.digest, &record)?)
    }

    /// Publishes what a step wrote into `upper`, a directory of `staging`, as a layer over the
    /// stage so far.
    pub(super) fn commit(
        &self,
        staging: Staging,
        upper: &Path,
        recorded: Attributes,
    ) -> Result<BuiltLayer> {
        let inherit = match self.shared.env.ids.is_single() {
            true => Inherit::Copies,
            false => Inherit::Nothing,
        };
        self.seal(self.stack(), staging, upper, recorded, inherit)
    }

    /// The same for a layer that knows of nothing below it.
    pub(super) fn commit_alone(
        &self,
        staging: Staging,
        upper: &Path,
        recorded: Attributes,
    ) -> Result<BuiltLayer> {
        let below = LayerStack::default();
        self.seal(&below, staging, upper, recorded, Inherit::Nothing)
    }

    /// The same after a RUN, with what its supervisor kept if it had one.
    pub(super) fn commit_run(
        &self,
        staging: Staging,
        upper: &Path,
        recorded: Attributes,
        owners: Option<&Owners>,
    ) -> Result<BuiltLayer> {
        match owners {
            None => self.commit(staging, upper, recorded),
            Some(owners) => {
                let inherit = Inherit::Supervised(owners);
                self.seal(self.stack(), staging, upper, recorded, inherit)
            }
        }
    }

    fn seal(
        &self,
        below: &LayerStack,
        staging: Staging,
        upper: &Path,
        recorded: Attributes,
        inherit: Inherit<'_>,
    ) -> Result<BuiltLayer> {
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
            layer,
            origin: Origin::Step { created },
        })
    }

    /// The stage so far, to read from. `staging` lends a directory for the mount.
    pub(super) fn view(&self, staging: &Staging) -> Result<RootDir> {
        let view = View::overlay(&self.stack().lowers(), staging.path())?;
        Ok(RootDir::from_fd(view.root().try_clone_to_owned()?))
    }
}

/// What stands for a stage after a step: a linked copy's key says nothing of what is below it.
fn chained(below: &Digest, key: &StepKey) -> Digest {
    let mut chain = KeyBuilder::new("chain");
    chain.field("below", below.as_str());
    chain.field("step", key.digest.as_str());
    chain.finish().digest
}

/// The instruction on one line, as progress shows it.
pub(super) fn summary(instruction: &Instruction) -> String {
    let words: Vec<&str> = instruction.text.split_whitespace().collect();
    plan::masked(&words.join(" "))
}

/// The time, RFC 3339.
fn now() -> String {
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// The time, seconds since 1970.
pub(super) fn unix_now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// Seconds since 1970 as RFC 3339; none for a time that has no such form.
pub(super) fn rfc3339(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()?
        .format(&Rfc3339)
        .ok()
}
