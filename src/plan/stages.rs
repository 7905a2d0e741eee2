//! [`Plan`]: the stages, what each depends on, and which of them the target needs (S4, S5).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::contexts::{ContextKind, Contexts};
use super::environment::Environment;
use super::globals::{expand_global, global_args, unused_build_args};
use super::graph::{check_cycles, check_needed, prune};
use super::options::PlanOptions;
use super::reference::{Names, Numbers, Source};
use super::words::check_words;
use crate::dockerfile::{
    Diagnostic, DiagnosticKind, Dockerfile, From, Instruction, InstructionKind, Span,
};
use crate::image::Platform;

/// The graph of a Dockerfile for one target and one platform.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) shared: Arc<Shared>,
    all: Vec<Stage>,
    needed: Vec<Stage>,
    unused_build_args: Vec<String>,
}

/// What every stage's evaluation needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub options: PlanOptions,
    pub globals: Environment,
    pub names: Names,
    pub target: usize,
    pub escape: char,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its place in the file, from 0.
    pub index: usize,
    /// Its name, in lower case.
    pub name: Option<String>,
    /// Its `FROM`.
    pub from: Instruction,
    /// What it is built on.
    pub base: Base,
    /// The platform it is built for.
    pub platform: Platform,
    /// Whether a named context stands in its place, so that it is nothing but its base.
    pub replaced: bool,
    /// Everything after its `FROM`.
    pub instructions: Vec<Instruction>,
    /// The stages it needs, ascending, without duplicates.
    pub depends_on: Vec<usize>,
    /// The images it takes files from (not its base), in order, without duplicates.
    pub images: Vec<String>,
    /// References found in its own instructions, with their places.
    pub(super) references: Vec<(Source, Span)>,
}

/// What a stage is built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image.
    Image {
        /// The reference, variables expanded; or `oci-layout://DIR[:TAG]`.
        reference: String,
        /// The platform to look for.
        platform: Platform,
    },
    /// The files of a named context, by its number.
    Files(usize),
}

impl Plan {
    /// Plans `dockerfile`. The error holds everything that is wrong.
    pub fn new(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Self, Vec<Diagnostic>> {
        let (head, bodies) = split_stages(&dockerfile.instructions);
        let names = Names::new(&bodies, options);
        let escape = dockerfile.directives.escape;
        let mut errors = Vec::new();
        let last = names.names.len().saturating_sub(1);
        let target = find_target(&names, options).unwrap_or_else(|error| {
            errors.push(error);
            last
        });
        let globals = match global_args(&head, options, &names, target, escape) {
            Ok(globals) => globals,
            Err(wrong) => {
                errors.extend(wrong);
                return Err(errors);
            }
        };
        let shared = Arc::new(Shared {
            options: options.clone(),
            globals,
            names,
            target,
            escape,
        });
        let (mut all, wrong) = build_stages(&shared, &bodies);
        errors.extend(wrong);
        inherit_triggers(&shared.names, &mut all);
        check_cycles(&all, &shared.names).unwrap_or_else(|wrong| errors.extend(wrong));
        let needed = prune(&all, target);
        check_needed(&needed, &shared.names).unwrap_or_else(|wrong| add_new(&mut errors, wrong));
        let plan = Self {
            unused_build_args: unused_build_args(&dockerfile.instructions, options),
            shared,
            all,
            needed,
        };
        plan.checked(errors)
    }

    /// The plan if there are no `errors` and nothing else is wrong; else everything that is, in the
    /// order of the file.
    fn checked(self, mut errors: Vec<Diagnostic>) -> Result<Self, Vec<Diagnostic>> {
        add_new(&mut errors, check_words(&self));
        if errors.is_empty() {
            return Ok(self);
        }
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        Err(errors)
    }

    /// The stages that the target needs, each after those it depends on.
    pub fn stages(&self) -> &[Stage] {
        &self.needed
    }

    /// Every stage of the file, needed or not, in order.
    pub fn all_stages(&self) -> &[Stage] {
        &self.all
    }

    /// The stage at `index` of the file, needed or not (an image's `ONBUILD` may name any).
    pub fn stage(&self, index: usize) -> Option<&Stage> {
        self.all.get(index)
    }

    /// The index of the stage whose result is wanted.
    pub fn target(&self) -> usize {
        self.shared.target
    }

    /// Whether the target needs the stage at `index`.
    pub fn is_needed(&self, index: usize) -> bool {
        self.needed.iter().any(|stage| stage.index == index)
    }

    /// The stages that `index` needs, all the way down, itself last.
    pub fn closure(&self, index: usize) -> Vec<usize> {
        prune(&self.all, index)
            .iter()
            .map(|stage| stage.index)
            .collect()
    }

    /// Where an instruction of the stage `stage` takes files from, the context left out. This is
    /// for triggers of a base image, which no plan can know.
    pub fn sources(
        &self,
        stage: usize,
        instruction: &Instruction,
    ) -> Result<Vec<Source>, Diagnostic> {
        let names = &self.shared.names;
        let found = from_texts(instruction).into_iter();
        found
            .map(|(text, numbers, span)| names.earlier_source(text, numbers, span, stage))
            .collect::<Result<_, _>>()
            .map_err(|error: Diagnostic| error.in_trigger(instruction.trigger.as_deref()))
    }

    /// The name of a stage that resembles `reference`, for the message that there is no such image.
    pub fn similar_stage(&self, reference: &str) -> Option<&str> {
        crate::dockerfile::nearest(reference, self.shared.names.known())
    }

    /// `--build-arg` names that no `ARG` declares and that mean nothing by themselves.
    pub fn unused_build_args(&self) -> &[String] {
        &self.unused_build_args
    }

    /// The global arguments, those of the platforms included.
    pub fn globals(&self) -> &Environment {
        &self.shared.globals
    }

    /// The same for a file that may not be one that can be planned.
    ///
    /// # Errors
    /// Defaults that cannot be expanded.
    pub fn global_args(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
    ) -> Result<Environment, Vec<Diagnostic>> {
        let (head, bodies) = split_stages(&dockerfile.instructions);
        let names = Names::new(&bodies, options);
        let target = find_target(&names, options).unwrap_or_default();
        global_args(&head, options, &names, target, dockerfile.directives.escape)
    }
}

/// Adds what is wrong at places of which nothing was said yet.
fn add_new(errors: &mut Vec<Diagnostic>, found: Vec<Diagnostic>) {
    let known: HashSet<Option<Span>> = errors.iter().map(Diagnostic::span).collect();
    let new = found
        .into_iter()
        .filter(|error| !known.contains(&error.span()));
    errors.extend(new);
}

impl Names {
    fn new(bodies: &[Body<'_>], options: &PlanOptions) -> Self {
        Self {
            names: bodies.iter().map(Body::name).collect(),
            contexts: Contexts {
                list: options.contexts.clone(),
                platform: Some(options.platform.clone()),
            },
        }
    }
}

/// A `FROM` and what follows it.
struct Body<'a> {
    instruction: &'a Instruction,
    from: &'a From,
    rest: Vec<Instruction>,
}

impl Body<'_> {
    fn name(&self) -> Option<String> {
        self.from.name.as_ref().map(|name| name.value.clone())
    }
}

