//! `lapstrake run`: a process in the sandbox of a build step, over an image.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use runtime::{BindSource, Exit, Mount, Roots, RunSpec, Stdin, Workspace};

use super::build_args::NetworkArg;
use super::exit::UsageError;
use super::{App, Ground, signals, values};
use crate::build::{self, Cancel, Foreign, Place, Unsupported};
use crate::image::{ImageConfig, Platform};
use crate::layer::{self, Disk, LayerStack, Meta, Target};
use crate::rootfs::{RootDir, RootPath, resolve_user};
use crate::store::{Store, StoreError, StoredImage};
use crate::transfer::{self, Bringer, Bringing, PullLayers, PullOptions, PullPolicy};

/// What an error of `lapstrake run` itself ends with.
const ERROR: u8 = 125;

/// Run a command in an image
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Environment variable; without a value it is taken from the environment; may be repeated
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// User, NAME|UID[:GROUP|GID]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    /// Program in place of the image's ENTRYPOINT; an empty one removes it
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// Bind mount; may be repeated
    #[arg(short, long = "volume", value_name = "HOST:INSIDE[:ro]")]
    volumes: Vec<String>,

    /// Network
    #[arg(long, value_enum, default_value_t = NetworkArg::Host, value_name = "MODE")]
    network: NetworkArg,

    /// Accepted for docker's users: what the command writes is never kept
    #[arg(long)]
    rm: bool,

    /// Image, by name or id; then the command and its arguments in place of the image's CMD. What
    /// stands after the image is the command's, flags too
    #[arg(required = true, num_args = 1.., value_names = ["IMAGE", "COMMAND"], trailing_var_arg = true)]
    image_and_command: Vec<String>,
}

impl RunArgs {
    fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}

/// Runs the command and gives its exit status.
///
/// # Errors
/// When it could not be started.
pub(super) fn run(args: &RunArgs, app: &App) -> Result<u8> {
    let entered = app.enter(&|_| {})?;
    let store = app.open_store(&entered)?;
    let image = find(args, app, &store)?;
    let registries = app.registries()?;
    let bringing = Bringing::default();
    let bringer = Bringer::alone(&store, &registries, &bringing, &|_| {});
    let ground = Ground::new(&entered, &store)?;
    let stack = bringer.stack(&transfer::layers_of(&image)?, &ground.disk)?;
    let staging = store.staging()?;
    let roots = &ground.roots;
    refuse_volumes(args, roots)?;
    note_platform(args, &image, &store, roots)?;
    let mut spec = spec(args, &image.config)?;
    if entered.ids.is_single() && runtime::supervision().is_ok() {
        spec.owners = Some(layer::owners(&stack)?);
    }
    let workspace = roots.for_run(&stack.lowers(), staging.path(), &spec)?;
    become_user(&mut spec, args, &image.config, &workspace)?;
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
    make_workdir(&workspace, &stack, &ground.disk, &spec.cwd)?;
    let child = runtime::spawn(&workspace, spec, stdout, stderr)?;
    let handle = child.kill_handle();
    let signal = signals::on_signal(move |_| handle.kill())?;
    let exit = child.wait()?;
    // What the command has written is not kept, and a tree that cannot be used again is no failure of it.
    drop(workspace.revert());
    let signal = signal.load(Ordering::Relaxed);
    if signal != 0 {
        return Ok(u8::try_from(128 + signal).unwrap_or(255));
    }
    Ok(match exit {
        Exit::Code(status) => u8::try_from(status).unwrap_or(255),
        Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
    })
}

/// What `lapstrake run` ends with when its process did not start, as docker does: as a shell would
/// if the program is missing or cannot be executed.
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(runtime::Error::Exec(error)) => u8::try_from(error.exit_code()).unwrap_or(ERROR),
        _ => ERROR,
    }
}

/// A working directory that the image lacks is made, as docker does.
fn make_workdir(workspace: &Workspace, stack: &LayerStack, disk: &Disk, path: &Path) -> Result<()> {
    let root = RootDir::from_fd(workspace.root().try_clone_to_owned()?);
    let lower = |path: &RootPath| stack.attr(path).map_err(io::Error::other);
    let mut target = Target::new(root, disk).with_lower(&lower);
    build::make_dirs(&mut target, &RootPath::new(path), &Meta::root_owned(0o755))
        .with_context(|| format!("cannot make the working directory {}", path.display()))
}

fn find(args: &RunArgs, app: &App, store: &Store) -> Result<StoredImage> {
    match store.find_image(args.image()) {
        Err(StoreError::NoImage { .. }) => {}
        result => return Ok(result?),
    }
    let name = args.image().parse()?;
    let registries = app.registries()?;
    eprintln!("{} is not in the store: pulling it", args.image());
    let options = PullOptions {
        platform: Platform::host(),
        exact: true,
        policy: PullPolicy::IfMissing,
        layers: PullLayers::All,
    };
    Ok(transfer::pull(
        store,
        &registries,
        &name,
        &options,
        &|_| {},
    )?)
}

