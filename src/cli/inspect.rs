//! `lapstrake inspect`: everything that is known of an image, as JSON.

use std::io::Write;

use serde_json::{Value, json};

use crate::image::Reference;
use crate::store::{Store, StoredImage};

/// Show an image's configuration and manifest as JSON
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Prints an array with one object for every image to `out`.
///
/// # Errors
/// When one of the images is not there; nothing is printed then.
pub fn run(args: &Args, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut objects = Vec::new();
    for text in &args.images {
        objects.push(describe(store, &store.find_image(text)?)?);
    }
    serde_json::to_writer_pretty(&mut *out, &objects)?;
    writeln!(out)?;
    Ok(())
}

/// Docker's keys for what Docker shows, and the manifest and history besides. From the JSON as it
/// is, so that nothing is lost that this program does not know.
fn describe(store: &Store, image: &StoredImage) -> anyhow::Result<Value> {
    let config: Value = serde_json::from_slice(&store.read_blob(&image.id)?)?;
    let manifest: Value = serde_json::from_slice(&store.read_blob(&image.manifest_digest)?)?;
    let names = || image.names.iter();
    let tags: Vec<_> = names()
        .filter(|name| name.digest().is_none())
        .map(Reference::familiar)
        .collect();
    let mut digests: Vec<_> = names()
        .map(|name| name.with_digest(image.manifest_digest.clone()).familiar())
        .collect();
    digests.dedup();
    let size: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    Ok(json!({
        "Id": image.id,
        "Digest": image.manifest_digest,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": config["created"],
        "Author": config["author"],
        "Platform": image.platform().to_string(),
        "Architecture": config["architecture"],
        "Variant": config["variant"],
        "Os": config["os"],
        "Size": size,
        "Config": config["config"],
        "RootFS": { "Type": config["rootfs"]["type"], "Layers": config["rootfs"]["diff_ids"] },
        "History": config["history"],
        "Manifest": manifest,
    }))
}
