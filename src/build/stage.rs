//! One stage, from its base to its last step.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::image::{BuiltLayer, BuiltStep, Origin};
use super::inflight::Turn;
use super::jobs::Permit;
use super::remembered::{chained, is_bound};
use super::scheduler::Shared;
use super::slot::Abandoned;
use super::{Settings, StepFailed, add, copy, explain, run, supported, workdir};
use crate::cache::StepKey;
use crate::dockerfile::{Instruction, InstructionKind};
use crate::image::{Digest, ImageConfig, Platform};
use crate::layer::LayerStack;
use crate::plan::{self, Base, StageState, StepKind};
use crate::progress::{Outcome, Step};
use crate::rootfs::RootDir;
use crate::store::{Staging, Store, platform_of};

/// The note of a layer that tells when it was made, RFC 3339.
pub(super) const CREATED: &str = "created";

/// A finished stage, shared by those that are built from it or copy from it.
pub(super) type Finished = Arc<StageResult>;

/// What a stage leaves behind.
pub(super) struct StageResult {
    pub(super) state: StageState,
    /// Whose programs it has: that of its `FROM`, or of its base image where that was taken although it is
    /// for another one.
    pub(super) platform: Platform,
    pub(super) layers: Vec<BuiltLayer>,
    pub(super) steps: Vec<BuiltStep>,
    /// Whether a step was executed by this build.
    pub(super) executed: bool,
    /// Stands for everything below the next step in that step's key.
    pub(super) chain: Digest,
}

/// A stage being built.
pub(super) struct Stage<'a> {
    pub(super) shared: &'a Shared<'a>,
    result: StageResult,
    /// Its number and what progress calls it.
    place: (usize, String),
    /// Whether every step is executed.
    pub(super) no_cache: bool,
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
    // Triggers, and a base that is for another platform, are seen here for the first time.
    let executes = |platform: &Platform| shared.foreign.check(&shared.env.into(), platform);
    supported::check_programs(stage, running.platform(), steps.clone(), &executes)?;
    let texts = steps.clone().filter(|step| makes_layer(step)).map(known_as);
    running.log_begin(&stage.base, &summary(&stage.from), texts.collect());
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

