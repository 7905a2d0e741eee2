//! The system calls without which no sandbox can be made, tried before anything else is.
//!
//! Each is called with arguments that it must refuse, so nothing happens, and where it may be called at all
//! it says so by another errno than a kernel that lacks it or a filter that forbids it. What has a
//! substitute is not in the table: there the substitute is used.

use std::io;

use crate::diagnose::SECCOMP;
use crate::enter::Mode;
use crate::probe::Failed;
use crate::sys;

/// A call that is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system call {name} does not work here ({error}), and {why}: {}",
    cure(.error, .since)
)]
pub struct MissingCall {
    /// Its name.
    pub name: &'static str,
    why: &'static str,
    since: &'static str,
    error: io::Error,
}

impl MissingCall {
    /// As the outcome of a trial.
    pub(crate) fn failed(&self) -> Failed {
        let errno = self.error.raw_os_error().unwrap_or(0);
        Failed::new(&format!("call {}", self.name), errno)
    }
}

/// Cause and cure of a call of the table that fails with `errno`.
pub(crate) fn explain(name: &str, errno: i32) -> (String, &'static str) {
    let found = NEEDS.iter().chain(JOINING).find(|need| need.name == name);
    let since = found.map_or("a newer kernel", |need| need.since);
    let cause = match errno {
        libc::ENOSYS => {
            format!("{name} needs {since} or later, and a seccomp filter that knows it")
        }
        // Nobody else is asked: only a mount needs a privilege before its arguments are looked at.
        _ if found.is_some_and(|need| need.always)
            || JOINING.iter().any(|need| need.name == name) =>
        {
            format!("a seccomp filter refuses {name}")
        }
        _ => format!("a seccomp filter or a security module refuses {name}"),
    };
    (cause, SECCOMP)
}

/// What to do about a call that fails with `error` and that `since` has.
fn cure(error: &io::Error, since: &str) -> String {
    let allow = "in a container allow it, in Kubernetes with securityContext.seccompProfile.type: Unconfined, \
                 elsewhere with --security-opt seccomp=unconfined";
    match error.raw_os_error() {
        Some(libc::ENOSYS) => format!("it needs {since} or later; {allow}"),
        _ => format!("a seccomp filter or a security module refuses it; {allow}"),
    }
}

/// A needed call.
pub(crate) struct Need {
    pub name: &'static str,
    pub number: libc::c_long,
    /// What the kernel refuses: bad descriptors, flags that do not exist, no addresses.
    pub arguments: [libc::c_long; 5],
    since: &'static str,
    why: &'static str,
    /// Whether a sandbox without namespaces needs it as well.
    always: bool,
    /// Whether a kernel that does not know it will do: only a filter that says something else will not.
    may_be_unknown: bool,
}

const NO_FD: libc::c_long = -1;
const NO_FLAGS: libc::c_long = 0x7fff_0000;
const P_PIDFD: libc::c_long = 3;

const MOUNTS: &str = "the file system of a sandbox is mounted with it";

const fn need(
    name: &'static str,
    number: libc::c_long,
    arguments: [libc::c_long; 5],
    since: &'static str,
    why: &'static str,
) -> Need {
    Need {
        name,
        number,
        arguments,
        since,
        why,
        always: false,
        may_be_unknown: false,
    }
}

const fn always(need: Need) -> Need {
    Need {
        always: true,
        ..need
    }
}

