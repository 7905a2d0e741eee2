//! `lapstrake push`: an image of the store to its registry.

use std::io::Write;

use super::pull::teller;
use crate::image::Reference;
use crate::layer::Compression;
use crate::output;
use crate::store::Store;
use crate::transfer::{self, Bringer, Bringing, Remote};

/// Send an image to a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's name, which says where it goes
    #[arg(value_name = "NAME[:TAG]")]
    name: Reference,
    /// Don't show progress
    #[arg(short, long)]
    quiet: bool,
}

/// Pushes the image and prints its digest to `out`, as Docker does.
///
/// # Errors
/// When the image is not in the store, and the registry's.
pub fn run(
    args: &Args,
    store: &Store,
    remote: &dyn Remote,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let image = store.find_image(&args.name.to_string())?;
    let tell = teller(args.quiet, "Pushed", "Layer already exists");
    let bringing = Bringing::default();
    let bringer = Bringer::alone(store, remote, &bringing, &tell);
    let parts = output::compressed(&bringer, &image, Compression::Gzip { level: 6 })?;
    transfer::push(&bringer, &parts, &args.name, &[])?;
    let tag = args.name.tag().unwrap_or("latest");
    let (digest, size) = (&parts.descriptor.digest, parts.manifest.len());
    writeln!(out, "{tag}: digest: {digest} size: {size}")?;
    Ok(())
}
