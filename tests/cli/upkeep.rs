//! What the store holds, and what is taken away from it: by hand, by a limit, beside builds.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome, ran};

pub const CASES: &[Case] = &[
    ("du_says_what_the_disk_says", usage),
    ("prune_takes_what_its_flags_say", filters),
    ("a_build_keeps_the_store_within_its_limit", limit),
    ("prune_beside_a_build", beside),
];

const DOCKERFILE: &str = "FROM base AS one\nRUN head -c 300000 /bin/busybox >/one\n\
    FROM base AS two\nRUN --mount=type=cache,target=/c head -c 200000 /bin/busybox >/two; echo c >/c/f\n\
    FROM base\nCOPY --from=one /one /\nCOPY --from=two /two /\n";

/// `du --json`, by kind.
fn rows(c: &Context) -> Vec<Value> {
    let out = c.run(&["du", "--json"]).ok().out;
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn row(c: &Context, kind: &str) -> Value {
    let rows = rows(c);
    let found = rows.iter().find(|row| row["Type"] == kind);
    found
        .unwrap_or_else(|| panic!("no {kind}: {rows:?}"))
        .clone()
}

fn total(c: &Context) -> u64 {
    rows(c)
        .iter()
        .map(|row| row["Bytes"].as_u64().unwrap())
        .sum()
}

/// Makes everything in the store look as if it had been used that long ago.
fn age(c: &Context, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(hours * 60 * 60);
    let mut pending = vec![c.path("store/v1")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == "diff" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let file = fs::File::open(entry.path()).unwrap();
                file.set_modified(time).unwrap();
            }
        }
    }
}

fn usage(c: &Context) -> Outcome {
    c.build(DOCKERFILE, &["-t", "app"]).ok();
    let told = c.run(&["du"]).ok().out;
    let disk = std::process::Command::new("du")
        .args(["-s", "-B1", "store/v1"])
        .current_dir(&c.base)
        .output()
        .unwrap();
    let disk = String::from_utf8(disk.stdout).unwrap();
    let disk: u64 = disk.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(total(c), disk);
    for kind in ["images", "image layers", "step layers", "cache mounts"] {
        assert!(told.contains(&format!("\n{kind} ")), "{told}");
    }
    assert!(told.contains("\nReclaimable: ") && told.contains("\nTotal: "));
    assert_eq!(row(c, "images")["Count"], 2);
    assert_eq!(row(c, "step layers")["Count"], 4);
    assert_eq!(row(c, "cache mounts")["Count"], 1);
    // The image needs two of the four layers, and no cache mount.
    let free = row(c, "step layers")["ReclaimableBytes"].as_u64().unwrap();
    assert!((500_000..600_000).contains(&free), "{free}");
    assert_eq!(row(c, "image layers")["ReclaimableBytes"], 0);
    let verbose = c.run(&["du", "--verbose"]).ok().out;
    assert!(
        verbose.contains("RUN /bin/sh -c head -c 300000") || verbose.contains("head -c 300000")
    );
    let line = verbose.lines().find(|line| line.contains("cache mounts"));
    assert!(line.unwrap().ends_with("/c"), "{verbose}");
    let json = c.run(&["du", "--verbose", "--format=json"]).ok().out;
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert!(first["Bytes"].as_u64() > Some(100_000), "{first}");
    Outcome::Passed
}

fn filters(c: &Context) -> Outcome {
    c.build(DOCKERFILE, &["-t", "app"]).ok();
    age(c, 30);
    for (flags, kept) in [
        (&["--filter", "until=31h"][..], (4, 1)),
        (&["--keep-duration", "2d"], (4, 1)),
        (&["--max-used-space", "1g"], (4, 1)),
        (&["--keep-storage", "1g"], (4, 1)),
        (&["--min-free-space", "1"], (4, 1)),
        (&["--filter", "until=29h", "--dry-run"], (4, 1)),
        (&["--filter", "type=source.git.checkout"], (4, 1)),
        (
            &["--filter", "type=exec.cachemount", "--filter", "until=29h"],
            (4, 0),
        ),
        (&["--filter", "until=29h", "--max-used-space", "1"], (2, 0)),
    ] {
        let mut args = vec!["prune", "--force"];
        args.extend(flags);
        c.run(&args).ok();
        let left = (
            row(c, "step layers")["Count"].as_u64().unwrap(),
            row(c, "cache mounts")["Count"].as_u64().unwrap(),
        );
        assert_eq!(left, kept, "{flags:?}");
    }
    for (flags, told) in [
        (&["--filter", "until=soon"][..], "until"),
        (&["--filter", "type=nothing"], "exec.cachemount"),
        (&["--filter", "color=red"], "color=red"),
        (&["--max-used-space", "much"], "--max-used-space"),
        (&["--keep-duration", "1x"], "--keep-duration"),
    ] {
        let mut args = vec!["prune", "--force"];
        args.extend(flags);
        c.run(&args).fails(2, &[told]);
    }
    // What the image is made of has stayed, and the steps that lead to it.
    let again = c.build(DOCKERFILE, &["-t", "app"]).ok();
    assert_eq!(again.executed().len(), 2, "{}", again.err);
    assert!(again.executed().iter().all(|step| step.starts_with("RUN")));
    c.run(&["prune", "--force", "--all"]).ok();
    assert_eq!(row(c, "images")["Count"], 0);
    Outcome::Passed
}

