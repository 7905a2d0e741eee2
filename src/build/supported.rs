//! What a Dockerfile can ask for and this version does not do: refused by name, and before
//! anything is fetched or executed.

use super::stage::{label, summary};
use super::{Settings, StepFailed, Unsupported};
use crate::dockerfile::{Instruction, InstructionKind, NetworkMode, Run, SecurityMode};
use crate::image::Platform;
use crate::plan::{self, Plan, Stage};

/// Looks through every stage that will be built.
pub(super) fn check(plan: &Plan, settings: &Settings) -> Result<(), StepFailed> {
    let mut stages = plan.stages().iter();
    stages.try_for_each(|stage| check_stage(stage, settings))
}

/// Looks through one stage.
pub(super) fn check_stage(stage: &Stage, settings: &Settings) -> Result<(), StepFailed> {
    let failed = |instruction: &Instruction, source: anyhow::Error| StepFailed {
        name: format!("[{}] {}", label(stage), summary(instruction)),
        span: instruction.span,
        source,
    };
    check_platform(stage).map_err(|error| failed(&stage.from, error.into()))?;
    for instruction in &stage.instructions {
        check_instruction(instruction, settings).map_err(|error| failed(instruction, error))?;
    }
    Ok(())
}

/// Looks at one instruction, which may be a trigger.
pub(super) fn check_instruction(
    instruction: &Instruction,
    settings: &Settings,
) -> anyhow::Result<()> {
    match &instruction.kind {
        InstructionKind::Run(run) => check_run(run, settings)?,
        InstructionKind::Add(add) => plan::check_add(add)?,
        _ => {}
    }
    Ok(())
}

fn check_platform(stage: &Stage) -> Result<(), Unsupported> {
    let host = Platform::host();
    if host.accepts(&stage.platform) {
        return Ok(());
    }
    refuse(
        &format!("a stage for {}", stage.platform),
        &format!("only this machine's own platform can be built for, {host}"),
    )
}

fn check_run(run: &Run, settings: &Settings) -> Result<(), Unsupported> {
    if !run.devices.is_empty() {
        return refuse("RUN --device", "a step sees no devices of the host");
    }
    let security = run.security.as_ref().map(|flag| flag.value);
    if security == Some(SecurityMode::Insecure) && !settings.allow.insecure {
        return refuse(
            "RUN --security=insecure without --allow security.insecure",
            "with it, the step keeps every capability that its builder has in its user namespace, never more",
        );
    }
    let network = run.network.as_ref().map(|flag| flag.value);
    let is_wider = settings.network != runtime::Network::Host;
    if network == Some(NetworkMode::Host) && is_wider && !settings.allow.host_network {
        return refuse(
            "RUN --network=host in a build with another --network, without --allow network.host,",
            "drop the flag, or allow it",
        );
    }
    Ok(())
}

fn refuse<T>(what: &str, hint: &str) -> Result<T, Unsupported> {
    Err(Unsupported {
        what: what.to_owned(),
        hint: Some(hint.to_owned()),
    })
}
