//! `lapstrake rmi`: takes names away, and images that have no other name.

use std::io::Write;

use anyhow::bail;

use crate::image::Reference;
use crate::store::{Store, StoreError};

/// Remove images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove an image that was given by its id although it has several names
    #[arg(short, long)]
    force: bool,
}

/// Removes the images and says so on `out`. Their space comes back with `prune`.
///
/// # Errors
/// When one is not there, or has several names; those before it are gone then.
pub fn run(args: &Args, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    for text in &args.images {
        remove(args, store, text, out)?;
    }
    Ok(())
}

fn remove(args: &Args, store: &Store, text: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    // By name first, and without reading the image: a damaged one has to go, too.
    if let Ok(name) = text.parse::<Reference>() {
        let id = match store.image(&name) {
            Ok(image) => image.map(|image| image.id),
            Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(has_others) = store.untag(&name)? {
            writeln!(out, "Untagged: {}", name.familiar())?;
            if let Some(id) = id.filter(|_| !has_others) {
                writeln!(out, "Deleted: {id}")?;
            }
            return Ok(());
        }
    }
    let image = store.find_image(text)?;
    let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    if names.len() > 1 && !args.force {
        bail!(
            "{text} has several names ({}): remove them one by one, or all with --force",
            names.join(", ")
        );
    }
    store.forget(&image)?;
    for name in names {
        writeln!(out, "Untagged: {name}")?;
    }
    writeln!(out, "Deleted: {}", image.id)?;
    Ok(())
}
