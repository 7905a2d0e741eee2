//! The profile that container engines apply by default, as groups of calls with a reason each.
//!
//! It is a list of what is allowed. What it leaves out is: changing the machine (clock, modules,
//! swap, reboot, raw I/O), looking into the kernel (bpf, perf, keyrings, userfaultfd), making
//! namespaces and mounts, and calls with a record of kernel faults that a build never needs (io_uring,
//! AF_ALG, AF_VSOCK). Calls that need a capability are allowed where that capability is given.

use crate::profile::{Action, Condition, Group, When};

/// Capability numbers that decide about a group.
mod cap {
    pub const DAC_READ_SEARCH: u8 = 2;
    pub const SYS_MODULE: u8 = 16;
    pub const SYS_RAWIO: u8 = 17;
    pub const SYS_CHROOT: u8 = 18;
    pub const SYS_PTRACE: u8 = 19;
    pub const SYS_PACCT: u8 = 20;
    pub const SYS_ADMIN: u8 = 21;
    pub const SYS_BOOT: u8 = 22;
    pub const SYS_NICE: u8 = 23;
    pub const SYS_TIME: u8 = 25;
    pub const SYS_TTY_CONFIG: u8 = 26;
    pub const SYSLOG: u8 = 34;
    pub const PERFMON: u8 = 38;
    pub const BPF: u8 = 39;
}

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID` and `NEWNET` together.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

const AF_ALG: u32 = 38;
const AF_NFC: u32 = 39;
const AF_VSOCK: u32 = 40;

/// Execution domains that only change how a program sees its own machine: Linux, Linux with 2.6
/// version numbers, 32 bit, both, and the question which one is set.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

const fn always(why: &'static str, calls: &'static str) -> Group {
    Group {
        why,
        calls,
        when: When::Always,
        all: &[],
        action: Action::Allow,
    }
}

const fn given(capability: u8, why: &'static str, calls: &'static str) -> Group {
    Group {
        why,
        calls,
        when: When::Has(capability),
        all: &[],
        action: Action::Allow,
    }
}

const fn checked(why: &'static str, calls: &'static str, all: &'static [Condition]) -> Group {
    Group {
        why,
        calls,
        when: When::Always,
        all,
        action: Action::Allow,
    }
}

/// The whole profile.
pub const GROUPS: &[Group] = &[
    always(
        "open, read and write what file permissions allow",
        "open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv \
         pwritev preadv2 pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 ioctl flock readahead \
         truncate truncate64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 umask",
    ),
    always(
        "move data between files without copying it through the program",
        "sendfile sendfile64 splice tee vmsplice copy_file_range",
    ),
    always(
        "write data to the disk",
        "fsync fdatasync sync syncfs sync_file_range msync",
    ),
    always(
        "look at files and file systems",
        "stat stat64 fstat fstat64 lstat lstat64 newfstatat fstatat64 statx statfs statfs64 fstatfs \
         fstatfs64 access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd \
         name_to_handle_at statmount listmount",
    ),
    always(
        "create, rename and remove; mknod is limited by CAP_MKNOD and the mounts",
        "mkdir mkdirat mknod mknodat rmdir unlink unlinkat rename renameat renameat2 link linkat \
         symlink symlinkat chdir fchdir",
    ),
    always(
        "set owners, modes and times, as the kernel's own checks allow",
        "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat utime \
         utimes futimesat utimensat utimensat_time64",
    ),
    always(
        "extended attributes, among them access lists and file capabilities",
        "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr \
         llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat",
    ),
    always(
        "watch files; the fanotify group itself needs a capability to be made",
        "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    ),
    always(
        "start and end processes and threads; clone is in a group of its own",
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid set_tid_address \
         set_robust_list get_robust_list rseq restart_syscall",
    ),
    always(
        "name processes, groups and sessions",
        "getpid getppid gettid getpgid getpgrp setpgid getsid setsid pidfd_open pidfd_send_signal",
    ),
    always(
        "ask for and change ids and capabilities within what the process has",
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 \
         getresgid getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid \
         setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid \
         setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset",
    ),
    always(
        "confine oneself further",
        "prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    always(
        "manage one's own memory",
        "brk mmap mmap2 munmap mremap mprotect madvise mincore mlock mlock2 mlockall munlock \
         munlockall memfd_create memfd_secret mseal membarrier pkey_alloc pkey_free pkey_mprotect \
         remap_file_pages map_shadow_stack process_mrelease cachestat",
    ),
    always(
        "send, catch and wait for signals, as the ids of both sides allow",
        "kill tkill tgkill pause alarm rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
         rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
         sigaltstack sigprocmask sigreturn signalfd signalfd4",
    ),
    always(
        "wait for events and for each other",
        "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create \
         epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 \
         eventfd eventfd2 futex futex_time64 futex_wait futex_wake futex_waitv futex_requeue",
    ),
    always(
        "read clocks and set timers; adjtimex only reads without CAP_SYS_TIME",
        "time times gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 \
         clock_nanosleep clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 \
         getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime \
         timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
         timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    always(
        "limits, priorities and processors, lowering only without a capability",
        "getrlimit ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get \
         ioprio_set getcpu sched_getaffinity sched_setaffinity sched_getattr sched_setattr \
         sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max \
         sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64 sched_yield",
    ),
    always("ask about the machine", "uname sysinfo getrandom"),
    always(
        "sockets, once made; socketcall hides its arguments, so 32-bit programs are not limited to \
         families by us",
        "socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt \
         shutdown send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 \
         socketcall",
    ),
    always(
        "pipes, and System V and POSIX IPC in a namespace of its own",
        "pipe pipe2 ipc semget semctl semop semtimedop semtimedop_time64 shmget shmat shmdt shmctl \
         msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_getsetattr mq_notify mq_timedreceive \
         mq_timedreceive_time64 mq_timedsend mq_timedsend_time64",
    ),
    always(
        "the older asynchronous I/O, used by databases; io_uring stays out",
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    ),
    always(
        "debug one's own processes; sound since Linux 4.8, where a filter can no longer be evaded by it",
        "ptrace process_vm_readv process_vm_writev",
    ),
    always(
        "thread-local storage, caches and breakpoints of the processor, and return probes set by the \
         machine's administrator, which kill the program if refused",
        "arch_prctl modify_ldt set_thread_area get_thread_area uretprobe arm_fadvise64_64 \
         arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    checked(
        "ordinary socket families; AF_ALG and AF_VSOCK reach the kernel's crypto code and the \
         hypervisor's host, which no namespace separates",
        "socket",
        &[Condition::below(0, AF_ALG)],
    ),
    checked(
        "the family between the two refused ones",
        "socket",
        &[Condition::equals(0, AF_NFC)],
    ),
    checked(
        "families after the refused ones",
        "socket",
        &[Condition::above(0, AF_VSOCK)],
    ),
    checked(
        PERSONALITY,
        "personality",
        &[Condition::equals(0, PERSONALITIES[0])],
    ),
    checked(
        PERSONALITY,
        "personality",
        &[Condition::equals(0, PERSONALITIES[1])],
    ),
    checked(
        PERSONALITY,
        "personality",
        &[Condition::equals(0, PERSONALITIES[2])],
    ),
    checked(
        PERSONALITY,
        "personality",
        &[Condition::equals(0, PERSONALITIES[3])],
    ),
    checked(
        PERSONALITY,
        "personality",
        &[Condition::equals(0, PERSONALITIES[4])],
    ),
    given(
        cap::SYS_ADMIN,
        "namespaces, mounts and the kernel's administration",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree \
         perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 \
         unshare",
    ),
    Group {
        why: "processes and threads that stay in their namespaces",
        calls: "clone",
        when: When::Lacks(cap::SYS_ADMIN),
        all: &[Condition::masked(0, NEW_NAMESPACES, 0)],
        action: Action::Allow,
    },
    Group {
        why: "a filter cannot see the flags of clone3, which are in memory; libraries that are told \
              it does not exist use clone instead",
        calls: "clone3",
        when: When::Lacks(cap::SYS_ADMIN),
        all: &[],
        action: Action::Errno(libc::ENOSYS as u16),
    },
    given(
        cap::DAC_READ_SEARCH,
        "files by handle, past directories",
        "open_by_handle_at",
    ),
    given(cap::SYS_BOOT, "restart the machine", "reboot"),
    given(cap::SYS_CHROOT, "change the root directory", "chroot"),
    given(
        cap::SYS_MODULE,
        "load and remove kernel modules",
        "delete_module init_module finit_module",
    ),
    given(cap::SYS_PACCT, "process accounting", "acct"),
    given(
        cap::SYS_PTRACE,
        "look into processes of others",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    given(cap::SYS_RAWIO, "use I/O ports", "iopl ioperm"),
    given(
        cap::SYS_TIME,
        "set the machine's clock",
        "settimeofday stime clock_settime clock_settime64",
    ),
    given(cap::SYS_TTY_CONFIG, "hang up a terminal", "vhangup"),
    given(
        cap::SYS_NICE,
        "where memory lies between processors",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    given(cap::SYSLOG, "read the kernel's log", "syslog"),
    given(cap::BPF, "load BPF programs", "bpf"),
    given(cap::PERFMON, "performance counters", "perf_event_open"),
];

const PERSONALITY: &str = "harmless execution domains; the others switch off address randomisation \
     and the like, which helps an attacker";
