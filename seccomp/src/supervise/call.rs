//! [`Calls`]: from an architecture and a number to what is asked.

use std::collections::HashMap;

use super::class::Class;
use crate::calls::{CALLS, NO};
use crate::emit::Machine;

/// A call whose arguments we know how to read, whatever its form is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Chown,
    Lchown,
    Fchown,
    Fchownat,
    Open,
    Openat,
    Openat2,
    Creat,
    Mkdir,
    Mkdirat,
    Symlink,
    Symlinkat,
    Mknod,
    Mknodat,
    Stat,
    Lstat,
    Fstat,
    Fstatat,
    Statx,
    Setuid,
    Setgid,
    Setreuid,
    Setregid,
    Setresuid,
    Setresgid,
    Setfsuid,
    Setfsgid,
    Setgroups,
    Prctl,
    Capset,
    Getuid,
    Geteuid,
    Getgid,
    Getegid,
    Getresuid,
    Getresgid,
    Getgroups,
    Execve,
    Execveat,
    Listxattr,
    Llistxattr,
    Flistxattr,
    Listxattrat,
    Getsockopt,
    Chroot,
    Access,
    Faccessat,
    Faccessat2,
    Readlink,
    Readlinkat,
    Statfs,
    Chmod,
    Fchmodat,
    Fchmodat2,
    Utimensat,
    Linkat,
    Getxattr,
    Lgetxattr,
    Setxattr,
    Rmdir,
    Unlinkat,
    Rename,
    Renameat,
    Chdir,
    Uname,
    Kill,
    /// Something done to the process that this argument names.
    Process(u8),
    /// Something done to a process, a group or all of a user, as the first argument says.
    Priority(u32),
}

/// How an architecture lays out what calls read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    X86_64,
    Aarch64,
    I386,
    Arm,
}

impl Layout {
    const ALL: [Self; 4] = [Self::X86_64, Self::I386, Self::Aarch64, Self::Arm];

    /// Pointers and `long` have four bytes.
    pub fn is_32(self) -> bool {
        matches!(self, Self::I386 | Self::Arm)
    }
}

/// The calls that are answered.
pub struct Calls {
    by_number: HashMap<(u32, i32), (Call, Layout)>,
}

impl Calls {
    /// Those of `classes` on this machine.
    pub fn of(classes: &[Class]) -> Self {
        let mut by_number = HashMap::new();
        for name in classes.iter().flat_map(|c| c.calls().split_whitespace()) {
            let Ok(at) = CALLS.binary_search_by_key(&name, |(known, _)| known) else {
                continue;
            };
            for (architecture, column) in Machine::HERE.architectures() {
                let (number, layout) = (CALLS[at].1[column], Layout::ALL[column]);
                if number != NO
                    && let Some(call) = known(name, layout)
                {
                    by_number.insert((architecture, number), (call, layout));
                }
            }
        }
        Self { by_number }
    }

    /// What the call is; none if it has to be refused.
    pub fn get(&self, architecture: u32, number: i32) -> Option<(Call, Layout)> {
        self.by_number.get(&(architecture, number)).copied()
    }
}

/// The call that a name stands for on an architecture; none for forms that nothing current uses: ids
/// of 16 bits, `stat` as it was before large files.
fn known(name: &str, layout: Layout) -> Option<Call> {
    if layout.is_32() {
        let wide = wide(name);
        if wide.is_some() {
            return wide;
        }
    }
    plain(name).filter(|call| !layout.is_32() || !has_wide_form(*call))
}

/// Calls that a 32-bit architecture has twice, by the name of the younger.
fn wide(name: &str) -> Option<Call> {
    Some(match name {
        "stat64" => Call::Stat,
        "lstat64" => Call::Lstat,
        "fstat64" => Call::Fstat,
        "fstatat64" => Call::Fstatat,
        _ => plain(name.strip_suffix("32")?)?,
    })
}

fn has_wide_form(call: Call) -> bool {
    use Call as C;
    matches!(
        call,
        C::Chown
            | C::Lchown
            | C::Fchown
            | C::Stat
            | C::Lstat
            | C::Fstat
            | C::Setuid
            | C::Setgid
            | C::Setreuid
            | C::Setregid
            | C::Setresuid
            | C::Setresgid
            | C::Setfsuid
            | C::Setfsgid
            | C::Setgroups
            | C::Getuid
            | C::Geteuid
            | C::Getgid
            | C::Getegid
            | C::Getresuid
            | C::Getresgid
            | C::Getgroups
    )
}

const IOPRIO_WHO_PROCESS: u32 = 1;

