//! `lapstrake build`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::build_args::BuildArgs;
use super::checks::{self, Checks};
use super::deliver::{self, Delivered};
use super::depfile::Depfile;
use super::exit::UsageError;
use super::input::Input;
use super::metadata::Told;
use super::output_spec::OutputSpec;
use super::report::{Diagnostics, SourceText};
use super::shown::Shown;
use super::upkeep::{self, AtTheEnd};
use super::{
    App, Ground, annotation, call, granted, kept, metadata, named, shared_cache, signals, values,
};
use crate::build::{
    self, BuiltImage, Cancel, Environment, Fetching, Jobs, Limits, Lost, NamedFiles, Secret,
    SeenBases, Settings, StepLog, Why,
};
use crate::dockerfile::{self, Dockerfile};
use crate::image::Platform;
use crate::lint::{CheckOptions, OPTIONS_ARG};
use crate::plan::{NamedContext, Plan, PlanOptions, masked};
use crate::progress::Progress;
use crate::transfer::Bringing;

/// The agent of `--ssh` that git is given.
const DEFAULT_AGENT: &str = "default";
/// The variable, and the build argument, that sets back the times of what a build makes.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Its values: what RFC 3339, by which an image tells its time, has years for.
const EPOCHS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Runs the command.
///
/// # Errors
/// Every way in which a build can fail; the metadata file, if one was asked for, tells of it.
pub(super) fn run(args: &BuildArgs, app: &App, out: &mut dyn Write) -> Result<u8> {
    if let Some(question) = args.question() {
        return call::run(question, args, out);
    }
    let shown = Shown::new(args, |name| std::env::var_os(name))?;
    let mut told = Told::default();
    let Err(error) = build(args, app, &shown, &mut told, out) else {
        return Ok(0);
    };
    if let Some(path) = &args.metadata_file {
        metadata::write_failure(path, &error, &told)?;
    }
    Err(shown.failed(error))
}

