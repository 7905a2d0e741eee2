//! Trials in a short-lived child: whatever a filter or a security module does to it, a kill among
//! them, we live and know at which step it happened.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::facility::{Facility, Failed, Trial, Trials};
use crate::sys;

/// A trial that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a child says, a line each.
#[derive(Serialize, Deserialize)]
enum Said {
    Begin(Facility, Option<usize>),
    Done(Trial),
}

/// The child's side: tries one thing after the other.
pub struct Tell {
    pipe: io::PipeWriter,
}

impl Tell {
    /// Tries something; whether it works.
    pub fn attempt(
        &mut self,
        facility: Facility,
        work: impl FnOnce() -> Result<(), Failed>,
    ) -> bool {
        self.attempt_in(facility, None, work)
    }

    /// Tries something in one of the places; whether it works.
    pub fn attempt_in(
        &mut self,
        facility: Facility,
        place: Option<usize>,
        work: impl FnOnce() -> Result<(), Failed>,
    ) -> bool {
        self.say(&Said::Begin(facility, place));
        let failed = work().err();
        let works = failed.is_none();
        self.say(&Said::Done(Trial {
            facility,
            place,
            failed,
        }));
        works
    }

    fn say(&mut self, said: &Said) {
        let mut line = serde_json::to_vec(said).unwrap_or_default();
        line.push(b'\n');
        if self.pipe.write_all(&line).is_err() {
            // Nobody listens any more.
            sys::exit_now(1);
        }
    }
}

/// Runs `work` in a child and hears how its trials went. The process must have one thread.
pub fn run(work: impl FnOnce(&mut Tell)) -> io::Result<Trials> {
    let (heard, pipe) = io::pipe()?;
    let Some(child) = sys::fork_single()? else {
        drop(heard);
        work(&mut Tell { pipe });
        sys::exit_now(0);
    };
    drop(pipe);
    let listened = listen(heard, child);
    let status = wait(child)?;
    let (text, in_time) = listened?;
    Ok(told(&text, in_time, &status))
}

/// Everything the child says, and whether it came to its end.
fn listen(mut pipe: io::PipeReader, child: Pid) -> io::Result<(Vec<u8>, bool)> {
    let until = Instant::now() + PATIENCE;
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let ready = match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::Error::EINTR) => continue,
            ready => ready?,
        };
        if ready == 0 {
            kill(child, Signal::SIGKILL)?;
            return Ok((text, false));
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok((text, true)),
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
}

fn wait(child: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(nix::Error::EINTR) => {}
            status => return Ok(status?),
        }
    }
}

/// A trial that was begun and not ended is the one that ended the child.
fn told(text: &[u8], in_time: bool, status: &WaitStatus) -> Trials {
    let mut trials = Trials::default();
    let mut open = None;
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Said::Begin(facility, place)) => open = Some((facility, place)),
            Ok(Said::Done(trial)) => {
                open = None;
                trials.0.push(trial);
            }
            Err(_) => {}
        }
    }
    if let Some((facility, place)) = open {
        let why = match status {
            _ if !in_time => "it took too long".to_owned(),
            WaitStatus::Signaled(_, signal, _) => format!("{signal} ended the attempt"),
            other => format!("the attempt broke off: {other:?}"),
        };
        trials.0.push(Trial {
            facility,
            place,
            failed: Some(Failed::said(&format!("try the {}", facility.title()), why)),
        });
    }
    trials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_ends_the_child_has_failed() {
        let mut text = Vec::new();
        for said in [
            Said::Begin(Facility::Chroot, None),
            Said::Done(Trial {
                facility: Facility::Chroot,
                place: None,
                failed: None,
            }),
            Said::Begin(Facility::SetIds, None),
        ] {
            text.extend(serde_json::to_vec(&said).unwrap());
            text.push(b'\n');
        }
        let killed = WaitStatus::Signaled(Pid::from_raw(7), Signal::SIGSYS, true);
        let trials = told(&text, true, &killed);
        assert!(trials.works(Facility::Chroot));
        let failed = trials.get(Facility::SetIds, None).unwrap().failed.clone();
        let text = failed.unwrap().to_string();
        assert!(text.contains("SIGSYS"), "{text}");
        assert!(!trials.works(Facility::Landlock));
    }
}
