//! What is left when a build is ended from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("a_signal_ends_a_build_in_good_order", cancelled),
    ("a_killed_builder_leaves_a_good_store", killed),
];

/// A build in the background. A case that fails does not leave it behind.
struct Running(Child);

impl Running {
    fn end_with(&mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

/// A build whose step's two processes sleep; `mark` is the sleep's length.
fn sleeping(c: &Context, mark: &str) -> Running {
    c.import();
    let text =
        format!("FROM base\nRUN echo done >/first\nRUN echo asleep; sleep {mark} & sleep {mark}\n");
    c.file("Dockerfile", text);
    let mut command = c.command(&["build", "--iidfile", "id", "context"]);
    let mut build = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(build.0.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().ends_with(" asleep"));
    assert!(line.is_some(), "the step never began");
    std::thread::spawn(move || lines.for_each(drop));
    // The shell says so before it has started them.
    wait_for("two processes sleep", mark, |asleep| asleep == 2);
    build
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

fn wait_for(what: &str, mark: &str, reached: fn(usize) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !reached(asleep(mark).len()) {
        assert!(Instant::now() < end, "{what}: {:?}", asleep(mark));
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
        let status = sleeping(c, &mark).end_with(signal);
        assert_eq!(status.code(), Some(code));
        assert_eq!(asleep(&mark), Vec::<String>::new());
        assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
        assert_eq!(fs::read_to_string(c.path("id")).unwrap(), "before");
    }
    Outcome::Passed
}

fn killed(c: &Context) -> Outcome {
    let mark = mark(9);
    sleeping(c, &mark).end_with(Signal::SIGKILL);
    wait_for("nobody lives on", &mark, |asleep| asleep == 0);
    let ran = c
        .build("FROM base\nRUN echo done >/first\nRUN cat /first\n", &[])
        .ok();
    assert_eq!(ran.cached(), 1, "{}", ran.err);
    assert!(c.leftovers().is_empty(), "swept: {:?}", c.leftovers());
    Outcome::Passed
}
