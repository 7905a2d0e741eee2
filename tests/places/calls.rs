//! System calls that fail, one after the other.
//!
//! Errno and call are what kernels before a call's time, container engines' filters and file systems say.
//! `1074041865` is `FICLONE`; `1033` is `F_ADD_SEALS`; 37 and 38 lock open files; of `prctl` 4 is
//! `PR_SET_DUMPABLE`, 15 `PR_SET_NAME` and 36 `PR_SET_CHILD_SUBREAPER`.

use crate::place::{End, Place};
use crate::support::Outcome;
use End::{Fails, Same};

/// What fails, and what becomes of a build then.
pub struct Row {
    pub name: &'static str,
    refused: &'static [&'static str],
    end: End,
    /// For a user with one id, where that differs.
    one_id: Option<End>,
}

const fn row(name: &'static str, refused: &'static [&'static str], end: End) -> Row {
    Row {
        name,
        refused,
        end,
        one_id: None,
    }
}

const fn with_one_id(row: Row, end: End) -> Row {
    Row {
        one_id: Some(end),
        ..row
    }
}

pub const ROWS: &[Row] = &[
    row("clone3_enosys", &["refuse=clone3:ENOSYS"], Same),
    row(
        "clone3_eperm",
        &["refuse=clone3:EPERM"],
        Fails(6, &["clone3"]),
    ),
    row(
        "openat2_enosys",
        &["refuse=openat2:ENOSYS"],
        Fails(6, &["openat2", "Linux 5.6"]),
    ),
    row(
        "openat2_eperm",
        &["refuse=openat2:EPERM"],
        Fails(6, &["openat2", "seccomp"]),
    ),
    row("statx_enosys", &["refuse=statx:ENOSYS"], Same),
    row("statx_eperm", &["refuse=statx:EPERM"], Same),
    row(
        "fsopen_enosys",
        &["refuse=fsopen:ENOSYS"],
        Fails(6, &["fsopen", "Linux 5.2"]),
    ),
    row(
        "fsopen_eperm",
        &["refuse=fsopen:EPERM"],
        Fails(6, &["fsopen", "seccomp"]),
    ),
    row(
        "fsconfig_enosys",
        &["refuse=fsconfig:ENOSYS"],
        Fails(6, &["fsconfig"]),
    ),
    row(
        "fsmount_eperm",
        &["refuse=fsmount:EPERM"],
        Fails(6, &["fsmount", "seccomp"]),
    ),
    row(
        "move_mount_enosys",
        &["refuse=move_mount:ENOSYS"],
        Fails(6, &["move_mount"]),
    ),
    row(
        "open_tree_eperm",
        &["refuse=open_tree:EPERM"],
        Fails(6, &["open_tree"]),
    ),
    row(
        "mount_setattr_enosys",
        &["refuse=mount_setattr:ENOSYS"],
        Fails(6, &["mount_setattr", "Linux 5.12"]),
    ),
    row(
        "mount_setattr_eperm",
        &["refuse=mount_setattr:EPERM"],
        Fails(6, &["mount_setattr", "seccomp"]),
    ),
    row("pivot_root_eperm", &["refuse=pivot_root:EPERM"], Same),
    row(
        "mount_eperm",
        &["refuse=mount:EPERM"],
        Fails(6, &["mount", "seccomp"]),
    ),
    row(
        "mount_eacces",
        &["refuse=mount:EACCES"],
        Fails(6, &["mount", "AppArmor"]),
    ),
    row(
        "umount2_eperm",
        &["refuse=umount2:EPERM"],
        Fails(6, &["umount2"]),
    ),
    row("pidfd_open_enosys", &["refuse=pidfd_open:ENOSYS"], Same),
    row("pidfd_open_eperm", &["refuse=pidfd_open:EPERM"], Same),
    row(
        "pidfd_send_signal_enosys",
        &["refuse=pidfd_send_signal:ENOSYS"],
        Same,
    ),
    row("pidfd_getfd_enosys", &["refuse=pidfd_getfd:ENOSYS"], Same),
    row("pidfd_getfd_eperm", &["refuse=pidfd_getfd:EPERM"], Same),
    row(
        "waitid_enosys",
        &["refuse=waitid:ENOSYS"],
        Fails(6, &["waitid"]),
    ),
    row("close_range_enosys", &["refuse=close_range:ENOSYS"], Same),
    row("close_range_eperm", &["refuse=close_range:EPERM"], Same),
    row(
        "copy_file_range_enosys",
        &["refuse=copy_file_range:ENOSYS"],
        Same,
    ),
    row(
        "copy_file_range_eperm",
        &["refuse=copy_file_range:EPERM"],
        Same,
    ),
    row(
        "copy_file_range_exdev",
        &["refuse=copy_file_range:EXDEV"],
        Same,
    ),
    row(
        "ioctl_enotsup_1_1074041865",
        &["refuse=ioctl:ENOTSUP:1:1074041865"],
        Same,
    ),
    row("fallocate_enotsup", &["refuse=fallocate:ENOTSUP"], Same),
    row(
        "memfd_create_enosys",
        &["refuse=memfd_create:ENOSYS"],
        Fails(6, &["memfd_create"]),
    ),
    row(
        "memfd_create_eperm",
        &["refuse=memfd_create:EPERM"],
        Fails(6, &["memfd_create"]),
    ),
    row(
        "fcntl_eperm_1_1033",
        &["refuse=fcntl:EPERM:1:1033"],
        Fails(6, &["F_ADD_SEALS"]),
    ),
    row(
        "io_uring_setup_enosys",
        &["refuse=io_uring_setup:ENOSYS"],
        Same,
    ),
    row(
        "io_uring_setup_eperm",
        &["refuse=io_uring_setup:EPERM"],
        Same,
    ),
    row("faccessat2_enosys", &["refuse=faccessat2:ENOSYS"], Same),
    row("faccessat2_eperm", &["refuse=faccessat2:EPERM"], Same),
    row("fchmodat2_enosys", &["refuse=fchmodat2:ENOSYS"], Same),
    row("fchmodat2_eperm", &["refuse=fchmodat2:EPERM"], Same),
    row(
        "landlock_create_ruleset_enosys",
        &["refuse=landlock_create_ruleset:ENOSYS"],
        Same,
    ),
    row(
        "landlock_create_ruleset_enotsup",
        &["refuse=landlock_create_ruleset:ENOTSUP"],
        Same,
    ),
    row(
        "process_vm_readv_enosys",
        &["refuse=process_vm_readv:ENOSYS"],
        Same,
    ),
    row(
        "process_vm_readv_eperm",
        &["refuse=process_vm_readv:EPERM"],
        Same,
    ),
    row(
        "process_vm_writev_eperm",
        &["refuse=process_vm_writev:EPERM"],
        Same,
    ),
    row(
        "seccomp_enosys",
        &["refuse=seccomp:ENOSYS"],
        Fails(6, &["seccomp", "CONFIG_SECCOMP_FILTER"]),
    ),
    row(
        "seccomp_einval",
        &["refuse=seccomp:EINVAL"],
        Fails(6, &["seccomp filter"]),
    ),
    row(
        "setns_eperm",
        &["refuse=setns:EPERM"],
        Fails(6, &["a seccomp filter refuses setns", "type: Localhost"]),
    ),
    row(
        "setns_eacces",
        &["refuse=setns:EACCES"],
        Fails(6, &["a seccomp filter refuses setns"]),
    ),
    row(
        "unshare_eperm",
        &["refuse=unshare:EPERM"],
        Fails(6, &["user namespace", "seccomp"]),
    ),
    row(
        "unshare_enosys",
        &["refuse=unshare:ENOSYS"],
        Fails(6, &["CONFIG_USER_NS"]),
    ),
    row("syncfs_enosys", &["refuse=syncfs:ENOSYS"], Same),
    row("syncfs_eperm", &["refuse=syncfs:EPERM"], Same),
    row("fsync_einval", &["refuse=fsync:EINVAL"], Same),
    row("renameat2_enosys", &["refuse=renameat2:ENOSYS"], Same),
    row("renameat2_einval", &["refuse=renameat2:EINVAL"], Same),
    row(
        "utimensat_enosys",
        &["refuse=utimensat:ENOSYS"],
        Fails(6, &["utimensat"]),
    ),
    row("getrandom_enosys", &["refuse=getrandom:ENOSYS"], Same),
    row(
        "sched_getaffinity_eperm",
        &["refuse=sched_getaffinity:EPERM"],
        Same,
    ),
    row(
        "prctl_einval_0_4",
        &["refuse=prctl:EINVAL:0:4"],
        Fails(6, &["undumpable"]),
    ),
    row(
        "prctl_einval_0_36",
        &["refuse=prctl:EINVAL:0:36"],
        Fails(6, &["subreaper"]),
    ),
    row("prctl_einval_0_15", &["refuse=prctl:EINVAL:0:15"], Same),
    row("prlimit64_enosys", &["refuse=prlimit64:ENOSYS"], Same),
    row(
        "epoll_create1_enosys",
        &["refuse=epoll_create1:ENOSYS"],
        Fails(6, &["epoll_create1"]),
    ),
    row(
        "eventfd2_eperm",
        &["refuse=eventfd2:EPERM"],
        Fails(6, &["eventfd2"]),
    ),
    with_one_id(
        row(
            "setxattr_like_enotsup",
            &[
                "refuse=setxattr:ENOTSUP",
                "refuse=fsetxattr:ENOTSUP",
                "refuse=lsetxattr:ENOTSUP",
            ],
            Same,
        ),
        Fails(6, &["extended attributes", "LAPSTRAKE_ROOT"]),
    ),
    with_one_id(
        row(
            "getxattr_like_enotsup",
            &[
                "refuse=getxattr:ENOTSUP",
                "refuse=fgetxattr:ENOTSUP",
                "refuse=lgetxattr:ENOTSUP",
            ],
            Same,
        ),
        Fails(6, &["extended attributes", "LAPSTRAKE_ROOT"]),
    ),
    row(
        "listxattr_like_enotsup",
        &[
            "refuse=listxattr:ENOTSUP",
            "refuse=flistxattr:ENOTSUP",
            "refuse=llistxattr:ENOTSUP",
        ],
        Same,
    ),
    row("flock_enolck", &["refuse=flock:ENOLCK"], Same),
    row("flock_enosys", &["refuse=flock:ENOSYS"], Same),
    row(
        "fcntl_like_enolck",
        &["refuse=fcntl:ENOLCK:1:37", "refuse=fcntl:ENOLCK:1:38"],
        Same,
    ),
    row(
        "fcntl_like_einval",
        &["refuse=fcntl:EINVAL:1:37", "refuse=fcntl:EINVAL:1:38"],
        Same,
    ),
    row(
        "flock_like_enotsup",
        &[
            "refuse=flock:ENOTSUP",
            "refuse=fcntl:ENOTSUP:1:37",
            "refuse=fcntl:ENOTSUP:1:38",
        ],
        Same,
    ),
    row(
        "inotify_init1_enosys",
        &["refuse=inotify_init1:ENOSYS"],
        Same,
    ),
    row("execveat_enosys", &["refuse=execveat:ENOSYS"], Same),
    row("execveat_eperm", &["refuse=execveat:EPERM"], Same),
    row("splice_einval", &["refuse=splice:EINVAL"], Same),
    row("sendfile_einval", &["refuse=sendfile:EINVAL"], Same),
    row(
        "link_like_eperm",
        &["refuse=link:EPERM", "refuse=linkat:EPERM"],
        Fails(4, &["ln /d/e/f"]),
    ),
    row(
        "mknod_like_eperm",
        &["refuse=mknod:EPERM", "refuse=mknodat:EPERM"],
        Fails(4, &["mkfifo"]),
    ),
    row("fadvise64_enosys", &["refuse=fadvise64:ENOSYS"], Same),
    row(
        "socketpair_eperm",
        &["refuse=socketpair:EPERM"],
        Fails(6, &["socketpair"]),
    ),
    row(
        "pipe2_enosys",
        &["refuse=pipe2:ENOSYS"],
        Fails(6, &["pipe"]),
    ),
    row("sethostname_eperm", &["refuse=sethostname:EPERM"], Same),
    row("keyctl_eperm", &["refuse=keyctl:EPERM"], Same),
    row(
        "capset_eperm",
        &["refuse=capset:EPERM"],
        Fails(6, &["capabilities"]),
    ),
    row("personality_eperm", &["refuse=personality:EPERM"], Same),
    row("madvise_einval", &["refuse=madvise:EINVAL"], Same),
];

pub fn run(place: &Place, row: &Row) -> Outcome {
    let end = row.one_id.filter(|_| place.one_id()).unwrap_or(row.end);
    place.ends(&place.build_namespaced(row.refused), end);
    if let Fails(6, _) = end {
        // Perhaps another sandbox can do without.
        let ran = place.build(row.refused);
        let is_built = ran.code == 0;
        place.ends(&ran, if is_built { Same } else { Fails(6, &[]) });
    }
    Outcome::Passed
}
