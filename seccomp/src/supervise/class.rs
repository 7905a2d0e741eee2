//! [`Class`]: which calls are intercepted for which purpose, and the filter's rules for that.

use crate::profile::{Action, Condition, Profile, Rule};

/// Calls that are intercepted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Setting owners.
    Chown,
    /// Making files, which belong to whoever makes them, and devices.
    Create,
    /// Asking for the metadata of files.
    Stat,
    /// Changing ids, and the capabilities to do so.
    SetIds,
    /// Asking for ids.
    GetIds,
    /// Executing programs, which may be set-id.
    Exec,
    /// Listing extended attributes, among them ours.
    Attributes,
    /// Asking who is at the other end of a socket.
    Peer,
    /// Changing the root directory, after which paths mean something else.
    Root,
    /// Opening files by path, the kernel's own among them.
    Open,
    /// Asking about files by path, without opening them.
    Look,
    /// Changing files, and looking at their attributes, by path.
    Change,
    /// Taking directories away, and giving files other names.
    Rename,
    /// Changing the working directory.
    Move,
    /// Calls after which the kernel refuses us a look into the process: it is somebody else, or wants it.
    Hide,
    /// Calls that do something to another process by its number.
    Others,
    /// The machine's name.
    Name,
}

/// What a process in a tree needs, with real ids and without namespaces: `/proc`, `/sys` and devices are
/// answered, other processes are out of its reach. Where there is no tree to change the root directory
/// to, paths are to be answered by the same classes and those that change files by their names.
pub const TREE: &[Class] = &[
    Class::Open,
    Class::Look,
    Class::Change,
    Class::Rename,
    Class::Move,
    Class::Exec,
    Class::Hide,
    Class::Others,
    Class::Name,
];

/// Everything about ids and owners: for a user namespace with one id.
pub const OWNERS: &[Class] = &[
    Class::Chown,
    Class::Create,
    Class::Stat,
    Class::SetIds,
    Class::GetIds,
    Class::Exec,
    Class::Attributes,
    Class::Peer,
    Class::Root,
];

const O_CREAT: u32 = 0o100;
const O_TMPFILE_BIT: u32 = 0o20_000_000;
const AT_REMOVEDIR: u32 = 0x200;
const SOL_SOCKET: u32 = 1;
const SO_PEERCRED: u32 = 17;
const PTRACE_ATTACH: u32 = 16;
const PTRACE_SEIZE: u32 = 0x4206;

impl Class {
    /// Names of the calls, in all forms that an architecture has.
    pub(super) fn calls(self) -> &'static str {
        match self {
            Self::Chown => "chown lchown fchown fchownat chown32 lchown32 fchown32",
            Self::Create => {
                "open openat openat2 creat mkdir mkdirat symlink symlinkat mknod mknodat"
            }
            Self::Stat => {
                "stat lstat fstat newfstatat statx stat64 lstat64 fstat64 fstatat64 oldstat \
                 oldlstat oldfstat"
            }
            Self::SetIds => {
                "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups \
                 setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setfsuid32 \
                 setfsgid32 setgroups32 prctl capset"
            }
            Self::GetIds => {
                "getuid geteuid getgid getegid getresuid getresgid getgroups getuid32 geteuid32 \
                 getgid32 getegid32 getresuid32 getresgid32 getgroups32"
            }
            Self::Exec => "execve execveat",
            Self::Attributes => "listxattr llistxattr flistxattr listxattrat",
            Self::Peer => "getsockopt",
            Self::Root => "chroot",
            Self::Open => "open openat openat2 creat",
            Self::Look => {
                "stat lstat newfstatat statx stat64 lstat64 fstatat64 oldstat oldlstat access \
                 faccessat faccessat2 readlink readlinkat statfs statfs64"
            }
            Self::Change => {
                "chmod fchmodat fchmodat2 chown chown32 fchownat utimensat linkat getxattr lgetxattr \
                 setxattr listxattr llistxattr"
            }
            Self::Rename => "rmdir unlinkat rename renameat renameat2",
            Self::Move => "chdir",
            Self::Hide => {
                "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setuid32 \
                 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setfsuid32 setfsgid32 prctl"
            }
            Self::Others => {
                "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open prlimit64 \
                 sched_setaffinity sched_setscheduler sched_setparam sched_setattr setpriority \
                 ioprio_set ptrace process_vm_readv process_vm_writev"
            }
            Self::Name => "uname olduname oldolduname",
        }
    }

    /// The filter's rules, which go before all others.
    pub fn rules(self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for call in self.calls().split_whitespace() {
            let conditions = match call {
                "open" if self == Self::Create => creating(1),
                "openat" if self == Self::Create => creating(2),
                "prctl" if self == Self::Hide => vec![vec![Condition::equals(
                    0,
                    libc::PR_SET_DUMPABLE.cast_unsigned(),
                )]],
                "unlinkat" => vec![vec![Condition::masked(2, AT_REMOVEDIR, AT_REMOVEDIR)]],
                // 0 is the caller itself.
                "prlimit64" | "sched_setaffinity" | "sched_setscheduler" | "sched_setparam"
                | "sched_setattr" => vec![vec![Condition::above(0, 0)]],
                "setpriority" | "ioprio_set" => vec![vec![Condition::above(1, 0)]],
                "ptrace" => [PTRACE_ATTACH, PTRACE_SEIZE]
                    .map(|request| vec![Condition::equals(0, request)])
                    .into(),
                "getsockopt" => vec![vec![
                    Condition::equals(1, SOL_SOCKET),
                    Condition::equals(2, SO_PEERCRED),
                ]],
                "prctl" => [libc::PR_SET_KEEPCAPS, libc::PR_SET_SECUREBITS]
                    .map(|option| vec![Condition::equals(0, option.cast_unsigned())])
                    .into(),
                _ => vec![Vec::new()],
            };
            rules.extend(conditions.into_iter().map(|all| Rule {
                call,
                all,
                action: Action::Notify,
            }));
        }
        rules
    }
}

