//! What is left when a build is ended from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("a_signal_ends_a_build_in_good_order", cancelled),
    ("a_killed_builder_leaves_a_good_store", killed),
];

/// A build that says where it is and then sleeps; `mark` is the sleep's length.
fn sleeping(c: &Context, mark: &str) -> Child {
    c.import();
    let text =
        format!("FROM base\nRUN echo done >/first\nRUN echo asleep; sleep {mark} & sleep {mark}\n");
    c.file("Dockerfile", text);
    let mut command = c.command(&["build", "--iidfile", "id", "context"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().ends_with(" asleep"));
    assert!(line.is_some(), "the step never began");
    std::thread::spawn(move || lines.for_each(drop));
    assert!(!asleep(mark).is_empty());
    child
}

/// Processes that sleep that long.
fn asleep(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.trim_end() == format!("sleep {mark}"))
        .collect()
}

fn wait_for_nobody(mark: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while !asleep(mark).is_empty() {
        assert!(Instant::now() < end, "{:?} live on", asleep(mark));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A number that no other case sleeps for.
fn mark(last: u32) -> String {
    format!("{}{last}", 100_000 + std::process::id())
}

fn cancelled(c: &Context) -> Outcome {
    fs::write(c.path("id"), "before").unwrap();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mark = mark(signal as u32);
        let mut child = sleeping(c, &mark);
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code));
        assert_eq!(asleep(&mark), Vec::<String>::new());
        assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
        assert_eq!(fs::read_to_string(c.path("id")).unwrap(), "before");
    }
    Outcome::Passed
}

fn killed(c: &Context) -> Outcome {
    let mark = mark(9);
    let mut child = sleeping(c, &mark);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    wait_for_nobody(&mark);
    let ran = c
        .build("FROM base\nRUN echo done >/first\nRUN cat /first\n", &[])
        .ok();
    assert_eq!(ran.cached(), 1, "{}", ran.err);
    assert!(c.leftovers().is_empty(), "swept: {:?}", c.leftovers());
    Outcome::Passed
}
