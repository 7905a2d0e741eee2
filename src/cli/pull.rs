//! `lapstrake pull`: an image from a registry into the store.

use std::io::{self, Write};
use std::sync::Mutex;

use super::table;
use crate::image::{Platform, Reference};
use crate::store::Store;
use crate::transfer::{self, Event, PullLayers, PullOptions, PullPolicy, Remote};

/// Fetch an image from a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's name
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: Reference,
    /// The platform to fetch it for; this machine's by default
    #[arg(long)]
    platform: Option<Platform>,
    /// Don't show progress
    #[arg(short, long)]
    quiet: bool,
}

/// Pulls the image and prints its full name to `out`.
///
/// # Errors
/// The registry's and the store's.
pub fn run(
    args: &Args,
    store: &Store,
    remote: &dyn Remote,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let options = PullOptions {
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        exact: args.platform.is_some(),
        policy: PullPolicy::Always,
        layers: PullLayers::All,
    };
    let tell = teller(args.quiet, "Pull complete", "Already exists");
    transfer::pull(store, remote, &args.name, &options, &tell)?;
    store.settle()?;
    writeln!(out, "{}", args.name)?;
    Ok(())
}

/// Says on stderr what becomes of each blob, a line each.
pub(super) fn teller(
    quiet: bool,
    done: &'static str,
    exists: &'static str,
) -> impl Fn(Event) + Sync {
    let lock = Mutex::new(());
    move |event| {
        if quiet {
            return;
        }
        let (blob, text) = match event {
            Event::Started { blob, size } => (blob, table::size(size)),
            Event::Done { blob } => (blob, done.to_owned()),
            Event::Exists { blob } => (blob, exists.to_owned()),
            Event::Unpacking { .. } | Event::Unpacked { .. } => return,
        };
        let held = lock.lock();
        // Progress that nobody can see is no reason to stop.
        drop(writeln!(
            io::stderr(),
            "{}: {text}",
            &blob.hex()[..table::SHORT_ID]
        ));
        drop(held);
    }
}
