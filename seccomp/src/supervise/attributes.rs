//! Lists of extended attributes, without ours.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::listxattr;
use rustix::io::Errno;

use super::call::Call;
use super::owners::RECORD;
use super::resolve::{AT_FDCWD, own_path};
use super::tracee::Tracee;
use super::{Answer, Answered};

/// The kernel gives no longer list.
const MAX_LIST: usize = 65_536;

/// Answers one of them; the kernel does it where there is nothing to hide.
pub fn list(tracee: &Tracee<'_>, call: Call) -> Answered {
    let Some(names) = file(tracee, call)
        .and_then(|file| hidden(&file))
        .ok()
        .flatten()
    else {
        return Ok(Answer::Continue);
    };
    let (buffer, size) = match call {
        Call::Listxattrat => (tracee.pointer(3), tracee.pointer(4)),
        _ => (tracee.pointer(1), tracee.pointer(2)),
    };
    let length = names.len() as u64;
    if size != 0 {
        if size < length {
            return Err(Errno::RANGE);
        }
        if !names.is_empty() {
            tracee.write(buffer, &names)?;
        }
    }
    Ok(Answer::Value(length.cast_signed()))
}

fn file(tracee: &Tracee<'_>, call: Call) -> Result<OwnedFd, Errno> {
    match call {
        Call::Listxattr => tracee.file(AT_FDCWD, &tracee.path(0)?, true, false),
        Call::Llistxattr => tracee.file(AT_FDCWD, &tracee.path(0)?, false, false),
        Call::Flistxattr => tracee.descriptor(tracee.int(0)),
        _ => {
            let flags = tracee.int(2);
            let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
            let empty = flags & libc::AT_EMPTY_PATH != 0;
            tracee.file(tracee.int(0), &tracee.path(1)?, follow, empty)
        }
    }
}

/// The list without our name; none if that is not in it.
fn hidden(file: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut list = vec![0; MAX_LIST];
    let length = listxattr(own_path(file.as_fd()), &mut list[..])?;
    list.truncate(length);
    let names = || list.split_inclusive(|byte| *byte == 0);
    let is_ours = |name: &&[u8]| name.strip_suffix(b"\0") == Some(RECORD.as_bytes());
    if !names().any(|name| is_ours(&name)) {
        return Ok(None);
    }
    Ok(Some(
        names()
            .filter(|name| !is_ours(name))
            .collect::<Vec<_>>()
            .concat(),
    ))
}