/// Builds; `told` is what is to be known of it also if it fails.
fn build(
    args: &BuildArgs,
    app: &App,
    shown: &Shown,
    told: &mut Told,
    out: &mut dyn Write,
) -> Result<()> {
    let outputs = deliver::outputs(args)?;
    let build_args = build_args(args)?;
    let mut depfile = Depfile::asked(args, &outputs)?;
    let mut settings = settings(args, &build_args, &outputs)?;
    let limit = upkeep::limit(args.store_limit.as_deref())?;
    // Reading the Dockerfile needs one of them already.
    runtime::check_calls(runtime::Mode::Chroot)?;
    let (contexts, named) = named::contexts(&args.build_contexts)?;
    let input = Input::read(args, &build_args)?;
    if depfile.is_some() && !input.is_directory() {
        return Err(UsageError(
            "--depfile needs a build context that is a directory: make cannot see when another one \
             changes"
                .into(),
        )
        .into());
    }
    let progress = shown.progress();
    let options = plan_options(args, build_args, &settings.platform, contexts);
    let read = |source: &SourceText| plan(args, source, &options, progress);
    // What is wrong with a Dockerfile that is there already is told before anything is set up.
    let early = input.source().map(read).transpose()?;
    let entered = app.enter(&|text| progress.note(text))?;
    progress.note(&format!("sandbox: {}", entered.note));
    let only_root = entered.ids.is_single() && runtime::supervision().is_err();
    settings.limits = Limits::new(entered.mode, only_root);
    // Before the store is open: from there on somebody has to clean up.
    let cancel = Cancel::default();
    let on_signal = cancel.clone();
    signals::on_signal(move |signal| on_signal.cancel(Why::Signal(signal)))?;
    let store = app.open_store(&entered)?;
    if let Some(weakness) = store.weakness() {
        progress.warn(&weakness);
    }
    let _upkeep = AtTheEnd {
        store: &store,
        limit,
        progress,
        cancel: &cancel,
    };
    let network = app.network()?;
    let secrets = settings.secrets.clone();
    let secret = |name: &str| secrets.get(name).and_then(Secret::text);
    let agent = settings.agents.get(DEFAULT_AGENT);
    let fetching = Fetching {
        store: &store,
        network: &network,
        secret: &secret,
        ssh_agent: agent.map(|agent| agent.socket.clone()),
        progress,
        cancel: &cancel,
    };
    // What the caller names may be fetched as the caller; what a Dockerfile names only with --ssh.
    let own = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
    let callers = Fetching {
        ssh_agent: fetching.ssh_agent.clone().or(own),
        store: &store,
        network: &network,
        secret: &secret,
        progress,
        cancel: &cancel,
    };
    let file = input.dockerfile().map(Path::to_owned);
    let (context, source) = input.open(args, &callers, &entered.ids)?;
    let context = context.recording(depfile.is_some());
    if let Some(depfile) = &mut depfile {
        depfile.add_dockerfile(file.as_deref(), &context);
    }
    let named = named::opened(named, &callers, &entered.ids, depfile.is_some());
    let (dockerfile, plan) = match early {
        Some(read) => read,
        None => read(&source)?,
    };
    let registries = app.registries()?;
    let _ended = cancel.on_cancel(registries.ender());
    let seen = SeenBases::default();
    let checks = Checks {
        source: &source,
        dockerfile: &dockerfile,
        options: &options,
        plan: &plan,
        ignore: context.ignore(),
        seen: &seen,
        shown,
    };
    let is_fatal = checks.agree(&mut told.warnings)?;
    let agree = || checks.agree(&mut Vec::new()).map(drop);
    let warn = |text: &str| progress.warn(text);
    let cache = shared_cache::sources(args, &registries, &settings.platform, &warn);
    let steps = step_log(args, &source, store.id_map());
    let ground = Ground::new(&entered, &store)?;
    let env = Environment {
        store: &store,
        remote: &registries,
        bringing: &Bringing::default(),
        cache: &cache,
        jobs: &Jobs::new(jobs(args)),
        fetching: &fetching,
        ids: &ground.disk,
        roots: &ground.roots,
        context: &context,
        named: &named,
        progress,
        cancel: &cancel,
        seen: &seen,
        steps: &steps,
        before_steps: is_fatal.then_some(&agree),
        settings,
    };
    let made = make(&env, args, &plan, &outputs);
    told.steps = steps.steps();
    // How the build ended is the news, and nothing that is built depends on this.
    if let Err(error) = steps.save(&store, made.is_ok()) {
        progress.warn(&format!(
            "the next build's steps cannot be explained: {error}"
        ));
    }
    checks.tell(&mut told.warnings)?;
    cache.close();
    let (image, delivered) = match made {
        Ok(made) => made,
        Err(error) => {
            let help = kept::keep(&env, &error, app.root.as_deref());
            return Err(Diagnostics::at_step(&source, error, help.as_deref()));
        }
    };
    let left = shared_cache::leave(&env, args, &registries, &image, &delivered.pushed);
    store.settle()?;
    cancel.check()?;
    if let Err(error) = left {
        // The image is there all the same.
        write_id(args, &delivered)?;
        told.result = Some(result(&delivered));
        return Err(error);
    }
    if let Some(depfile) = &mut depfile {
        depfile.add_files(named::layout_files(&args.build_contexts));
        depfile.add_inputs(&context);
        for context in named.iter().filter_map(NamedFiles::opened) {
            depfile.add_ignore_file(context);
            depfile.add_inputs(context);
        }
    }
    write_files(args, &delivered, told, depfile, shown)?;
    tell(args, &delivered, shown, out)
}

