//! COPY, and ADD of local files: selected content, from the context, a stage or an image.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use runtime::{Diff, View};

use super::image::BuiltLayer;
use super::stage::Stage;
use super::{ahead, content, explain};
use crate::cache::KeyBuilder;
use crate::context::Context;
use crate::copy::{self, Chmod, CopyOptions, LooseFile};
use crate::image::Digest;
use crate::layer::{Attr, Attributes, Content, LayerStack, Target};
use crate::plan::{CopyStep, InlineFile, Source};
use crate::rootfs::{RootDir, RootPath, resolve_chown};
use crate::store::Staging;

/// Does a COPY.
pub(super) fn step(stage: &mut Stage<'_>, name: &str, step: &CopyStep) -> Result<()> {
    let origin = Origin::of(stage, &step.from)?;
    let lower = |path: &RootPath| origin.attr(path);
    let options = CopyOptions {
        link: step.link,
        parents: step.parents,
        exclude: step.exclude.clone(),
        ..options(
            stage,
            step.chown.as_deref(),
            step.chmod.as_deref(),
            step.link,
        )?
    };
    let mut selected = None;
    let mut digest = || -> Result<Digest> {
        let source = origin.source(stage, &lower)?;
        let _permit = stage.permit()?;
        let selection = selected.insert(copy::select(&source, &step.sources, &options)?);
        explain::content_digest(stage, selection, &source, &options)
    };
    let content = match &origin {
        Origin::Context(_) => digest()?,
        Origin::Tree(tree) => {
            let describe = |key: &mut KeyBuilder| describe(key, &step.sources, &options);
            content::remembered(stage, &tree.layers, describe, digest)?
        }
    };
    let mut key = key(stage, "copy", &step.dest, &step.workdir, &options);
    key.field("content", content.as_str());
    add_heredocs(&mut key, &step.heredocs);
    let dest = Dest {
        path: &step.dest,
        workdir: RootPath::new(&step.workdir),
    };
    stage.layer_step(name, key.finish(), |stage, _| {
        let source = origin.source(stage, &lower)?;
        into_layer(stage, options.is_linked(), |target| {
            let selection = match selected {
                Some(selection) => selection,
                None => copy::select(&source, &step.sources, &options)?,
            };
            selection.apply(&source, target, dest.path, &dest.workdir, &options)?;
            write_heredocs(target, &step.heredocs, &dest, &options)
        })
    })
}

/// Everything on which the digest of a selection depends, besides the files.
fn describe(key: &mut KeyBuilder, sources: &[String], options: &CopyOptions) {
    key.list("source", sources);
    key.list("exclude", &options.exclude);
    key.field("chown", format!("{:?}", options.chown));
    key.field("chmod", format!("{:?}", options.chmod));
    key.field("parents", options.parents.to_string());
}

/// Copies the whole of a named context: the root file system of a stage that begins with it.
pub(super) fn whole(stage: &mut Stage<'_>, name: &str, number: usize) -> Result<()> {
    let all = CopyStep {
        from: Source::Files(number),
        sources: vec!["/".into()],
        heredocs: Vec::new(),
        dest: "/".into(),
        workdir: "/".into(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
    };
    step(stage, name, &all)
}

/// A destination as written, and what it is relative to.
pub(super) struct Dest<'a> {
    pub(super) path: &'a str,
    pub(super) workdir: RootPath,
}

/// The files that stand in the Dockerfile, after all others.
pub(super) fn write_heredocs(
    target: &mut Target<'_>,
    files: &[InlineFile],
    dest: &Dest<'_>,
    options: &CopyOptions,
) -> Result<()> {
    for file in files {
        let loose = LooseFile {
            name: &file.name,
            content: Content::Reader(&mut file.content.as_bytes()),
            mode: 0o644,
            mtime: options.dir_mtime,
        };
        loose.write(target, dest.path, &dest.workdir, options)?;
    }
    Ok(())
}

/// Where files are copied from.
pub(super) enum Origin<'a> {
    /// The build context, or a named one.
    Context(&'a Context),
    /// A stage or an image.
    Tree(Tree),
}

/// The root file system of a stage or an image, which is mounted when its files are needed.
pub(super) struct Tree {
    pub(super) layers: Vec<BuiltLayer>,
    label: String,
    mounted: OnceLock<Mounted>,
}

struct Mounted {
    root: RootDir,
    stack: LayerStack,
    // Keeps what is beneath the root; where that was mounted goes last.
    _view: View,
    _staging: Staging,
}

impl<'a> Origin<'a> {
    /// Waits for a stage, finds out what an image is.
    pub(super) fn of(stage: &Stage<'a>, from: &Source) -> Result<Self> {
        let (layers, label) = match from {
            Source::Context => return Ok(Self::Context(stage.shared.env.context)),
            Source::Files(number) => return Ok(Self::Context(stage.shared.env.named(*number)?)),
            Source::Stage(index) => {
                let finished = ahead::wait(stage.shared, *index, stage.layers())?;
                let name = stage.shared.stage_name(*index);
                (finished.layers.clone(), format!("stage {name}"))
            }
            Source::Scratch => (Vec::new(), "scratch".to_owned()),
            Source::Image(reference) => {
                let env = stage.shared.env;
                let name = format!("FROM {reference}");
                let platform = &env.settings.platform;
                let base = stage.shared.bases.get(env, reference, platform, &name)?;
                (base.layers.clone(), reference.clone())
            }
        };
        Ok(Self::Tree(Tree {
            layers,
            label,
            mounted: OnceLock::new(),
        }))
    }

