//! ADD: a COPY that fetches, and that unpacks archives (S7).

use std::fs::File;
use std::io::BufReader;

use anyhow::Result;

use super::copy::{self, Dest, Origin};
use super::stage::Stage;
use super::{explain, fetched};
use crate::cache::KeyBuilder;
use crate::copy::{CopyOptions, Selection, Source, select};
use crate::fetch::{Commit, FetchedFile};
use crate::layer::{Target, extract_archive, sniff_archive};
use crate::plan::{self, AddSource, AddStep, GitUrl};
use crate::rootfs::RootPath;

/// A source, looked at.
enum Found<'s> {
    Local(Selection),
    File(FetchedFile),
    Git(&'s GitUrl, Commit),
}

/// Does an ADD.
pub(super) fn step(stage: &mut Stage<'_>, name: &str, step: &AddStep) -> Result<()> {
    let origin = Origin::of(stage, &plan::Source::Context)?;
    let lower = |path: &RootPath| origin.attr(path);
    let source = origin.source(stage, &lower)?;
    let options = CopyOptions {
        exclude: step.exclude.clone(),
        ..copy::options(
            stage,
            step.chown.as_deref(),
            step.chmod.as_deref(),
            step.link,
        )?
    };
    let mut key = copy::key(stage, "add", &step.dest, &step.workdir, &options);
    let unpack = step
        .unpack
        .map_or("local".to_owned(), |unpack| unpack.to_string());
    key.field("unpack", unpack);
    let mut all = Vec::new();
    for wanted in &step.sources {
        let found = look(stage, wanted, step.checksum.as_deref(), &source, &options)?;
        add_to_key(stage, &mut key, &found, &source, &options)?;
        all.push(found);
    }
    copy::add_heredocs(&mut key, &step.heredocs);
    let dest = Dest {
        path: &step.dest,
        workdir: RootPath::new(&step.workdir),
    };
    stage.layer_step(name, key.finish(), |stage, _| {
        copy::into_layer(stage, options.is_linked(), |target| {
            for found in all {
                write(stage, target, found, &source, step.unpack, &dest, &options)?;
            }
            copy::write_heredocs(target, &step.heredocs, &dest, &options)
        })
    })
}

/// Selects a local source, asks the network for another.
fn look<'s>(
    stage: &Stage<'_>,
    wanted: &'s AddSource,
    checksum: Option<&str>,
    source: &Source<'_>,
    options: &CopyOptions,
) -> Result<Found<'s>> {
    Ok(match wanted {
        AddSource::Local(path) => {
            let _permit = stage.permit()?;
            Found::Local(select(source, std::slice::from_ref(path), options)?)
        }
        AddSource::Http(url) => Found::File(fetched::file(stage, url, checksum)?),
        AddSource::Git(url) => Found::Git(url, fetched::commit(stage, url)?),
    })
}

fn add_to_key(
    stage: &Stage<'_>,
    key: &mut KeyBuilder,
    found: &Found<'_>,
    source: &Source<'_>,
    options: &CopyOptions,
) -> Result<()> {
    match found {
        Found::Local(selection) => {
            let _permit = stage.permit()?;
            let content = explain::content_digest(stage, selection, source, options)?;
            key.field("content", content.as_str());
            return Ok(());
        }
        Found::File(file) => fetched::add_file(key, file),
        Found::Git(url, commit) => fetched::add_commit(key, url, commit),
    }
    key.list("exclude", &options.exclude);
    Ok(())
}

fn write(
    stage: &Stage<'_>,
    target: &mut Target<'_>,
    found: Found<'_>,
    source: &Source<'_>,
    unpack: Option<bool>,
    dest: &Dest<'_>,
    options: &CopyOptions,
) -> Result<()> {
    match found {
        Found::Local(selection) => {
            let unpack = unpack.unwrap_or(true);
            for hit in selection.into_hits() {
                add(target, source, &hit, unpack, dest, options)?;
            }
            Ok(())
        }
        Found::File(file) => {
            let unpack = unpack.unwrap_or(false);
            fetched::write_file(stage, target, &file, unpack, dest, options)
        }
        Found::Git(url, commit) => {
            fetched::write_commit(stage, target, (url, &commit), dest, options)
        }
    }
}

/// Unpacks one local source if it is an archive, else copies it.
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