/// Builds and writes every output; anew, without them, when results of earlier builds that were
/// found elsewhere turn out not to be had.
fn make(
    env: &Environment<'_>,
    args: &BuildArgs,
    plan: &Plan,
    outputs: &[OutputSpec],
) -> Result<(BuiltImage, Delivered)> {
    loop {
        let made = build::build(env, plan).and_then(|image| {
            let delivered = deliver::deliver(env, args, outputs, &image)
                .map_err(|error| env.explained(&image, error))?;
            Ok((image, delivered))
        });
        match made {
            Err(error) if Lost::in_error(&error).is_some_and(|lost| lost.refuse(env)) => {
                env.steps.begin_anew();
            }
            made => return made,
        }
    }
}

/// Writes the metadata file, the id file, and after all others the rule for make.
fn write_files(
    args: &BuildArgs,
    delivered: &Delivered,
    told: &Told,
    depfile: Option<Depfile<'_>>,
    shown: &Shown,
) -> Result<()> {
    write_id(args, delivered)?;
    if let Some(path) = &args.metadata_file {
        let mut value = result(delivered);
        told.add_to(&mut value);
        metadata::write(path, &value)?;
    }
    match depfile {
        Some(depfile) => depfile.finish(shown.progress()),
        None => Ok(()),
    }
}

fn write_id(args: &BuildArgs, delivered: &Delivered) -> Result<()> {
    match (&args.iidfile, &delivered.id) {
        (Some(path), Some(id)) => metadata::write_id(path, id.as_str()),
        _ => Ok(()),
    }
}

/// Tells programs what was built, and writes stdout's one line.
fn tell(args: &BuildArgs, delivered: &Delivered, shown: &Shown, out: &mut dyn Write) -> Result<()> {
    shown.succeeded(&result(delivered));
    match &delivered.id {
        Some(id) if args.quiet => writeln!(out, "{id}").context("cannot write to stdout"),
        Some(id) => {
            shown.built(id);
            Ok(())
        }
        None => Ok(()),
    }
}

/// What was built, for programs.
fn result(delivered: &Delivered) -> Value {
    let mut value = json!({});
    if let Some(config) = &delivered.config {
        value["containerimage.config.digest"] = json!(config.digest);
    }
    if let Some(manifest) = &delivered.manifest {
        value["containerimage.digest"] = json!(manifest.digest);
        value["containerimage.descriptor"] = json!(manifest);
    }
    if !delivered.names.is_empty() {
        let names: Vec<String> = delivered.names.iter().map(ToString::to_string).collect();
        value["image.name"] = json!(names.join(","));
    }
    value
}

/// `--jobs`, else the cores that this process may use.
fn jobs(args: &BuildArgs) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.jobs.map_or_else(cores, usize::from)
}

/// The log of the steps of builds of this context with this Dockerfile, as the user names them.
fn step_log(args: &BuildArgs, source: &SourceText, id_map: &str) -> StepLog {
    let is_here = args.context.is_dir();
    let named = |text: &str| match std::fs::canonicalize(text) {
        Ok(path) if is_here => path.to_string_lossy().into_owned(),
        _ => text.split('#').next().map(masked).unwrap_or_default(),
    };
    let context = named(&args.context.to_string_lossy());
    StepLog::new(&[id_map, &context, &named(&source.name)])
}

/// The build arguments, with `SOURCE_DATE_EPOCH` of the environment.
pub(super) fn build_args(args: &BuildArgs) -> Result<Vec<(String, String)>, UsageError> {
    let mut pairs = Vec::new();
    for text in &args.build_args {
        pairs.extend(values::inherited_pair(
            "--build-arg",
            text,
            values::variable,
        )?);
    }
    if !pairs.iter().any(|(name, _)| name == EPOCH)
        && let Some(epoch) = values::variable(EPOCH)?
    {
        pairs.push((EPOCH.into(), epoch));
    }
    check_options(&pairs)?;
    Ok(pairs)
}

/// Options of checks that are given as a build argument are the command line's matter.
pub(super) fn check_options(build_args: &[(String, String)]) -> Result<(), UsageError> {
    for (_, value) in build_args.iter().filter(|(name, _)| name == OPTIONS_ARG) {
        CheckOptions::parse(value)
            .map_err(|reason| UsageError(format!("--build-arg {OPTIONS_ARG}: {reason}")))?;
    }
    Ok(())
}

