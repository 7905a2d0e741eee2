//! `execve`: a set-id program runs as its owner. The kernel, for which everybody is user 0, executes.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::call::Call;
use super::resolve::{AT_FDCWD, own_path};
use super::stat::Metadata;
use super::tracee::Tracee;
use super::{Answer, Answered};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o0010;
const ANYBODY_EXECUTES: u32 = 0o0111;

/// Changes the ids that the program gets. An error is the kernel's to find.
pub fn execve(tracee: &Tracee<'_>, call: Call) -> Answered {
    if let Ok(file) = program(tracee, call) {
        become_owner(tracee, &file)?;
    }
    Ok(Answer::Continue)
}

fn program(tracee: &Tracee<'_>, call: Call) -> Result<OwnedFd, Errno> {
    match call {
        Call::Execve => tracee.file(AT_FDCWD, &tracee.path(0)?, true, false),
        _ => {
            let flags = tracee.int(4);
            let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
            let empty = flags & libc::AT_EMPTY_PATH != 0;
            tracee.file(tracee.int(0), &tracee.path(1)?, follow, empty)
        }
    }
}

fn become_owner(tracee: &Tracee<'_>, file: &OwnedFd) -> Result<(), Errno> {
    let stat = Metadata::open(file.as_fd())?;
    let mode = stat.mode();
    let is_program = stat.kind().is_file() && mode & ANYBODY_EXECUTES != 0;
    if !is_program {
        return Ok(());
    }
    let now = tracee.credentials();
    let mut new = now.executed(None, None);
    let sets_group = mode & SET_GROUP != 0 && mode & GROUP_EXECUTES != 0;
    if (mode & SET_USER != 0 || sets_group) && !is_script(file)? {
        let (uid, gid) = match tracee.owners().get(file.as_fd())? {
            Some(record) => (record.uid, record.gid),
            None => stat.owner(),
        };
        let user = (mode & SET_USER != 0).then_some(uid);
        new = now.executed(user, sets_group.then_some(gid));
    }
    if new != *now {
        tracee.set_credentials(new)?;
    }
    Ok(())
}

/// Whether it is run by an interpreter, which set-id bits do not count for.
fn is_script(file: &OwnedFd) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(open(own_path(file.as_fd()), flags, Mode::empty())?);
    let mut start = [0; 2];
    let read = file.read_exact(&mut start);
    Ok(read.is_ok() && start == *b"#!")
}
