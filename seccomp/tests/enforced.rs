//! The kernel's opinion of the filter: installed on a thread, real calls made from it.
#![allow(unsafe_code)]

use std::io;

use seccomp::{Profile, compile, install};

/// Makes a call whose arguments are all zero or the given first one; its errno, 0 for success.
fn errno(number: libc::c_long, first: libc::c_long) -> i32 {
    // SAFETY: with null pointers and zero sizes the kernel reads and writes no memory of ours; the
    // calls used here change nothing that later code relies on.
    let done = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
    if done < 0 {
        io::Error::last_os_error().raw_os_error().unwrap_or(0)
    } else {
        0
    }
}

/// Needed to install a filter without privilege.
fn no_new_privs() {
    // SAFETY: integers only; affects this thread.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0);
}

#[test]
fn the_kernel_enforces_it() {
    let calls = std::thread::spawn(|| {
        no_new_privs();
        let filter = compile(&Profile::docker_default(0xa804_25fb)).unwrap();
        assert!(filter.len() < 1000, "{} instructions", filter.len());
        install(&filter).unwrap();
        vec![
            ("mount", errno(libc::SYS_mount, 0), libc::EPERM),
            ("unshare", errno(libc::SYS_unshare, 0), libc::EPERM),
            ("keyctl", errno(libc::SYS_keyctl, 0), libc::EPERM),
            ("clone3", errno(libc::SYS_clone3, 0), libc::ENOSYS),
            ("newer than all", errno(499, 0), libc::ENOSYS),
            ("socket(AF_VSOCK)", errno(libc::SYS_socket, 40), libc::EPERM),
            (
                "socket(AF_VSOCK) with high bits",
                errno(libc::SYS_socket, (1 << 32) | 40),
                libc::EPERM,
            ),
            (
                "personality(ADDR_NO_RANDOMIZE)",
                errno(libc::SYS_personality, 0x0004_0000),
                libc::EPERM,
            ),
            ("getpid", errno(libc::SYS_getpid, 0), 0),
        ]
    })
    .join()
    .unwrap();
    for (what, got, want) in calls {
        assert_eq!(got, want, "{what}");
    }
}

#[test]
fn ordinary_programs_work_under_it() {
    let text = std::thread::spawn(|| {
        no_new_privs();
        install(&compile(&Profile::docker_default(0xa804_25fb)).unwrap()).unwrap();
        let out = std::process::Command::new("/bin/sh")
            .args(["-c", "echo a | cat; (echo b); ls / >/dev/null && echo c"])
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    })
    .join()
    .unwrap();
    assert_eq!(text, "a\nb\nc\n");
}

#[test]
fn a_broken_program_is_refused() {
    assert_eq!(install(&[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}
