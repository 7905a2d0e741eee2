//! The command line: one file per subcommand, flags, exit codes, and errors as people read them.

mod annotation;
mod build;
mod build_args;
mod cache_spec;
mod call;
mod check;
mod checks;
mod deliver;
mod depfile;
mod doctor;
mod du;
mod exit;
mod files;
mod granted;
mod images;
mod import;
mod input;
mod inspect;
mod kept;
mod limits;
mod load;
mod login;
mod logout;
mod metadata;
mod named;
mod output_spec;
mod parse;
mod prune;
mod pull;
mod push;
mod remote;
mod report;
mod rmi;
mod run;
mod sandbox;
mod save;
mod shared_cache;
mod shown;
mod signals;
mod stdout;
mod table;
mod tag;
#[cfg(test)]
mod tests;
mod upkeep;
mod values;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use runtime::{Entered, Mode, Roots, Trees};

use crate::config::Config;
use crate::fetch::{self, Network};
use crate::layer::Disk;
use crate::registry::{Registries, Settings};
use crate::store::{Staging, Store};

/// Stands for the id map where no layer is touched.
const NO_ID_MAP: &str = "none";

/// Builds OCI images from Dockerfiles: no daemon, no root.
#[derive(Parser, Debug)]
#[command(name = "lapstrake", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    app: App,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand works with: the flags that stand before it.
#[derive(Args, Debug)]
struct App {
    /// The store [default: $LAPSTRAKE_ROOT, else lapstrake/ in $XDG_DATA_HOME or ~/.local/share, else a
    /// volume that can hold it]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The kind of sandbox: auto, userns-many, userns-one or chroot [default: $LAPSTRAKE_SANDBOX, else
    /// auto, the strongest that works here]
    #[arg(long, global = true, value_name = "MODE", value_parser = values::sandbox)]
    sandbox: Option<values::Sandbox>,

    /// Ask URL before the registry HOST; may be repeated
    #[arg(long = "registry-mirror", global = true, value_name = "HOST=URL")]
    registry_mirrors: Vec<String>,

    /// The caller's user id, outside of the sandbox's namespace.
    #[arg(skip = nix::unistd::getuid().as_raw())]
    uid: u32,

    /// Where the store is, once that is settled.
    #[arg(skip)]
    place: std::sync::OnceLock<PathBuf>,
}

/// What root file systems stand on.
struct Ground {
    disk: Disk,
    roots: Roots,
    // Where trees are that nobody keeps; goes after them.
    _staging: Option<Staging>,
}

impl Ground {
    fn new(entered: &Entered, store: &Store) -> Result<Self> {
        let (roots, staging) = match entered.mode {
            Mode::UsernsMany | Mode::UsernsOne => (Roots::Overlays, None),
            Mode::Chroot => match store.trees()? {
                Some(trees) => (Roots::Trees(trees), None),
                None => {
                    let staging = store.staging()?;
                    (Roots::Trees(Trees::new(staging.trees())?), Some(staging))
                }
            },
        };
        Ok(Self {
            disk: Disk {
                ids: entered.ids.clone(),
                overlays: matches!(roots, Roots::Overlays),
            },
            roots,
            _staging: staging,
        })
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    Build(Box<build_args::BuildArgs>),
    Run(Box<run::RunArgs>),
    Pull(pull::Args),
    Push(push::Args),
    Images(images::Args),
    Inspect(inspect::Args),
    Tag(tag::Args),
    Rmi(rmi::Args),
    Load(load::Args),
    Save(save::Args),
    Import(import::Args),
    Du(du::Args),
    Prune(prune::Args),
    Doctor(doctor::Args),
    Check(check::Args),
    Parse(parse::Args),
    Login(login::Args),
    Logout(logout::Args),
    /// Print the version
    Version,
}

impl App {
    /// Enters the sandbox's namespaces; nothing may have started a thread before. `tell` is told where the
    /// store is if it is not at its usual place.
    fn enter(&self, tell: &dyn Fn(&str)) -> Result<Entered> {
        let (entered, root, moved) = self.wanted()?.enter()?;
        if let Some(why) = moved {
            tell(&format!("store: {}, since {why}", root.display()));
        }
        runtime::check_calls(entered.mode)?;
        self.place.get_or_init(|| root);
        Ok(entered)
    }

    /// Opens the store to look after it, in whatever sandbox can be had.
    fn store_to_look_after(&self) -> Result<Store> {
        let (entered, root) = self.wanted()?.enter_store()?;
        self.place.get_or_init(|| root);
        self.open_store(&entered)
    }

