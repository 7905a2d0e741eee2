//! Which platforms' programs steps can execute here: found out, once per build and platform, by having
//! a step execute one.
//!
//! Such a program stands alone in an empty root file system, and the sandbox is that of any step, so what
//! executes it in the end (the processor, a handler of binfmt_misc) would execute a RUN's programs, too. A
//! platform that nothing here executes gets handlers of our own user namespace if QEMU is installed
//! (`runtime::foreign`); since these hide those of the machine, they are made only together with all that
//! this build has relied on so far.
//!
//! Nothing of this is in a key: who executes a program changes nothing of what it says.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use runtime::foreign::{self, GIVEN_MORE};
use runtime::{Diff, Error, Exit, RunSpec};

use super::{Environment, Unsupported};
use crate::image::Platform;

/// The file in its root file system.
const PROGRAM: &str = "trial";

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    found: Mutex<Vec<(Platform, Verdict)>>,
}

/// How a platform's program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should.
    Works,
    /// Nobody executes it.
    NoHandler,
    /// A handler is there whose interpreter steps do not find.
    Unreachable,
    /// It was given an argument too many.
    GivenMore,
    /// In another way, in words.
    Failed(String),
}

impl Foreign {
    /// Whether a RUN of a stage for `platform` can be executed; if not, why and what can be done.
    ///
    /// # Errors
    /// Also when no sandbox could be made to find it out.
    pub(super) fn check(&self, env: &Environment<'_>, platform: &Platform) -> Result<()> {
        let host = Platform::host();
        if host.accepts(platform) {
            return Ok(());
        }
        if platform.os != host.os {
            return Err(refuse(platform, "it is another system", "").into());
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = found.iter().find(|(known, _)| known == platform);
        let (verdict, own) = match known {
            Some((_, verdict)) => (verdict.clone(), None),
            None => {
                let (verdict, own) = find_out(env, &mut found, platform)?;
                found.push((platform.clone(), verdict.clone()));
                (verdict, own)
            }
        };
        match why(&verdict, platform) {
            None => Ok(()),
            Some(why) => {
                let own = own.map(|why| format!("; lapstrake cannot register QEMU itself: {why}"));
                Err(refuse(platform, &why, &own.unwrap_or_default()).into())
            }
        }
    }
}

/// Tries a program of the platform, if need be with a handler of our own; and if there can be none, why.
fn find_out(
    env: &Environment<'_>,
    found: &mut [(Platform, Verdict)],
    platform: &Platform,
) -> Result<(Verdict, Option<String>)> {
    let verdict = attempt(env, platform)?;
    if !matches!(verdict, Verdict::NoHandler | Verdict::Unreachable) {
        return Ok((verdict, None));
    }
    let relied_on = found
        .iter()
        .filter(|(known, verdict)| *verdict == Verdict::Works && !is_kin(known));
    let mut all: Vec<&Platform> = relied_on.map(|(known, _)| known).collect();
    all.push(platform);
    match have_handlers(env, &all) {
        Ok(verdict) => Ok((verdict?, None)),
        Err(why) => Ok((verdict, Some(why.to_string()))),
    }
}

/// Registers handlers for all of them; how a program of the last one then ends.
fn have_handlers(
    env: &Environment<'_>,
    all: &[&Platform],
) -> Result<Result<Verdict>, foreign::RegisterError> {
    let names: Vec<(&str, &str)> = all
        .iter()
        .map(|platform| (platform.arch.as_str(), platform.variant.as_str()))
        .collect();
    let path = std::env::var_os("PATH");
    let mut verdict = Ok(Verdict::GivenMore);
    // An old QEMU does not know what the kernel gives it to keep a program's name.
    for keep_name in [true, false] {
        foreign::register(&names, path.as_deref(), keep_name)?;
        verdict = attempt_all(env, all);
        if !matches!(verdict, Ok(Verdict::GivenMore)) {
            break;
        }
    }
    Ok(verdict)
}

/// The verdict on the first of them that does not work.
fn attempt_all(env: &Environment<'_>, all: &[&Platform]) -> Result<Verdict> {
    for platform in all {
        let verdict = attempt(env, platform)?;
        if verdict != Verdict::Works {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Works)
}

/// Whether this machine's processor may execute it without any handler.
fn is_kin(platform: &Platform) -> bool {
    let host = Platform::host();
    let narrow = match host.arch.as_str() {
        "amd64" => "386",
        "arm64" => "arm",
        _ => "",
    };
    platform.arch == host.arch || platform.arch == narrow
}

/// Has a step execute a program of the platform.
fn attempt(env: &Environment<'_>, platform: &Platform) -> Result<Verdict> {
    let Some(program) = foreign::trial(&platform.arch, &platform.variant) else {
        let why = "lapstrake has no program by which to find out whether it could be".to_owned();
        return Ok(Verdict::Failed(why));
    };
    let staging = env.store.staging()?;
    let made = try_program(env, staging.path(), &program);
    made.with_context(|| format!("cannot find out whether programs for {platform} can be executed"))
}

fn try_program(env: &Environment<'_>, dir: &Path, program: &[u8]) -> Result<Verdict> {
    let (layer, work) = (dir.join("layer"), dir.join("work"));
    fs::create_dir(&layer)?;
    fs::create_dir(&work)?;
    let file = layer.join(PROGRAM);
    fs::write(&file, program)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    let spec = RunSpec::new([format!("/{PROGRAM}")]);
    let workspace = env.roots.for_run(&[Diff::from(layer)], &work, &spec)?;
    let null = || fs::OpenOptions::new().write(true).open("/dev/null");
    let (stdout, stderr) = (OwnedFd::from(null()?), OwnedFd::from(null()?));
    let child = match runtime::spawn(&workspace, spec, stdout, stderr) {
        Err(Error::Exec(error)) => {
            return Ok(match error.errno {
                libc::ENOEXEC => Verdict::NoHandler,
                libc::ENOENT if error.exists => Verdict::Unreachable,
                _ => Verdict::Failed(error.to_string()),
            });
        }
        started => started?,
    };
    let handle = child.kill_handle();
    let _guard = env.cancel.on_cancel(move || handle.kill());
    let exit = child.wait()?;
    env.cancel.check()?;
    Ok(match exit {
        Exit::Code(0) => Verdict::Works,
        Exit::Code(GIVEN_MORE) => Verdict::GivenMore,
        Exit::Code(code) => Verdict::Failed(format!("a program that only ends ends with {code}")),
        Exit::Signal(signal) => Verdict::Failed(format!(
            "a program that only ends was ended by signal {signal}{}",
            if signal == libc::SIGILL {
                ", for the processor lacks instructions"
            } else {
                ""
            }
        )),
    })
}

fn why(verdict: &Verdict, platform: &Platform) -> Option<String> {
    Some(match verdict {
        Verdict::Works => return None,
        Verdict::NoHandler => format!(
            "this machine, {}, does not execute its programs",
            Platform::host()
        ),
        Verdict::Unreachable => format!(
            "the handler that this machine has for {} names a program that steps cannot reach \
             (it was registered without the flag F)",
            platform.arch
        ),
        Verdict::GivenMore => format!(
            "the handler that this machine has for {} gives programs one argument more than they were \
             called with (it was registered with the flag P, and its QEMU is older than that)",
            platform.arch
        ),
        Verdict::Failed(why) => why.clone(),
    })
}

fn refuse(platform: &Platform, why: &str, own: &str) -> Unsupported {
    Unsupported {
        what: format!("RUN for {platform}"),
        hint: Some(format!(
            "{why}{own}; install qemu-user-static beside lapstrake, have root register QEMU with \
             binfmt_misc and the flag F on this machine (in Kubernetes: on the node), or compile in a stage \
             FROM --platform=$BUILDPLATFORM and COPY --from it; see docs/platforms.md"
        )),
    }
}
