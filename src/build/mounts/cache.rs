//! `--mount=type=cache`: directories of the store that outlive builds.
//!
//! A cache is known by its id and by the content that it begins with, if it begins with any; what
//! it holds is never part of a key. All caches of a step are taken in the order of their keys, so
//! two steps that want the same ones never wait for each other. A step that mounts one cache twice
//! takes it once. Where nothing can be mounted a cache goes into the tree of the step that has it, so
//! one has it at a time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use runtime::{BindSource, Roots};

use super::bind::{copy_tree, is_directory, set_mode};
use super::{Held, MountError, content, is_supervised, possible_owner};
use crate::build::copy::Origin;
use crate::build::stage::Stage;
use crate::cache::KeyBuilder;
use crate::dockerfile::Sharing;
use crate::image::Digest;
use crate::layer::record_owner;
use crate::plan::{RunMount, RunMountKind};
use crate::progress::Step;
use crate::rootfs::{Follow, RootPath};
use crate::store::{CacheAttempt, CacheMount, CacheSharing};

/// How often a cache that others have is asked for.
const PATIENCE: Duration = Duration::from_millis(50);
/// The mode and the owner of a new cache that the Dockerfile does not ask for.
const USUAL: (u32, u32, u32) = (0o755, 0, 0);

/// A cache of a step.
pub(super) struct Cache<'a> {
    key: Digest,
    id: String,
    target: String,
    sharing: CacheSharing,
    /// Mode and owner of a new one.
    look: (u32, u32, u32),
    seed: Option<Seed<'a>>,
}

/// What a new cache begins with.
struct Seed<'a> {
    origin: Origin<'a>,
    path: String,
    content: Digest,
}

/// The directories of a step's caches, by key.
pub(super) struct Directories(BTreeMap<Digest, PathBuf>);

impl Directories {
    pub(super) fn source(&self, cache: &Cache<'_>) -> BindSource {
        BindSource::Owned(self.0.get(&cache.key).cloned().unwrap_or_default())
    }
}

impl<'a> Cache<'a> {
    /// Opens what it begins with.
    pub(super) fn prepare(stage: &Stage<'a>, mount: &RunMount) -> Result<Self> {
        let target = mount.target.clone().unwrap_or_default();
        let RunMountKind::Cache {
            id,
            from,
            source,
            sharing,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            anyhow::bail!("{target} is no cache");
        };
        let seed = match from {
            None => None,
            Some(from) => {
                let origin = Origin::of(stage, from)?;
                let content = content::digest(stage, &origin, source, &target)?;
                let path = source.clone();
                Some(Seed {
                    origin,
                    path,
                    content,
                })
            }
        };
        let mut key = KeyBuilder::new("cache-mount");
        key.field("id", id);
        key.list("seed", seed.iter().map(|seed| seed.content.as_str()));
        let sharing = match sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        };
        Ok(Self {
            key: key.finish().digest,
            id: id.clone(),
            target,
            sharing,
            look: (*mode, *uid, *gid),
            seed,
        })
    }

    /// What of it is part of a step's key: neither its id nor how it is shared, nor what it holds.
    pub(super) fn definition(&self) -> String {
        let content = self.seed.as_ref().map(|seed| seed.content.as_str());
        format!("{:?} {content:?}", self.look)
    }

    /// Fills `dir`, which is to be made.
    fn fill(&self, stage: &Stage<'_>, dir: &Path) -> Result<()> {
        match &self.seed {
            None => {
                fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            }
            Some(seed) => self.sow(stage, seed, dir)?,
        }
        if self.seed.is_none() || self.look != USUAL {
            let (mode, uid, gid) = self.look;
            let held = possible_owner(stage, uid, gid);
            let failed = || format!("cannot set the owner of {}", dir.display());
            set_mode(dir, mode)?;
            chown(dir, Some(held.0), Some(held.1)).with_context(failed)?;
            if is_supervised(stage) && held != (uid, gid) {
                record_owner(fs::File::open(dir)?, uid, gid).with_context(failed)?;
            }
        }
        Ok(())
    }

    fn sow(&self, stage: &Stage<'_>, seed: &Seed<'_>, dir: &Path) -> Result<()> {
        let lower = |path: &RootPath| seed.origin.attr(path);
        let root = seed.origin.source(stage, &lower)?.root;
        let found = root.resolve(&RootPath::new(&seed.path), Follow::Yes)?;
        if !is_directory(&found)? {
            return Err(MountError::NoDirectory {
                target: self.target.clone(),
                path: seed.path.clone(),
            }
            .into());
        }
        let tree = content::select(stage, &seed.origin, &seed.path, &self.target)?;
        copy_tree(stage, &seed.origin, &tree, dir)?;
        let stat = rustix::fs::fstat(&found)?;
        set_mode(dir, stat.st_mode & 0o7777)?;
        if matches!(seed.origin, Origin::Tree(_)) {
            chown(dir, Some(stat.st_uid), Some(stat.st_gid))
                .with_context(|| format!("cannot set the owner of {}", dir.display()))?;
        }
        Ok(())
    }
}

/// Takes every cache of a step, waiting for those that others have.
pub(super) fn take(
    stage: &Stage<'_>,
    shown: &Step,
    caches: &[&Cache<'_>],
    held: &mut Held,
) -> Result<Directories> {
    let ordered: BTreeMap<&Digest, &&Cache<'_>> =
        caches.iter().map(|cache| (&cache.key, cache)).collect();
    let mut directories = BTreeMap::new();
    for (key, cache) in ordered {
        let taken = wait_for(stage, shown, cache)
            .with_context(|| format!("cannot have the cache {:?}", cache.id))?;
        directories.insert(key.clone(), taken.path().to_owned());
        held.caches.push(taken);
    }
    Ok(Directories(directories))
}

fn wait_for(stage: &Stage<'_>, shown: &Step, cache: &Cache<'_>) -> Result<CacheMount> {
    let sharing = match (stage.shared.env.roots, cache.sharing) {
        // It can be in one tree at a time.
        (Roots::Trees(_), CacheSharing::Shared) => CacheSharing::Locked,
        (_, sharing) => sharing,
    };
    let mut told = false;
    loop {
        let store = stage.store();
        let mut attempt = store.try_cache(&cache.key, &cache.id, sharing)?;
        if let CacheAttempt::New(new) = attempt {
            let staging = store.staging()?;
            let dir = staging.path().join("cache");
            cache.fill(stage, &dir)?;
            attempt = new.publish(&staging, &dir)?;
        }
        if let CacheAttempt::Taken(taken) = attempt {
            return Ok(taken);
        }
        stage.shared.env.cancel.check()?;
        if !told {
            let text = format!(
                "waiting for the cache {:?}, which another step has",
                cache.id
            );
            shown.output(text.as_bytes());
            told = true;
        }
        std::thread::sleep(PATIENCE);
    }
}

#[cfg(test)]
impl Cache<'_> {
    /// A cache that begins with nothing, under a key of no importance.
    pub(super) fn without_seed(mount: &RunMount) -> Self {
        let RunMountKind::Cache {
            id, mode, uid, gid, ..
        } = &mount.kind
        else {
            panic!("{mount:?} is no cache");
        };
        Self {
            key: Digest::of(id.as_bytes()),
            id: id.clone(),
            target: String::new(),
            sharing: CacheSharing::Shared,
            look: (*mode, *uid, *gid),
            seed: None,
        }
    }
}