/// `SOURCE_DATE_EPOCH` of the build arguments, else of the environment.
///
/// # Errors
/// When it is no number.
pub(super) fn epoch(build_args: &[(String, String)]) -> Result<Option<i64>, UsageError> {
    let given = build_args.iter().rev().find(|(name, _)| name == EPOCH);
    let text = match given {
        Some((_, value)) => Some(value.clone()),
        None => values::variable(EPOCH)?,
    };
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.parse().ok().filter(|at| EPOCHS.contains(at));
    seconds.map(Some).ok_or_else(|| {
        UsageError(format!(
            "{EPOCH} {text:?}: expected seconds since 1970, to the end of the year 9999 at most"
        ))
    })
}

fn settings(
    args: &BuildArgs,
    build_args: &[(String, String)],
    outputs: &[OutputSpec],
) -> Result<Settings, UsageError> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let annotations = annotation::collect(&args.annotations, &platform, outputs)?;
    Ok(Settings {
        platform,
        platform_named: args.platform.is_some(),
        no_cache: args.no_cache,
        no_cache_stages: args
            .no_cache_filter
            .iter()
            .map(|name| name.to_lowercase())
            .collect(),
        pull: args.pull,
        limits: Limits::default(),
        network: args.network.into(),
        hosts: args
            .add_hosts
            .iter()
            .map(|text| values::host(text))
            .collect::<Result<_, _>>()?,
        ulimits: args
            .ulimits
            .iter()
            .map(|text| values::ulimit(text))
            .collect::<Result<_, _>>()?,
        shm_size: args
            .shm_size
            .as_deref()
            .map(|text| values::size("--shm-size", text))
            .transpose()?,
        secrets: granted::secrets(&args.secrets, &|name| std::env::var_os(name))?,
        agents: granted::agents(&args.agents, &|name| std::env::var_os(name))?,
        allow: granted::allowed(&args.allow)?,
        keep_failed: args.keep_failed,
        labels: args
            .labels
            .iter()
            .map(|text| values::pair("--label", text))
            .collect::<Result<_, _>>()?,
        annotations: annotations.manifest,
        descriptor_annotations: annotations.descriptor,
        hostname: values::hostname(build_args)?,
        inline_cache: shared_cache::is_inline(args, build_args)?,
        epoch: epoch(build_args)?,
    })
}

/// What the plan of a build for `platform` is made from.
pub(super) fn plan_options(
    args: &BuildArgs,
    build_args: Vec<(String, String)>,
    platform: &Platform,
    contexts: Vec<NamedContext>,
) -> PlanOptions {
    PlanOptions {
        build_args,
        target: args.target.clone(),
        platform: platform.clone(),
        platform_explicit: args.platform.is_some(),
        build_platform: Platform::host(),
        contexts,
    }
}

fn plan(
    args: &BuildArgs,
    source: &SourceText,
    options: &PlanOptions,
    progress: &Progress,
) -> Result<(Dockerfile, Plan)> {
    let wrong = |found| Diagnostics::new(source, found);
    let dockerfile = dockerfile::parse(&source.text).map_err(wrong)?;
    let plan = Plan::new(&dockerfile, options).map_err(wrong)?;
    checks::note_frontend(&dockerfile, options, progress);
    checks::warn_unused(&dockerfile, &plan, progress);
    for name in &args.no_cache_filter {
        let lower = name.to_lowercase();
        if !plan
            .stages()
            .iter()
            .any(|stage| stage.name.as_ref() == Some(&lower))
        {
            progress.warn(&format!(
                "--no-cache-filter {name}: the build has no such stage"
            ));
        }
    }
    for name in options.build_args_without_effect() {
        progress.warn(&format!("--build-arg {name} has no effect here"));
    }
    Ok((dockerfile, plan))
}
