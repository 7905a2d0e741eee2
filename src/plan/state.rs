//! [`StageState`]: the evaluator of one stage, instruction by instruction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::environment::Environment;
use super::stages::{Plan, Shared, Stage};
use super::step::{Step, StepKind};
use super::words::expand_error;
use super::{DEFAULT_PATH, HISTORY_COMMENT};
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::{
    CommandLine, Diagnostic, DiagnosticKind, Instruction, InstructionKind, Spanned,
    parse_onbuild_trigger,
};
use crate::image::{History, ImageConfig};

/// The longest history of a stage, in bytes; no registry takes a configuration this large.
const MOST_WRITTEN: usize = 16 << 20;

/// A stage while it is built: configuration, environment and declared arguments so far.
#[derive(Clone, Debug)]
pub struct StageState {
    pub(super) shared: Arc<Shared>,
    /// The stage's index in the file.
    pub(super) stage: usize,
    pub(super) config: ImageConfig,
    /// `ENV` and valued `ARG`s.
    pub(super) env: Environment,
    /// Declared `ARG`s, in order of first declaration.
    pub(super) args: Vec<String>,
    /// The same, to be looked up.
    pub(super) declared: HashSet<String>,
    /// Where each variable stands in the configuration's list.
    pub(super) env_places: HashMap<String, usize>,
    /// Bytes of history that this stage and those below it have written.
    written: usize,
    /// `ONBUILD` texts of the base.
    triggers: Vec<String>,
    /// Whether a `CMD` was seen in this stage.
    pub(super) cmd_set: bool,
}

/// What an instruction did.
pub(super) struct Outcome {
    pub created_by: String,
    pub empty_layer: bool,
    pub kind: StepKind,
}

impl Outcome {
    /// Only the configuration has changed.
    pub fn config(created_by: String) -> Self {
        Self {
            created_by,
            empty_layer: true,
            kind: StepKind::Config,
        }
    }
}

impl StageState {
    /// The start of `stage`, a stage of `plan`, on a base image, or on nothing.
    pub fn from_image(plan: &Plan, stage: &Stage, base: Option<&ImageConfig>) -> Self {
        let mut config = base.cloned().unwrap_or_default();
        config.created = None;
        if base.is_none() {
            config.config.working_dir = "/".into();
        }
        if config.os.is_empty() || config.architecture.is_empty() {
            set_platform(&mut config, stage);
        }
        let has_path = config
            .config
            .env
            .iter()
            .any(|pair| pair.starts_with("PATH="));
        if !has_path {
            config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let mut env = Environment::default();
        let mut env_places = HashMap::new();
        for (place, pair) in config.config.env.iter().enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            env.set(name, value);
            env_places.entry(name.to_owned()).or_insert(place);
        }
        let mut state = Self {
            shared: Arc::clone(&plan.shared),
            stage: stage.index,
            // What stands in the place of a stage is done: its triggers are for those on top of it.
            triggers: match stage.replaced {
                true => Vec::new(),
                false => std::mem::take(&mut config.config.on_build),
            },
            config,
            env,
            args: Vec::new(),
            declared: HashSet::new(),
            env_places,
            written: 0,
            cmd_set: false,
        };
        state.adopt_platform(stage);
        state
    }

    /// The start of `stage`, built on another stage that has ended as `parent`.
    pub fn from_stage(plan: &Plan, stage: &Stage, parent: &Self) -> Self {
        let mut state = parent.clone();
        state.shared = Arc::clone(&plan.shared);
        state.stage = stage.index;
        state.cmd_set = false;
        state.triggers = std::mem::take(&mut state.config.config.on_build);
        state.adopt_platform(stage);
        state
    }

    /// The target of a build for a platform that the user named is of that platform.
    fn adopt_platform(&mut self, stage: &Stage) {
        if self.shared.options.platform_explicit && self.shared.target == stage.index {
            let platform = &self.shared.options.platform;
            self.config.os.clone_from(&platform.os);
            self.config.architecture.clone_from(&platform.arch);
            self.config.variant = Some(platform.variant.clone()).filter(|text| !text.is_empty());
        }
    }

    /// The base's `ONBUILD` triggers, parsed, to be applied before the stage's own instructions.
    pub fn triggers(&self) -> Result<Vec<Instruction>, Diagnostic> {
        self.triggers
            .iter()
            .map(|text| parse_onbuild_trigger(text))
            .collect()
    }

    /// Evaluates an instruction: expands it, updates configuration, environment and history, and
    /// says what is to be done.
    ///
    /// After an error the state is as before, except for the items of an `ARG` that were right.
    pub fn apply(&mut self, instruction: &Instruction) -> Result<Step, Diagnostic> {
        let outcome = self
            .evaluate(instruction)
            .and_then(|outcome| self.check_size(instruction, outcome))
            .map_err(|error| error.in_trigger(instruction.trigger.as_deref()))?;
        if !outcome.created_by.is_empty() {
            self.config.history.push(History {
                created_by: Some(outcome.created_by.clone()),
                comment: Some(HISTORY_COMMENT.into()),
                empty_layer: outcome.empty_layer,
                ..History::default()
            });
        }
        Ok(Step {
            span: instruction.span,
            lines: instruction.lines,
            created_by: outcome.created_by,
            empty_layer: outcome.empty_layer,
            kind: outcome.kind,
        })
    }

