//! `lapstrake import`: a root file system as an image.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::files::open_named;
use crate::image::{Platform, Reference};
use crate::store::{Store, StoreError};
use crate::transfer::{ImportOptions, import_dir, import_tar};

/// Make an image of one layer from a root file system
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A tar (compressed or not), a directory, or - for a tar on standard input
    #[arg(value_name = "FILE|DIR|-")]
    source: PathBuf,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
    /// A comment for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// What the root file system is for; this machine by default
    #[arg(long)]
    platform: Option<Platform>,
    /// Not supported: build from the imported image with a Dockerfile instead
    #[arg(short, long, value_name = "INSTRUCTION", hide = true)]
    change: Vec<String>,
}

/// Imports, and prints the image's id to `out`.
///
/// `epoch` is `SOURCE_DATE_EPOCH`, in seconds since 1970; the time is now without it.
///
/// # Errors
/// When the source cannot be read or the store fails, and for `--change`.
pub fn run(
    args: &Args,
    store: &Store,
    epoch: Option<i64>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if let Some(change) = args.change.first() {
        bail!(
            "--change {change:?} is not supported: put the instruction into a Dockerfile that begins with FROM the imported image"
        );
    }
    let created = match epoch {
        Some(seconds) => OffsetDateTime::from_unix_timestamp(seconds)
            .with_context(|| format!("SOURCE_DATE_EPOCH={seconds} is no time"))?,
        None => OffsetDateTime::now_utc(),
    };
    let source = args.source.display();
    let options = ImportOptions {
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        created: created.format(&Rfc3339)?,
        message: match &args.message {
            Some(message) => message.clone(),
            None => format!("Imported from {source}"),
        },
    };
    let target = if args.source == Path::new("-") {
        import_tar(store, io::stdin().lock(), "standard input", &options)?
    } else if args.source.is_dir() {
        import_dir(store, &args.source, &options)?
    } else {
        let file = open_named(&args.source)?;
        import_tar(store, file, &source.to_string(), &options)?
    };
    store.settle()?;
    match &args.name {
        Some(name) => store.tag(name, &target)?,
        None => store.keep_unnamed(&target)?,
    }
    let digest = target.digest.to_string();
    let (images, _) = store.images()?;
    let image = images
        .iter()
        .find(|image| image.target.digest == target.digest)
        .ok_or(StoreError::NoImage { name: digest })?;
    writeln!(out, "{}", image.id)?;
    Ok(())
}
