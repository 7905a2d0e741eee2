//! `RUN --mount`: from what the Dockerfile says to mounts of the sandbox (S9).
//!
//! A step's mounts go two ways. [`Mounts::prepare`] finds what they are made of and gives their part
//! of the step's key (S13): the content of what is bound, never that of a cache, a secret or
//! an agent. Only when the step is executed does [`Mounts::hold`] make mounts of them, together
//! with what has to live as long as the process does: locks of caches, overlays, a directory for
//! throw-away writes, the threads that speak for an agent.
//!
//! * `bind`: files of the context, a stage or an image
//! * `cache`: directories that outlive builds
//! * `secret`, `ssh`: what the user gave on the command line
//! * `cover`: an overlay that hides some of a directory
//! * `content`: the digest of a tree that is bound

mod bind;
mod cache;
mod content;
mod cover;
mod error;
mod secret;
mod ssh;

use std::ffi::OsString;

use anyhow::Result;
use runtime::{Attached, Mount, RunSpec};

use super::stage::Stage;
use crate::cache::KeyBuilder;
use crate::plan::{RunMount, RunMountKind, RunStep};
use crate::progress::Step;
use crate::store::{CacheMount, Staging};

use bind::Bind;
use cache::Cache;
pub use error::MountError;
pub use secret::{Secret, Secrets};
use ssh::Forward;
pub use ssh::{Agent, Agents};

/// The mode that the kernel gives the root of a tmpfs.
const TMPFS_MODE: u32 = 0o1777;

/// The mounts of one step, ready to be mounted.
pub(super) struct Mounts<'a> {
    all: Vec<Prepared<'a>>,
}

struct Prepared<'a> {
    mount: &'a RunMount,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Bind(Bind<'a>),
    Cache(Cache<'a>),
    Tmpfs {
        size: Option<u64>,
    },
    Secret,
    /// With the path of the socket.
    Ssh(String),
}

/// What has to live as long as the process. Fields are dropped in this order.
#[derive(Default)]
pub(super) struct Held {
    overlays: Vec<Attached>,
    caches: Vec<CacheMount>,
    agents: Vec<Forward>,
    staging: Option<Staging>,
}

impl<'a> Mounts<'a> {
    /// Finds what the step's mounts are made of: waits for stages, looks up images. None if the
    /// step has no mount.
    pub(super) fn prepare(stage: &Stage<'a>, step: &'a RunStep) -> Result<Option<Self>> {
        if step.mounts.is_empty() {
            return Ok(None);
        }
        let mut agents = 0;
        let mut all = Vec::with_capacity(step.mounts.len());
        for mount in &step.mounts {
            let kind = match &mount.kind {
                RunMountKind::Bind { from, source } => {
                    Kind::Bind(Bind::prepare(stage, mount, from, source)?)
                }
                RunMountKind::Cache { .. } => Kind::Cache(Cache::prepare(stage, mount)?),
                RunMountKind::Tmpfs { size } => Kind::Tmpfs { size: *size },
                RunMountKind::Secret { .. } => Kind::Secret,
                RunMountKind::Ssh { .. } => {
                    let usual = format!("/run/buildkit/ssh_agent.{agents}");
                    agents += 1;
                    Kind::Ssh(mount.target.clone().unwrap_or(usual))
                }
            };
            all.push(Prepared { mount, kind });
        }
        Ok(Some(Self { all }))
    }

    /// The mounts' part of the step's key.
    pub(super) fn key(&self, key: &mut KeyBuilder) {
        key.list("mount", self.all.iter().map(Prepared::key));
    }

    /// Adds the mounts to `spec`. What is given back must live until the process has ended.
    pub(super) fn hold(&self, stage: &Stage<'_>, shown: &Step, spec: &mut RunSpec) -> Result<Held> {
        let mut held = Held {
            staging: Some(stage.store().staging()?),
            ..Held::default()
        };
        let caches: Vec<&Cache<'_>> = self.all.iter().filter_map(Prepared::cache).collect();
        let directories = cache::take(stage, shown, &caches, &mut held)?;
        for prepared in &self.all {
            prepared.add(stage, &directories, &mut held, spec)?;
        }
        Ok(held)
    }
}

impl Held {
    /// A path for something that is gone after the step.
    fn scratch(&self, name: &str) -> std::path::PathBuf {
        let base = self.staging.as_ref().map(|staging| staging.path());
        base.unwrap_or(std::path::Path::new("")).join(name)
    }
}

