//! A test program whose cases are processes of their own, each run as several users.
//!
//! Shared by `tests/cli` and `runtime/tests/sandbox`. A case says on stdout why it skips itself. What
//! it says goes to a file, not to a pipe, which a process that a failed case left behind would keep
//! open; a case that hangs fails by name.

use std::collections::VecDeque;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};

/// In the environment of every builder, to be looked for in its sandboxes.
pub const SECRET: &str = "value-of-a-ci-secret";
/// Status of a case's process that means skipped.
pub const SKIPPED: i32 = 77;
/// How long a case may take, far more than any does.
const LIMIT: Duration = Duration::from_secs(300);

/// How a case ended.
pub enum Outcome {
    Passed,
    Skipped(String),
}

impl Outcome {
    /// The status of the case's process.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::Skipped(why) => {
                println!("{why}");
                ExitCode::from(SKIPPED as u8)
            }
        }
    }
}

/// Who runs the cases.
pub struct Who {
    pub name: &'static str,
    /// User and group; the caller's own without.
    pub account: Option<(u32, u32)>,
}

/// The user with subordinate ids: `LAPSTRAKE_TEST_USER`, default `lapstrake-many`. Says so when
/// there is none.
pub fn user_with_many_ids(program: &str) -> Option<(u32, u32)> {
    let name = std::env::var("LAPSTRAKE_TEST_USER").unwrap_or_else(|_| "lapstrake-many".to_owned());
    match User::from_name(&name) {
        Ok(Some(user)) => Some((user.uid.as_raw(), user.gid.as_raw())),
        _ => {
            println!(
                "test {program} as a user ... ignored (no account {name}; make it with useradd)"
            );
            None
        }
    }
}

/// The cases of a test program.
pub struct Cases<'a> {
    /// Where each case gets a directory, and where the test program stands for every user to run.
    pub base: &'a Path,
    /// The name of the copy of the test program in `base`.
    pub program: &'a str,
    pub names: Vec<&'static str>,
    pub everyone: Vec<Who>,
    /// Arguments before the case's directory, besides `--case NAME`.
    pub arguments: fn(&Who) -> Vec<&'static str>,
}

#[derive(Default)]
struct Tally {
    passed: u32,
    skipped: u32,
    /// The title of each that failed, and what it said.
    failed: Vec<(String, String)>,
}

/// What the test harness is asked for: names to filter by, or a list.
pub fn asked(names: &[&str]) -> Result<Vec<String>, ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|argument| argument == "--list") {
        for name in names {
            println!("{name}: test");
        }
        return Err(ExitCode::SUCCESS);
    }
    Ok(args.into_iter().filter(|a| !a.starts_with('-')).collect())
}

/// Says why nothing runs.
pub fn ignore_all(program: &str, why: &str) -> ExitCode {
    println!("test {program} ... ignored ({why})");
    let skipped = Tally {
        skipped: 1,
        ..Tally::default()
    };
    skipped.close()
}

/// Puts a copy of the running test program where every user can run it.
pub fn install(base: &Path, program: &str) {
    std::fs::set_permissions(base, Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), base.join(program)).unwrap();
}

impl Cases<'_> {
    /// Runs those whose titles contain one of the words, a user after the other.
    pub fn run(&self, filter: &[String]) -> ExitCode {
        let mut tally = Tally::default();
        for who in &self.everyone {
            let titled = |name: &&'static str| (*name, format!("{name} ({})", who.name));
            let wanted = |(_, title): &(&str, String)| {
                filter.is_empty() || filter.iter().any(|word| title.contains(word))
            };
            let queue: VecDeque<_> = self.names.iter().map(titled).filter(wanted).collect();
            let state = Mutex::new((queue, &mut tally));
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            std::thread::scope(|scope| {
                for _ in 0..cores {
                    scope.spawn(|| self.work(who, &state));
                }
            });
        }
        tally.close()
    }

    fn work(&self, who: &Who, state: &Mutex<(VecDeque<(&'static str, String)>, &mut Tally)>) {
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = lock().0.pop_front();
            let Some((name, title)) = next else {
                return;
            };
            let (status, said) = self.in_process(who, name);
            lock().1.count(&title, status, &said);
        }
    }

    /// Runs one case; its status and what it said.
    fn in_process(&self, who: &Who, case: &str) -> (Option<i32>, String) {
        let own = self
            .base
            .join(format!("{case}-{}", who.name.replace([' ', ','], "")));
        std::fs::create_dir(&own).unwrap();
        let log = own.with_extension("log");
        let said = File::create(&log).unwrap();
        let mut command = Command::new(self.base.join(self.program));
        command.args(["--case", case]).args((self.arguments)(who));
        command.arg(&own).current_dir(&own);
        command.env("CI_SECRET", SECRET).env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(said.try_clone().unwrap()).stderr(said);
        if let Some((uid, gid)) = who.account {
            chown(&own, Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let status = within_limit(&mut command);
        let mut text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        if status.is_none() {
            text.push_str("ended by a signal, or by the limit of a case\n");
        }
        (status, text)
    }
}

fn within_limit(command: &mut Command) -> Option<i32> {
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + LIMIT;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            None => {
                let group = Pid::from_raw(child.id().cast_signed());
                killpg(group, Signal::SIGKILL).unwrap();
                child.wait().unwrap();
                return None;
            }
        }
    }
}

impl Tally {
    fn count(&mut self, title: &str, status: Option<i32>, said: &str) {
        match status {
            Some(0) => {
                self.passed += 1;
                println!("test {title} ... ok");
                print!("{said}");
            }
            Some(SKIPPED) => {
                self.skipped += 1;
                println!("test {title} ... ignored ({})", said.trim());
            }
            _ => {
                println!("test {title} ... FAILED\n{said}");
                self.failed.push((title.to_owned(), said.to_owned()));
            }
        }
    }

    /// Repeats what failed, since of a long log often only the end is kept.
    fn close(&self) -> ExitCode {
        for (title, said) in &self.failed {
            println!("\n---- {title} ----\n{said}");
        }
        let verdict = if self.failed.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        println!(
            "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out",
            self.passed,
            self.failed.len(),
            self.skipped
        );
        ExitCode::from(u8::from(!self.failed.is_empty()))
    }
}
