//! The built program, end to end: every case in a process of its own, with its own home and store,
//! and base images that are imported from a tiny root file system, so that no network is needed.
//!
//! As root every case runs four times: as root, as root without namespaces and mounts, as an
//! unprivileged user with subordinate ids (`LAPSTRAKE_TEST_USER`, default `lapstrake-many`), and as a
//! user who has none.

mod attacks;
mod builds;
mod cache;
mod caches;
mod config;
mod contexts;
mod distrust;
mod doctor;
mod explain;
mod files;
mod granted;
mod jobs;
mod layers;
mod lazy;
mod lint;
mod make;
mod mistakes;
mod mounts;
mod outputs;
mod owners;
mod platforms;
mod registry;
mod remote;
mod repositories;
mod sections;
mod shared;
mod signals;
mod support;
mod trees;
mod upkeep;
mod web;

#[path = "../support/cases.rs"]
mod harness;

use std::path::Path;
use std::process::ExitCode;

use harness::{Cases, SECRET, Who};
use support::{BUSYBOX, Context, IN_TREES, Outcome};

/// A case: its name and what it does.
type Case = (&'static str, fn(&Context) -> Outcome);

/// An account that no file of the system knows: it has no subordinate ids.
const NOBODY_ELSE: u32 = 54321;

fn cases() -> Vec<Case> {
    [
        builds::CASES,
        files::CASES,
        cache::CASES,
        explain::CASES,
        make::CASES,
        config::CASES,
        contexts::CASES,
        outputs::CASES,
        layers::CASES,
        owners::CASES,
        remote::CASES,
        lazy::CASES,
        jobs::CASES,
        repositories::CASES,
        sections::CASES,
        mistakes::CASES,
        lint::CASES,
        attacks::CASES,
        signals::CASES,
        upkeep::CASES,
        mounts::CASES,
        caches::CASES,
        granted::CASES,
        shared::CASES,
        distrust::CASES,
        doctor::CASES,
        platforms::CASES,
        trees::CASES,
    ]
    .concat()
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
    let names: Vec<_> = cases().iter().map(|case| case.0).collect();
    let filter = match harness::asked(&names) {
        Ok(filter) => filter,
        Err(code) => return code,
    };
    if !Path::new(BUSYBOX).exists() {
        let why = format!("no {BUSYBOX}; install busybox-static");
        return harness::ignore_all("cli", &why);
    }
    let base = tempfile::tempdir().unwrap();
    harness::install(base.path(), "cli");
    let program = env!("CARGO_BIN_EXE_lapstrake");
    std::fs::copy(program, base.path().join("lapstrake")).unwrap();
    support::write_base(&base.path().join("rootfs"), &base.path().join("base.tar"));
    let cases = Cases {
        base: base.path(),
        program: "cli",
        names,
        everyone: everyone(),
        arguments: |_| Vec::new(),
    };
    cases.run(&filter)
}

/// Whether the case asks which mode there would be by itself.
fn is_of_probes(name: &str) -> bool {
    doctor::CASES.iter().any(|(known, _)| *known == name)
}

fn run_case(name: &str, base: &Path) -> ExitCode {
    match cases().into_iter().find(|case| case.0 == name) {
        Some((name, _)) if base.ends_with(format!("{name}-rootchroot")) && is_of_probes(name) => {
            Outcome::Skipped("a mode is forced here".to_owned()).report()
        }
        Some((_, case)) => case(&Context::new(base)).report(),
        None => ExitCode::FAILURE,
    }
}

fn everyone() -> Vec<Who> {
    if !nix::unistd::geteuid().is_root() {
        return vec![Who {
            name: "caller",
            account: None,
        }];
    }
    let mut all = vec![
        Who {
            name: "root",
            account: None,
        },
        Who {
            name: IN_TREES,
            account: None,
        },
    ];
    all.extend(harness::user_with_many_ids("cli").map(|account| Who {
        name: "user, many ids",
        account: Some(account),
    }));
    all.push(Who {
        name: "user, one id",
        account: Some((NOBODY_ELSE, NOBODY_ELSE)),
    });
    all
}