impl<'a> Prepared<'a> {
    fn cache(&self) -> Option<&Cache<'a>> {
        match &self.kind {
            Kind::Cache(cache) => Some(cache),
            _ => None,
        }
    }

    /// What of the mount changes the step's result.
    fn key(&self) -> String {
        let (target, readonly) = (&self.mount.target, self.mount.readonly);
        let own = match (&self.kind, &self.mount.kind) {
            (Kind::Bind(bind), _) => format!("bind {}", bind.content()),
            (Kind::Cache(cache), _) => format!("cache {}", cache.definition()),
            (Kind::Tmpfs { size }, _) => format!("tmpfs {size:?}"),
            (Kind::Ssh(path), kind) => format!("{path:?} {kind:?}"),
            (Kind::Secret, kind) => format!("{kind:?}"),
        };
        format!("target={target:?} readonly={readonly} {own}")
    }

    fn add(
        &self,
        stage: &Stage<'_>,
        directories: &cache::Directories,
        held: &mut Held,
        spec: &mut RunSpec,
    ) -> Result<()> {
        let target = self.mount.target.as_deref().unwrap_or_default();
        let readonly = self.mount.readonly;
        match &self.kind {
            Kind::Bind(bind) => spec.mounts.push(Mount::Bind {
                source: bind.open(stage, held)?,
                target: target.into(),
                readonly,
            }),
            Kind::Cache(cache) => spec.mounts.push(Mount::Bind {
                source: directories.source(cache),
                target: target.into(),
                readonly,
            }),
            Kind::Tmpfs { size } => spec.mounts.push(Mount::Tmpfs {
                target: target.into(),
                size: *size,
                mode: TMPFS_MODE,
                readonly,
            }),
            Kind::Secret => secret::add(stage, self.mount, spec)?,
            Kind::Ssh(path) => {
                set_default(spec, "SSH_AUTH_SOCK", path);
                ssh::add(stage, self.mount, path, held, spec)?;
            }
        }
        Ok(())
    }
}

/// Sets a variable over whatever the image says.
fn set(spec: &mut RunSpec, name: &str, value: OsString) {
    spec.env.retain(|(known, _)| known != name);
    spec.env.push((name.into(), value));
}

/// Sets a variable that the image does not set.
fn set_default(spec: &mut RunSpec, name: &str, value: &str) {
    if !spec.env.iter().any(|(known, _)| known == name) {
        spec.env.push((name.into(), value.into()));
    }
}

/// Whether programs are shown owners that files here cannot have.
pub(super) fn is_supervised(stage: &Stage<'_>) -> bool {
    stage.shared.env.ids.is_single() && runtime::supervision().is_ok()
}

/// The owner if files here can have it, else root: where there is one id, everybody is that.
fn possible_owner(stage: &Stage<'_>, uid: u32, gid: u32) -> (u32, u32) {
    let ids = stage.shared.env.ids;
    let held = |held: bool, id: u32| if held { id } else { 0 };
    (held(ids.holds_uid(uid), uid), held(ids.holds_gid(gid), gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;
    use crate::plan::{Plan, PlanOptions, StageState, StepKind};

    /// The key of the only mount of a RUN, none of which needs a stage.
    fn key(mount: &str) -> String {
        let text = format!("FROM scratch\nRUN --mount={mount} x\n");
        let plan = Plan::new(&parse(&text).unwrap(), &PlanOptions::default()).unwrap();
        let stage = &plan.stages()[0];
        let mut state = StageState::from_image(&plan, stage, None);
        let StepKind::Run(run) = state.apply(&stage.instructions[0]).unwrap().kind else {
            panic!("{text}");
        };
        let mount = &run.mounts[0];
        let kind = match &mount.kind {
            RunMountKind::Cache { .. } => Kind::Cache(Cache::without_seed(mount)),
            RunMountKind::Tmpfs { size } => Kind::Tmpfs { size: *size },
            RunMountKind::Secret { .. } => Kind::Secret,
            RunMountKind::Ssh { .. } => Kind::Ssh("/usual".into()),
            RunMountKind::Bind { .. } => panic!("{text}"),
        };
        Prepared { mount, kind }.key()
    }

    #[test]
    fn s13_what_of_a_mount_is_in_the_key() {
        for (one, other, same) in [
            ("type=cache,target=/c", "type=cache,target=/c,id=x", true),
            (
                "type=cache,target=/c",
                "type=cache,target=/c,sharing=locked",
                true,
            ),
            ("type=cache,target=/c", "type=cache,target=/d", false),
            ("type=cache,target=/c", "type=cache,target=/c,ro", false),
            (
                "type=cache,target=/c",
                "type=cache,target=/c,mode=0700",
                false,
            ),
            ("type=cache,target=/c", "type=cache,target=/c,uid=1", false),
            ("type=cache,target=/c", "type=tmpfs,target=/c", false),
            (
                "type=tmpfs,target=/c",
                "type=tmpfs,target=/c,size=1k",
                false,
            ),
            ("type=secret,id=a", "type=secret,id=b", false),
            (
                "type=secret,id=a",
                "type=secret,id=a,target=/run/secrets/a",
                true,
            ),
            ("type=secret,id=a", "type=secret,id=a,env=A", false),
            ("type=secret,id=a", "type=secret,id=a,mode=0444", false),
            ("type=secret,id=a", "type=secret,id=a,required", false),
            ("type=ssh", "type=ssh,id=default", true),
            ("type=ssh", "type=ssh,id=other", false),
            ("type=ssh", "type=ssh,gid=7", false),
        ] {
            assert_eq!(key(one) == key(other), same, "{one} {other}");
        }
    }
}
