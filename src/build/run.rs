//! RUN: a process over the stage's root file system; what it changed becomes a layer.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use runtime::{Capabilities, Exit, Mount, Network, RunSpec, Workspace};

use super::image::BuiltLayer;
use super::mounts::Mounts;
use super::stage::Stage;
use super::{Ended, RunFailed, Settings, workdir};
use crate::cache::{KeyBuilder, StepKey};
use crate::dockerfile::{NetworkMode, SecurityMode};
use crate::layer;
use crate::plan::{InlineFile, RunStep, is_secret_name};
use crate::progress::Step;
use crate::rootfs::{RootDir, resolve_user};

/// How many lines of a failing command's output its error repeats.
const TAIL: usize = 20;
/// A longer line is passed on in pieces.
const MAX_LINE: u64 = 16 * 1024;

/// The key of a RUN (S13): its definition and environment on top of the stage so far.
fn key(stage: &Stage<'_>, step: &RunStep, mounts: Option<&Mounts<'_>>) -> StepKey {
    let settings = stage.settings();
    let mut key = KeyBuilder::new("run");
    key.field("base", stage.chain());
    key.field("platform", stage.platform().to_string());
    key.list("argument", &step.argv);
    key.variables("env", &step.env, is_secret_name);
    key.field("workdir", &step.cwd);
    key.field("user", &step.user);
    key.field("network", format!("{:?}", network(stage, step)));
    key.list("security", is_insecure(step).then_some("insecure"));
    key.list("hostname", settings.hostname.as_deref());
    key.list("host", settings.hosts.iter().map(|(name, _)| name));
    key.list("script", step.scripts.iter().map(|file| &file.content));
    if let Some(mounts) = mounts {
        mounts.key(&mut key);
    }
    key.list(
        "ulimit",
        settings.ulimits.iter().map(|limit| format!("{limit:?}")),
    );
    key.finish()
}

/// Does a RUN.
pub(super) fn step(stage: &mut Stage<'_>, name: &str, step: &RunStep) -> Result<()> {
    let mounts = Mounts::prepare(stage, step)?;
    let key = key(stage, step, mounts.as_ref());
    stage.layer_step(name, key, |stage, shown| {
        execute(stage, step, mounts.as_ref(), shown)
    })
}

fn execute(
    stage: &Stage<'_>,
    step: &RunStep,
    mounts: Option<&Mounts<'_>>,
    shown: &Step,
) -> Result<BuiltLayer> {
    let mut spec = spec(stage, step);
    let held = match mounts {
        Some(mounts) => Some(mounts.hold(stage, shown, &mut spec)?),
        None => None,
    };
    let staging = stage.store().staging()?;
    let stack = stage.stack()?;
    let points = &stage.shared.points;
    let roots = stage.shared.env.roots;
    let workspace = roots.for_step(&stack.lowers(), staging.path(), &spec, points)?;
    // Users are looked up in the workspace itself: every mount that is spared counts here.
    let root = RootDir::from_fd(workspace.root().try_clone_to_owned()?);
    become_user(&mut spec, step, &root)?;
    let owners = match super::mounts::is_supervised(stage) {
        true => Some(layer::owners(&stack)?),
        false => None,
    };
    spec.owners.clone_from(&owners);
    let attributes = workdir::ensure(stage, &stack, root, &spec)?;
    let ran = run(stage, step, &workspace, spec, shown);
    drop(held);
    if let Err(mut error) = ran {
        let cancelled = stage.shared.env.cancel.why().is_some();
        if let Some(failed) = error.downcast_mut::<RunFailed>()
            && stage.settings().keep_failed
            && !cancelled
        {
            match super::failed::keep(stage, step, staging, workspace, owners.as_deref()) {
                Ok(kept) => failed.kept = Some(Box::new(kept)),
                Err(why) => stage.shared.env.progress.warn(&format!(
                    "what the failed step left behind cannot be kept: {why:#}"
                )),
            }
        }
        return Err(error);
    }
    let upper = workspace.finish()?;
    stage.commit_run(&stack, staging, &upper, attributes, owners.as_deref())
}

fn is_insecure(step: &RunStep) -> bool {
    step.security == Some(SecurityMode::Insecure)
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
    RunSpec {
        env: env
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        cwd: (&step.cwd).into(),
        network: network(stage, step),
        hosts: settings.hosts.clone(),
        ulimits: settings.ulimits.clone(),
        shm_size: settings.shm_size,
        mounts: step.scripts.iter().map(script).collect(),
        ..usual(settings, step)
    }
}

/// What every step has, and what an insecure one keeps: the capabilities of its builder, every
/// system call, and all of `/proc`.
fn usual(settings: &Settings, step: &RunStep) -> RunSpec {
    let mut spec = RunSpec::new(&step.argv);
    if let Some(name) = &settings.hostname {
        spec.hostname.clone_from(name);
    }
    if is_insecure(step) {
        spec.capabilities = Capabilities::all();
        spec.seccomp = false;
        spec.masked = false;
    }
    spec
}

/// Adds the user, whom the image's own files describe.
fn become_user(spec: &mut RunSpec, step: &RunStep, root: &RootDir) -> Result<()> {
    let user = resolve_user(root, &step.user)?;
    if !spec.env.iter().any(|(name, _)| name == "HOME") {
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
    // Last of all that is waited for: nobody waits for anything else with a permit in hand.
    let permit = stage.permit()?;
    let child = runtime::spawn(workspace, spec, stdout, stderr).map_err(|e| not_run(step, e))?;
    if let Some(pid) = child.pid() {
        permit.is_for(pid);
    }
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
        kept: None,
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
            kept: None,
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
