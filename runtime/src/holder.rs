//! A child process that sits in a new user namespace, and the id maps that can be given to it.
//!
//! We stand outside, give the namespace its map, and only when that worked does anybody step in. So a
//! failed attempt costs nothing and the next weaker map can be tried: a map can be written only once.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getegid, geteuid};

use crate::idmap::{IdMap, Range, subordinate, with_subordinate};
use crate::probe::{Facility, Failed};
use crate::surroundings::user_name;
use crate::sys;

/// Why there is no namespace with the map that was wanted.
#[derive(Debug)]
pub enum HoldError {
    /// The kernel, or a helper, refuses it.
    Refused(Facility, Failed),
    /// Something ordinary failed on the way.
    Io(&'static str, io::Error),
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> HoldError {
    move |error| HoldError::Io(doing, error)
}

fn refused(facility: Facility, step: &str, error: &io::Error) -> HoldError {
    let failed = match error.raw_os_error() {
        Some(errno) => Failed::new(step, errno),
        None => Failed::said(step, error.to_string()),
    };
    HoldError::Refused(facility, failed)
}

/// A wide id map and who may write it.
enum Wide {
    /// We may: identity over what the parent has.
    Direct(IdMap),
    /// The set-uid helpers may.
    Helpers { uids: Vec<Range>, gids: Vec<Range> },
}

/// A namespace with the widest map that this process could ask for, and in words who wrote it.
pub fn many() -> Result<(Holder, &'static str), HoldError> {
    // What is missing costs nothing to find.
    let wide = widest()?;
    let holder = Holder::new()?;
    match wide {
        Wide::Direct(map) => {
            let written = holder.write_direct(&map);
            written.map_err(|e| refused(Facility::ManyIds, "write the full id map", &e))?;
            Ok((holder, "all ids of the caller"))
        }
        Wide::Helpers { uids, gids } => {
            holder.run_helpers(&uids, &gids)?;
            Ok((holder, "subordinate ids by newuidmap"))
        }
    }
}

/// A namespace with the caller's own id alone.
pub fn one() -> Result<Holder, HoldError> {
    let holder = Holder::new()?;
    let written = holder.write_single();
    written.map_err(|e| refused(Facility::OneId, "map one's own id", &e))?;
    Ok(holder)
}

/// The widest map this process could ask for.
fn widest() -> Result<Wide, HoldError> {
    let uid = geteuid().as_raw();
    if uid == 0 {
        let map = IdMap::current().map_err(io_error("read /proc/self/uid_map"))?;
        if map.is_single() {
            let failed = Failed::said("map many ids", "this process has one id only");
            return Err(HoldError::Refused(Facility::ManyIds, failed));
        }
        return Ok(Wide::Direct(map));
    }
    let name = user_name(uid);
    let who = name.clone().unwrap_or_else(|| uid.to_string());
    let ranges = |file: &str| -> Result<Vec<(u32, u32)>, HoldError> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = subordinate(&text, name.as_deref(), uid);
        if found.is_empty() {
            let why = format!("{file} gives no ids to {who}");
            let failed = Failed::said("find subordinate ids", why);
            return Err(HoldError::Refused(Facility::ManyIds, failed));
        }
        Ok(found)
    };
    let uids = with_subordinate(uid, &ranges("/etc/subuid")?);
    let gids = with_subordinate(getegid().as_raw(), &ranges("/etc/subgid")?);
    Ok(Wide::Helpers { uids, gids })
}

/// A child process that sits in a new user namespace until this value is dropped.
#[derive(Debug)]
pub struct Holder {
    pid: Pid,
    /// Dropping it lets the child go.
    leash: Option<OwnedFd>,
}

impl Holder {
    fn new() -> Result<Self, HoldError> {
        let pipe = || io::pipe().map_err(io_error("make a pipe"));
        let (mut ready, tell) = pipe()?;
        let (wait, leash) = pipe()?;
        let Some(pid) = sys::fork_single().map_err(io_error("fork"))? else {
            drop((ready, leash));
            hold(tell, wait);
        };
        drop((tell, wait));
        let holder = Self {
            pid,
            leash: Some(leash.into()),
        };
        let mut errno = [0; 4];
        ready
            .read_exact(&mut errno)
            .map_err(io_error("hear from the new user namespace"))?;
        match i32::from_ne_bytes(errno) {
            0 => Ok(holder),
            errno => {
                let failed = Failed::new("make a user namespace (unshare)", errno);
                Err(HoldError::Refused(Facility::UserNamespace, failed))
            }
        }
    }

    /// The process, whose namespace is `/proc/PID/ns/user`.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // One write, since the kernel takes a map in one piece or not at all.
        fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/{file}", self.pid))?
            .write_all(text.as_bytes())
    }

    /// Maps every id of ours to itself.
    fn write_direct(&self, map: &IdMap) -> io::Result<()> {
        let identity = |ranges: &[Range]| -> String {
            ranges
                .iter()
                .map(|r| format!("{} {} {}\n", r.inside, r.inside, r.count))
                .collect()
        };
        self.write("gid_map", &identity(map.gids()))?;
        self.write("uid_map", &identity(map.uids()))
    }

    /// Maps our own ids to 0. Needs no privilege, but groups can then not be changed any more.
    fn write_single(&self) -> io::Result<()> {
        self.write("setgroups", "deny")?;
        self.write("gid_map", &format!("0 {} 1\n", getegid()))?;
        self.write("uid_map", &format!("0 {} 1\n", geteuid()))
    }

    /// Has both maps written, at once.
    fn run_helpers(&self, uids: &[Range], gids: &[Range]) -> Result<(), HoldError> {
        let started = [("newuidmap", uids), ("newgidmap", gids)]
            .map(|(program, ranges)| (program, self.start_helper(program, ranges)));
        let ended = started.map(|(program, child)| {
            let output = child.and_then(std::process::Child::wait_with_output);
            helped(program, output)
        });
        ended.into_iter().collect()
    }

    fn start_helper(&self, program: &str, ranges: &[Range]) -> io::Result<std::process::Child> {
        let numbers = |range: &Range| [range.inside, range.outside, range.count];
        Command::new(program)
            .arg(self.pid.to_string())
            .args(ranges.iter().flat_map(numbers).map(|n| n.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// How a helper ended.
fn helped(program: &str, output: io::Result<std::process::Output>) -> Result<(), HoldError> {
    let failed = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = match said.trim() {
                "" => output.status.to_string(),
                said => said.lines().collect::<Vec<_>>().join("; "),
            };
            Failed::said(&format!("run {program}"), said)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Failed::said(&format!("find {program}"), "it is not in PATH")
        }
        Err(error) => Failed::said(&format!("start {program}"), error.to_string()),
    };
    Err(HoldError::Refused(Facility::ManyIds, failed))
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.leash.take());
        // The child reads the end of the pipe and leaves; there is nothing to learn from its status.
        while waitpid(self.pid, None) == Err(nix::Error::EINTR) {}
    }
}

/// The child's whole life.
fn hold(mut tell: io::PipeWriter, mut wait: io::PipeReader) -> ! {
    let errno = match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => 0,
        Err(errno) => errno as i32,
    };
    let told = tell.write_all(&errno.to_ne_bytes());
    // Ends when the parent closes its end, or dies.
    let waited = wait.read(&mut [0]);
    sys::exit_now(i32::from(told.is_err() || waited.is_err()))
}
