//! Which processes are those of the sandbox where it has no PID namespace, and calls that do something
//! to a process by its number.
//!
//! Everything in a sandbox descends from its init, which adopts what is orphaned, so the way up through
//! the parents tells. A directory of `/proc` stays that of the process it was opened for, so what is asked
//! through it after the check is asked of the process that was checked.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::call::Call;
use super::tracee::Tracee;
use super::{Answer, Answered};

/// More generations than this are no sandbox of ours.
const GENERATIONS: usize = 4096;

/// The directory of a process or thread in `/proc`, if it descends from `init`.
pub fn descendant(init: u32, pid: u32) -> Result<OwnedFd, Errno> {
    let dir = directory(pid)?;
    let mut parent = parent(&dir).ok_or(Errno::SRCH)?;
    for _ in 0..GENERATIONS {
        if parent == init {
            return Ok(dir);
        }
        if parent <= 1 {
            break;
        }
        parent = self::parent(&directory(parent)?).ok_or(Errno::SRCH)?;
    }
    Err(Errno::SRCH)
}

fn directory(pid: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).map_err(|_| Errno::SRCH)
}

fn parent(dir: &OwnedFd) -> Option<u32> {
    stat_field(dir, 1)
}

/// A number of `stat`, counted from behind the name, which may hold anything.
fn stat_field(dir: &OwnedFd, at: usize) -> Option<u32> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(dir, "stat", flags, Mode::empty()).ok()?);
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let rest = text.rsplit_once(')')?.1;
    rest.split_whitespace().nth(at)?.parse().ok()
}

/// All processes that descend from `init`.
pub fn all(init: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| descendant(init, *pid).is_ok())
        .collect()
}

/// Lets the kernel do it to a process of the sandbox, and to no other.
pub fn answer(tracee: &Tracee<'_>, init: u32, call: Call) -> Answered {
    let number = match call {
        Call::Process(argument) => tracee.int(argument.into()),
        Call::Priority(process) if tracee.id(0) == process => tracee.int(1),
        Call::Priority(_) => return Err(Errno::PERM),
        _ => tracee.int(0),
    };
    let may = match number {
        // Itself, or in `kill` its own group, which is none of the builder's: see below.
        0 if call != Call::Kill => true,
        0 => group_of(tracee.tid()).is_some_and(|group| is_ours(init, group)),
        // Everybody that there is.
        -1 => false,
        group if group < -1 => is_ours(init, group.unsigned_abs()),
        pid => descendant(init, pid.cast_unsigned()).is_ok(),
    };
    match may {
        true => Ok(Answer::Continue),
        false if call == Call::Kill && number < 0 => Err(Errno::PERM),
        false => Err(Errno::SRCH),
    }
}

fn group_of(pid: u32) -> Option<u32> {
    stat_field(&directory(pid).ok()?, 2)
}

/// Whether a process group has no member outside of the sandbox.
fn is_ours(init: u32, group: u32) -> bool {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| group_of(*pid) == Some(group))
        .all(|pid| descendant(init, pid).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_descend_from_us_and_we_do_not() {
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(descendant(me, child.id()).is_ok());
        assert!(all(me).contains(&child.id()));
        assert!(descendant(me, me).is_err());
        assert!(descendant(child.id(), me).is_err());
        assert!(descendant(me, 1).is_err());
        assert!(!is_ours(me, group_of(me).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
