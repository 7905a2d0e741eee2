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
use runtime::foreign::{self, GIVEN_MORE, RegisterError};
use runtime::{Diff, Error, Exit, Roots, RunSpec};

use super::{Cancel, Environment, Unsupported};
use crate::image::Platform;
use crate::store::Store;

/// The file in its root file system.
const PROGRAM: &str = "trial";

/// Where programs are tried.
pub struct Place<'a> {
    /// Where files are made.
    pub store: &'a Store,
    /// How root file systems are put together.
    pub roots: &'a Roots,
    /// Ends a program that does not end.
    pub cancel: &'a Cancel,
}

impl<'a> From<&'a Environment<'_>> for Place<'a> {
    fn from(env: &'a Environment<'_>) -> Self {
        Self {
            store: env.store,
            roots: env.roots,
            cancel: env.cancel,
        }
    }
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Foreign {
    found: Mutex<Vec<Found>>,
}

/// What was found out about one platform.
#[derive(Debug)]
struct Found {
    platform: Platform,
    verdict: Verdict,
    /// Why there is no handler of our own, if one was wanted.
    own: Option<RegisterError>,
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
    /// Whether a RUN of a stage for `platform` can be executed; if not, [`Unsupported`] says why and what can
    /// be done.
    ///
    /// # Errors
    /// Also when no sandbox could be made to find it out.
    pub fn check(&self, place: &Place<'_>, platform: &Platform) -> Result<()> {
        let host = Platform::host();
        if host.accepts(platform) {
            return Ok(());
        }
        if platform.os != host.os {
            return Err(refuse(platform, "steps run on Linux only", None).into());
        }
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match all.iter().position(|found| found.platform == *platform) {
            Some(at) => at,
            None => {
                let found = find_out(place, &all, platform)?;
                all.push(found);
                all.len() - 1
            }
        };
        let found = &all[at];
        match why(&found.verdict, platform) {
            None => Ok(()),
            Some(why) => Err(refuse(platform, &why, found.own.as_ref()).into()),
        }
    }
}

/// Tries a program of the platform, and if need be once more with a handler of our own.
fn find_out(place: &Place<'_>, known: &[Found], platform: &Platform) -> Result<Found> {
    let mut found = Found {
        platform: platform.clone(),
        verdict: attempt(place, platform)?,
        own: None,
    };
    if let Verdict::Works | Verdict::Failed(_) = found.verdict {
        return Ok(found);
    }
    let relied_on = |known: &&Found| known.verdict == Verdict::Works && !is_kin(&known.platform);
    let mut all: Vec<&Platform> = known
        .iter()
        .filter(relied_on)
        .map(|k| &k.platform)
        .collect();
    all.push(platform);
    match have_handlers(place, &all) {
        Ok(verdict) => found.verdict = verdict?,
        Err(why) => found.own = Some(why),
    }
    Ok(found)
}

/// Registers handlers for all of them; the verdict on the first that does not work then.
fn have_handlers(
    place: &Place<'_>,
    all: &[&Platform],
) -> std::result::Result<Result<Verdict>, RegisterError> {
    let names: Vec<(&str, &str)> = all
        .iter()
        .map(|p| (p.arch.as_str(), p.variant.as_str()))
        .collect();
    let path = std::env::var_os("PATH");
    foreign::register(&names, path.as_deref())?;
    for (platform, name) in all.iter().zip(names) {
        let mut verdict = attempt(place, platform);
        // An old QEMU does not know how it is told a program's name.
        if let Ok(Verdict::GivenMore) = verdict {
            foreign::register_without_name(name, path.as_deref())?;
            verdict = attempt(place, platform);
        }
        match verdict {
            Ok(Verdict::Works) => {}
            other => return Ok(other),
        }
    }
    Ok(Ok(Verdict::Works))
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
fn attempt(place: &Place<'_>, platform: &Platform) -> Result<Verdict> {
    let Some(program) = foreign::trial(&platform.arch, &platform.variant) else {
        let why = "lapstrake has no program by which to find out whether it could be".to_owned();
        return Ok(Verdict::Failed(why));
    };
    let staging = place.store.staging()?;
    let made = try_program(place, staging.path(), &program);
    made.with_context(|| format!("cannot find out whether programs for {platform} can be executed"))
}

fn try_program(place: &Place<'_>, dir: &Path, program: &[u8]) -> Result<Verdict> {
    let (layer, work) = (dir.join("layer"), dir.join("work"));
    fs::create_dir(&layer)?;
    fs::create_dir(&work)?;
    let file = layer.join(PROGRAM);
    fs::write(&file, program)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    let spec = RunSpec::new([format!("/{PROGRAM}")]);
    let workspace = place.roots.for_run(&[Diff::from(layer)], &work, &spec)?;
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
    let _guard = place.cancel.on_cancel(move || handle.kill());
    let exit = child.wait()?;
    place.cancel.check()?;
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
    let (arch, host) = (&platform.arch, Platform::host());
    Some(match verdict {
        Verdict::Works => return None,
        Verdict::NoHandler => format!("this machine, {host}, does not execute its programs"),
        Verdict::Unreachable => format!(
            "steps cannot reach the program that this machine's handler for {arch} names (flag F)"
        ),
        Verdict::GivenMore => format!(
            "this machine's handler for {arch} gives programs other arguments than theirs (flag P)"
        ),
        Verdict::Failed(why) => why.clone(),
    })
}

/// What can be done where there is no handler of our own for the reason given.
fn cure(own: &RegisterError) -> &'static str {
    match own {
        RegisterError::Unknown => INSTEAD,
        RegisterError::NoProgram(_) => {
            "install qemu-user-static, have root register QEMU on the machine (flag F), or compile in a stage \
             FROM --platform=$BUILDPLATFORM"
        }
        RegisterError::NoNamespace | RegisterError::Mount(_) | RegisterError::Refused { .. } => {
            "have root register QEMU on the machine or node (flag F), or compile in a stage \
             FROM --platform=$BUILDPLATFORM"
        }
    }
}

/// What can be done wherever nothing can be registered.
const INSTEAD: &str = "compile in a stage FROM --platform=$BUILDPLATFORM";

fn refuse(platform: &Platform, why: &str, own: Option<&RegisterError>) -> Unsupported {
    let (own, cure) = match own {
        None => (String::new(), INSTEAD),
        Some(own) => (
            format!(", and no handler can be made for it: {own}"),
            cure(own),
        ),
    };
    Unsupported {
        what: format!("RUN for {platform}"),
        hint: Some(format!("{why}{own}; {cure} (docs/platforms.md)")),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_refusal_says_why_and_what_can_be_done() {
        let platform: Platform = "linux/s390x".parse().unwrap();
        let none = || RegisterError::NoProgram("qemu-s390x-static".into());
        let old = || RegisterError::Mount(io::Error::from_raw_os_error(libc::EPERM));
        for (verdict, own, said) in [
            (
                Verdict::NoHandler,
                Some(none()),
                &[
                    "RUN for linux/s390x",
                    "does not execute its programs",
                    "no qemu-s390x-static",
                    "install qemu-user-static",
                ][..],
            ),
            (
                Verdict::NoHandler,
                Some(RegisterError::NoNamespace),
                &["sandbox chroot", "root register QEMU", "node"],
            ),
            (Verdict::NoHandler, Some(old()), &["Linux 6.7", "node"]),
            (Verdict::Unreachable, Some(none()), &["flag F"]),
            (Verdict::GivenMore, Some(old()), &["flag P"]),
            (Verdict::Failed("it sank".into()), None, &["it sank"]),
        ] {
            let why = why(&verdict, &platform).unwrap();
            let text = refuse(&platform, &why, own.as_ref()).to_string();
            for said in said.iter().chain(&["$BUILDPLATFORM", "docs/platforms.md"]) {
                assert!(text.contains(said), "{said:?} is missing in {text}");
            }
            // No longer than what a terminal is shown in full.
            assert!(text.len() < 400, "{}: {text}", text.len());
        }
        assert_eq!(why(&Verdict::Works, &platform), None);
    }

    #[test]
    fn kin_needs_no_handler() {
        let host = Platform::host();
        let narrow = match host.arch.as_str() {
            "amd64" => "linux/386",
            "arm64" => "linux/arm/v7",
            _ => return eprintln!("skipped: nothing is known of {host}"),
        };
        for (text, expected) in [
            (narrow, true),
            ("linux/s390x", false),
            ("linux/riscv64", false),
        ] {
            assert_eq!(is_kin(&text.parse().unwrap()), expected, "{text}");
        }
        assert!(is_kin(&Platform {
            variant: "v3".into(),
            ..host
        }));
    }
}