fn split_stages(instructions: &[Instruction]) -> (Vec<&Instruction>, Vec<Body<'_>>) {
    let mut head = Vec::new();
    let mut bodies: Vec<Body<'_>> = Vec::new();
    for instruction in instructions {
        if let InstructionKind::From(from) = &instruction.kind {
            bodies.push(Body {
                instruction,
                from,
                rest: Vec::new(),
            });
        } else if let Some(body) = bodies.last_mut() {
            body.rest.push(instruction.clone());
        } else {
            head.push(instruction);
        }
    }
    (head, bodies)
}

fn find_target(names: &Names, options: &PlanOptions) -> Result<usize, Diagnostic> {
    let last = names.names.len().checked_sub(1).ok_or_else(|| {
        Diagnostic::without_place(DiagnosticKind::Stage, "the Dockerfile has no stage")
    })?;
    let Some(target) = options.target.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(last);
    };
    if let Some(index) = names.find(&target.to_lowercase(), names.names.len()) {
        return Ok(index);
    }
    let message = format!("target stage {target:?} does not exist");
    let error = Diagnostic::without_place(DiagnosticKind::Stage, message);
    let known: Vec<&str> = names.known().collect();
    if target.parse::<u64>().is_ok() {
        return Err(error.hint("--target takes a stage's name, not a number"));
    }
    Err(match known.as_slice() {
        [] => error.hint("no stage has a name: write FROM image AS name"),
        _ => error
            .nearest(target, names.known())
            .hint(format!("known stages: {}", known.join(", "))),
    })
}

/// All stages, and what is wrong with their references; a stage whose base is wrong stands on nothing.
fn build_stages(shared: &Shared, bodies: &[Body<'_>]) -> (Vec<Stage>, Vec<Diagnostic>) {
    let mut stages: Vec<Stage> = Vec::with_capacity(bodies.len());
    let mut errors = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        match read_base(shared, index, body.from, &stages) {
            Ok((base, platform)) => {
                if let Some(stage) = replaced(shared, index, body, &platform) {
                    stages.push(stage);
                    continue;
                }
                let (references, wrong) = own_references(shared, &body.rest);
                errors.extend(wrong);
                stages.push(make_stage(index, body, base, platform, references));
            }
            Err(error) => {
                errors.push(error);
                // A stand-in, so that later indices stay right while errors are collected.
                let platform = shared.options.platform.clone();
                stages.push(make_stage(index, body, Base::Scratch, platform, Vec::new()));
            }
        }
    }
    (stages, errors)
}

fn make_stage(
    index: usize,
    body: &Body<'_>,
    base: Base,
    platform: Platform,
    references: Vec<(Source, Span)>,
) -> Stage {
    let mut stage = Stage {
        index,
        name: body.name(),
        from: body.instruction.clone(),
        base,
        platform,
        replaced: false,
        instructions: body.rest.clone(),
        depends_on: Vec::new(),
        images: Vec::new(),
        references,
    };
    stage.collect();
    stage
}

