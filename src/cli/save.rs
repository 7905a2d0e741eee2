//! `lapstrake save`: images as an archive.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::files::write_whole;
use crate::image::ImageParts;
use crate::image::Reference;
use crate::output::{ArchiveKind, write_archive};
use crate::store::Store;
use crate::transfer::{Remote, complete, open_blob, parts};

/// Save images to an archive, on standard output by default
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Write to a file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What kind of archive
    #[arg(long, default_value = "docker-archive")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    DockerArchive,
    OciArchive,
}

/// Writes the archive to the file, or to `out`.
///
/// # Errors
/// When an image or one of its blobs is not in the store, when the archive cannot be written.
pub fn run(
    args: &Args,
    store: &Store,
    remote: &dyn Remote,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let kind = match args.format {
        Format::DockerArchive => ArchiveKind::Docker,
        Format::OciArchive => ArchiveKind::Oci,
    };
    let images = collect(args, store, remote)?;
    let save = |out: &mut dyn Write| -> anyhow::Result<()> {
        Ok(write_archive(out, kind, &images, &open_blob(store))?)
    };
    match &args.output {
        Some(path) => write_whole(path, save),
        None if io::stdout().is_terminal() => {
            bail!("an archive is nothing for a terminal: use --output FILE or redirect")
        }
        None => save(&mut BufWriter::new(out)),
    }
}

/// Each image once, under the names by which it was asked for, and with all of its blobs.
fn collect(args: &Args, store: &Store, remote: &dyn Remote) -> anyhow::Result<Vec<ImageParts>> {
    let mut images: Vec<ImageParts> = Vec::new();
    for text in &args.images {
        let found = store.find_image(text)?;
        let asked = text.parse::<Reference>().ok();
        let names: Vec<Reference> = found
            .names
            .iter()
            .filter(|name| Some(*name) == asked.as_ref())
            .cloned()
            .collect();
        let saving = || format!("cannot save {text}");
        complete(store, remote, &found, &|_| {}).with_context(saving)?;
        let new = parts(store, &found).with_context(saving)?;
        let known = images
            .iter_mut()
            .find(|image| image.descriptor.digest == new.descriptor.digest);
        match known {
            Some(image) => image.names.extend(names),
            None => images.push(ImageParts { names, ..new }),
        }
    }
    Ok(images)
}
