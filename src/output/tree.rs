//! The root file system of an image, for `-o type=local` and `-o type=tar`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use runtime::View;

use crate::build::{BuiltImage, Environment};
use crate::copy::{self, CopyOptions, Source};
use crate::layer::{SingleId, TarOptions, Target, write_tree_tar};
use crate::rootfs::{RootDir, RootPath};

/// Writes the root file system as a tar with numeric owners.
///
/// # Errors
/// When the image cannot be read or `out` takes no more.
pub fn write_tar(env: &Environment<'_>, image: &BuiltImage, out: &mut dyn Write) -> Result<()> {
    let stack = env.stack(&image.layers)?;
    let staging = env.store.staging()?;
    let view = env.roots.view(&stack.lowers(), staging.path())?;
    let root = open(&view)?;
    let options = TarOptions {
        clamp_mtime: image.epoch,
    };
    write_tree_tar(&root, &stack, &options, out).context("cannot archive the root file system")?;
    Ok(())
}

/// Writes the root file system into the directory `dest`, over what is there. Everything belongs
/// to the caller; devices become empty files, since nothing here could make them.
///
/// # Errors
/// When the image cannot be read or `dest` cannot be written.
pub fn write_directory(env: &Environment<'_>, image: &BuiltImage, dest: &Path) -> Result<()> {
    let stack = env.stack(&image.layers)?;
    let staging = env.store.staging()?;
    let view = env.roots.view(&stack.lowers(), staging.path())?;
    let root = open(&view)?;
    let lookup = |path: &RootPath| stack.attr(path).map_err(std::io::Error::other);
    let source = Source::stage(&root, "the image", &lookup);
    let options = CopyOptions {
        chown: Some((0, 0)),
        ..CopyOptions::default()
    };
    let selection = copy::select(&source, &["/".to_owned()], &options)?;
    fs::create_dir_all(dest).with_context(|| format!("cannot create {}", dest.display()))?;
    let into = RootDir::open(dest).with_context(|| format!("cannot open {}", dest.display()))?;
    let mut target = Target::new(into, &SingleId { uid: 0, gid: 0 });
    selection
        .apply(&source, &mut target, "/", &RootPath::root(), &options)
        .with_context(|| format!("cannot write {}", dest.display()))?;
    Ok(())
}

fn open(view: &View) -> Result<RootDir> {
    Ok(RootDir::from_fd(view.root().try_clone_to_owned()?))
}
