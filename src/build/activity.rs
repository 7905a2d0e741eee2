//! [`Activity`]: whether the processes of a step do anything, by what `/proc` says of them.
//!
//! A tree of processes is idle when it has used no processor time since it was looked at last, and
//! each of its threads sleeps, now and then: one that waits for a processor, or for the disk, has
//! used none either. Where `/proc` does not tell of children, a tree counts as busy.

use std::fs;
use std::path::{Path, PathBuf};

/// The processes below one, and that one.
pub(super) struct Activity {
    root: u32,
    /// Clock ticks used so far, by those that are gone, too; none before the first look.
    ticks: Option<u64>,
    was_asleep: bool,
}

/// What one look has found.
#[derive(Default)]
struct Look {
    ticks: u64,
    /// Somebody runs, waits for a processor or for the disk.
    is_awake: bool,
}

/// What `/proc/PID/stat` says of a process or a thread.
#[derive(Debug, PartialEq)]
struct Stat {
    state: u8,
    ticks: u64,
    threads: u64,
}

impl Activity {
    pub(super) fn of(root: u32) -> Self {
        Self {
            root,
            ticks: None,
            was_asleep: false,
        }
    }

    /// Whether anything was done between the last look and this one. The first look cannot tell.
    pub(super) fn is_busy(&mut self) -> bool {
        let Some(look) = look(self.root) else {
            (self.ticks, self.was_asleep) = (None, false);
            return true;
        };
        let is_idle = self.was_asleep && !look.is_awake && self.ticks == Some(look.ticks);
        (self.ticks, self.was_asleep) = (Some(look.ticks), !look.is_awake);
        !is_idle
    }
}

/// Looks at every process of the tree; none where that cannot be seen. Processes that end meanwhile
/// are no longer there.
fn look(root: u32) -> Option<Look> {
    let mut all = Look::default();
    let mut pending = vec![root];
    while let Some(pid) = pending.pop() {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let Some(stat) = stat(&dir.join("stat")) else {
            match pid == root {
                true => return None,
                false => continue,
            }
        };
        all.ticks += stat.ticks;
        all.is_awake |= is_awake(stat.state);
        for thread in fs::read_dir(dir.join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let thread = thread.path();
            if stat.threads > 1
                && let Some(own) = self::stat(&thread.join("stat"))
            {
                all.is_awake |= is_awake(own.state);
            }
            match fs::read_to_string(thread.join("children")) {
                Ok(children) => {
                    let children = children.split_whitespace();
                    pending.extend(children.filter_map(|pid| pid.parse::<u32>().ok()));
                }
                // The thread may have ended, which the kernel says in two ways.
                Err(_) if !thread.exists() => {}
                Err(error) if error.raw_os_error() == Some(ESRCH) => {}
                Err(_) => return None,
            }
        }
    }
    Some(all)
}

/// The kernel's word for a process that has ended while it was looked at.
const ESRCH: i32 = 3;

/// Running or ready to, or waiting for the disk.
fn is_awake(state: u8) -> bool {
    matches!(state, b'R' | b'D')
}

fn stat(path: &Path) -> Option<Stat> {
    parse(&fs::read(path).ok()?)
}

/// Reads the fields behind the program's name, which may hold anything.
fn parse(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        // Its own time and that of children it has waited for, in user and in kernel mode.
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        threads: number(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn a_name_hides_no_field() {
        let text = b"12 (a) R 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 0 99\n";
        let found = parse(text).unwrap();
        let expected = Stat {
            state: b'S',
            ticks: 11 + 12 + 13 + 14,
            threads: 3,
        };
        assert_eq!(found, expected);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 (x) S 1"), None);
    }

    #[test]
    fn sleepers_are_told_from_burners() {
        for (script, is_idle) in [
            ("sleep 100 & sleep 100 & wait", true),
            ("(while :; do :; done) & sleep 100", false),
        ] {
            let mut child = Command::new("/bin/sh")
                .args(["-c", script])
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut activity = Activity::of(child.id());
            assert!(activity.is_busy(), "the first look cannot tell");
            let mut seen_idle = false;
            for _ in 0..500 {
                std::thread::sleep(Duration::from_millis(4));
                seen_idle |= !activity.is_busy();
                // A burner is watched for as long as it takes; a sleeper until it is seen.
                if seen_idle {
                    break;
                }
            }
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
            child.wait().unwrap();
            assert_eq!(seen_idle, is_idle, "{script}");
            assert!(activity.is_busy(), "nobody is there to tell");
        }
    }

    use std::os::unix::process::CommandExt as _;
}