    /// What is asked for, by flags and variables.
    fn wanted(&self) -> Result<sandbox::Wanted> {
        let variable = std::env::var_os("LAPSTRAKE_ROOT").filter(|root| !root.is_empty());
        Ok(sandbox::Wanted {
            root: self.root.clone().or(variable.map(PathBuf::from)),
            mode: sandbox::mode(self.sandbox)?,
            uid: self.uid,
        })
    }

    /// The store's place. Without a sandbox, which not everything needs, it is the usual one.
    fn place(&self) -> Result<&PathBuf> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let wanted = self.wanted()?;
        let place = match &wanted.root {
            Some(root) => root.clone(),
            None => match wanted.settle() {
                Ok(Ok(settled)) => settled.root,
                Ok(Err((root, _))) => root,
                // What cannot be tried, on a full disk for example, is no matter of images.
                Err(_) => crate::store::default_root(|name| std::env::var_os(name), self.uid)?,
            },
        };
        Ok(self.place.get_or_init(|| place))
    }

    /// Opens the store for work with layers.
    fn open_store(&self, entered: &Entered) -> Result<Store> {
        let ids = entered.ids.key();
        match entered.mode {
            // Their layers have a form of their own: see `layer::Marks`.
            Mode::Chroot => self.store(&format!("{ids}-trees")),
            Mode::UsernsMany | Mode::UsernsOne => self.store(&ids),
        }
    }

    /// Opens the store for work with images, for which no sandbox is needed.
    fn images(&self) -> Result<Store> {
        let store = self.store(NO_ID_MAP)?;
        if let Some(weakness) = store.weakness() {
            eprintln!("warning: {weakness}");
        }
        Ok(store)
    }

    fn store(&self, id_map: &str) -> Result<Store> {
        Ok(Store::open(self.place()?, id_map)?)
    }

    fn registries(&self) -> Result<Registries> {
        Ok(Registries::new(self.registry_settings()?))
    }

    /// How files are fetched: with the authorities that registries are trusted by.
    fn network(&self) -> Result<Network> {
        Ok(Network::new(fetch::Settings {
            ca_files: self.registry_settings()?.ca_files,
            ..fetch::Settings::default()
        }))
    }

    fn registry_settings(&self) -> Result<Settings> {
        Ok(Config::settings(&self.registry_mirrors)?)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            // The tip is to pass the flag behind `--`, as a context or an image: nobody means that.
            error.remove(clap::error::ContextKind::Suggested);
            let code = if error.use_stderr() {
                exit::Class::Usage.code()
            } else {
                0
            };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match dispatch(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::tell(&error);
            match cli.command {
                Command::Run(_) => ExitCode::from(run::exit_code(&error)),
                _ => report::classify(&error).into(),
            }
        }
    }
}

fn dispatch(cli: &Cli) -> Result<u8> {
    let app = &cli.app;
    let out = &mut stdout::Stdout(std::io::stdout().lock());
    let mut code = 0;
    match &cli.command {
        Command::Build(args) => code = build::run(args, app, out)?,
        Command::Run(args) => return run::run(args, app),
        Command::Pull(args) => pull::run(args, &app.images()?, &app.registries()?, out)?,
        Command::Push(args) => push::run(args, &app.images()?, &app.registries()?, out)?,
        Command::Images(args) => images::run(args, &app.images()?, out)?,
        Command::Inspect(args) => inspect::run(args, &app.images()?, out)?,
        Command::Tag(args) => tag::run(args, &app.images()?)?,
        Command::Rmi(args) => rmi::run(args, &app.images()?, out)?,
        Command::Load(args) => load::run(args, &app.images()?, out)?,
        Command::Save(args) => save::run(args, &app.images()?, &app.registries()?, out)?,
        Command::Import(args) => import::run(args, &app.images()?, build::epoch(&[])?, out)?,
        Command::Du(args) => du::run(args, &app.store_to_look_after()?, out)?,
        Command::Prune(args) => {
            prune::run(args, &|| app.store_to_look_after(), out)?;
        }
        Command::Doctor(args) => code = doctor::run(args, app, out)?,
        Command::Check(args) => code = check::run(args, out)?,
        Command::Parse(args) => parse::run(args, out)?,
        Command::Login(args) => login::run(args, app.registry_settings()?)?,
        Command::Logout(args) => logout::run(args)?,
        Command::Version => writeln!(out, "lapstrake {}", env!("CARGO_PKG_VERSION"))?,
    }
    out.flush().context("cannot write to stdout")?;
    Ok(code)
}
