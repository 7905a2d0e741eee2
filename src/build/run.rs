//! RUN: a process over the stage's root file system; what it changed becomes a layer.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use runtime::{Exit, Mount, Network, RunSpec, Workspace};

use super::image::BuiltLayer;
use super::stage::Stage;
use super::{Ended, RunFailed};
use crate::cache::{KeyBuilder, StepKey};
use crate::dockerfile::NetworkMode;
use crate::layer::Attributes;
use crate::plan::{InlineFile, RunStep};
use crate::progress::Step;
use crate::rootfs::{RootDir, resolve_user};

/// How many lines of a failing command's output its error repeats.
const TAIL: usize = 20;
/// A longer line is passed on in pieces.
const MAX_LINE: u64 = 16 * 1024;

/// The key of a RUN (S13): its definition and environment on top of the stage so far.
pub(super) fn key(stage: &Stage<'_>, step: &RunStep) -> StepKey {
    let settings = stage.settings();
    let mut key = KeyBuilder::new("run");
    key.field("base", stage.chain());
    key.field("platform", settings.platform.to_string());
    key.list("argument", &step.argv);
    key.list(
        "env",
        step.env
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    key.field("workdir", &step.cwd);
    key.field("user", &step.user);
    key.field("network", format!("{:?}", network(stage, step)));
    key.list("host", settings.hosts.iter().map(|(name, _)| name));
    if let Some(hostname) = &settings.hostname {
        key.field("hostname", hostname);
    }
    key.list("script", step.scripts.iter().map(|file| &file.content));
    key.list(
        "ulimit",
        settings.ulimits.iter().map(|limit| format!("{limit:?}")),
    );
    key.finish()
}

/// Does a RUN.
pub(super) fn step(stage: &mut Stage<'_>, name: &str, step: &RunStep) -> Result<()> {
    let key = key(stage, step);
    stage.layer_step(name, key, |stage, shown| execute(stage, step, shown))
}

fn execute(stage: &Stage<'_>, step: &RunStep, shown: &Step) -> Result<BuiltLayer> {
    let staging = stage.store().staging()?;
    let lowers = stage.stack().lowers();
    let mut spec = spec(stage, step);
    let workspace = Workspace::for_run(&lowers, staging.path(), &spec)?;
    // Users are looked up in the workspace itself: every mount that is spared counts here.
    let root = RootDir::from_fd(workspace.root().try_clone_to_owned()?);
    become_user(&mut spec, step, &root)?;
    drop(root);
    run(stage, step, &workspace, spec, shown)?;
    let upper = workspace.finish()?;
    stage.commit(staging, &upper, Attributes::default())
}

fn network(stage: &Stage<'_>, step: &RunStep) -> Network {
    match step.network {
        Some(NetworkMode::None) => Network::None,
        Some(NetworkMode::Host) => Network::Host,
        Some(NetworkMode::Default) | None => stage.settings().network,
    }
}

/// The sandbox but for its user, on which no mount depends.
fn spec(stage: &Stage<'_>, step: &RunStep) -> RunSpec {
    let settings = stage.settings();
    let env = step.env.iter().chain(&step.proxy_env);
    let usual = RunSpec::new(&step.argv);
    RunSpec {
        hostname: settings.hostname.clone().unwrap_or(usual.hostname),
        env: env
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        cwd: (&step.cwd).into(),
        network: network(stage, step),
        hosts: settings.hosts.clone(),
        ulimits: settings.ulimits.clone(),
        shm_size: settings.shm_size,
        mounts: step.scripts.iter().map(script).collect(),
        ..usual
    }
}

/// Adds the user, whom the image's own files describe.
fn become_user(spec: &mut RunSpec, step: &RunStep, root: &RootDir) -> Result<()> {
    let user = resolve_user(root, &step.user)?;
    if !step.env.iter().any(|(name, _)| name == "HOME") {
        let home = user.home.unwrap_or_else(|| "/".to_owned());
        spec.env.push(("HOME".into(), home.into()));
    }
    (spec.uid, spec.gid, spec.groups) = (user.uid, user.gid, user.groups);
    Ok(())
}

/// A heredoc that begins with `#!`, as an executable file (S2).
fn script(file: &InlineFile) -> Mount {
    Mount::Content {
        content: file.content.clone().into_bytes(),
        target: PathBuf::from("/dev/pipes").join(&file.name),
        mode: 0o755,
        uid: 0,
        gid: 0,
    }
}

fn run(
    stage: &Stage<'_>,
    step: &RunStep,
    workspace: &Workspace,
    spec: RunSpec,
    shown: &Step,
) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe for the step's output")?;
    let stdout = OwnedFd::from(writer);
    let stderr = stdout.try_clone()?;
    let child = runtime::spawn(workspace, spec, stdout, stderr).map_err(|e| not_run(step, e))?;
    let handle = child.kill_handle();
    let guard = stage.shared.env.cancel.on_cancel(move || handle.kill());
    let tail = pass_on(reader, shown)?;
    let exit = child.wait()?;
    drop(guard);
    let ended = match exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(status) => Ended::Status(status),
        Exit::Signal(signal) => Ended::Signal(signal),
    };
    Err(RunFailed {
        command: step.argv.join(" "),
        ended,
        output: tail,
    }
    .into())
}

/// A program that cannot be executed has failed, as it has for a shell.
fn not_run(step: &RunStep, error: runtime::Error) -> anyhow::Error {
    match error {
        runtime::Error::Exec(error) => anyhow::Error::new(RunFailed {
            command: step.argv.join(" "),
            ended: Ended::Status(error.exit_code()),
            output: Vec::new(),
        })
        .context(error.to_string()),
        error => error.into(),
    }
}

/// Passes the process's output on line by line until every writer has closed it, and gives the
/// last lines.
fn pass_on(reader: PipeReader, shown: &Step) -> Result<Vec<String>> {
    let mut reader = BufReader::new(reader);
    let mut tail = std::collections::VecDeque::with_capacity(TAIL);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if count.context("cannot read the step's output")? == 0 {
            return Ok(tail.into());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        shown.output(text);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(text).into_owned());
    }
}