impl Stage {
    /// Fills `depends_on` and `images` from the base and the references.
    fn collect(&mut self) {
        let mut stages = BTreeSet::new();
        if let Base::Stage(index) = self.base {
            stages.insert(index);
        }
        for (source, _) in &self.references {
            match source {
                Source::Stage(index) => {
                    stages.insert(*index);
                }
                Source::Image(image) if !self.images.contains(image) => {
                    self.images.push(image.clone());
                }
                _ => {}
            }
        }
        self.depends_on = stages.into_iter().collect();
    }
}

fn read_base(
    shared: &Shared,
    index: usize,
    from: &From,
    earlier: &[Stage],
) -> Result<(Base, Platform), Diagnostic> {
    let reference = expand_global(&from.image, &shared.globals, shared.escape)?;
    if reference.is_empty() {
        let message = format!(
            "FROM {} names no image: it expands to nothing",
            from.image.value
        );
        let error = Diagnostic::error(DiagnosticKind::Expansion, from.image.span, message);
        return Err(error.hint(
            "give the variable a default with ARG before the first FROM, or use --build-arg",
        ));
    }
    let explicit = read_platform(shared, from)?;
    let parent = shared.names.find(&reference, index);
    let platform = match (explicit, parent.and_then(|index| earlier.get(index))) {
        (_, Some(stage)) => stage.platform.clone(),
        (Some(platform), None) => platform,
        (None, None) => shared.options.platform.clone(),
    };
    let base = match parent {
        Some(index) => Base::Stage(index),
        None if reference == "scratch" => Base::Scratch,
        None => match shared.names.contexts.find(&reference, Some(&platform)) {
            Some(kind) => named_base(kind, &platform),
            None => Base::Image {
                reference,
                platform: platform.clone(),
            },
        },
    };
    Ok((base, platform))
}

fn named_base(kind: &ContextKind, platform: &Platform) -> Base {
    match kind {
        ContextKind::Files(number) => Base::Files(*number),
        ContextKind::Image(reference) => Base::Image {
            reference: reference.clone(),
            platform: platform.clone(),
        },
    }
}

/// The stage that a named context is in the place of `body`, if there is one of its name (S5).
fn replaced(shared: &Shared, index: usize, body: &Body<'_>, platform: &Platform) -> Option<Stage> {
    let contexts = &shared.names.contexts;
    let kind = contexts.find(&body.name()?, Some(platform))?;
    let base = named_base(kind, platform);
    let mut stage = make_stage(index, body, base, platform.clone(), Vec::new());
    stage.instructions = Vec::new();
    stage.replaced = true;
    Some(stage)
}

fn read_platform(shared: &Shared, from: &From) -> Result<Option<Platform>, Diagnostic> {
    let Some(flag) = &from.platform else {
        return Ok(None);
    };
    let text = expand_global(flag, &shared.globals, shared.escape)?;
    let error = |message: String| Diagnostic::error(DiagnosticKind::Flag, flag.span, message);
    if text.is_empty() {
        return Err(error(format!(
            "--platform={} expands to nothing",
            flag.value
        )));
    }
    text.parse()
        .map(Some)
        .map_err(|reason| error(format!("cannot use --platform={}: {reason}", flag.value)))
}

/// The texts after `--from=` and a mount's `from=` of an instruction, or of an `ONBUILD`'s inner.
fn from_texts(instruction: &Instruction) -> Vec<(&str, Numbers, Span)> {
    match &instruction.kind {
        InstructionKind::Copy(copy) => copy
            .from
            .iter()
            .map(|from| (from.value.as_str(), Numbers::AreStages, from.span))
            .collect(),
        InstructionKind::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| Some((mount.from()?, Numbers::AreImages, mount.span)))
            .filter(|(text, ..)| !text.is_empty())
            .collect(),
        _ => Vec::new(),
    }
}

fn own_references(
    shared: &Shared,
    instructions: &[Instruction],
) -> (Vec<(Source, Span)>, Vec<Diagnostic>) {
    let mut references = Vec::new();
    let mut errors = Vec::new();
    for (text, numbers, span) in instructions.iter().flat_map(from_texts) {
        match shared.names.source(text, numbers, span) {
            Ok(source) => references.push((source, span)),
            Err(error) => errors.push(error),
        }
    }
    (references, errors)
}

/// A stage built on a stage replays that stage's `ONBUILD`, so it needs what they need.
fn inherit_triggers(names: &Names, stages: &mut [Stage]) {
    for index in 0..stages.len() {
        let Base::Stage(parent) = stages[index].base else {
            continue;
        };
        let mut found = Vec::new();
        for instruction in &stages[parent].instructions {
            let InstructionKind::OnBuild(trigger) = &instruction.kind else {
                continue;
            };
            for (text, numbers, span) in from_texts(&trigger.instruction) {
                // A wrong one is told when the trigger is replayed.
                if let Ok(source) = names.source(text, numbers, span) {
                    found.push((source, span));
                }
            }
        }
        stages[index].references.extend(found);
        stages[index].collect();
    }
}
