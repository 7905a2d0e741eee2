//! Awkward places: the built program where system calls, files, limits, ids or streams are not as usual.
//!
//! A build of one Dockerfile, which pulls, runs, copies, caches and changes owners, either gives the image
//! that it gives anywhere else, or ends with an error of the documented class that names what is missing.
//!
//! As root every place is tried as root, as an unprivileged user with subordinate ids and as one without,
//! and the launcher (`launch`) makes it before it becomes that user: calls can be refused without
//! `no_new_privs` only so. Otherwise places that need root skip themselves.

mod calls;
mod homes;
mod launch;
mod place;

#[path = "../cli/registry.rs"]
#[expect(dead_code, reason = "some of it is for other tests")]
mod registry;
#[path = "../cli/support.rs"]
#[expect(dead_code, reason = "some of it is for other tests")]
mod support;
#[path = "../cli/web.rs"]
#[expect(dead_code, reason = "some of it is for other tests")]
mod web;

#[path = "../support/cases.rs"]
mod harness;

use std::path::Path;
use std::process::ExitCode;

use harness::{Cases, SECRET, Who};
use place::Place;
use support::{BUSYBOX, Outcome};

/// An account that no file of the system knows: it has no subordinate ids.
const NOBODY_ELSE: u32 = 54321;

/// A case: its name and what it does.
type Case = (&'static str, fn(&Place) -> Outcome);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into())
        .collect();
    if args.get(1).is_some_and(|flag| flag == "--launch") {
        return launch::main(std::env::args_os().skip(2));
    }
    if let [_, flag, name, who, base] = args.as_slice()
        && flag == "--case"
    {
        return run_case(name, who, Path::new(base));
    }
    let names: Vec<_> = homes::CASES
        .iter()
        .map(|case| case.0)
        .chain(calls::ROWS.iter().map(|row| row.name))
        .collect();
    let filter = match harness::asked(&names) {
        Ok(filter) => filter,
        Err(code) => return code,
    };
    if !Path::new(BUSYBOX).exists() {
        let why = format!("no {BUSYBOX}; install busybox-static");
        return harness::ignore_all("places", &why);
    }
    let base = tempfile::tempdir().unwrap();
    harness::install(base.path(), "places");
    let program = env!("CARGO_BIN_EXE_lapstrake");
    std::fs::copy(program, base.path().join("lapstrake")).unwrap();
    // Lives as long as the cases run.
    let _registry = place::prepare(base.path());
    let cases = Cases {
        base: base.path(),
        program: "places",
        names,
        everyone: everyone(),
        arguments: |who| vec![who.name],
    };
    cases.run(&filter)
}

fn run_case(name: &str, who: &str, base: &Path) -> ExitCode {
    let place = Place::new(base, who);
    if let Some(row) = calls::ROWS.iter().find(|row| row.name == name) {
        return calls::run(&place, row).report();
    }
    match homes::CASES.iter().find(|case| case.0 == name) {
        Some((_, case)) => case(&place).report(),
        None => ExitCode::FAILURE,
    }
}

/// Nobody's account is given: the launcher needs what root may do, and changes the user itself.
fn everyone() -> Vec<Who> {
    let who = |name| Who {
        name,
        account: None,
    };
    if !nix::unistd::geteuid().is_root() {
        return vec![who("caller")];
    }
    let mut all = vec![who("root")];
    if harness::user_with_many_ids("places").is_some() {
        all.push(who("user, many ids"));
    }
    all.push(who("user, one id"));
    all
}
