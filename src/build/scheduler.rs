//! One thread per stage, and the first failure that ends them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use runtime::MountPoints;

use super::Environment;
use super::ahead::Executing;
use super::bases::Bases;
use super::cancel::{Cancelled, Why};
use super::elsewhere::Lost;
use super::foreign::Foreign;
use super::image::{BuiltAnswer, BuiltImage, BuiltStage, finish_history};
use super::inflight::InFlight;
use super::jobs::Jobs;
use super::slot::{Abandoned, Slot};
use super::stage::{self, Finished, Made};
use super::{StepFailed, supported};
use crate::cache::FileDigests;
use crate::image::Digest;
use crate::plan::{Base, Plan};
use crate::store::platform_of;

/// Where an index tells when an image was made; only a build with a fixed time does (S11).
const CREATED_ANNOTATION: &str = "org.opencontainers.image.created";

/// What the threads of a build share.
pub(super) struct Shared<'a> {
    pub(super) env: &'a Environment<'a>,
    pub(super) plan: &'a Plan,
    pub(super) bases: Bases,
    /// Whose programs can be executed.
    pub(super) foreign: Foreign,
    /// What is known of the files of contexts.
    pub(super) files: FileDigests,
    /// The mount points that stages lack.
    pub(super) points: MountPoints,
    /// The steps so far, by key, whether earlier builds count, and what they are made on.
    pub(super) steps: InFlight<(Digest, bool, Vec<String>), Made>,
    /// Whether any step was executed.
    pub(super) executing: Executing,
    slots: Mutex<BTreeMap<usize, Arc<Slot<Finished>>>>,
    answers: Mutex<Vec<BuiltAnswer>>,
}

impl Shared<'_> {
    /// The result of another stage, as soon as it is there. One that nobody builds, because only
    /// a trigger of a base image names it, is built here.
    pub(super) fn stage(&self, index: usize) -> Result<Finished> {
        let (slot, is_planned) = {
            let mut slots = self.lock();
            let is_planned = slots.contains_key(&index);
            (Arc::clone(slots.entry(index).or_default()), is_planned)
        };
        if is_planned {
            return Ok(slot.wait()?);
        }
        let stage = self
            .plan
            .stage(index)
            .ok_or_else(|| anyhow!("the Dockerfile has no stage {index}"))?;
        let built = supported::check_stage(stage, &self.env.settings)
            .map_err(Into::into)
            .and_then(|()| stage::run(self, stage));
        match &built {
            Ok(finished) => slot.set(Arc::clone(finished)),
            Err(_) => slot.abandon(),
        }
        built
    }

    /// Whether the result of another stage is there already, or will never be.
    pub(super) fn is_finished(&self, index: usize) -> bool {
        self.lock().get(&index).is_some_and(|slot| slot.is_set())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Slot<Finished>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds the plan's target.
///
/// # Errors
/// The first failure of any stage, [`Cancelled`] when the build was ended from outside.
pub fn build(env: &Environment<'_>, plan: &Plan) -> Result<BuiltImage> {
    let foreign = Foreign::default();
    supported::check(plan, env, &foreign)?;
    let root = rustix::fs::fstat(env.context.root()).context("cannot examine the build context")?;
    let context = (root.st_dev, root.st_ino);
    let slots = plan
        .stages()
        .iter()
        .map(|stage| (stage.index, Arc::default()))
        .collect();
    // Goes with all that is in it when the last step is over.
    let aside = env.store.staging()?;
    let shared = Shared {
        env,
        plan,
        bases: Bases::default(),
        foreign,
        files: FileDigests::from_bytes(&env.store.file_digests(context)?),
        points: MountPoints::new(aside.path().join("points")),
        steps: InFlight::default(),
        executing: Executing::default(),
        slots: Mutex::new(slots),
        answers: Mutex::default(),
    };
    if let Some(agree) = env.before_steps {
        fetch_bases(&shared)?;
        agree()?;
    }
    let first_failure = Mutex::new(None);
    std::thread::scope(|scope| {
        env.jobs.begin();
        let _end = EndOfWatch(env.jobs);
        // One stage has nobody to give way to.
        if plan.stages().len() > 1 {
            let watch = || env.jobs.watch();
            let name = "jobs".to_owned();
            if let Err(error) = std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, watch)
            {
                let error = anyhow!(error).context("cannot start a thread");
                note_failure(&first_failure, error);
                env.cancel.cancel(Why::Failure);
            }
        }
        run_stages(&shared, &first_failure);
    });
    keep_file_digests(&shared, context);
    if let Some(Why::Signal(signal)) = env.cancel.why() {
        return Err(Cancelled(Why::Signal(signal)).into());
    }
    match first_failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => result(&shared),
    }
}

