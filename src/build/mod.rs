//! Executes a plan: stages side by side, steps in order, a layer for each that changed files.
//!
//! Every needed stage has a thread. A stage waits for its base where it begins and for a copied
//! stage where it copies; the first failure cancels everything else. A step is looked up in the
//! cache by its key, else executed in a staging directory of the store that is published as a
//! layer when it is complete: whatever ends a build, nothing half-made is ever visible.
//!
//! * `scheduler`: the threads and what they wait for
//! * `stage`: one stage, from its base to its last step
//! * `run`, `copy`, `add`, `workdir`: one kind of step each
//! * `commit`: from what a step wrote to a layer
//! * `mounts`: what a RUN mounts
//! * `explain`: which steps were found in the cache, and why the others were not
//! * `lazy`: layers that are brought when their files are needed
//! * `elsewhere`: results of steps that other machines have made
//! * `jobs`, `activity`: how much is done at a time, and which steps only sleep
//! * `ahead`: layers that come while a stage waits for another one
//! * `inflight`: equal steps are executed once
//! * `content`: digests of what is taken from layers, computed once
//! * `failed`: what is kept of a RUN that failed
//! * `fetched`: sources of an ADD that come from the network
//! * `foreign`: which platforms' programs steps can execute
//! * `supported`: what is refused before anything begins
//! * `bases`, `contexts`: images and named contexts, each fetched or opened once
//! * `image`: the result, as the exporters take it

mod activity;
mod add;
mod ahead;
mod bases;
mod cancel;
mod commit;
mod content;
mod contexts;
mod copy;
mod elsewhere;
mod error;
mod explain;
mod failed;
mod fetched;
mod foreign;
mod image;
mod inflight;
mod jobs;
mod lazy;
mod mounts;
mod remembered;
mod run;
mod scheduler;
mod slot;
mod stage;
mod supported;
mod workdir;

pub use bases::SeenBases;
pub use cancel::{Cancel, Cancelled, Why};
pub use content::answer_key;
pub use contexts::NamedFiles;
pub use elsewhere::Lost;
pub use error::{Ended, NoDirectory, RunFailed, StepFailed, Unsupported};
pub use explain::StepLog;
pub use fetched::Fetching;
pub use foreign::{Foreign, Place};
pub use image::{BuiltAnswer, BuiltImage, BuiltLayer, BuiltStage, BuiltStep, Origin};
pub use jobs::{Jobs, Permit};
pub use lazy::LazyLayer;
pub use mounts::{Agent, Agents, MountError, Secret, Secrets};
pub use scheduler::build;
pub use stage::rfc3339;
pub use supported::Limits;
pub use workdir::make_dirs;

use std::collections::BTreeMap;

use anyhow::Result;

use crate::context::Context;
use crate::image::Platform;
use crate::layer::Disk;
use crate::progress::Progress;
use crate::remote_cache::CacheSources;
use crate::store::Store;
use crate::transfer::{Bringing, Remote};

/// What a build works with, besides its plan.
pub struct Environment<'a> {
    /// Where layers and images are kept.
    pub store: &'a Store,
    /// Where base images come from.
    pub remote: &'a dyn Remote,
    /// What of these images is being brought.
    pub bringing: &'a Bringing,
    /// Where results of steps may be had that the store does not have.
    pub cache: &'a CacheSources<'a>,
    /// How ADD reaches the network.
    pub fetching: &'a Fetching<'a>,
    /// What the disk under layers can hold.
    pub ids: &'a Disk,
    /// How root file systems are put together.
    pub roots: &'a runtime::Roots,
    /// Where COPY and ADD read.
    pub context: &'a Context,
    /// The named contexts that are files, by the numbers the plan has for them.
    pub named: &'a [NamedFiles<'a>],
    /// Who is told.
    pub progress: &'a Progress,
    /// Ends the build.
    pub cancel: &'a Cancel,
    /// How much is done at a time.
    pub jobs: &'a Jobs,
    /// What the base images turned out to be.
    pub seen: &'a SeenBases,
    /// What happens to the steps.
    pub steps: &'a StepLog,
    /// Asked when the base images of the stages are there and nothing was executed; its error ends
    /// the build. Without it, stages do not wait for each other's base.
    pub before_steps: Option<&'a (dyn Fn() -> Result<()> + Sync)>,
    /// What the flags say.
    pub settings: Settings,
}

/// What the user allows beyond the usual (`--allow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// `RUN --network=host` although the build's network is another one.
    pub host_network: bool,
    /// `RUN --security=insecure`.
    pub insecure: bool,
}

/// What the flags of a build say about its steps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The platform built for.
    pub platform: Platform,
    /// Whether the user named it.
    pub platform_named: bool,
    /// Execute every step, whatever was built before.
    pub no_cache: bool,
    /// Stages of which every step is executed, by their names in lower case.
    pub no_cache_stages: Vec<String>,
    /// Ask registries for base images even if the store has them.
    pub pull: bool,
    /// What the sandbox cannot do for RUN.
    pub limits: Limits,
    /// The network of RUN.
    pub network: runtime::Network,
    /// Entries of `/etc/hosts` for RUN: (name, address).
    pub hosts: Vec<(String, String)>,
    /// Resource limits of RUN.
    pub ulimits: Vec<runtime::Ulimit>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// The machine's name in RUN, if not the usual one.
    pub hostname: Option<String>,
    /// What RUN may mount as secrets.
    pub secrets: Secrets,
    /// Which agents RUN may speak to.
    pub agents: Agents,
    /// What the user allows beyond the usual.
    pub allow: Allow,
    /// Keep the root file system of a RUN that fails.
    pub keep_failed: bool,
    /// Labels of the target's image, over its own.
    pub labels: Vec<(String, String)>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of what points to the manifest.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// Leave the keys of the image's layers in its configuration.
    pub inline_cache: bool,
    /// `SOURCE_DATE_EPOCH`, seconds.
    pub epoch: Option<i64>,
}