    /// The true metadata of a file whose disk does not hold it. Whoever asks has the source.
    pub(super) fn attr(&self, path: &RootPath) -> io::Result<Option<Attr>> {
        let mounted = match self {
            Self::Context(_) => None,
            Self::Tree(tree) => tree.mounted.get(),
        };
        match mounted {
            None => Ok(None),
            Some(mounted) => mounted.stack.attr(path).map_err(io::Error::other),
        }
    }

    /// The files. Layers of a tree are brought and mounted now.
    pub(super) fn source<'s>(
        &'s self,
        stage: &Stage<'_>,
        lower: &'s copy::Lookup<'s>,
    ) -> Result<copy::Source<'s>> {
        Ok(match self {
            Self::Context(context) => copy::Source::context(context),
            Self::Tree(tree) => copy::Source::stage(&tree.mounted(stage)?.root, &tree.label, lower),
        })
    }
}

impl Tree {
    /// The layers on top of each other.
    pub(super) fn stack(&self, stage: &Stage<'_>) -> Result<LayerStack> {
        stage.shared.env.stack(&self.layers)
    }

    fn mounted(&self, stage: &Stage<'_>) -> Result<&Mounted> {
        if let Some(mounted) = self.mounted.get() {
            return Ok(mounted);
        }
        let stack = self.stack(stage)?;
        let staging = stage.store().staging()?;
        let view = stage
            .shared
            .env
            .roots
            .view(&stack.lowers(), staging.path())?;
        let root = RootDir::from_fd(view.root().try_clone_to_owned()?);
        Ok(self.mounted.get_or_init(|| Mounted {
            root,
            stack,
            _view: view,
            _staging: staging,
        }))
    }
}

/// What the flags say, with names of owners resolved in the stage so far.
pub(super) fn options(
    stage: &Stage<'_>,
    chown: Option<&str>,
    chmod: Option<&str>,
    link: bool,
) -> Result<CopyOptions> {
    let chown = match chown {
        None => None,
        Some(owner) if link => Some(resolve_chown(None, owner)?),
        Some(owner) => Some(content::owner(stage, owner)?),
    };
    Ok(CopyOptions {
        chown,
        chmod: chmod.map(Chmod::parse).transpose()?,
        dir_mtime: stage
            .settings()
            .epoch
            .unwrap_or_else(super::stage::unix_now),
        ..CopyOptions::default()
    })
}

/// The key of a copy but for its content (S13). A linked one does not depend on what is below.
pub(super) fn key(
    stage: &Stage<'_>,
    kind: &str,
    dest: &str,
    workdir: &str,
    options: &CopyOptions,
) -> KeyBuilder {
    let mut key = KeyBuilder::new(kind);
    if !options.is_linked() {
        key.field("base", stage.chain());
    }
    key.field("dest", dest);
    if !dest.starts_with('/') {
        key.field("workdir", workdir);
    }
    key.field("chown", format!("{:?}", options.chown));
    key.field("chmod", format!("{:?}", options.chmod));
    key.field(
        "flags",
        format!("link={} parents={}", options.link, options.parents),
    );
    if let Some(epoch) = stage.settings().epoch {
        key.field("epoch", epoch.to_string());
    }
    key
}

pub(super) fn add_heredocs(key: &mut KeyBuilder, files: &[InlineFile]) {
    key.list(
        "heredoc",
        files.iter().flat_map(|file| [&file.name, &file.content]),
    );
}

/// Has `write` fill the stage's root file system, or for a linked copy an empty one, and gives
/// what changed as a layer.
///
/// An empty root needs no overlay: what is written there is the layer, at half the cost for each file.
pub(super) fn into_layer(
    stage: &Stage<'_>,
    link: bool,
    write: impl FnOnce(&mut Target<'_>) -> Result<()>,
) -> Result<BuiltLayer> {
    let staging = stage.store().staging()?;
    if link || stage.layers().is_empty() {
        let _permit = stage.permit()?;
        let upper = staging.path().join("upper");
        std::fs::create_dir(&upper)
            .and_then(|()| std::fs::set_permissions(&upper, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", upper.display()))?;
        let mut target = Target::new(RootDir::open(&upper)?, stage.shared.env.ids);
        write(&mut target)?;
        let recorded = target.into_attributes();
        let upper = Diff::from(upper);
        return stage.commit_over(&LayerStack::default(), staging, &upper, recorded);
    }
    let stack = stage.stack()?;
    let _permit = stage.permit()?;
    let roots = stage.shared.env.roots;
    let workspace = roots.workspace(&stack.lowers(), staging.path())?;
    let root = RootDir::from_fd(workspace.root().try_clone_to_owned()?);
    let recorded: Attributes = {
        let lower = |path: &RootPath| stack.attr(path).map_err(io::Error::other);
        let mut target = Target::new(root, stage.shared.env.ids).with_lower(&lower);
        write(&mut target)?;
        target.into_attributes()
    };
    let upper = workspace.finish()?;
    stage.commit_over(&stack, staging, &upper, recorded)
}