/// Runs every stage on a thread of its own.
fn run_stages(shared: &Shared<'_>, first_failure: &Mutex<Option<anyhow::Error>>) {
    let (env, plan) = (shared.env, shared.plan);
    std::thread::scope(|scope| {
        for stage in plan.stages() {
            let body = move || {
                let _awake = LeaveNobodyWaiting(shared);
                match stage::run(shared, stage) {
                    Ok(finished) => shared.done(stage.index, finished),
                    Err(error) => {
                        // Whoever failed first is about to cancel the rest; before that, its own
                        // failure must not look like one that comes from a cancelled build.
                        let is_cause = !is_abandoned(&error);
                        // The build begins anew, and finds what the others are about to finish.
                        let is_lost = Lost::in_error(&error).is_some();
                        note_failure(first_failure, error);
                        if is_cause && !is_lost {
                            env.cancel.cancel(Why::Failure);
                        }
                        if is_cause {
                            shared.abandon_all();
                        }
                    }
                }
            };
            let name = format!("stage {}", stage.index);
            if let Err(error) = std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, body)
            {
                let error = anyhow!(error).context("cannot start a thread for a stage");
                note_failure(first_failure, error);
                env.cancel.cancel(Why::Failure);
                shared.abandon_all();
            }
        }
    });
}

/// Ends the watch over sleeping steps with the stages, however they end.
struct EndOfWatch<'a>(&'a Jobs);

impl Drop for EndOfWatch<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Keeps what is known of the context's files, whatever became of the build. Without it the next one
/// reads them again, which is no reason to fail this one.
fn keep_file_digests(shared: &Shared<'_>, context: (u64, u64)) {
    let Some(table) = shared.files.to_bytes() else {
        return;
    };
    if let Err(error) = shared.env.store.put_file_digests(context, &table) {
        let error = anyhow!(error);
        shared.env.progress.warn(&format!(
            "what is known of the context's files cannot be kept for the next build: {error:#}"
        ));
    }
}

/// Fetches what the stages begin with, before any of them does.
fn fetch_bases(shared: &Shared<'_>) -> Result<()> {
    for stage in shared.plan.stages() {
        if let Base::Image {
            reference,
            platform,
        } = &stage.base
        {
            let label = stage::label(stage);
            let name = format!("[{label}] {}", stage::summary(&stage.from));
            let base = shared.bases.get(shared.env, reference, platform, &name);
            base.map_err(|source| StepFailed {
                name,
                span: stage.from.span,
                source,
            })?;
        }
    }
    Ok(())
}

impl Shared<'_> {
    /// Notes what had to be known of files in layers.
    pub(super) fn note_answer(&self, answer: BuiltAnswer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answer);
    }

    /// What people call the stage at `index`.
    pub(super) fn stage_name(&self, index: usize) -> String {
        let name = self.plan.stage(index).and_then(|stage| stage.name.clone());
        name.unwrap_or_else(|| index.to_string())
    }

    /// Every stage that was built, the target first.
    fn stages(&self) -> Result<Vec<BuiltStage>> {
        let target = self.plan.target();
        let slots: Vec<_> = self
            .lock()
            .iter()
            .map(|(index, slot)| (*index, Arc::clone(slot)))
            .collect();
        let mut stages = Vec::new();
        for (index, slot) in slots {
            let finished = slot.wait()?;
            let stage = BuiltStage {
                layers: finished.layers.clone(),
                steps: finished.steps.clone(),
            };
            match index == target {
                true => stages.insert(0, stage),
                false => stages.push(stage),
            }
        }
        Ok(stages)
    }

    fn done(&self, index: usize, finished: Finished) {
        let slot = Arc::clone(self.lock().entry(index).or_default());
        slot.set(finished);
    }

    fn abandon_all(&self) {
        self.lock().values().for_each(|slot| slot.abandon());
        self.bases.abandon_all();
    }
}

/// Ends everything when the thread of a stage is lost to a panic, which the end of the threads'
/// scope passes on.
struct LeaveNobodyWaiting<'a>(&'a Shared<'a>);

impl Drop for LeaveNobodyWaiting<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.env.cancel.cancel(Why::Failure);
            self.0.abandon_all();
        }
    }
}

fn is_abandoned(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Abandoned>())
}

/// Keeps the first error that is a cause; what merely followed from another is no news.
fn note_failure(first: &Mutex<Option<anyhow::Error>>, error: anyhow::Error) {
    let is_consequence = |error: &anyhow::Error| {
        is_abandoned(error) || error.chain().any(|cause| cause.is::<Cancelled>())
    };
    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
    match &*first {
        Some(earlier) if !is_consequence(earlier) || is_consequence(&error) => {}
        _ => *first = Some(error),
    }
}

fn result(shared: &Shared<'_>) -> Result<BuiltImage> {
    let (env, target) = (shared.env, shared.stage(shared.plan.target())?);
    let mut state = target.state.clone();
    state.apply_labels(&env.settings.labels);
    let mut config = state.into_config();
    let epoch = env.settings.epoch.and_then(super::stage::rfc3339);
    finish_history(&mut config, &target.layers, epoch.as_deref());
    let mut descriptor_annotations = env.settings.descriptor_annotations.clone();
    if let Some(epoch) = epoch {
        let created = descriptor_annotations.entry(CREATED_ANNOTATION.into());
        created.or_insert(epoch);
    }
    let answers = std::mem::take(
        &mut *shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    let platform = platform_of(&config);
    Ok(BuiltImage {
        config,
        layers: target.layers.clone(),
        platform,
        annotations: env.settings.annotations.clone(),
        descriptor_annotations,
        epoch: env.settings.epoch,
        stages: shared.stages()?,
        answers,
    })
}
