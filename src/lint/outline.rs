//! What a build of the target can be given: arguments, secrets, agents, caches.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::json::location;
use super::variables::expand;
use crate::dockerfile::{ArgItem, Dockerfile, Instruction, InstructionKind, Lines};
use crate::image::ImageConfig;
use crate::plan::{Base, Plan, RunMountKind, Stage, StageState, StepKind};

/// An `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above says of it.
    pub description: Option<String>,
    /// Its value, given or by default; none if it has none, or one that only the base image tells.
    pub value: Option<String>,
    /// Where it is declared.
    pub lines: Lines,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its id.
    pub name: String,
    /// Whether some step fails without it.
    pub required: bool,
    /// The first step that uses it.
    pub lines: Lines,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Its id.
    pub id: String,
    /// The first step that uses it.
    pub lines: Lines,
}

/// Everything that a target uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above says of it.
    pub description: Option<String>,
    /// Arguments of the stages that it needs, global ones first.
    pub args: Vec<OutlineArg>,
    /// Secrets.
    pub secrets: Vec<Parameter>,
    /// Agents.
    pub ssh: Vec<Parameter>,
    /// Caches.
    pub caches: Vec<CacheMount>,
}

/// The outline of the plan's target. Base images are not looked at: their triggers are unknown.
pub fn outline(dockerfile: &Dockerfile, plan: &Plan) -> Outline {
    let target = plan.stage(plan.target());
    let name = target.and_then(|stage| stage.name.clone());
    let description = target.and_then(|stage| stage.from.description(stage.name.as_deref()?));
    let mut outline = Outline {
        description: description.map(str::to_owned),
        name,
        ..Outline::default()
    };
    let mut done: BTreeMap<usize, StageState> = BTreeMap::new();
    for stage in plan.stages() {
        let mut state = begin(plan, stage, &done);
        for instruction in &stage.instructions {
            outline.instruction(instruction, &mut state);
        }
        done.insert(stage.index, state);
    }
    outline.globals(dockerfile, plan);
    outline
}

fn begin(plan: &Plan, stage: &Stage, done: &BTreeMap<usize, StageState>) -> StageState {
    let parent = match stage.base {
        Base::Stage(index) => done.get(&index),
        _ => None,
    };
    match (parent, &stage.base) {
        (Some(parent), _) => StageState::from_stage(plan, stage, parent),
        (None, Base::Scratch) => StageState::from_image(plan, stage, None),
        (None, _) => StageState::from_image(plan, stage, Some(&ImageConfig::default())),
    }
}

impl Outline {
    /// What cannot be evaluated adds nothing but what stands in the text.
    fn instruction(&mut self, instruction: &Instruction, state: &mut StageState) {
        let step = state.apply(instruction);
        match (&instruction.kind, step.map(|step| step.kind)) {
            (InstructionKind::Arg(items), _) => {
                for item in items {
                    let value = state.environment().get(&item.name.value);
                    self.arg(instruction, item, value.map(str::to_owned));
                }
            }
            (_, Ok(StepKind::Run(run))) => {
                for mount in &run.mounts {
                    self.mount(&mount.kind, instruction.lines);
                }
            }
            _ => {}
        }
    }

    fn arg(&mut self, instruction: &Instruction, item: &ArgItem, value: Option<String>) {
        let name = &item.name.value;
        if self.args.iter().any(|known| known.name == *name) {
            return;
        }
        self.args.push(OutlineArg {
            name: name.clone(),
            description: instruction.description(name).map(str::to_owned),
            value,
            lines: instruction.lines,
        });
    }

    fn mount(&mut self, kind: &RunMountKind, lines: Lines) {
        match kind {
            RunMountKind::Secret { id, required, .. } => {
                add(&mut self.secrets, id, *required, lines);
            }
            RunMountKind::Ssh { id, required, .. } => add(&mut self.ssh, id, *required, lines),
            RunMountKind::Cache { id, .. } => {
                if !self.caches.iter().any(|known| known.id == *id) {
                    let id = id.clone();
                    self.caches.push(CacheMount { id, lines });
                }
            }
            RunMountKind::Bind { .. } | RunMountKind::Tmpfs { .. } => {}
        }
    }