fn limit(c: &Context) -> Outcome {
    c.build(DOCKERFILE, &["-t", "app"]).ok();
    age(c, 30);
    let all = total(c);
    let other = "FROM base\nRUN head -c 100000 /bin/busybox >/other\n";
    let roomy = format!("{}", all + 2_000_000);
    let ran_ = c
        .build(other, &["-t", "other", "--store-limit", &roomy])
        .ok();
    assert!(!ran_.err.contains("store: removed"), "{}", ran_.err);
    assert_eq!(row(c, "step layers")["Count"], 5);
    // With what this build adds it is over; what is free and old goes, the newest and named stays.
    let tight = format!("{}", total(c));
    let newest = "FROM base\nRUN head -c 100000 /bin/busybox >/newest\n";
    c.file("Dockerfile", newest);
    let mut build = c.command(&["build", "-t", "newest", "context"]);
    let told = ran(build.env("LAPSTRAKE_STORE_LIMIT", &tight)).ok();
    assert!(told.err.contains("store: removed "), "{}", told.err);
    assert!(total(c) <= tight.parse().unwrap());
    for (text, tag) in [(other, "other"), (newest, "newest")] {
        let again = c.build(text, &["-t", tag]).ok();
        assert_eq!(again.executed(), Vec::<String>::new());
    }
    // One that cannot be kept is told and fails nothing; the flag goes before the variable.
    let config = c.path("home/.config/lapstrake");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "store-limit = \"1k\"\n").unwrap();
    let told = c.build(newest, &["-t", "newest", "--no-cache"]).ok();
    assert!(
        told.err.contains("more than its limit of 1.02kB"),
        "{}",
        told.err
    );
    let told = c.build(newest, &["--no-cache", "--store-limit", "0"]).ok();
    assert!(!told.err.contains("its limit"), "{}", told.err);
    c.build(newest, &["--store-limit", "lots"])
        .fails(2, &["--store-limit"]);
    fs::write(config.join("config.toml"), "store-limit = \"x\"\n").unwrap();
    c.build(newest, &[]).fails(2, &["store-limit"]);
    Outcome::Passed
}

fn wait_for(c: &Context, log: &str, word: &str) {
    for _ in 0..1500 {
        if fs::read_to_string(c.path(log)).unwrap().contains(word) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{word}: {}", fs::read_to_string(c.path(log)).unwrap());
}

fn start(c: &Context, log: &str, args: &[&str]) -> Child {
    let file = fs::File::create(c.path(log)).unwrap();
    let mut command = c.command(args);
    command.stderr(file).stdout(Stdio::null()).spawn().unwrap()
}

/// A build is in the middle of a step while everything that nobody uses is removed.
fn beside(c: &Context) -> Outcome {
    c.build("FROM base\nRUN echo unused >/unused\n", &["-t", "unused"])
        .ok();
    c.file(
        "Dockerfile",
        "FROM base\nRUN echo a >/a\n\
         RUN --mount=type=cache,target=/c echo kept >/c/f; echo here; sleep 4; cat /a >/b\n\
         RUN --mount=type=cache,target=/c cat /c/f /b >/d\n",
    );
    let mut build = start(c, "log", &["build", "-t", "app", "context"]);
    wait_for(c, "log", "here");
    let told = c.run(&["prune", "--force", "--all"]).ok();
    assert!(build.try_wait().unwrap().is_none(), "prune has waited");
    assert!(
        told.err.contains("in use by running builds"),
        "{}",
        told.err
    );
    assert!(told.err.contains("were not looked at"), "{}", told.err);
    assert!(
        told.out.contains("docker.io/library/unused"),
        "{}",
        told.out
    );
    // A build that begins while another one is collected under waits for nobody either.
    let layers: Vec<PathBuf> = fs::read_dir(c.path("store/v1/tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!layers.is_empty(), "the step's own directory is there");
    let log = || fs::read_to_string(c.path("log")).unwrap();
    assert!(build.wait().unwrap().success(), "{}", log());
    // Its image is whole although its base has lost its name.
    c.run(&["save", "-o", "app.tar", "app"]).ok();
    let out = c.run(&["run", "app", "cat", "/d"]).ok().out;
    assert_eq!(out, "kept\na\n");
    c.import();
    let again = c.run(&["build", "context"]).ok();
    assert_eq!(again.cached(), 3, "{}", again.err);
    c.run(&["prune", "--force"]).ok();
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    Outcome::Passed
}
