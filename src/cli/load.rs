//! `lapstrake load`: images out of an archive.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use anyhow::bail;

use super::files::open_named;
use crate::store::Store;
use crate::transfer;

/// Load images from an archive (docker save, OCI), compressed or not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read from a file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Don't say what was loaded
    #[arg(short, long)]
    quiet: bool,
}

/// Loads the archive and says on `out` what was in it.
///
/// # Errors
/// When the archive cannot be read or is none, when the store fails.
pub fn run(args: &Args, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    let (reader, label): (Box<dyn Read>, String) = match &args.input {
        Some(path) => (Box::new(open_named(path)?), path.display().to_string()),
        None if io::stdin().is_terminal() => {
            bail!("there is no archive to load: use --input FILE or redirect standard input")
        }
        None => (Box::new(io::stdin().lock()), "standard input".into()),
    };
    let loaded = transfer::load(store, reader, &label)?;
    store.settle()?;
    for image in loaded {
        if args.quiet {
            continue;
        }
        for name in &image.names {
            writeln!(out, "Loaded image: {}", name.familiar())?;
        }
        if image.names.is_empty() {
            writeln!(out, "Loaded image ID: {}", image.id)?;
        }
    }
    Ok(())
}
