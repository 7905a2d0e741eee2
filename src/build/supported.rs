//! What a Dockerfile can ask for and this version does not do: refused by name, and before
//! anything is fetched or executed.

use runtime::Mode;

use super::foreign::Foreign;
use super::stage::{label, summary};
use super::{Environment, Settings, StepFailed, Unsupported};
use crate::dockerfile::{Instruction, InstructionKind, MountFlag, NetworkMode, Run, SecurityMode};
use crate::image::Platform;
use crate::plan::{self, Plan, Stage};

/// What the sandbox of a build cannot do for its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Steps have no namespaces and no mounts of their own.
    pub no_mounts: bool,
    /// There is one id, and nobody shows steps any other.
    pub only_root: bool,
}

impl Limits {
    /// Those of a mode; `only_root` if it has one id and no supervisor.
    pub fn new(mode: Mode, only_root: bool) -> Self {
        Self {
            no_mounts: mode == Mode::Chroot,
            only_root,
        }
    }
}

/// Looks through every stage that will be built, and then whether the programs of each can be executed.
pub(super) fn check(
    plan: &Plan,
    env: &Environment<'_>,
    foreign: &Foreign,
) -> Result<(), StepFailed> {
    let stages = plan.stages();
    stages
        .iter()
        .try_for_each(|stage| check_stage(stage, &env.settings))?;
    let executes = |platform: &Platform| foreign.check(&env.into(), platform);
    stages.iter().try_for_each(|stage| {
        check_programs(stage, &stage.platform, &stage.instructions, &executes)
    })
}

/// Looks at the first RUN among the instructions of a stage, if any, which is for `platform`.
pub(super) fn check_programs<'i>(
    stage: &Stage,
    platform: &Platform,
    instructions: impl IntoIterator<Item = &'i Instruction>,
    executes: &dyn Fn(&Platform) -> anyhow::Result<()>,
) -> Result<(), StepFailed> {
    let is_run = |step: &&Instruction| matches!(step.kind, InstructionKind::Run(_));
    let Some(run) = instructions.into_iter().find(is_run) else {
        return Ok(());
    };
    executes(platform).map_err(|source| StepFailed {
        name: format!("[{}] {}", label(stage), summary(run)),
        span: match run.trigger {
            None => run.span,
            Some(_) => stage.from.span,
        },
        source,
    })
}

/// Looks through one stage.
pub(super) fn check_stage(stage: &Stage, settings: &Settings) -> Result<(), StepFailed> {
    let failed = |instruction: &Instruction, source: anyhow::Error| StepFailed {
        name: format!("[{}] {}", label(stage), summary(instruction)),
        span: instruction.span,
        source,
    };
    check_platform(stage).map_err(|error| failed(&stage.from, error.into()))?;
    let mut user = None;
    for instruction in &stage.instructions {
        check_instruction(instruction, settings).map_err(|error| failed(instruction, error))?;
        match &instruction.kind {
            InstructionKind::User(name) => user = Some(name.value.as_str()),
            InstructionKind::Run(_) => check_user(user, settings.limits)
                .map_err(|error| failed(instruction, error.into()))?,
            _ => {}
        }
    }
    Ok(())
}

