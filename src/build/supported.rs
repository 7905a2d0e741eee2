//! What a Dockerfile can ask for and this version does not do: refused by name, and before
//! anything is fetched or executed.

use super::stage::{label, summary};
use super::{StepFailed, Unsupported};
use crate::dockerfile::{Instruction, InstructionKind, Run, SecurityMode};
use crate::image::Platform;
use crate::plan::{self, Plan, Stage};

/// Looks through every stage that will be built.
pub(super) fn check(plan: &Plan) -> Result<(), StepFailed> {
    plan.stages().iter().try_for_each(check_stage)
}

/// Looks through one stage.
pub(super) fn check_stage(stage: &Stage) -> Result<(), StepFailed> {
    let failed = |instruction: &Instruction, source: anyhow::Error| StepFailed {
        name: format!("[{}] {}", label(stage), summary(instruction)),
        span: instruction.span,
        source,
    };
    check_platform(stage).map_err(|error| failed(&stage.from, error.into()))?;
    for instruction in &stage.instructions {
        check_instruction(instruction).map_err(|error| failed(instruction, error))?;
    }
    Ok(())
}

/// Looks at one instruction, which may be a trigger.
pub(super) fn check_instruction(instruction: &Instruction) -> anyhow::Result<()> {
    match &instruction.kind {
        InstructionKind::Run(run) => check_run(run)?,
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

fn check_run(run: &Run) -> Result<(), Unsupported> {
    if !run.mounts.is_empty() {
        return refuse(
            "RUN --mount",
            "use COPY for files, and ARG or ENV for values that are no secrets",
        );
    }
    if !run.devices.is_empty() {
        return refuse("RUN --device", "a step sees no devices of the host");
    }
    let security = run.security.as_ref().map(|flag| flag.value);
    if security == Some(SecurityMode::Insecure) {
        return refuse(
            "RUN --security=insecure",
            "a step never has more rights than its builder",
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
