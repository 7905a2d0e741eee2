//! `lapstrake login`: credentials that a registry accepts, kept where docker keeps them.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::{Context, bail};

use super::exit::UsageError;
use crate::registry::{Credential, DockerConfig, Kept, Registries, Settings, host_of};

/// No password or token is longer.
const LONGEST: u64 = 1 << 20;

/// Log in to a registry.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The user's name; asked for if it is not given
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// The registry
    #[arg(default_value = "docker.io", value_name = "REGISTRY")]
    pub registry: String,
}

/// Asks for what is missing, asks the registry whether it is right, and keeps it.
pub fn run(args: &Args, settings: Settings) -> anyhow::Result<()> {
    let host = host_of(&args.registry);
    let mut config = DockerConfig::load()?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin => bail!(usage("--password-stdin needs --username")),
        None => ask_user(host, config.user(host))?,
    };
    if user.contains(':') {
        bail!(usage("a user name cannot hold a colon"));
    }
    let password = password(args.password_stdin)?;
    if password.is_empty() {
        bail!(usage("the password is empty"));
    }
    let credential = Credential::Basic {
        user: user.clone(),
        password: password.clone(),
    };
    Registries::new(settings).check_login(host, &credential)?;
    match config.store(host, &user, &password)? {
        Kept::InFile(path) => eprintln!(
            "warning: the password is kept unencrypted in {}; a credential helper (credsStore in \
             that file) keeps it safer",
            path.display()
        ),
        Kept::WithHelper(helper) => eprintln!("the password is kept by {helper}"),
    }
    eprintln!("logged in to {host} as {user}");
    Ok(())
}

fn usage(text: &str) -> UsageError {
    UsageError(text.to_owned())
}

fn ask_user(host: &str, known: Option<String>) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!(usage(
            "there is no terminal to ask for the user name: use --username and --password-stdin"
        ));
    }
    match &known {
        Some(user) => eprint!("user name for {host} ({user}): "),
        None => eprint!("user name for {host}: "),
    }
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the user name")?;
    match (line.trim(), known) {
        ("", Some(user)) => Ok(user),
        ("", None) => bail!(usage("a user name is needed")),
        (user, _) => Ok(user.to_owned()),
    }
}

fn password(from_stdin: bool) -> anyhow::Result<String> {
    if !from_stdin {
        return rpassword::prompt_password("password: ")
            .context("cannot ask for the password: without a terminal use --password-stdin");
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.context("cannot read the password from standard input")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