/// A RUN after USER where nobody but root can be had. What a variable holds is seen by the step itself.
fn check_user(user: Option<&str>, limits: Limits) -> Result<(), Unsupported> {
    let Some(user) = user.filter(|user| limits.only_root && !user.contains('$')) else {
        return Ok(());
    };
    let mut names = user.split(':');
    if names.all(|name| matches!(name, "0" | "root")) {
        return Ok(());
    }
    refuse(
        &format!("RUN as USER {user} in a sandbox with one id and no supervisor"),
        "`lapstrake doctor` tells what is missing for more",
    )
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

/// Layers of Windows are made otherwise; any other system's are as good as those of Linux.
fn check_platform(stage: &Stage) -> Result<(), Unsupported> {
    if stage.platform.os != "windows" {
        return Ok(());
    }
    refuse(
        &format!("a stage for {}", stage.platform),
        "layers of Windows have a form of their own",
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
    if settings.limits.no_mounts {
        check_without_mounts(run, network, security, settings)?;
    }
    let is_wider = settings.network != runtime::Network::Host;
    if network == Some(NetworkMode::Host) && is_wider && !settings.allow.host_network {
        return refuse(
            "RUN --network=host in a build with another --network, without --allow network.host,",
            "drop the flag, or allow it",
        );
    }
    Ok(())
}

/// What takes a namespace or a mount: docs/doctor.md lists it under `chroot`.
fn check_without_mounts(
    run: &Run,
    network: Option<NetworkMode>,
    security: Option<SecurityMode>,
    settings: &Settings,
) -> Result<(), Unsupported> {
    let none = settings.network == runtime::Network::None;
    let has_size = |mount: &MountFlag| {
        let tmpfs = |(key, value): &(String, Option<String>)| {
            key == "type" && value.as_deref() == Some("tmpfs")
        };
        let size =
            |(key, _): &(String, Option<String>)| matches!(key.as_str(), "size" | "tmpfs-size");
        mount.fields.iter().any(tmpfs) && mount.fields.iter().any(size)
    };
    let asked = [
        (network == Some(NetworkMode::None), "RUN --network=none"),
        (
            network.is_none_or(|mode| mode == NetworkMode::Default) && none,
            "--network none",
        ),
        (
            security == Some(SecurityMode::Insecure),
            "RUN --security=insecure",
        ),
        (settings.shm_size.is_some(), "--shm-size"),
        (
            run.mounts.iter().any(has_size),
            "RUN --mount=type=tmpfs with a size",
        ),
    ];
    match asked.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => refuse(
            &format!("{what} in the sandbox chroot"),
            "it takes a namespace or a mount, of which this mode has none; `lapstrake doctor` tells what is missing for another mode",
        ),
        None => Ok(()),
    }
}

fn refuse<T>(what: &str, hint: &str) -> Result<T, Unsupported> {
    Err(Unsupported {
        what: what.to_owned(),
        hint: Some(hint.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_needs_many_ids_or_a_supervisor() {
        let alone = Limits::new(Mode::UsernsOne, true);
        for (user, is_refused) in [
            (None, false),
            (Some("root"), false),
            (Some("0:0"), false),
            (Some("root:root"), false),
            (Some("$USER"), false),
            (Some("1000"), true),
            (Some("0:5"), true),
            (Some("node"), true),
        ] {
            assert_eq!(check_user(user, alone).is_err(), is_refused, "{user:?}");
            assert!(check_user(user, Limits::default()).is_ok(), "{user:?}");
        }
    }

    #[test]
    fn the_first_run_of_a_stage_is_looked_at() {
        let options = plan::PlanOptions {
            target: Some("b".into()),
            ..plan::PlanOptions::default()
        };
        let asks = |text: &str, refused: &str| -> Result<Vec<String>, String> {
            let dockerfile = crate::dockerfile::parse(text).unwrap();
            let plan = Plan::new(&dockerfile, &options).unwrap();
            let asked = std::cell::RefCell::new(Vec::new());
            let executes = |platform: &Platform| {
                asked.borrow_mut().push(platform.to_string());
                match platform.to_string() == refused {
                    true => Err(anyhow::anyhow!("refused")),
                    false => Ok(()),
                }
            };
            for stage in plan.stages() {
                check_programs(stage, &stage.platform, &stage.instructions, &executes).map_err(
                    |error| format!("{}:{error}", text[..error.span.start].lines().count() + 1),
                )?;
            }
            Ok(asked.into_inner())
        };
        let text = "FROM --platform=linux/s390x x AS a\nENV A=b\nRUN one\nRUN two\n\
            FROM scratch AS unneeded\nRUN three\n\
            FROM --platform=linux/arm64 scratch AS b\nCOPY --from=a / /\n";
        assert_eq!(asks(text, ""), Ok(vec!["linux/s390x".into()]));
        assert_eq!(asks(text, "linux/s390x"), Err("3:[a] RUN one".into()));
        // Who executes nothing asks for nothing.
        let text = "FROM --platform=linux/s390x scratch AS b\nCOPY x /\nONBUILD RUN one\n";
        assert_eq!(asks(text, "linux/s390x"), Ok(Vec::new()));
    }
}
