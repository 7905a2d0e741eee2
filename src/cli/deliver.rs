//! From a built image to everything that `-o`, `--push` and `--load` ask for.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::build_args::BuildArgs;
use super::exit::UsageError;
use super::files::write_whole;
use super::output_spec::{OutputKind, OutputSpec};
use crate::build::{BuiltImage, Environment};
use crate::image::ImageParts;
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Reference};
use crate::layer::Compression;
use crate::output::{self, ArchiveKind, Assembled, write_archive, write_layout};
use crate::progress::Outcome;
use crate::transfer::{self, Bringer};

/// What was delivered, for the id file, the metadata file and stdout.
pub(super) struct Delivered {
    /// The image's id; none when only a root file system was written.
    pub(super) id: Option<Digest>,
    /// The manifest of the last push, else of the last output that has one.
    pub(super) manifest: Option<Descriptor>,
    /// The configuration's descriptor.
    pub(super) config: Option<Descriptor>,
    /// The names it went under.
    pub(super) names: Vec<Reference>,
    /// Those of them under which it was pushed.
    pub(super) pushed: Vec<Reference>,
}

/// The outputs that the flags ask for: `-o`, then `--push` and `--load`; the store if none.
pub(super) fn outputs(args: &BuildArgs) -> Result<Vec<OutputSpec>, UsageError> {
    let mut outputs = args.outputs.clone();
    if args.push {
        outputs.push(OutputSpec {
            push: true,
            ..OutputSpec::new(OutputKind::Image)
        });
    }
    if args.load || outputs.is_empty() {
        outputs.push(OutputSpec::new(OutputKind::Image));
    }
    let files = [&args.iidfile, &args.metadata_file, &args.depfile];
    for file in files.into_iter().flatten() {
        check_place(file, false)?;
    }
    let mut dests = Vec::new();
    for output in &outputs {
        if output.push && output.names.is_empty() && args.tags.is_empty() {
            return Err(UsageError("a push needs a name: give one with -t".into()));
        }
        let to_stdout = match &output.dest {
            Some(dest) => dest.as_os_str() == "-",
            None => output.kind == OutputKind::Docker,
        };
        let dest = if to_stdout {
            Some(Path::new("-"))
        } else {
            output.dest.as_deref()
        };
        if let Some(dest) = dest
            && dests.contains(&dest)
        {
            return Err(UsageError(format!(
                "two outputs go to {}: give each a dest of its own",
                if to_stdout {
                    "stdout".into()
                } else {
                    dest.to_string_lossy()
                }
            )));
        }
        dests.extend(dest);
        if let Some(dest) = output.dest.as_deref().filter(|_| !to_stdout) {
            let is_directory = output.kind == OutputKind::Local || !output.tar;
            check_place(dest, is_directory)?;
        }
        if to_stdout && args.quiet {
            return Err(UsageError(
                "-q and an output on stdout exclude each other".into(),
            ));
        }
        if to_stdout && io::stdout().is_terminal() {
            return Err(UsageError(
                "an archive is not written to a terminal: redirect stdout or give dest=PATH".into(),
            ));
        }
    }
    Ok(outputs)
}

/// Refuses a file, or a directory, that could not be written after a long build.
fn check_place(dest: &Path, is_directory: bool) -> Result<(), UsageError> {
    let wrong = |why: &str| UsageError(format!("cannot write {}: {why}", dest.display()));
    let above = dest.parent().filter(|above| !above.as_os_str().is_empty());
    match std::fs::metadata(dest) {
        Ok(found) if is_directory && !found.is_dir() => Err(wrong("it is no directory")),
        Ok(found) if !is_directory && found.is_dir() => Err(wrong("it is a directory")),
        Err(_) if !is_directory && above.is_some_and(|above| !above.is_dir()) => {
            Err(wrong("it would be in a directory that does not exist"))
        }
        _ => Ok(()),
    }
}

/// Writes every output.
///
/// # Errors
/// The first output's that fails; files are never left half-written.
pub(super) fn deliver(
    env: &Environment<'_>,
    args: &BuildArgs,
    outputs: &[OutputSpec],
    image: &BuiltImage,
) -> Result<Delivered> {
    let mut delivered = Delivered {
        id: None,
        manifest: None,
        config: None,
        names: Vec::new(),
        pushed: Vec::new(),
    };
    for output in outputs {
        env.cancel.check()?;
        let names = names(args, output)?;
        let compression = output.compression.unwrap_or(default_compression(output));
        if matches!(output.kind, OutputKind::Local | OutputKind::Tar) {
            write_tree(env, output, image)?;
            continue;
        }
        let assembled = output::assemble(env, image, compression, env.cancel)?;
        hand_over(env, output, &names, image, &assembled)?;
        delivered.id = Some(assembled.id);
        delivered.config = Some(assembled.config);
        // By what was pushed others get it; in the store its layers are not compressed.
        if output.push || delivered.pushed.is_empty() {
            delivered.manifest = Some(assembled.descriptor);
        }
        if output.push {
            delivered.pushed.extend(names.iter().cloned());
        }
        delivered.names.extend(names);
    }
    if delivered.id.is_none() && (args.quiet || args.iidfile.is_some()) {
        let plain = Compression::Uncompressed;
        let assembled = output::assemble(env, image, plain, env.cancel)?;
        delivered.id = Some(assembled.id);
    }
    Ok(delivered)
}