/// The flags of a call that makes a file, with a name or without.
fn creating(argument: u8) -> Vec<Vec<Condition>> {
    [O_CREAT, O_TMPFILE_BIT]
        .map(|bit| vec![Condition::masked(argument, bit, bit)])
        .into()
}

/// Makes `profile` tell of the calls of `classes`, and shuts the ways around them.
pub fn protect(profile: &mut Profile, classes: &[Class]) {
    let mut rules: Vec<Rule> = classes.iter().flat_map(|class| class.rules()).collect();
    let refuse = |call, all, errno: i32| Rule {
        call,
        all,
        action: Action::Errno(errno as u16),
    };
    if classes.contains(&Class::GetIds) {
        // The mark of an identity is a limit that programs believe they can set, and cannot.
        let locks = |argument| Condition::equals(argument, libc::RLIMIT_LOCKS);
        rules.push(refuse("setrlimit", vec![locks(0)], 0));
        rules.push(Rule {
            call: "prlimit64",
            all: vec![locks(1), Condition::equals(2, 0)],
            action: Action::Allow,
        });
        rules.push(refuse("prlimit64", vec![locks(1)], 0));
    }
    // It opens and makes files without any call that a filter sees.
    rules.push(refuse("io_uring_setup", Vec::new(), libc::ENOSYS));
    rules.append(&mut profile.rules);
    profile.rules = rules;
    if profile.unknown == Action::Allow {
        profile.unknown = Action::Errno(libc::ENOSYS as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{CALLS, NO};
    use crate::{Machine, compile_for};

    #[test]
    fn every_call_of_a_class_exists_somewhere() {
        for class in OWNERS.iter().chain(TREE) {
            for call in class.calls().split_whitespace() {
                let at = CALLS.binary_search_by_key(&call, |(name, _)| name);
                let numbers = CALLS[at.unwrap_or_else(|_| panic!("{call}"))].1;
                assert!(numbers.iter().any(|n| *n != NO), "{call}");
            }
        }
    }

    #[test]
    fn a_protected_profile_compiles_for_every_machine_and_allows_nothing_unknown() {
        let mut profile = Profile {
            rules: Vec::new(),
            refused: Action::Allow,
            unknown: Action::Allow,
        };
        protect(&mut profile, OWNERS);
        assert_eq!(profile.unknown, Action::Errno(libc::ENOSYS as u16));
        for machine in [Machine::X86, Machine::Arm] {
            compile_for(&profile, machine).unwrap();
            let mut usual = Profile::docker_default(0xa804_25fb);
            protect(&mut usual, OWNERS);
            compile_for(&usual, machine).unwrap();
            let mut usual = Profile::docker_default(0xa800_25fb);
            protect(&mut usual, TREE);
            compile_for(&usual, machine).unwrap();
        }
    }
}
