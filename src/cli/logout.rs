//! `lapstrake logout`: forgets what `login` kept.

use crate::registry::{DockerConfig, host_of};

/// Log out from a registry.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The registry
    #[arg(default_value = "docker.io", value_name = "REGISTRY")]
    pub registry: String,
}

/// Removes the registry's credentials from docker's configuration and its helper.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let host = host_of(&args.registry);
    match DockerConfig::load()?.erase(host)? {
        true => eprintln!("the credentials for {host} are removed"),
        false => eprintln!("there are no credentials for {host}"),
    }
    Ok(())
}