fn default_compression(output: &OutputSpec) -> Compression {
    match output.kind {
        OutputKind::Image if !output.push => Compression::Uncompressed,
        OutputKind::Docker => Compression::Uncompressed,
        _ => Compression::Gzip { level: 6 },
    }
}

fn names(args: &BuildArgs, output: &OutputSpec) -> Result<Vec<Reference>, UsageError> {
    if output.names.is_empty() {
        return Ok(args.tags.clone());
    }
    let parse = |name: &String| {
        name.parse()
            .map_err(|error| UsageError(format!("--output: {error}")))
    };
    output.names.iter().map(parse).collect()
}

fn hand_over(
    env: &Environment<'_>,
    output: &OutputSpec,
    names: &[Reference],
    image: &BuiltImage,
    assembled: &Assembled,
) -> Result<()> {
    match output.kind {
        OutputKind::Image if output.push => push(env, names, image, assembled),
        OutputKind::Image => keep(env, names, image, assembled),
        kind => {
            env.bring_blobs(&image.sourced())?;
            write_image(env, output, kind, names, assembled)
        }
    }
}

/// Tags the image in the store.
///
/// Layers that are not here stay where they are if a registry has them: the store knows which, and
/// whatever needs the image later brings them. From a directory, which may be gone by then, they
/// come now.
fn keep(
    env: &Environment<'_>,
    names: &[Reference],
    image: &BuiltImage,
    assembled: &Assembled,
) -> Result<()> {
    let mut local = Vec::new();
    for layer in image.sourced() {
        let blob = &layer.blob.digest;
        // What an image is called is no better source than one that is remembered.
        if env.store.has_blob(blob) || !env.store.blob_sources(blob)?.is_empty() {
            continue;
        }
        let repositories: Vec<&Reference> = layer.repositories().collect();
        for name in repositories.iter().rev() {
            env.store.add_blob_source(blob, name)?;
        }
        if repositories.is_empty() {
            local.push(layer);
        }
    }
    env.bring_blobs(&local)?;
    for name in names {
        env.store.tag(name, &assembled.descriptor)?;
        env.progress.note(&format!("tagged {}", name.familiar()));
    }
    if names.is_empty() {
        env.store.keep_unnamed(&assembled.descriptor)?;
    }
    Ok(())
}

fn push(
    env: &Environment<'_>,
    names: &[Reference],
    image: &BuiltImage,
    assembled: &Assembled,
) -> Result<()> {
    let sourced = image.sourced();
    for name in names {
        let shown = env.progress.start(&format!("pushing {name}"));
        let parts = parts(env, names, assembled)?;
        let stopped = || env.cancel.why().is_some();
        let bringer = Bringer {
            store: env.store,
            remote: env.remote,
            bringing: env.bringing,
            compute: &|work| work(),
            stopped: &stopped,
            progress: &|_| {},
        };
        transfer::push(&bringer, &parts, name, &sourced)?;
        shown.finish(Outcome::Done);
    }
    Ok(())
}

fn parts(env: &Environment<'_>, names: &[Reference], assembled: &Assembled) -> Result<ImageParts> {
    Ok(ImageParts {
        names: names.to_vec(),
        descriptor: assembled.descriptor.clone(),
        manifest: assembled.manifest.clone(),
        config: env.store.read_blob(&assembled.id)?,
    })
}

/// An OCI layout, or an archive of one, or a Docker archive.
fn write_image(
    env: &Environment<'_>,
    output: &OutputSpec,
    kind: OutputKind,
    names: &[Reference],
    assembled: &Assembled,
) -> Result<()> {
    let dest = output.dest.as_deref().unwrap_or(Path::new("-"));
    let shown = env.progress.start(&format!("writing {}", dest.display()));
    let parts = [parts(env, names, assembled)?];
    let open = transfer::open_blob(env.store);
    if kind == OutputKind::Oci && !output.tar {
        write_layout(dest, &parts, &open)?;
    } else {
        let kind = if kind == OutputKind::Oci {
            ArchiveKind::Oci
        } else {
            ArchiveKind::Docker
        };
        to_file(dest, |out| Ok(write_archive(out, kind, &parts, &open)?))?;
    }
    shown.finish(Outcome::Done);
    Ok(())
}

fn write_tree(env: &Environment<'_>, output: &OutputSpec, image: &BuiltImage) -> Result<()> {
    let dest = output.dest.as_deref().unwrap_or(Path::new("-"));
    let shown = env.progress.start(&format!("writing {}", dest.display()));
    if output.kind == OutputKind::Local {
        output::write_directory(env, image, dest)?;
    } else {
        to_file(dest, |out| output::write_tar(env, image, out))?;
    }
    shown.finish(Outcome::Done);
    Ok(())
}

/// Has `write` fill the file `dest`, or stdout for `-`.
fn to_file(dest: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    if dest.as_os_str() != "-" {
        return write_whole(dest, write);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)?;
    out.flush().context("cannot write to stdout")
}
