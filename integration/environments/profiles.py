"""The seccomp profiles of container engines, resolved for a container as the engines resolve them.

An engine's profile is a list of rules, of which some hold only with, or only without, certain capabilities of the
container. A runtime wants the list for one container. A profile here is `{"default": errno, "rules": [rule]}` with
rules as the runtime specification has them, and `"with"` or `"without"` naming capabilities that decide about them.

Docker's names are those of github.com/moby/profiles (Apache-2.0), for x86-64 and arm64. Podman's profile is the file that
the distribution's golang-github-containers-common installs; CRI-O has the same but for the calls that make namespaces.
"""

import json
import os

PODMAN_FILE = "/usr/share/containers/seccomp.json"
MACHINES = {"x86_64": ("amd64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
            "aarch64": ("arm64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])}
EPERM, ENOSYS = 1, 38
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET: clone(2) may have none of them.
NAMESPACES = 0x7E020000
# Linux, with the version numbers of 2.6, with 32 bits, with both, and the question which one is set.
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
ALG, NFC, VSOCK = 38, 39, 40

DOCKER_ALWAYS = """
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount
    listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack
    membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2
    mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
    seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
    sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl
    shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
    vmsplice wait4 waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace arch_prctl modify_ldt arm_fadvise64_64 arm_sync_file_range
    sync_file_range2 breakpoint cacheflush set_tls
""".split()
DOCKER_WITH = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr"
                 " lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl"
                 " quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}


def allow(names, *args, **when):
    return {"names": names.split() if isinstance(names, str) else names, "action": "SCMP_ACT_ALLOW",
            "args": [dict(zip(("index", "value", "op", "valueTwo"), a)) for a in args], **when}


def errno(names, number, **when):
    return {"names": names.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": number, **when}


def no_namespaces():
    """What takes the place of clone, clone3 and unshare in a container without SYS_ADMIN."""
    return [allow("clone", (0, NAMESPACES, "SCMP_CMP_MASKED_EQ", 0), without=["SYS_ADMIN"]),
            errno("clone3", ENOSYS, without=["SYS_ADMIN"])]


def docker():
    rules = [allow(DOCKER_ALWAYS), *no_namespaces()]
    rules += [allow("socket", a) for a in ((0, ALG, "SCMP_CMP_LT"), (0, NFC, "SCMP_CMP_EQ"), (0, VSOCK, "SCMP_CMP_GT"))]
    rules += [allow("personality", (0, number, "SCMP_CMP_EQ")) for number in PERSONALITIES]
    rules += [allow(names, **{"with": [capability]}) for capability, names in DOCKER_WITH.items()]
    return {"default": EPERM, "rules": rules}


def podman():
    """The file's rules that are for this machine, in the form that `docker` has."""
    with open(PODMAN_FILE) as f:
        file = json.load(f)
    here, rules = MACHINES[os.uname().machine][0], []
    for rule in file["syscalls"]:
        needs, bars = rule.get("includes") or {}, rule.get("excludes") or {}
        if here not in (needs.get("arches") or [here]) or here in (bars.get("arches") or []):
            continue
        kept = {k: rule[k] for k in ("action", "errnoRet", "args") if rule.get(k)}
        rules.append({"names": rule["names"], **kept, "with": short(needs.get("caps")), "without": short(bars.get("caps"))})
    return {"default": file.get("defaultErrnoRet", EPERM), "rules": rules}


def short(capabilities):
    return [name.removeprefix("CAP_") for name in capabilities or []]


def crio():
    """CRI-O takes the calls that make namespaces out, unless the container has SYS_ADMIN."""
    makers = {"clone", "clone3", "unshare"}
    profile = podman()
    rules = [{**rule, "names": [n for n in rule["names"] if n not in makers]} for rule in profile["rules"]]
    rules += [allow(sorted(makers), **{"with": ["SYS_ADMIN"]}), *no_namespaces(),
              errno("unshare", EPERM, without=["SYS_ADMIN"])]
    return {**profile, "rules": [rule for rule in rules if rule["names"]]}


PROFILES = {"docker": docker, "podman": podman, "crio": crio}


def resolved(name, capabilities, denied):
    """`linux.seccomp` of a container that has these capabilities; `denied` (call -> errno) fails whatever the profile
    says. None if nothing is filtered."""
    if not name and not denied:
        return None
    out = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": MACHINES[os.uname().machine][1], "syscalls": []}
    if name:
        profile = PROFILES[name]()
        out.update(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=profile["default"])
        for rule in profile["rules"]:
            if not set(rule.get("with", [])) <= set(capabilities) or set(rule.get("without", [])) & set(capabilities):
                continue
            kept = {k: v for k, v in rule.items() if k not in ("with", "without") and v}
            out["syscalls"].append({**kept, "names": [n for n in rule["names"] if n not in denied]})
    out["syscalls"] += [errno(call, number) for call, number in denied.items()]
    return out