    /// Global arguments that `FROM` lines of needed stages use, and those that these use; of an
    /// argument that a stage takes over the global declaration tells more.
    fn globals(&mut self, dockerfile: &Dockerfile, plan: &Plan) {
        let escape = dockerfile.directives.escape;
        let mut used: Vec<String> = self.args.iter().map(|arg| arg.name.clone()).collect();
        for stage in plan.stages() {
            if let InstructionKind::From(from) = &stage.from.kind {
                for word in std::iter::once(&from.image).chain(&from.platform) {
                    used.extend(expand(&word.value, escape, plan.globals()).set);
                }
            }
        }
        let mut found: Vec<OutlineArg> = Vec::new();
        // From the last up: a default uses those before it.
        for (instruction, item) in global_items(dockerfile).into_iter().rev() {
            if !used.contains(&item.name.value) {
                continue;
            }
            if let Some(default) = &item.default {
                used.extend(expand(&default.value, escape, plan.globals()).set);
            }
            found.push(OutlineArg {
                name: item.name.value.clone(),
                description: instruction.description(&item.name.value).map(str::to_owned),
                value: plan.globals().get(&item.name.value).map(str::to_owned),
                lines: instruction.lines,
            });
        }
        found.reverse();
        for global in found {
            match self.args.iter_mut().find(|own| own.name == global.name) {
                Some(own) if own.description.is_none() => own.description = global.description,
                Some(_) => {}
                None => self.args.push(global),
            }
        }
        self.args.sort_by_key(|arg| arg.lines.first);
    }

    /// The shape of `docker build --call=outline,format=json`; what is empty is left out.
    pub fn json(&self, text: &str) -> Value {
        let mut told = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                told.insert(key.to_owned(), value);
            }
        };
        put("name", self.name.as_ref().map(|name| json!(name)));
        put(
            "description",
            self.description.as_ref().map(|text| json!(text)),
        );
        put("args", list(&self.args, arg_json));
        put("secrets", list(&self.secrets, parameter_json));
        put("ssh", list(&self.ssh, parameter_json));
        put(
            "cache",
            list(
                &self.caches,
                |cache| json!({ "ID": cache.id, "location": location(0, cache.lines) }),
            ),
        );
        put("sources", Some(json!([STANDARD.encode(text)])));
        Value::Object(told)
    }
}

fn global_items(dockerfile: &Dockerfile) -> Vec<(&Instruction, &ArgItem)> {
    let head = dockerfile
        .instructions
        .iter()
        .map_while(|instruction| match &instruction.kind {
            InstructionKind::Arg(items) => Some((instruction, items)),
            _ => None,
        });
    head.flat_map(|(instruction, items)| items.iter().map(move |item| (instruction, item)))
        .collect()
}

fn add(list: &mut Vec<Parameter>, id: &str, required: bool, lines: Lines) {
    match list.iter_mut().find(|known| known.name == id) {
        Some(known) => known.required |= required,
        None => list.push(Parameter {
            name: id.to_owned(),
            required,
            lines,
        }),
    }
}

fn list<T>(items: &[T], one: impl Fn(&T) -> Value) -> Option<Value> {
    (!items.is_empty()).then(|| items.iter().map(one).collect())
}

fn arg_json(arg: &OutlineArg) -> Value {
    let mut told = json!({ "name": arg.name, "location": location(0, arg.lines) });
    if let Some(description) = &arg.description {
        told["description"] = json!(description);
    }
    if let Some(value) = &arg.value {
        told["value"] = json!(value);
    }
    told
}

fn parameter_json(parameter: &Parameter) -> Value {
    let mut told = json!({ "name": parameter.name, "location": location(0, parameter.lines) });
    if parameter.required {
        told["required"] = json!(true);
    }
    told
}