    /// Values that are made of values grow fast: the configuration must stay one that can be stored.
    fn check_size(
        &mut self,
        instruction: &Instruction,
        outcome: Outcome,
    ) -> Result<Outcome, Diagnostic> {
        self.written += outcome.created_by.len();
        if self.written <= MOST_WRITTEN {
            return Ok(outcome);
        }
        let message = format!(
            "the history of this image is longer than {} MiB from here on",
            MOST_WRITTEN >> 20
        );
        let error = Diagnostic::error(DiagnosticKind::Value, instruction.span, message);
        Err(error.hint("put long values into files, and COPY those"))
    }

    fn evaluate(&mut self, instruction: &Instruction) -> Result<Outcome, Diagnostic> {
        let escape = match instruction.trigger {
            Some(_) => '\\',
            None => self.shared.escape,
        };
        match &instruction.kind {
            InstructionKind::From(_) => Err(Diagnostic::error(
                DiagnosticKind::Stage,
                instruction.span,
                "FROM begins a stage and cannot stand inside one",
            )),
            InstructionKind::Arg(items) => self.arg(items, escape),
            InstructionKind::Run(run) => self.run(instruction, run, escape),
            InstructionKind::Copy(copy) => self.copy(copy, escape),
            InstructionKind::Add(add) => self.add(add, escape),
            InstructionKind::Env(pairs) => self.set_env(pairs, escape),
            InstructionKind::Label(pairs) => self.label(pairs, escape),
            InstructionKind::Workdir(path) => self.workdir(path, escape),
            InstructionKind::User(user) => self.user(user, escape),
            InstructionKind::Expose(ports) => self.expose(ports, escape),
            InstructionKind::Volume(paths) => self.volume(paths, escape),
            InstructionKind::Cmd(command) => Ok(self.cmd(command)),
            InstructionKind::Entrypoint(command) => Ok(self.entrypoint(command)),
            InstructionKind::Shell(argv) => Ok(self.shell(argv)),
            InstructionKind::StopSignal(signal) => self.stop_signal(signal, escape),
            InstructionKind::Healthcheck(check) => Ok(self.healthcheck(check)),
            InstructionKind::OnBuild(trigger) => Ok(self.on_build(trigger)),
            InstructionKind::Maintainer(name) => Ok(self.maintainer(name)),
        }
    }

    /// The configuration so far. Layers are the caller's; entries of the history that were made
    /// here have no `created`.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The configuration.
    pub fn into_config(self) -> ImageConfig {
        self.config
    }

    /// The environment of a `RUN` that came now: `ENV` and `ARG`s.
    pub fn environment(&self) -> &Environment {
        &self.env
    }

    /// The names that `ARG`s of the stage and of those below it declared, with or without a value.
    pub fn declared_args(&self) -> &[String] {
        &self.args
    }

    /// Sets the labels of the command line: after the last instruction, on the target only.
    pub fn apply_labels(&mut self, labels: &[(String, String)]) {
        let pairs = labels.iter().cloned();
        self.config.config.labels.extend(pairs);
    }

    /// Expands `word` with the environment as it is.
    pub(super) fn expand(
        &self,
        word: &Spanned<String>,
        escape: char,
    ) -> Result<String, Diagnostic> {
        expand_word(&word.value, escape, &self.lookup()).map_err(|error| expand_error(word, &error))
    }

    pub(super) fn lookup(&self) -> impl Fn(&str) -> Option<String> + '_ {
        |name| self.env.get(name).map(str::to_owned)
    }

    pub(super) fn expand_optional(
        &self,
        word: Option<&Spanned<String>>,
        escape: char,
    ) -> Result<Option<String>, Diagnostic> {
        word.map(|word| self.expand(word, escape)).transpose()
    }

    /// The working directory as it stands in the configuration; `/` if there is none.
    pub(super) fn working_dir(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// The stage's shell with `text` as its script.
    pub(super) fn with_shell(&self, text: &str) -> Vec<String> {
        let mut argv = match &self.config.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".into(), "-c".into()],
        };
        argv.push(text.to_owned());
        argv
    }

    /// The argument vector of a command.
    pub(super) fn argv(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Shell(text) => self.with_shell(&text.value),
            CommandLine::Exec(argv) => argv.value.clone(),
        }
    }
}

fn set_platform(config: &mut ImageConfig, stage: &Stage) {
    config.os.clone_from(&stage.platform.os);
    config.architecture.clone_from(&stage.platform.arch);
    config.variant = Some(stage.platform.variant.clone()).filter(|text| !text.is_empty());
}

/// `path` on `base`, without `.`, `..` and doubled slashes; always absolute.
pub(super) fn join_clean(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
