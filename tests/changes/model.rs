//! A small Dockerfile and its context as values: how they are written to the disk, and what each
//! step of it may depend on.
//!
//! Every step that makes a layer has a number, which its text shows as `T17_`, so that what a build
//! says of it is found again wherever it stands. Commands give the same whenever they are run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use super::random::Random;

/// What may be changed, and what a step may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// A path of the context; of a dependency, with everything below it.
    Path(String),
    /// Which paths are ignored.
    Ignore,
    /// The value of the build argument `A`.
    Argument,
    /// The text of a step.
    Step(u32),
}

impl Input {
    /// Whether a step that depends on `self` depends on `changed`.
    fn covers(&self, changed: &Self) -> bool {
        match (self, changed) {
            (Self::Path(own), Self::Path(other)) => {
                own.is_empty() || own == other || other.starts_with(&format!("{own}/"))
            }
            _ => self == changed,
        }
    }
}

/// Whether any of `deps` is among what has changed.
pub fn touched(deps: &BTreeSet<Input>, changed: &[Input]) -> bool {
    let hit = |dep: &Input| changed.iter().any(|changed| dep.covers(changed));
    deps.iter().any(hit)
}

/// A file of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    File { content: String, mode: u32 },
    Link(String),
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Write,
    UseArgument,
    /// Moves, removes, makes links and directories.
    Change,
    /// Writes down everything that is there.
    Sum,
    Copy {
        source: &'static str,
        flags: &'static str,
        add: bool,
    },
    CopyFrom(usize),
    Workdir,
    Env,
    Bind(&'static str),
    BindFrom(usize),
    Cache,
    HeredocCopy,
    HeredocRun,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: u32,
    pub kind: Kind,
    /// Part of the text of those that can change.
    pub version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The stage it begins with; the base image otherwise.
    pub parent: Option<usize>,
    pub has_argument: bool,
    pub steps: Vec<Step>,
}

/// A Dockerfile and its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// By number, each after those that it needs; the last is built.
    pub stages: Vec<Stage>,
    /// In which order they are written.
    pub order: Vec<usize>,
    pub files: BTreeMap<String, Node>,
    /// Paths, exactly.
    pub ignored: BTreeSet<String>,
    pub argument: u32,
    /// Of no consequence at all.
    pub comment: u32,
    pub next: u32,
}

/// What COPY takes: a file, directories, and a pattern; and what that depends on.
const SOURCES: [(&str, &str); 6] = [
    ("top", "top"),
    ("a", "a"),
    ("b", "b"),
    ("a/*.txt", "a"),
    ("a/sub", "a/sub"),
    (".", ""),
];
const FLAGS: [&str; 7] = [
    "",
    "",
    "--link ",
    "--chmod=640 ",
    "--chown=7:8 ",
    "--exclude=*.md ",
    "--parents ",
];
/// Lists a directory with modes, links and contents.
const LIST: &str = "find . | sort | while read f; do stat -c '%a %F %n' \"$f\"; \
    test -L \"$f\" && readlink \"$f\"; test -f \"$f\" && cat \"$f\"; true; done";

impl Step {
    pub fn makes_layer(&self) -> bool {
        self.kind != Kind::Env
    }

    fn is_run(&self) -> bool {
        matches!(
            self.kind,
            Kind::Write
                | Kind::UseArgument
                | Kind::Change
                | Kind::Sum
                | Kind::Bind(_)
                | Kind::BindFrom(_)
                | Kind::Cache
                | Kind::HeredocRun
        )
    }

    /// Whether it has the layers below in its key.
    fn is_linked(&self) -> bool {
        matches!(self.kind, Kind::Copy { flags, .. } if flags.contains("--link"))
    }

