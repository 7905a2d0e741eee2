//! Real runs over a tiny root file system, each case in a process of its own, since a process can
//! enter a namespace only once and only while it has one thread.
//!
//! As root every case runs three times: as root, as an unprivileged user with subordinate ids
//! (`LAPSTRAKE_TEST_USER`, default `lapstrake-many`), and as the same user with one id.

mod attacks;
mod basics;
mod fallbacks;
mod in_tree;
mod inside;
mod inside_tree;
mod mounts;
mod owners;
mod probes;
mod support;

#[path = "../../../tests/support/cases.rs"]
mod harness;

use std::path::Path;
use std::process::ExitCode;

use harness::{Cases, SECRET, Who};
use runtime::{EnterOptions, Mode, enter};
use support::{Context, Outcome};

/// A case: its name, whether the harness enters a namespace first, and what it does.
type Case = (&'static str, bool, fn(&Context) -> Outcome);

fn cases() -> Vec<Case> {
    [
        basics::CASES,
        mounts::CASES,
        attacks::CASES,
        fallbacks::CASES,
        owners::CASES,
        probes::CASES,
        in_tree::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    runtime::init_if_reexecuted();
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, name, ids, base] = args.as_slice()
        && flag == "--case"
    {
        return run_case(name, ids, Path::new(base));
    }
    if let [_, flag, what, ..] = args.as_slice()
        && flag == "--inside"
    {
        return inside::run(what);
    }
    let names: Vec<_> = cases().iter().map(|case| case.0).collect();
    let filter = match harness::asked(&names) {
        Ok(filter) => filter,
        Err(code) => return code,
    };
    if !Path::new("/bin/busybox").exists() {
        return harness::ignore_all("sandbox", "no /bin/busybox; install busybox-static");
    }
    let base = tempfile::tempdir().unwrap();
    harness::install(base.path(), "sandbox");
    let cases = Cases {
        base: base.path(),
        program: "sandbox",
        names,
        everyone: everyone(),
        arguments: |who| {
            vec![if who.name.contains("one id") {
                "one"
            } else {
                "many"
            }]
        },
    };
    cases.run(&filter)
}

fn run_case(name: &str, ids: &str, base: &Path) -> ExitCode {
    let Some((_, wants_namespace, case)) = cases().into_iter().find(|c| c.0 == name) else {
        return ExitCode::FAILURE;
    };
    let mode = match ids {
        "many" => Some(Mode::UsernsMany),
        "one" => Some(Mode::UsernsOne),
        _ => None,
    };
    let entered = match wants_namespace
        .then(|| enter(&EnterOptions { mode }))
        .transpose()
    {
        Ok(entered) => entered,
        Err(error) => return Outcome::Skipped(error.to_string()).report(),
    };
    let context = Context {
        base: base.to_owned(),
        entered,
    };
    case(&context).report()
}

fn everyone() -> Vec<Who> {
    let who = |name, account| Who { name, account };
    if !nix::unistd::geteuid().is_root() {
        return vec![who("many ids", None), who("one id", None)];
    }
    let mut all = vec![who("root", None)];
    if let Some(account) = harness::user_with_many_ids("sandbox") {
        all.push(who("user, many ids", Some(account)));
        all.push(who("user, one id", Some(account)));
    }
    all
}
