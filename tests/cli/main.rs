//! The built program, end to end: every case in a process of its own, with its own home and store,
//! and base images that are imported from a tiny root file system, so that no network is needed.
//!
//! As root every case runs three times: as root, as an unprivileged user with subordinate ids
//! (`LAPSTRAKE_TEST_USER`, default `lapstrake-many`), and as a user who has none.

mod attacks;
mod builds;
mod cache;
mod caches;
mod config;
mod contexts;
mod files;
mod granted;
mod lint;
mod mistakes;
mod mounts;
mod outputs;
mod remote;
mod repositories;
mod sections;
mod signals;
mod support;
mod web;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::{BUSYBOX, Context, Outcome};

/// A case: its name and what it does.
type Case = (&'static str, fn(&Context) -> Outcome);

/// In the environment of every builder, to be looked for in its sandboxes.
const SECRET: &str = "value-of-a-ci-secret";
/// Status of a case's process that means skipped.
const SKIPPED: i32 = 77;
/// How long a case may take, far more than any does: one that hangs fails by name.
const LIMIT: Duration = Duration::from_secs(300);
/// An account that no file of the system knows: it has no subordinate ids.
const NOBODY_ELSE: u32 = 54321;

fn cases() -> Vec<Case> {
    [
        builds::CASES,
        files::CASES,
        cache::CASES,
        config::CASES,
        contexts::CASES,
        outputs::CASES,
        remote::CASES,
        repositories::CASES,
        sections::CASES,
        mistakes::CASES,
        lint::CASES,
        attacks::CASES,
        signals::CASES,
        mounts::CASES,
        caches::CASES,
        granted::CASES,
    ]
    .concat()
}

/// Who runs the cases.
struct Who {
    name: &'static str,
    account: Option<(u32, u32)>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, name, base] = args.as_slice()
        && flag == "--case"
    {
        return run_case(name, Path::new(base));
    }
    if let [_, flag, socket] = args.as_slice()
        && flag == "--ask"
    {
        return granted::ask(Path::new(socket));
    }
    let filter: Vec<&String> = args[1..].iter().filter(|a| !a.starts_with('-')).collect();
    if args.iter().any(|a| a == "--list") {
        for (name, _) in cases() {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !Path::new(BUSYBOX).exists() {
        println!("test cli ... ignored (no {BUSYBOX}; install busybox-static)");
        return close(0, 0, 1);
    }
    orchestrate(&filter)
}

fn run_case(name: &str, base: &Path) -> ExitCode {
    let Some((_, case)) = cases().into_iter().find(|c| c.0 == name) else {
        return ExitCode::FAILURE;
    };
    match case(&Context::new(base)) {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Skipped(why) => {
            println!("{why}");
            ExitCode::from(SKIPPED as u8)
        }
    }
}

fn orchestrate(filter: &[&String]) -> ExitCode {
    let base = tempfile::tempdir().unwrap();
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for (from, to) in [
        (std::env::current_exe().unwrap(), "cli"),
        (env!("CARGO_BIN_EXE_lapstrake").into(), "lapstrake"),
    ] {
        std::fs::copy(from, base.path().join(to)).unwrap();
    }
    support::write_base(&base.path().join("rootfs"), &base.path().join("base.tar"));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for who in everyone() {
        for (name, _) in cases() {
            let title = format!("{name} ({})", who.name);
            if !filter.is_empty() && !filter.iter().any(|f| title.contains(f.as_str())) {
                continue;
            }
            let (code, said) = in_process(&who, name, base.path());
            match code {
                Some(0) => passed += 1,
                Some(SKIPPED) => skipped += 1,
                _ => failed += 1,
            }
            match code {
                Some(0) => println!("test {title} ... ok"),
                Some(SKIPPED) => println!("test {title} ... ignored ({})", said.trim()),
                _ => println!("test {title} ... FAILED\n{said}"),
            }
        }
    }
    close(passed, failed, skipped)
}

fn close(passed: u32, failed: u32, skipped: u32) -> ExitCode {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; 0 filtered out"
    );
    ExitCode::from(u8::from(failed > 0))
}

fn everyone() -> Vec<Who> {
    if !nix::unistd::geteuid().is_root() {
        return vec![Who {
            name: "caller",
            account: None,
        }];
    }
    let mut all = vec![Who {
        name: "root",
        account: None,
    }];
    let user = std::env::var("LAPSTRAKE_TEST_USER").unwrap_or_else(|_| "lapstrake-many".to_owned());
    match nix::unistd::User::from_name(&user) {
        Ok(Some(user)) => all.push(Who {
            name: "user, many ids",
            account: Some((user.uid.as_raw(), user.gid.as_raw())),
        }),
        _ => println!("test cli as a user ... ignored (no account {user}; make it with useradd)"),
    }
    all.push(Who {
        name: "user, one id",
        account: Some((NOBODY_ELSE, NOBODY_ELSE)),
    });
    all
}

/// Runs one case in a process of its own; its status and what it said. What it says goes to a file:
/// a process that a failed case left behind would keep a pipe open.
fn in_process(who: &Who, case: &str, base: &Path) -> (Option<i32>, String) {
    let own = base.join(format!("{case}-{}", who.name.replace([' ', ','], "")));
    std::fs::create_dir(&own).unwrap();
    let log = own.with_extension("log");
    let said = std::fs::File::create(&log).unwrap();
    let mut command = Command::new(base.join("cli"));
    command.args(["--case", case]).arg(&own).current_dir(&own);
    command.env("CI_SECRET", SECRET).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).process_group(0);
    command.stdout(said.try_clone().unwrap()).stderr(said);
    if let Some((uid, gid)) = who.account {
        std::os::unix::fs::chown(&own, Some(uid), Some(gid)).unwrap();
        command.uid(uid).gid(gid);
    }
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            None => {
                let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
                nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
                child.wait().unwrap();
                break None;
            }
        }
    };
    let mut text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    if Instant::now() >= end {
        text.push_str(&format!("ended after {} s\n", LIMIT.as_secs()));
    }
    (status, text)
}