    fn text(&self) -> String {
        let Self { id, version, .. } = self;
        let at = format!("/w/T{id}_");
        match &self.kind {
            Kind::Write => format!("RUN echo v{version} >{at}"),
            Kind::UseArgument => format!("RUN echo $A v{version} >{at}"),
            Kind::Change => format!(
                "RUN mkdir -p {at} && chmod 750 {at} && ln -s ../v{version} {at}/l; \
                for f in /w/T*_; do test -f $f && mv $f {at}/; done; rm -rf /w/*/sub; true"
            ),
            // Elsewhere first: it is not to read itself.
            Kind::Sum => {
                format!("RUN cd /w && {{ {LIST}; echo v{version}; }} >/sum && mv /sum {at}")
            }
            Kind::Copy { source, flags, add } => {
                let word = if *add { "ADD" } else { "COPY" };
                format!("{word} {flags}{source} {at}/v{version}/")
            }
            Kind::CopyFrom(stage) => format!("COPY --from=s{stage} /w {at}/v{version}/"),
            Kind::Workdir => format!("WORKDIR {at}/v{version}"),
            Kind::Env => format!("ENV E{id}=v{version}"),
            Kind::Bind(source) => format!(
                "RUN --mount=type=bind,source={source},target=/m cd /m && {{ {LIST}; echo v{version}; }} >{at}"
            ),
            Kind::BindFrom(stage) => format!(
                "RUN --mount=type=bind,from=s{stage},source=/w,target=/m cd /m && {{ {LIST}; echo v{version}; }} >{at}"
            ),
            Kind::Cache => format!(
                "RUN --mount=type=cache,target=/c echo v{version} >/c/T{id}_ && cat /c/T{id}_ >{at}"
            ),
            Kind::HeredocCopy => format!("COPY <<E {at}\nv{version} $E0\nE"),
            Kind::HeredocRun => format!("RUN <<T{id}_\necho v{version} >{at}\nT{id}_"),
        }
    }

    /// What it reads itself, besides what a RUN has in its environment.
    fn reads(&self) -> Vec<Input> {
        let mut reads = vec![Input::Step(self.id)];
        let place = match &self.kind {
            Kind::Copy { source, .. } | Kind::Bind(source) => Some(source),
            _ => None,
        };
        if let Some(place) = place {
            let (_, root) = SOURCES.iter().find(|(source, _)| source == place).unwrap();
            reads.extend([Input::Path((*root).into()), Input::Ignore]);
        }
        reads
    }
}

impl Model {
    /// A model that follows from the random numbers.
    pub fn new(random: &mut Random) -> Self {
        let mut model = Self {
            stages: Vec::new(),
            order: Vec::new(),
            files: BTreeMap::new(),
            ignored: ["a/ignored".to_owned()].into(),
            argument: 0,
            comment: 0,
            next: 1,
        };
        for path in [
            "top",
            "a/x.txt",
            "a/y.txt",
            "a/read.md",
            "a/sub/deep",
            "a/ignored",
            "b/z",
        ] {
            let node = Node::File {
                content: format!("{path} 0"),
                mode: 0o644,
            };
            model.files.insert(path.into(), node);
        }
        model.files.insert("b/link".into(), Node::Link("z".into()));
        let count = 2 + random.below(3);
        for index in 0..count {
            let parent = (index > 0 && random.one_in(3)).then(|| random.below(index));
            model.stages.push(Stage {
                parent,
                has_argument: random.one_in(2),
                steps: Vec::new(),
            });
            for _ in 0..1 + random.below(4) {
                let step = model.step(random, index);
                model.stages[index].steps.push(step);
            }
        }
        // The last stage needs the others, and tells all of them.
        for other in 0..count - 1 {
            let step = model.made(Kind::CopyFrom(other));
            model.stages[count - 1].steps.push(step);
        }
        model.order = (0..count).collect();
        model
    }

    fn made(&mut self, kind: Kind) -> Step {
        self.next += 1;
        Step {
            id: self.next,
            kind,
            version: 0,
        }
    }

    /// A step for the stage of this number.
    pub fn step(&mut self, random: &mut Random, stage: usize) -> Step {
        let kind = match random.below(14) {
            0 => Kind::Write,
            1 if self.stages[stage].has_argument => Kind::UseArgument,
            2 => Kind::Change,
            3 => Kind::Sum,
            4..=6 => Kind::Copy {
                source: random.pick(&SOURCES).0,
                flags: FLAGS[random.below(FLAGS.len())],
                add: false,
            },
            7 => Kind::Copy {
                source: random.pick(&SOURCES).0,
                flags: "",
                add: true,
            },
            8 if stage > 0 => Kind::CopyFrom(random.below(stage)),
            9 => Kind::Workdir,
            10 => Kind::Env,
            11 => Kind::Bind(["a", "b", "a/sub"][random.below(3)]),
            12 if stage > 0 => Kind::BindFrom(random.below(stage)),
            13 => Kind::Cache,
            _ if random.one_in(2) => Kind::HeredocCopy,
            _ => Kind::HeredocRun,
        };
        self.made(kind)
    }