const NEEDS: &[Need] = &[
    Need {
        may_be_unknown: true,
        ..always(need(
            "clone3",
            libc::SYS_clone3,
            [0, 0, 0, 0, 0],
            "Linux 5.3",
            "threads are started with it unless the answer is that it does not exist, as of filters of \
             container engines since 2021",
        ))
    },
    always(need(
        "waitid",
        libc::SYS_waitid,
        [P_PIDFD, NO_FD, 0, 0, 0],
        "Linux 5.4",
        "processes of a step are waited for with it",
    )),
    always(need(
        "fcntl(F_ADD_SEALS)",
        libc::SYS_fcntl,
        [NO_FD, libc::F_ADD_SEALS as libc::c_long, 0, 0, 0],
        "Linux 3.17",
        "a sandbox is started from a copy of this program that it cannot change",
    )),
    always(need(
        "openat2",
        libc::SYS_openat2,
        [NO_FD, 0, 0, 0, 0],
        "Linux 5.6",
        "paths of images and contexts are kept inside their root with it",
    )),
    always(need(
        "memfd_create",
        libc::SYS_memfd_create,
        [0, NO_FLAGS, 0, 0, 0],
        "Linux 3.17",
        "a sandbox is started from a copy of this program in memory",
    )),
    always(need(
        "utimensat",
        libc::SYS_utimensat,
        [NO_FD, 0, 0, NO_FLAGS, 0],
        "Linux 2.6.22",
        "files get their times with it",
    )),
    always(need(
        "socketpair",
        libc::SYS_socketpair,
        [NO_FD, NO_FD, 0, 0, 0],
        "every kernel with UNIX sockets",
        "a sandbox is talked to with it",
    )),
    always(need(
        "epoll_create1",
        libc::SYS_epoll_create1,
        [NO_FLAGS, 0, 0, 0, 0],
        "Linux 2.6.27",
        "the network is waited for with it",
    )),
    always(need(
        "eventfd2",
        libc::SYS_eventfd2,
        [0, NO_FLAGS, 0, 0, 0],
        "Linux 2.6.27",
        "the network is waited for with it",
    )),
    always(need(
        "getdents64",
        libc::SYS_getdents64,
        [NO_FD, 0, 0, 0, 0],
        "every kernel",
        "directories are read with it",
    )),
    always(need(
        "seccomp",
        libc::SYS_seccomp,
        [NO_FLAGS, 0, 0, 0, 0],
        "Linux 3.17 with CONFIG_SECCOMP_FILTER",
        "the processes of a step are kept from system calls with it",
    )),
    need(
        "fsopen",
        libc::SYS_fsopen,
        [0, NO_FLAGS, 0, 0, 0],
        "Linux 5.2",
        MOUNTS,
    ),
    need(
        "fsconfig",
        libc::SYS_fsconfig,
        [NO_FD, 0, 0, 0, 0],
        "Linux 5.2",
        MOUNTS,
    ),
    need(
        "fsmount",
        libc::SYS_fsmount,
        [NO_FD, NO_FLAGS, 0, 0, 0],
        "Linux 5.2",
        MOUNTS,
    ),
    need(
        "open_tree",
        libc::SYS_open_tree,
        [NO_FD, 0, NO_FLAGS, 0, 0],
        "Linux 5.2",
        MOUNTS,
    ),
    need(
        "move_mount",
        libc::SYS_move_mount,
        [NO_FD, 0, NO_FD, 0, NO_FLAGS],
        "Linux 5.2",
        MOUNTS,
    ),
    need(
        "mount_setattr",
        libc::SYS_mount_setattr,
        [NO_FD, 0, NO_FLAGS, 0, 0],
        "Linux 5.12",
        "mounts are made read-only with it",
    ),
    need(
        "umount2",
        libc::SYS_umount2,
        [0, NO_FLAGS, 0, 0, 0],
        "every kernel",
        MOUNTS,
    ),
];

/// Calls by which namespaces are entered that are there already, or made without asking for a user.
const JOINING: &[Need] = &[
    need(
        "setns",
        libc::SYS_setns,
        [NO_FD, libc::CLONE_NEWUSER as libc::c_long, 0, 0, 0],
        "Linux 3.8",
        "the user namespace of a sandbox is joined with it",
    ),
    need(
        "unshare",
        libc::SYS_unshare,
        [
            (libc::CLONE_NEWNS | NO_NAMESPACE) as libc::c_long,
            0,
            0,
            0,
            0,
        ],
        "Linux 3.8",
        "the mount namespace of a sandbox is made with it",
    ),
];

/// What `unshare` does not know.
const NO_NAMESPACE: libc::c_int = 1;

/// Looks whether a filter leaves the calls by which a user namespace is joined and a mount namespace made.
///
/// # Errors
/// The first that it refuses.
pub(crate) fn check_joining() -> Result<(), MissingCall> {
    check(JOINING.iter())
}

/// Looks whether all calls work that a sandbox of the kind `mode` needs.
///
/// # Errors
/// The first that does not.
pub fn check_calls(mode: Mode) -> Result<(), MissingCall> {
    let needs = NEEDS
        .iter()
        .filter(|need| need.always || mode != Mode::Chroot);
    check(needs)
}

fn check<'a>(needs: impl Iterator<Item = &'a Need>) -> Result<(), MissingCall> {
    for need in needs {
        let error = sys::try_in_vain(need);
        let missing = match error.raw_os_error() {
            Some(libc::ENOSYS) => !need.may_be_unknown,
            Some(libc::EPERM | libc::EACCES) => true,
            _ => false,
        };
        if missing {
            return Err(MissingCall {
                name: need.name,
                why: need.why,
                since: need.since,
                error,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_does_not_count_as_missing() {
        let needs = NEEDS.iter().filter(|need| need.always).chain(JOINING);
        for need in needs {
            let error = sys::try_in_vain(need);
            let errno = error.raw_os_error();
            let refused = [libc::EINVAL, libc::EBADF, libc::EFAULT, libc::EAFNOSUPPORT];
            assert!(
                errno.is_some_and(|errno| refused.contains(&errno)),
                "{}: {error}",
                need.name
            );
        }
    }
}
