//! ADD: a COPY that unpacks local archives (S7).

use std::fs::File;
use std::io::BufReader;

use anyhow::Result;

use super::copy::{self, Dest, Origin};
use super::stage::Stage;
use super::{Unsupported, supported};
use crate::copy::{CopyOptions, Selection, Source, select};
use crate::layer::{Target, extract_archive, sniff_archive};
use crate::plan::{self, AddSource, AddStep};
use crate::rootfs::RootPath;

/// Does an ADD.
pub(super) fn step(stage: &mut Stage<'_>, name: &str, step: &AddStep) -> Result<()> {
    let sources = local_sources(step)?;
    let staging = stage.store().staging()?;
    let origin = Origin::open(stage, &plan::Source::Context, &staging)?;
    let lower = |path: &RootPath| origin.attr(path);
    let source = origin.source(&lower);
    let options = CopyOptions {
        exclude: step.exclude.clone(),
        ..copy::options(
            stage,
            step.chown.as_deref(),
            step.chmod.as_deref(),
            step.link,
        )?
    };
    let unpack = step.unpack.unwrap_or(true);
    let selection = select(&source, &sources, &options)?;
    let mut key = copy::key(stage, "add", &step.dest, &step.workdir, &options);
    key.field("unpack", unpack.to_string());
    key.field(
        "content",
        selection
            .digest(&source, &options, &stage.shared.files)?
            .as_str(),
    );
    copy::add_heredocs(&mut key, &step.heredocs);
    let dest = Dest {
        path: &step.dest,
        workdir: RootPath::new(&step.workdir),
    };
    stage.layer_step(name, key.finish(), |stage, _| {
        copy::into_layer(stage, options.is_linked(), |target| {
            for hit in selection.into_hits() {
                add(target, &source, &hit, unpack, &dest, &options)?;
            }
            copy::write_heredocs(target, &step.heredocs, &dest, &options)
        })
    })
}

/// The sources, all of them local; others are refused by name.
fn local_sources(step: &AddStep) -> Result<Vec<String>, Unsupported> {
    let local = |source: &AddSource| match source {
        AddSource::Local(path) => Ok(path.clone()),
        AddSource::Http(_) => supported::add_url(),
        AddSource::Git(_) => supported::add_git(),
    };
    step.sources.iter().map(local).collect()
}

/// Unpacks one source if it is an archive, else copies it.
fn add(
    target: &mut Target<'_>,
    source: &Source<'_>,
    hit: &Selection,
    unpack: bool,
    dest: &Dest<'_>,
    options: &CopyOptions,
) -> Result<()> {
    if let Some(archive) = archive(source, hit, unpack)? {
        let dest = dest.workdir.join(dest.path);
        extract_archive(
            BufReader::with_capacity(1 << 18, archive),
            target,
            &dest,
            options.chown,
        )?;
    } else {
        hit.apply(source, target, dest.path, &dest.workdir, options)?;
    }
    Ok(())
}

fn archive(source: &Source<'_>, hit: &Selection, unpack: bool) -> Result<Option<File>> {
    if !unpack {
        return Ok(None);
    }
    let Some(mut file) = hit.open_single_file(source)? else {
        return Ok(None);
    };
    Ok(sniff_archive(&mut file)?.then_some(file))
}
