//! WORKDIR: the directory is made, with its parents, for the current USER (S10); and again for a
//! RUN that finds it gone, or named by a base image that does not hold it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use runtime::{Mount, RunSpec};
use rustix::fs::FileType;

use super::NoDirectory;
use super::image::BuiltLayer;
use super::stage::Stage;
use crate::cache::{KeyBuilder, StepKey};
use crate::layer::{Attributes, LayerStack, Meta, Target};
use crate::rootfs::{Follow, RootDir, RootPath, resolve_chown};

/// What every sandbox mounts.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The key: the path, and whose it will be, on top of the stage so far.
pub(super) fn key(stage: &Stage<'_>, path: &str, user: &str) -> StepKey {
    let mut key = KeyBuilder::new("workdir");
    key.field("base", stage.chain());
    key.field("path", path);
    key.field("user", user);
    if let Some(epoch) = stage.settings().epoch {
        key.field("epoch", epoch.to_string());
    }
    key.finish()
}

/// Makes what is missing of the directory and gives the layer, empty if nothing is.
pub(super) fn execute(stage: &Stage<'_>, path: &str, user: &str) -> Result<BuiltLayer> {
    let staging = stage.store().staging()?;
    let stack = stage.stack()?;
    let _permit = stage.permit()?;
    let roots = stage.shared.env.roots;
    let workspace = roots.workspace(&stack.lowers(), staging.path())?;
    let root = RootDir::from_fd(workspace.root().try_clone_to_owned()?);
    let owner = owner(&stack, &root, user)?;
    let attributes = make(stage, &stack, root, &RootPath::new(path), owner)?;
    let upper = workspace.finish()?;
    stage.commit_over(&stack, staging, &upper, attributes)
}

/// Makes what is missing of the directory in which a RUN starts, for the user it runs as, as runc
/// does. What is mounted is none of ours.
pub(super) fn ensure(
    stage: &Stage<'_>,
    stack: &LayerStack,
    root: RootDir,
    spec: &RunSpec,
) -> Result<Attributes> {
    let path = RootPath::new(&spec.cwd);
    let is_missing = match root.resolve(&path, Follow::Yes) {
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        Ok(fd) => !FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode).is_dir(),
    };
    let mounted = spec.mounts.iter().map(Mount::target);
    let mut mounted = mounted.chain(OWN.iter().map(Path::new));
    if !is_missing || mounted.any(|target| spec.cwd.starts_with(target)) {
        return Ok(Attributes::default());
    }
    make(stage, stack, root, &path, (spec.uid, spec.gid))
}

/// Whose the directories will be. USER is read as `--chown` is, not as for RUN: nobody runs here, so
/// that a name which is not listed is 0, and a number is its own group, too.
fn owner(stack: &LayerStack, root: &RootDir, user: &str) -> Result<(u32, u32)> {
    if user.is_empty() {
        return Ok((0, 0));
    }
    let root = Some(root).filter(|_| !stack.is_empty());
    Ok(resolve_chown(root, user)?)
}

/// Makes what is missing of `path` for a user and a group; gives what the disk could not hold.
fn make(
    stage: &Stage<'_>,
    stack: &LayerStack,
    root: RootDir,
    path: &RootPath,
    (uid, gid): (u32, u32),
) -> Result<Attributes> {
    let lower = |path: &RootPath| stack.attr(path).map_err(std::io::Error::other);
    let mut target = Target::new(root, stage.shared.env.ids).with_lower(&lower);
    let mtime = stage.settings().epoch.map(|epoch| (epoch, 0));
    let meta = Meta {
        uid,
        gid,
        mtime,
        ..Meta::root_owned(0o755)
    };
    make_dirs(&mut target, path, &meta)?;
    Ok(target.into_attributes())
}

/// Makes what is missing of `path` and its parents.
///
/// # Errors
/// [`NoDirectory`] when something else is in the way; those of the disk.
pub fn make_dirs(target: &mut Target<'_>, path: &RootPath, meta: &Meta) -> Result<()> {
    let path = target.resolve(path)?;
    let mut missing = Vec::new();
    let mut dir = Some(path);
    while let Some(path) = dir {
        match target.stat(&path)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => break,
            Some(_) => return Err(NoDirectory(path.to_string()).into()),
            None => {}
        }
        dir = path.parent();
        missing.push(path);
    }
    for path in missing.iter().rev() {
        target.create_dir(path, meta)?;
    }
    Ok(())
}