/// The text by which the next build knows the instruction again.
fn known_as(instruction: &Instruction) -> String {
    let text = summary(instruction);
    match instruction.trigger {
        None => explain::short(&text),
        Some(_) => explain::short(&format!("ONBUILD {text}")),
    }
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
                    platform: parent.platform.clone(),
                    layers: parent.layers.clone(),
                    steps: parent.steps.clone(),
                    executed: parent.executed,
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
                    platform: of_base(stage, &base.config),
                    layers: base.layers.clone(),
                    steps: Vec::new(),
                    executed: false,
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
            place: (stage.index, label(stage)),
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
            if let Origin::Step { created, .. } = &layer.origin {
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
            platform: stage.platform.clone(),
            layers: Vec::new(),
            steps: Vec::new(),
            executed: false,
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

    /// Whose programs it has.
    pub(super) fn platform(&self) -> &Platform {
        &self.result.platform
    }

    /// Its number and what progress calls it.
    pub(super) fn place(&self) -> (usize, &str) {
        (self.place.0, &self.place.1)
    }

    /// The flag that has every step executed.
    pub(super) fn no_cache_flag(&self) -> Option<&'static str> {
        match (self.no_cache, self.settings().no_cache) {
            (false, _) => None,
            (true, true) => Some("--no-cache"),
            (true, false) => Some("--no-cache-filter"),
        }
    }

    /// The names of the arguments declared so far.
    pub(super) fn declared_args(&self) -> &[String] {
        self.result.state.declared_args()
    }

    /// The layers so far, on top of each other; those that are not here are brought.
    pub(super) fn stack(&self) -> Result<LayerStack> {
        self.shared.env.stack(&self.result.layers)
    }

    pub(super) fn layers(&self) -> &[BuiltLayer] {
        &self.result.layers
    }

    /// The configuration so far, the current instruction included.
    pub(super) fn config(&self) -> &ImageConfig {
        self.result.state.config()
    }

    /// The right to compute, waited for.
    pub(super) fn permit(&self) -> Result<Permit<'a>> {
        let env = self.shared.env;
        Ok(env.jobs.take(env.cancel)?)
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
    ///
    /// In this order: an equal step of this build, which is waited for; an earlier build's result, of
    /// this store or another machine; `execute`.
    pub(super) fn layer_step(
        &mut self,
        name: &str,
        key: StepKey,
        execute: impl FnOnce(&Self, &Step) -> Result<BuiltLayer>,
    ) -> Result<()> {
        self.shared.env.cancel.check()?;
        let mut shown = self.shared.env.progress.start(name);
        // With one key they are equal only on the same layers: one of two stages may be built anew.
        let below = match is_bound(&key) {
            true => self.below(),
            false => Vec::new(),
        };
        let step = (key.digest.clone(), self.no_cache, below);
        let turn = self.shared.steps.turn(step);
        let found = match turn {
            Turn::Theirs(slot) => slot
                .wait()
                .inspect(|_| self.log_hit(name, &key))
                .map(|made| (made.on_others(), Outcome::Cached))
                .map_err(Into::into),
            Turn::Mine(duty) => self
                .make(name, &key, &mut shown, execute)
                .inspect(|(made, _)| duty.fulfil(made.clone())),
        };
        let (made, outcome) = match found {
            Ok(found) => found,
            Err(error) => {
                let cancelled = self.shared.env.cancel.why().is_some() || error.is::<Abandoned>();
                shown.finish(match cancelled {
                    true => Outcome::Cancelled,
                    false => Outcome::Failed,
                });
                self.shared.env.cancel.check()?;
                return Err(error);
            }
        };
        shown.finish(outcome);
        if let Some(below) = made.below {
            self.replace_steps(below);
        }
        self.result.executed |= made.executed;
        self.result.steps.push(BuiltStep {
            layer: self.result.layers.len(),
            key: key.digest.clone(),
            is_bound: is_bound(&key),
        });
        self.result.layers.push(made.layer);
        self.result.chain = chained(&self.result.chain, &key);
        Ok(())
    }

    /// Puts other layers of the same steps in the place of those so far. What is the stage's base
    /// rather than a step of it remains that.
    fn replace_steps(&mut self, layers: Vec<BuiltLayer>) {
        let is_step = |built: &&mut BuiltLayer| !matches!(built.origin, Origin::Base { .. });
        let old = self.result.layers.iter_mut().filter(is_step);
        for (old, new) in old.zip(layers) {
            let origin = match (&old.origin, &new.origin) {
                (Origin::Files { .. }, Origin::Step { created, .. }) => Origin::Files {
                    created: created.clone(),
                },
                (_, origin) => origin.clone(),
            };
            *old = BuiltLayer { origin, ..new };
        }
    }

    /// An earlier build's layer, else what `execute` makes.
    fn make(
        &self,
        name: &str,
        key: &StepKey,
        shown: &mut Step,
        execute: impl FnOnce(&Self, &Step) -> Result<BuiltLayer>,
    ) -> Result<(Made, Outcome)> {
        if let Some(found) = self.cached(key)? {
            self.log_hit(name, key);
            return Ok((found, Outcome::Cached));
        }
        shown.missed(self.log_miss(name, key)?);
        self.shared.executing.begins();
        let built = execute(self, shown)?;
        let built = self.remember(key, built)?;
        self.log_done();
        let made = Made {
            layer: built,
            below: None,
            executed: true,
        };
        Ok((made, Outcome::Done))
    }

    /// Whether this build has executed a step of the stage.
    pub(super) fn has_executed(&self) -> bool {
        self.result.executed
    }

    /// The layers of steps so far.
    pub(super) fn below(&self) -> Vec<String> {
        let layers = self.result.layers.iter();
        let steps = layers.filter(|built| !matches!(built.origin, Origin::Base { .. }));
        steps.map(|built| built.layer.id().to_owned()).collect()
    }

    /// Has `read` look at the stage so far. `staging` lends a directory for the mount.
    pub(super) fn view<T>(
        &self,
        staging: &Staging,
        read: impl FnOnce(&RootDir) -> Result<T>,
    ) -> Result<T> {
        let roots = self.shared.env.roots;
        let view = roots.view(&self.stack()?.lowers(), staging.path())?;
        read(&RootDir::from_fd(view.root().try_clone_to_owned()?))
    }
}

/// The platform of a stage on a base image: what the `FROM` says, unless the base is for another system or
/// architecture. A base for an older variant runs on the one asked for.
fn of_base(stage: &plan::Stage, config: &ImageConfig) -> Platform {
    let (asked, found) = (&stage.platform, platform_of(config));
    let is_other = (&asked.os, &asked.arch) != (&found.os, &found.arch);
    match is_other && !found.arch.is_empty() {
        true => found,
        false => asked.clone(),
    }
}

/// The layer of a step.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) layer: BuiltLayer,
    /// The layers of earlier steps that it was made on, if these are not the ones that the stage had
    /// so far: they take their place.
    pub(super) below: Option<Vec<BuiltLayer>>,
    /// Whether it was executed by this build.
    pub(super) executed: bool,
}

impl Made {
    /// Something that another machine has made.
    pub(super) fn elsewhere(layer: BuiltLayer, below: Option<Vec<BuiltLayer>>) -> Self {
        Self {
            layer,
            below,
            executed: false,
        }
    }

    /// The same for another stage.
    fn on_others(&self) -> Self {
        let below = self.below.as_ref();
        Self {
            layer: self.layer.on_others(),
            below: below.map(|all| all.iter().map(BuiltLayer::on_others).collect()),
            executed: self.executed,
        }
    }
}

/// The instruction on one line, as progress shows it.
pub(super) fn summary(instruction: &Instruction) -> String {
    let words: Vec<&str> = instruction.text.split_whitespace().collect();
    plan::masked(&words.join(" "))
}

/// The time, RFC 3339.
pub(super) fn now() -> String {
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// The time, seconds since 1970.
pub(super) fn unix_now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// Seconds since 1970 as RFC 3339; none for a time that has no such form.
pub fn rfc3339(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()?
        .format(&Rfc3339)
        .ok()
}
