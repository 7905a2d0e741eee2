//! What is kept of a RUN that failed (`--keep-failed`): an image of what it left behind, with the
//! step's user, directory and environment, and the command that failed as its own.
//!
//! Secrets are not in it: neither a variable that was one nor a file that was mounted.

use std::collections::BTreeMap;

use anyhow::Result;
use runtime::{Owners, Workspace};

use super::image::{BuiltImage, finish_history};
use super::stage::{Stage, rfc3339};
use crate::layer::Attributes;
use crate::plan::RunStep;
use crate::store::Staging;

/// Makes the image of what the step's process left in `workspace`.
pub(super) fn keep(
    stage: &Stage<'_>,
    step: &RunStep,
    staging: Staging,
    workspace: Workspace,
    owners: Option<&Owners>,
) -> Result<BuiltImage> {
    let upper = workspace.finish()?;
    let layer = stage.commit_run(
        &stage.stack()?,
        staging,
        &upper,
        Attributes::default(),
        owners,
    )?;
    let mut layers = stage.layers().to_vec();
    layers.push(layer);
    let mut config = stage.config().clone();
    let own = &mut config.config;
    own.user.clone_from(&step.user);
    own.working_dir.clone_from(&step.cwd);
    own.env = step
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    own.entrypoint = None;
    own.cmd = Some(step.argv.clone());
    own.healthcheck = None;
    own.on_build.clear();
    let settings = stage.settings();
    let epoch = settings.epoch.and_then(rfc3339);
    finish_history(&mut config, &layers, epoch.as_deref());
    Ok(BuiltImage {
        config,
        layers,
        platform: stage.platform().clone(),
        annotations: BTreeMap::new(),
        descriptor_annotations: BTreeMap::new(),
        epoch: settings.epoch,
        stages: Vec::new(),
        answers: Vec::new(),
    })
}