fn plain(name: &str) -> Option<Call> {
    use Call as C;
    Some(match name {
        "chown" => C::Chown,
        "lchown" => C::Lchown,
        "fchown" => C::Fchown,
        "fchownat" => C::Fchownat,
        "open" => C::Open,
        "openat" => C::Openat,
        "openat2" => C::Openat2,
        "creat" => C::Creat,
        "mkdir" => C::Mkdir,
        "mkdirat" => C::Mkdirat,
        "symlink" => C::Symlink,
        "symlinkat" => C::Symlinkat,
        "mknod" => C::Mknod,
        "mknodat" => C::Mknodat,
        "stat" => C::Stat,
        "lstat" => C::Lstat,
        "fstat" => C::Fstat,
        "newfstatat" => C::Fstatat,
        "statx" => C::Statx,
        "setuid" => C::Setuid,
        "setgid" => C::Setgid,
        "setreuid" => C::Setreuid,
        "setregid" => C::Setregid,
        "setresuid" => C::Setresuid,
        "setresgid" => C::Setresgid,
        "setfsuid" => C::Setfsuid,
        "setfsgid" => C::Setfsgid,
        "setgroups" => C::Setgroups,
        "prctl" => C::Prctl,
        "capset" => C::Capset,
        "getuid" => C::Getuid,
        "geteuid" => C::Geteuid,
        "getgid" => C::Getgid,
        "getegid" => C::Getegid,
        "getresuid" => C::Getresuid,
        "getresgid" => C::Getresgid,
        "getgroups" => C::Getgroups,
        "execve" => C::Execve,
        "execveat" => C::Execveat,
        "listxattr" => C::Listxattr,
        "llistxattr" => C::Llistxattr,
        "flistxattr" => C::Flistxattr,
        "listxattrat" => C::Listxattrat,
        "getsockopt" => C::Getsockopt,
        "chroot" => C::Chroot,
        "access" => C::Access,
        "faccessat" => C::Faccessat,
        "faccessat2" => C::Faccessat2,
        "readlink" => C::Readlink,
        "readlinkat" => C::Readlinkat,
        "statfs" | "statfs64" => C::Statfs,
        "chmod" => C::Chmod,
        "fchmodat" => C::Fchmodat,
        "fchmodat2" => C::Fchmodat2,
        "utimensat" => C::Utimensat,
        "linkat" => C::Linkat,
        "getxattr" => C::Getxattr,
        "lgetxattr" => C::Lgetxattr,
        "setxattr" => C::Setxattr,
        "rmdir" => C::Rmdir,
        "unlinkat" => C::Unlinkat,
        "rename" => C::Rename,
        "renameat" | "renameat2" => C::Renameat,
        "chdir" => C::Chdir,
        "uname" => C::Uname,
        "kill" => C::Kill,
        "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" | "pidfd_open"
        | "prlimit64" | "sched_setaffinity" | "sched_setscheduler" | "sched_setparam"
        | "sched_setattr" | "process_vm_readv" | "process_vm_writev" => C::Process(0),
        "ptrace" => C::Process(1),
        "setpriority" => C::Priority(libc::PRIO_PROCESS),
        "ioprio_set" => C::Priority(IOPRIO_WHO_PROCESS),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{OWNERS, TREE};
    use super::*;

    #[test]
    fn old_forms_of_calls_are_refused_and_young_ones_known() {
        for (name, layout, expected) in [
            ("stat", Layout::X86_64, Some(Call::Stat)),
            ("stat", Layout::I386, None),
            ("oldstat", Layout::I386, None),
            ("stat64", Layout::I386, Some(Call::Stat)),
            ("fstatat64", Layout::Arm, Some(Call::Fstatat)),
            ("setuid", Layout::I386, None),
            ("setuid32", Layout::I386, Some(Call::Setuid)),
            ("setuid", Layout::Aarch64, Some(Call::Setuid)),
            ("chown", Layout::Arm, None),
            ("fchownat", Layout::Arm, Some(Call::Fchownat)),
            ("mkdir", Layout::I386, Some(Call::Mkdir)),
        ] {
            assert_eq!(known(name, layout), expected, "{name} {layout:?}");
        }
    }

    #[test]
    fn every_call_of_a_64_bit_program_has_an_answer() {
        for classes in [OWNERS, TREE] {
            let calls = Calls::of(classes);
            let (architecture, column) = Machine::HERE.architectures()[0];
            for name in classes.iter().flat_map(|c| c.calls().split_whitespace()) {
                let at = CALLS.binary_search_by_key(&name, |(known, _)| known);
                let number = CALLS[at.unwrap()].1[column];
                if number != NO {
                    assert!(calls.get(architecture, number).is_some(), "{name}");
                }
            }
            assert!(calls.get(architecture, 0).is_none());
        }
    }
}