/// The sandbox but for its user, on which no mount depends.
fn spec(args: &RunArgs, config: &ImageConfig) -> Result<RunSpec> {
    let config = &config.config;
    let argv = argv(args, config.entrypoint.as_deref(), config.cmd.as_deref())?;
    let env = environment(args, &config.env)?;
    let workdir = args.workdir.as_deref().unwrap_or(&config.working_dir);
    Ok(RunSpec {
        env: env
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        cwd: PathBuf::from(if workdir.is_empty() { "/" } else { workdir }),
        hostname: "lapstrake".to_owned(),
        network: args.network.into(),
        mounts: args
            .volumes
            .iter()
            .map(|text| volume(text))
            .collect::<Result<_>>()?,
        stdin: Stdin::Inherit,
        ..RunSpec::new(argv)
    })
}

/// Adds the user, whom the image's own files describe.
fn become_user(
    spec: &mut RunSpec,
    args: &RunArgs,
    config: &ImageConfig,
    workspace: &Workspace,
) -> Result<()> {
    let root = RootDir::from_fd(workspace.root().try_clone_to_owned()?);
    let user = resolve_user(&root, args.user.as_deref().unwrap_or(&config.config.user))?;
    if !spec.env.iter().any(|(name, _)| name == "HOME") {
        let home = user.home.unwrap_or_else(|| "/".to_owned());
        spec.env.push(("HOME".into(), home.into()));
    }
    (spec.uid, spec.gid, spec.groups) = (user.uid, user.gid, user.groups);
    Ok(())
}

/// ENTRYPOINT and CMD as Docker combines them: a command replaces CMD, another entrypoint drops
/// both.
fn argv(
    args: &RunArgs,
    entrypoint: Option<&[String]>,
    cmd: Option<&[String]>,
) -> Result<Vec<String>> {
    let mut argv: Vec<String> = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => entrypoint.unwrap_or_default().to_vec(),
    };
    if !args.command().is_empty() {
        argv.extend_from_slice(args.command());
    } else if args.entrypoint.is_none() {
        argv.extend_from_slice(cmd.unwrap_or_default());
    }
    if argv.is_empty() {
        bail!(UsageError(format!(
            "{} has neither ENTRYPOINT nor CMD: name a command",
            args.image()
        )));
    }
    Ok(argv)
}

/// The image's variables, and those of `-e` over them.
fn environment(args: &RunArgs, image: &[String]) -> Result<Vec<(String, String)>> {
    let mut env: Vec<(String, String)> = image
        .iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for text in &args.env {
        if let Some((name, value)) = values::inherited_pair("--env", text, values::variable)? {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        }
    }
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".into(), runtime::DEFAULT_PATH.into()));
    }
    Ok(env)
}

/// Sees to it that programs of the image's platform are executed, if that can be. What is said of the platform
/// may be wrong, so the command has its try in any case.
fn note_platform(args: &RunArgs, image: &StoredImage, store: &Store, roots: &Roots) -> Result<()> {
    let platform = image.platform();
    if platform.arch.is_empty() {
        return Ok(());
    }
    let cancel = Cancel::default();
    let place = Place {
        store,
        roots,
        cancel: &cancel,
    };
    let Err(error) = Foreign::default().check(&place, &platform) else {
        return Ok(());
    };
    let Unsupported { hint, .. } = error.downcast()?;
    eprintln!(
        "{} is for {platform}: {}",
        args.image(),
        hint.unwrap_or_default()
    );
    Ok(())
}

/// A copy of a directory would take what is written to it, and be lost.
fn refuse_volumes(args: &RunArgs, roots: &Roots) -> Result<()> {
    for text in args
        .volumes
        .iter()
        .filter(|_| matches!(roots, Roots::Trees(_)))
    {
        if matches!(
            volume(text)?,
            Mount::Bind {
                readonly: false,
                ..
            }
        ) {
            bail!(UsageError(format!(
                "--volume {text:?}: nothing can be mounted here, so the command sees a copy, and what \
                 it writes would be lost; say so with :ro, or run it where user namespaces are allowed"
            )));
        }
    }
    Ok(())
}

fn volume(text: &str) -> Result<Mount> {
    let wrong = || {
        UsageError(format!(
            "--volume {text:?}: expected HOST:INSIDE or HOST:INSIDE:ro"
        ))
    };
    let mut parts = text.split(':');
    let (Some(host), Some(inside)) = (parts.next(), parts.next()) else {
        bail!(wrong())
    };
    let readonly = match (parts.next(), parts.next()) {
        (None, _) | (Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => bail!(wrong()),
    };
    if host.is_empty() || !inside.starts_with('/') {
        bail!(wrong());
    }
    let source =
        std::fs::canonicalize(host).with_context(|| format!("--volume: cannot find {host}"))?;
    Ok(Mount::Bind {
        source: BindSource::Path(source),
        target: inside.into(),
        readonly,
    })
}
