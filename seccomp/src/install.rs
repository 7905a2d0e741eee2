//! Handing a program to the kernel.
#![allow(unsafe_code)]

use std::io;

use libc::sock_filter;

/// Installs a filter on the calling thread, for good, for it and all that it starts.
///
/// Needs `CAP_SYS_ADMIN` in the thread's user namespace, or `no_new_privs`.
pub fn install(program: &[sock_filter]) -> io::Result<()> {
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
            0,
            &raw const fprog,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
