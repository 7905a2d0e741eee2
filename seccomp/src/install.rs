//! Handing a program to the kernel.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use libc::sock_filter;

/// Since Linux 5.19: a process whose call is being answered is disturbed by nothing but its death, so
/// that no call is done twice.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// Installs a filter on the calling thread, for good, for it and all that it starts.
///
/// Needs `CAP_SYS_ADMIN` in the thread's user namespace, or `no_new_privs`.
pub fn install(program: &[sock_filter]) -> io::Result<()> {
    set(program, 0).map(drop)
}

/// The same for a filter that tells of calls: the descriptor, close-on-exec, of which these can be
/// heard and answered. Without anybody who answers, they fail with `ENOSYS` once it is closed.
///
/// # Errors
/// `EBUSY` where a filter that this process is under already tells of calls.
pub fn install_notifying(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match set(program, listen | WAIT_KILLABLE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(program, listen)?,
        other => other?,
    };
    // SAFETY: with NEW_LISTENER a success is a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<RawFd> {
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::other(format!("a filter of {} instructions", program.len())))?;
    let fprog = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `fprog` points to `length` instructions that live through the call; the kernel copies
    // and checks them, and writes to neither.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const fprog,
        )
    };
    RawFd::try_from(done)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}