    /// The Dockerfile.
    pub fn dockerfile(&self) -> String {
        let mut text = format!("# {}\n", self.comment);
        for index in &self.order {
            let stage = &self.stages[*index];
            let from = match stage.parent {
                None => "base".to_owned(),
                Some(parent) => format!("s{parent}"),
            };
            text.push_str(&format!("FROM {from} AS s{index}\n"));
            if stage.has_argument {
                text.push_str("ARG A=none\n");
            }
            for step in &stage.steps {
                text.push_str(&step.text());
                text.push('\n');
            }
        }
        text
    }

    /// What every step that makes a layer may depend on, by its number.
    pub fn dependencies(&self) -> BTreeMap<u32, BTreeSet<Input>> {
        let mut all = BTreeMap::new();
        // Of each stage: what its layers depend on, and what a RUN of it has in its environment.
        let mut stages: Vec<(BTreeSet<Input>, BTreeSet<Input>)> = Vec::new();
        for stage in &self.stages {
            let (mut chain, mut environment) = match stage.parent {
                Some(parent) => stages[parent].clone(),
                None => Default::default(),
            };
            if stage.has_argument {
                environment.insert(Input::Argument);
            }
            for step in &stage.steps {
                if !step.makes_layer() {
                    environment.insert(Input::Step(step.id));
                    continue;
                }
                let mut own: BTreeSet<Input> = step.reads().into_iter().collect();
                if step.is_run() {
                    own.extend(environment.iter().cloned());
                }
                if let Kind::CopyFrom(other) | Kind::BindFrom(other) = step.kind {
                    own.extend(stages[other].0.iter().cloned());
                }
                chain.extend(own.iter().cloned());
                let deps = if step.is_linked() { own } else { chain.clone() };
                all.insert(step.id, deps);
            }
            stages.push((chain, environment));
        }
        all
    }

    /// Brings a directory from what `before` says to what this says, and touches nothing else.
    /// With `keep_times` a file that is changed keeps its time.
    pub fn write(&self, dir: &Path, before: Option<&Self>, keep_times: bool) {
        let none = BTreeMap::new();
        let old = before.map_or(&none, |before| &before.files);
        for path in old.keys().filter(|path| !self.files.contains_key(*path)) {
            let file = dir.join(path);
            fs::remove_file(&file).unwrap();
            // A directory is there for its files: one that is empty goes, and what has others stays.
            for above in file.ancestors().skip(1).take_while(|above| *above != dir) {
                if fs::remove_dir(above).is_err() {
                    break;
                }
            }
        }
        for (path, node) in &self.files {
            if old.get(path) != Some(node) {
                let file = dir.join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                write_node(&file, node, keep_times);
            }
        }
        fs::write(dir.join("Dockerfile"), self.dockerfile()).unwrap();
        let mut ignored = String::from("Dockerfile\n.dockerignore\n");
        for path in &self.ignored {
            ignored.push_str(&format!("{path}\n"));
        }
        fs::write(dir.join(".dockerignore"), ignored).unwrap();
    }
}

fn write_node(file: &Path, node: &Node, keep_times: bool) {
    let known = fs::symlink_metadata(file).ok();
    match node {
        Node::Link(target) => {
            if known.is_some() {
                fs::remove_file(file).unwrap();
            }
            symlink(target, file).unwrap();
        }
        Node::File { content, mode } => {
            if known.as_ref().is_some_and(|known| known.is_symlink()) {
                fs::remove_file(file).unwrap();
            }
            fs::write(file, content).unwrap();
            fs::set_permissions(file, Permissions::from_mode(*mode)).unwrap();
            let time: Option<SystemTime> = known.and_then(|known| known.modified().ok());
            if let Some(time) = time.filter(|_| keep_times) {
                let open = fs::File::options().write(true).open(file).unwrap();
                open.set_modified(time).unwrap();
            }
        }
    }
}
