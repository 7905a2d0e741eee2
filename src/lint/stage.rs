//! Instructions in order, stage by stage, each seen with the environment that
//! the ones before it leave.

use std::collections::BTreeMap;

use super::Request;
use super::config::{self, Once};
use super::finding::Findings;
use super::rule::Rule;
use super::variables::{Word, words};
use crate::dockerfile::{Diagnostic, Instruction, InstructionKind, nearest};
use crate::image::{ImageConfig, Platform};
use crate::plan::{Base, Plan, Source, Stage, StageState, Step};

/// Arguments that no environment ever holds, though they may be used.
const NEVER_SET: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What a stage hands on to those built on it.
#[derive(Clone)]
struct Carried {
    state: StageState,
    /// Whether every variable that is set is known.
    is_certain: bool,
    /// Whether a `WORKDIR` was seen.
    has_workdir: bool,
}

/// Checks the stages; gives the instructions that are certain to fail.
pub(super) fn check(
    request: &Request<'_>,
    plan: &Plan,
    findings: &mut Findings,
) -> Vec<Diagnostic> {
    let mut done: BTreeMap<usize, Carried> = BTreeMap::new();
    let mut mistakes = Vec::new();
    let stages = match request.all_stages {
        true => plan.all_stages(),
        false => plan.stages(),
    };
    for stage in stages {
        let carried = match &stage.base {
            Base::Stage(index) => match done.get(index) {
                Some(parent) => Carried {
                    state: StageState::from_stage(plan, stage, &parent.state),
                    ..parent.clone()
                },
                None => continue,
            },
            Base::Scratch | Base::Files(_) => begin(plan, stage, None, true),
            Base::Image {
                reference,
                platform,
            } => {
                let known = (request.bases)(reference, platform);
                if let Some(config) = &known {
                    platforms(findings, &stage.from, reference, platform, config);
                }
                begin(plan, stage, Some(known.as_ref()), known.is_some())
            }
        };
        let mut walk = Walk {
            request,
            plan,
            stage,
            findings,
            mistakes: &mut mistakes,
            carried,
            once: Once::default(),
        };
        walk.all();
        let carried = walk.carried;
        done.insert(stage.index, carried);
    }
    mistakes
}

/// A stage on `scratch` (`None`), or on an image that may be known.
fn begin(
    plan: &Plan,
    stage: &Stage,
    image: Option<Option<&ImageConfig>>,
    is_certain: bool,
) -> Carried {
    let stand_in = ImageConfig {
        os: stage.platform.os.clone(),
        architecture: stage.platform.arch.clone(),
        ..ImageConfig::default()
    };
    let config = image.map(|known| known.unwrap_or(&stand_in));
    Carried {
        state: StageState::from_image(plan, stage, config),
        is_certain,
        has_workdir: false,
    }
}

fn platforms(
    findings: &mut Findings,
    instruction: &Instruction,
    reference: &str,
    wanted: &Platform,
    config: &ImageConfig,
) {
    if config.os == wanted.os && config.architecture == wanted.arch {
        return;
    }
    let detail = format!(
        "{reference} is for {}/{}, the build for {wanted}",
        config.os, config.architecture
    );
    let rule = Rule::InvalidBaseImagePlatform;
    findings.add(rule, instruction, instruction.span, detail);
}

/// A stage being walked.
struct Walk<'a> {
    request: &'a Request<'a>,
    plan: &'a Plan,
    stage: &'a Stage,
    findings: &'a mut Findings,
    mistakes: &'a mut Vec<Diagnostic>,
    carried: Carried,
    once: Once<'a>,
}

impl<'a> Walk<'a> {
    fn all(&mut self) {
        // A trigger that is no instruction is told by the build.
        for trigger in self.carried.state.triggers().unwrap_or_default() {
            self.step(&trigger);
        }
        for instruction in &self.stage.instructions {
            self.once.check(instruction, self.findings);
            self.step(instruction);
        }
    }

    fn step(&mut self, instruction: &Instruction) {
        let InstructionKind::Arg(items) = &instruction.kind else {
            return self.one(instruction);
        };
        // Each item sees those before it. A default that a build argument replaces is not expanded.
        for item in items {
            let mut item = item.clone();
            if self.request.options.build_arg(&item.name.value).is_some() {
                item.default = None;
            }
            self.one(&Instruction {
                kind: InstructionKind::Arg(vec![item]),
                ..instruction.clone()
            });
        }
    }

    fn one(&mut self, instruction: &Instruction) {
        let is_settled = self.variables(instruction);
        let escape = self.escape(instruction);
        let state = &self.carried.state;
        if let InstructionKind::Workdir(path) = &instruction.kind
            && instruction.trigger.is_none()
        {
            if !self.carried.has_workdir && is_settled {
                config::workdir(instruction, path, escape, state, self.findings);
            }
            self.carried.has_workdir = true;
        }
        let state = &self.carried.state;
        config::check(instruction, escape, state, is_settled, self.findings);
        match self.carried.state.apply(instruction) {
            Ok(step) => self.after(instruction, &step, is_settled),
            Err(error) => {
                if is_settled {
                    self.mistakes.push(error);
                }
                self.carried.is_certain = false;
            }
        }
    }

    fn after(&mut self, instruction: &Instruction, step: &Step, is_settled: bool) {
        if let (Some(ignore), true) = (self.request.ignore, is_settled) {
            config::ignored(instruction, &step.kind, ignore, self.findings);
        }
        // A wrong reference was told by the plan.
        let sources = self.plan.sources(self.stage.index, instruction);
        for source in sources.unwrap_or_default() {
            let Source::Image(reference) = source else {
                continue;
            };
            let platform = &self.request.options.platform;
            if let Some(config) = (self.request.bases)(&reference, platform) {
                platforms(self.findings, instruction, &reference, platform, &config);
            }
        }
    }

    fn escape(&self, instruction: &Instruction) -> char {
        match instruction.trigger {
            Some(_) => '\\',
            None => self.request.dockerfile.directives.escape,
        }
    }

    /// Tells of undefined variables. False if a variable is used that may be set or not.
    fn variables(&mut self, instruction: &Instruction) -> bool {
        let escape = self.escape(instruction);
        let mut is_settled = true;
        let mut told: Vec<String> = Vec::new();
        for word in words(instruction) {
            let env = self.carried.state.environment();
            for name in word.expand(escape, env).unset {
                if !self.carried.is_certain && may_be_set(&name) {
                    is_settled = false;
                } else if !told.contains(&name) {
                    self.undefined(instruction, &word, &name);
                    told.push(name);
                }
            }
        }
        is_settled
    }

    fn undefined(&mut self, instruction: &Instruction, word: &Word<'_>, name: &str) {
        let state = &self.carried.state;
        let is_declared = state
            .declared_args()
            .iter()
            .any(|declared| declared == name);
        if is_declared || NEVER_SET.contains(&name) {
            return;
        }
        let mut detail = format!("${name} is not defined");
        let known = state
            .environment()
            .pairs()
            .iter()
            .map(|(name, _)| name.as_str());
        if let Some(near) = nearest(name, known) {
            detail.push_str(&format!(" (did you mean ${near}?)"));
        }
        self.findings
            .add(Rule::UndefinedVar, instruction, word.span, detail);
    }
}

/// Whether an image can set a variable of this name: `$$` and `$1` never are.
fn may_be_set(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
