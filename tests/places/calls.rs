//! System calls that fail, one after the other.

use crate::place::{End, Place};
use crate::support::Outcome;
use End::Same;

/// What fails, and what becomes of a build then.
pub struct Row {
    pub name: &'static str,
    refused: &'static [&'static str],
    end: End,
}

const fn row(name: &'static str, refused: &'static [&'static str], end: End) -> Row {
    Row { name, refused, end }
}

pub const ROWS: &[Row] = &[
    row("clone3_enosys", &["refuse=clone3:ENOSYS"], Same),
    row("clone3_eperm", &["refuse=clone3:EPERM"], Same),
    row("openat2_enosys", &["refuse=openat2:ENOSYS"], Same),
    row("openat2_eperm", &["refuse=openat2:EPERM"], Same),
    row("statx_enosys", &["refuse=statx:ENOSYS"], Same),
    row("statx_eperm", &["refuse=statx:EPERM"], Same),
    row("fsopen_enosys", &["refuse=fsopen:ENOSYS"], Same),
    row("fsopen_eperm", &["refuse=fsopen:EPERM"], Same),
    row("fsconfig_einval", &["refuse=fsconfig:EINVAL"], Same),
    row("fsconfig_enosys", &["refuse=fsconfig:ENOSYS"], Same),
    row("fsmount_enosys", &["refuse=fsmount:ENOSYS"], Same),
    row("fsmount_eperm", &["refuse=fsmount:EPERM"], Same),
    row("move_mount_enosys", &["refuse=move_mount:ENOSYS"], Same),
    row("move_mount_eperm", &["refuse=move_mount:EPERM"], Same),
    row("open_tree_enosys", &["refuse=open_tree:ENOSYS"], Same),
    row("open_tree_eperm", &["refuse=open_tree:EPERM"], Same),
    row(
        "mount_setattr_enosys",
        &["refuse=mount_setattr:ENOSYS"],
        Same,
    ),
    row("mount_setattr_eperm", &["refuse=mount_setattr:EPERM"], Same),
    row("pivot_root_eperm", &["refuse=pivot_root:EPERM"], Same),
    row("mount_eperm", &["refuse=mount:EPERM"], Same),
    row("mount_eacces", &["refuse=mount:EACCES"], Same),
    row("umount2_eperm", &["refuse=umount2:EPERM"], Same),
    row("pidfd_open_enosys", &["refuse=pidfd_open:ENOSYS"], Same),
    row("pidfd_open_eperm", &["refuse=pidfd_open:EPERM"], Same),
    row(
        "pidfd_send_signal_enosys",
        &["refuse=pidfd_send_signal:ENOSYS"],
        Same,
    ),
    row("pidfd_getfd_enosys", &["refuse=pidfd_getfd:ENOSYS"], Same),
    row("pidfd_getfd_eperm", &["refuse=pidfd_getfd:EPERM"], Same),
    row("waitid_enosys_0_3", &["refuse=waitid:ENOSYS:0:3"], Same),
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
        "copy_file_range_einval",
        &["refuse=copy_file_range:EINVAL"],
        Same,
    ),
    row(
        "ioctl_enotsup_1_1074041865",
        &["refuse=ioctl:ENOTSUP:1:1074041865"],
        Same,
    ),
    row("fallocate_enotsup", &["refuse=fallocate:ENOTSUP"], Same),
    row("fallocate_enosys", &["refuse=fallocate:ENOSYS"], Same),
    row("memfd_create_enosys", &["refuse=memfd_create:ENOSYS"], Same),
    row("memfd_create_eperm", &["refuse=memfd_create:EPERM"], Same),
    row("memfd_create_einval", &["refuse=memfd_create:EINVAL"], Same),
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
    row("seccomp_enosys", &["refuse=seccomp:ENOSYS"], Same),
    row("seccomp_einval", &["refuse=seccomp:EINVAL"], Same),
    row("setns_eperm", &["refuse=setns:EPERM"], Same),
    row("unshare_eperm", &["refuse=unshare:EPERM"], Same),
    row("unshare_enosys", &["refuse=unshare:ENOSYS"], Same),
    row("syncfs_enosys", &["refuse=syncfs:ENOSYS"], Same),
    row("syncfs_eperm", &["refuse=syncfs:EPERM"], Same),
    row("fsync_einval", &["refuse=fsync:EINVAL"], Same),
    row("renameat2_enosys", &["refuse=renameat2:ENOSYS"], Same),
    row("renameat2_einval", &["refuse=renameat2:EINVAL"], Same),
    row("utimensat_enosys", &["refuse=utimensat:ENOSYS"], Same),
    row("utimensat_eperm", &["refuse=utimensat:EPERM"], Same),
    row("getrandom_enosys", &["refuse=getrandom:ENOSYS"], Same),
    row(
        "sched_getaffinity_enosys",
        &["refuse=sched_getaffinity:ENOSYS"],
        Same,
    ),
    row(
        "sched_getaffinity_eperm",
        &["refuse=sched_getaffinity:EPERM"],
        Same,
    ),
    row("prctl_einval_0_4", &["refuse=prctl:EINVAL:0:4"], Same),
    row("prctl_einval_0_36", &["refuse=prctl:EINVAL:0:36"], Same),
    row("prctl_eperm_0_36", &["refuse=prctl:EPERM:0:36"], Same),
    row("prctl_einval_0_15", &["refuse=prctl:EINVAL:0:15"], Same),
    row("prlimit64_enosys", &["refuse=prlimit64:ENOSYS"], Same),
    row("prlimit64_eperm", &["refuse=prlimit64:EPERM"], Same),
    row(
        "epoll_create1_enosys",
        &["refuse=epoll_create1:ENOSYS"],
        Same,
    ),
    row("epoll_create1_eperm", &["refuse=epoll_create1:EPERM"], Same),
    row("eventfd2_enosys", &["refuse=eventfd2:ENOSYS"], Same),
    row(
        "setxattr_enotsup_and_more",
        &[
            "refuse=setxattr:ENOTSUP",
            "refuse=fsetxattr:ENOTSUP",
            "refuse=lsetxattr:ENOTSUP",
        ],
        Same,
    ),
    row(
        "setxattr_eperm_and_more",
        &[
            "refuse=setxattr:EPERM",
            "refuse=fsetxattr:EPERM",
            "refuse=lsetxattr:EPERM",
        ],
        Same,
    ),
    row("flock_enolck", &["refuse=flock:ENOLCK"], Same),
    row("flock_enosys", &["refuse=flock:ENOSYS"], Same),
    row("flock_enotsup", &["refuse=flock:ENOTSUP"], Same),
    row(
        "fcntl_enolck_1_37_and_more",
        &["refuse=fcntl:ENOLCK:1:37", "refuse=fcntl:ENOLCK:1:38"],
        Same,
    ),
    row(
        "fcntl_einval_1_37_and_more",
        &["refuse=fcntl:EINVAL:1:37", "refuse=fcntl:EINVAL:1:38"],
        Same,
    ),
    row(
        "flock_enolck_and_more",
        &[
            "refuse=flock:ENOLCK",
            "refuse=fcntl:ENOLCK:1:37",
            "refuse=fcntl:ENOLCK:1:38",
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
        "link_eperm_and_more",
        &["refuse=link:EPERM", "refuse=linkat:EPERM"],
        Same,
    ),
    row(
        "mknod_eperm_and_more",
        &["refuse=mknod:EPERM", "refuse=mknodat:EPERM"],
        Same,
    ),
    row("fadvise64_enosys", &["refuse=fadvise64:ENOSYS"], Same),
    row("getdents64_enosys", &["refuse=getdents64:ENOSYS"], Same),
    row("socketpair_eperm", &["refuse=socketpair:EPERM"], Same),
    row(
        "fchown_eperm_and_more",
        &["refuse=fchown:EPERM", "refuse=fchownat:EPERM"],
        Same,
    ),
    row("fcntl_einval_1_1033", &["refuse=fcntl:EINVAL:1:1033"], Same),
    row("pipe2_enosys", &["refuse=pipe2:ENOSYS"], Same),
    row("sethostname_eperm", &["refuse=sethostname:EPERM"], Same),
    row("keyctl_eperm", &["refuse=keyctl:EPERM"], Same),
    row("capset_eperm", &["refuse=capset:EPERM"], Same),
    row("personality_eperm", &["refuse=personality:EPERM"], Same),
    row("rseq_enosys", &["refuse=rseq:ENOSYS"], Same),
    row(
        "set_robust_list_enosys",
        &["refuse=set_robust_list:ENOSYS"],
        Same,
    ),
    row("membarrier_enosys", &["refuse=membarrier:ENOSYS"], Same),
    row("madvise_einval", &["refuse=madvise:EINVAL"], Same),
    row("mlock_eperm", &["refuse=mlock:EPERM"], Same),
    row("sigaltstack_eperm", &["refuse=sigaltstack:EPERM"], Same),
    row("fstatfs_enosys", &["refuse=fstatfs:ENOSYS"], Same),
    row("statfs_enosys", &["refuse=statfs:ENOSYS"], Same),
    row(
        "getxattr_enotsup_and_more",
        &[
            "refuse=getxattr:ENOTSUP",
            "refuse=fgetxattr:ENOTSUP",
            "refuse=lgetxattr:ENOTSUP",
        ],
        Same,
    ),
    row(
        "listxattr_enotsup_and_more",
        &[
            "refuse=listxattr:ENOTSUP",
            "refuse=flistxattr:ENOTSUP",
            "refuse=llistxattr:ENOTSUP",
        ],
        Same,
    ),
];

pub fn run(place: &Place, row: &Row) -> Outcome {
    let ran = place.build(row.refused);
    place.ends(&ran, row.end);
    Outcome::Passed
}
