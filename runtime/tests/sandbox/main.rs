//! Real runs over a tiny root file system, each case in a process of its own, since a process can
//! enter a namespace only once and only while it has one thread.
//!
//! As root every case runs three times: as root, as an unprivileged user with subordinate ids
//! (`LAPSTRAKE_TEST_USER`, default `lapstrake-many`), and as the same user with one id.

mod attacks;
mod basics;
mod fallbacks;
mod mounts;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use runtime::{EnterOptions, IdChoice, enter};
use support::{Context, Outcome};

/// A case: its name, whether the harness enters a namespace first, and what it does.
type Case = (&'static str, bool, fn(&Context) -> Outcome);

/// In the environment of every builder, to be looked for in its sandboxes.
const SECRET: &str = "value-of-a-ci-secret";

/// Status of a case's process that means skipped.
const SKIPPED: i32 = 77;

fn cases() -> Vec<Case> {
    [
        basics::CASES,
        mounts::CASES,
        attacks::CASES,
        fallbacks::CASES,
    ]
    .concat()
}

/// Who runs the cases.
struct Who {
    name: &'static str,
    ids: &'static str,
    account: Option<(u32, u32)>,
}

fn main() -> ExitCode {
    runtime::init_if_reexecuted();
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, name, ids, base] = args.as_slice()
        && flag == "--case"
    {
        return run_case(name, ids, Path::new(base));
    }
    let filter: Vec<&String> = args[1..].iter().filter(|a| !a.starts_with('-')).collect();
    if args.iter().any(|a| a == "--list") {
        for (name, ..) in cases() {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !Path::new("/bin/busybox").exists() {
        println!("test sandbox ... ignored (no /bin/busybox; install busybox-static)");
        return close(0, 0, 1);
    }
    orchestrate(&filter)
}

fn run_case(name: &str, ids: &str, base: &Path) -> ExitCode {
    let Some((_, wants_namespace, case)) = cases().into_iter().find(|c| c.0 == name) else {
        return ExitCode::FAILURE;
    };
    let ids = match ids {
        "many" => IdChoice::Many,
        "one" => IdChoice::One,
        _ => IdChoice::Auto,
    };
    let entered = match wants_namespace
        .then(|| enter(&EnterOptions { ids }))
        .transpose()
    {
        Ok(entered) => entered,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(SKIPPED as u8);
        }
    };
    match case(&Context {
        base: base.to_owned(),
        entered,
    }) {
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
    let program = base.path().join("sandbox");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for who in everyone() {
        for (name, ..) in cases() {
            let title = format!("{name} ({})", who.name);
            if !filter.is_empty() && !filter.iter().any(|f| title.contains(f.as_str())) {
                continue;
            }
            let (code, said) = in_process(&program, &who, name, base.path());
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
            if name == "spawn_cost" && code == Some(0) {
                print!("{said}");
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
        return vec![
            Who {
                name: "many ids",
                ids: "many",
                account: None,
            },
            Who {
                name: "one id",
                ids: "one",
                account: None,
            },
        ];
    }
    let mut all = vec![Who {
        name: "root",
        ids: "many",
        account: None,
    }];
    let user = std::env::var("LAPSTRAKE_TEST_USER").unwrap_or_else(|_| "lapstrake-many".to_owned());
    match nix::unistd::User::from_name(&user) {
        Ok(Some(user)) => {
            let account = Some((user.uid.as_raw(), user.gid.as_raw()));
            all.push(Who {
                name: "user, many ids",
                ids: "many",
                account,
            });
            all.push(Who {
                name: "user, one id",
                ids: "one",
                account,
            });
        }
        _ => {
            println!("test sandbox as a user ... ignored (no account {user}; make it with useradd)")
        }
    }
    all
}

/// Runs one case in a process of its own; its status and what it said.
fn in_process(program: &Path, who: &Who, case: &str, base: &Path) -> (Option<i32>, String) {
    let own: PathBuf = base.join(format!("{case}-{}", who.name.replace([' ', ','], "")));
    std::fs::create_dir(&own).unwrap();
    let mut command = Command::new(program);
    command
        .args(["--case", case, who.ids])
        .arg(&own)
        .current_dir("/");
    command.env("CI_SECRET", SECRET);
    if let Some((uid, gid)) = who.account {
        std::os::unix::fs::chown(&own, Some(uid), Some(gid)).unwrap();
        command.uid(uid).gid(gid);
    }
    let out = command.output().unwrap();
    let mut said = String::from_utf8_lossy(&out.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&out.stderr));
    (out.status.code(), said)
}
