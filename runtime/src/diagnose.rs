//! From a step that failed to its cause and cure, in words for people.
//!
//! What is possible is found out by doing; this module only explains what failed. It is pure: all it
//! goes by is the step, the errno and the [`Surroundings`].

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::needs;
use crate::probe::{Facility, Failed};
use crate::surroundings::{Helper, Surroundings, cap};

/// Why something failed, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// Why.
    pub cause: String,
    /// What to set, run or install, exactly.
    pub cure: String,
}

impl Advice {
    fn new(cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            cure: cure.into(),
        }
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.cause, self.cure)
    }
}

/// What allows a call that a seccomp filter refuses. Namespaces held to the standard *restricted* take no
/// `Unconfined`, but a profile from a file of the node.
pub const SECCOMP: &str = "Kubernetes: securityContext.seccompProfile.type: Unconfined, or, where pods are held to restricted, seccompProfile: {type: Localhost} with Podman's profile as a file on the nodes; Docker, Podman: --security-opt seccomp=unconfined";
const APPARMOR_DENIES: &str = "Kubernetes: securityContext.appArmorProfile.type: Unconfined; Docker: --security-opt apparmor=unconfined";
const APPARMOR_USERNS: &str = "as root `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or install an AppArmor profile with `userns,` for this program's path";
const UNMASK: &str = "Kubernetes: securityContext.procMount: Unmasked (needs hostUsers: false); Docker: --security-opt systempaths=unconfined; Podman: --security-opt unmask=ALL";
/// Why there can be no supervisor.
pub const SUPERVISED: &str = "a filter that this process is under already tells somebody of system calls, the container's own or that of a RUN in which lapstrake was started, and the kernel allows one listener";
/// What helps.
pub const UNSUPERVISED: &str = "give the container a seccomp profile without SCMP_ACT_NOTIFY, and start lapstrake outside of a RUN";
const KERNEL: &str = "use a newer kernel";
/// The call in the step that joins a user namespace.
pub const JOIN: &str = "setns";

/// Explains the step at which `facility` failed.
pub fn explain(facility: Facility, failed: &Failed, around: &Surroundings) -> Advice {
    let errno = Errno::from_raw(failed.errno);
    match facility {
        Facility::UserNamespace => user_namespace(errno, around),
        Facility::ManyIds => many_ids(failed, around),
        Facility::OneId => one_id(around),
        Facility::Overlay if failed.step.contains("of a layer") => Advice::new(
            "its file system has no whiteouts or no extended attributes (user.*), so that no step could rename or replace what is in its image",
            "put the store on ext4, xfs, btrfs or, from Linux 6.6 on, tmpfs, with --root or LAPSTRAKE_ROOT",
        ),
        Facility::Overlay => overlay(failed, around),
        Facility::SystemCalls => {
            let name = failed.step.strip_prefix("call ").unwrap_or(&failed.step);
            let (cause, cure) = needs::explain(name, failed.errno);
            Advice::new(cause, cure)
        }
        Facility::FreshProc if errno == Errno::EPERM => Advice::new(
            "the container hides parts of /proc, so the kernel mounts no other",
            UNMASK,
        ),
        Facility::PivotRoot if errno == Errno::EPERM => Advice::new(
            "a seccomp filter has no pivot_root; the root is moved by a mount and chroot instead",
            SECCOMP,
        ),
        Facility::MountNamespace
        | Facility::Tmpfs
        | Facility::BindMount
        | Facility::OuterProc
        | Facility::FreshProc
        | Facility::PivotRoot
        | Facility::MoveRoot
        | Facility::HostNamespaces
        | Facility::NetworkNamespace => confined(failed, around),
        Facility::Chroot => capability("SYS_CHROOT", around, cap::SYS_CHROOT, errno),
        Facility::SetIds if !around.has(cap::SETUID) => {
            capability("SETUID", around, cap::SETUID, errno)
        }
        Facility::SetIds => capability("SETGID", around, cap::SETGID, errno),
        Facility::ChangeOwner => capability("CHOWN", around, cap::CHOWN, errno),
        Facility::DeviceNode => Advice::new(
            "device nodes are for CAP_MKNOD outside of user namespaces",
            "builds do not need them: what a step makes with mknod is not kept as a device",
        ),
        Facility::Whiteout => Advice::new(
            "the store's file system takes no whiteouts, as a container's own root does not",
            "put the store on a volume: --root or LAPSTRAKE_ROOT",
        ),
        Facility::FileCapability => capability("SETFCAP", around, cap::SETFCAP, errno),
        Facility::UserAttributes => Advice::new(
            "the store's file system keeps no user attributes",
            "put the store on ext4, xfs, btrfs or, since Linux 6.6, tmpfs: --root or LAPSTRAKE_ROOT",
        ),
        Facility::Locks => Advice::new(
            "the store's file system keeps no locks",
            "put the store on a local disk: --root or LAPSTRAKE_ROOT",
        ),
        Facility::Programs => Advice::new(
            "the store is on a mount with the option noexec, where no program of an image runs without an overlay over it",
            "mount it without noexec (docker: --tmpfs DIR:exec), or put the store elsewhere: --root or LAPSTRAKE_ROOT",
        ),
        Facility::Reflink => Advice::new(
            "the store's file system shares no blocks between files, so copies take their time and room",
            "none is needed; xfs and btrfs can",
        ),
        Facility::SeccompFilter => Advice::new(
            "the kernel installs no system call filter",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        Facility::SeccompNotification => notification(errno, around),
        Facility::Landlock => Advice::new(
            "the kernel has no Landlock, or it is not among its security modules",
            "none is needed; boot with landlock in lsm= for one more fence",
        ),
    }
}

fn user_namespace(errno: Errno, around: &Surroundings) -> Advice {
    match errno {
        Errno::ENOSPC if around.max_user_namespaces == Some(0) => Advice::new(
            "user namespaces are off: user.max_user_namespaces is 0",
            "as root `sysctl -w user.max_user_namespaces=15000`",
        ),
        Errno::ENOSPC => Advice::new(
            format!(
                "the limit on user namespaces is reached (user.max_user_namespaces is {})",
                around
                    .max_user_namespaces
                    .map_or_else(|| "unknown".to_owned(), |n| n.to_string())
            ),
            "raise it with `sysctl user.max_user_namespaces` as root, here and in the namespaces above",
        ),
        Errno::EUSERS => Advice::new(
            "user namespaces are nested too deep",
            "start lapstrake less deep in containers",
        ),
        Errno::EPERM if around.userns_clone == Some(false) => Advice::new(
            "user namespaces are off for ordinary users",
            "as root `sysctl -w kernel.unprivileged_userns_clone=1`",
        ),
        Errno::EPERM if around.chrooted => Advice::new(
            "this process runs in a chroot, where the kernel allows no user namespace",
            "start it outside",
        ),
        Errno::EPERM if around.filtered => Advice::new(
            "a seccomp filter, such as a container's default profile, refuses it",
            SECCOMP,
        ),
        Errno::EACCES => Advice::new("a security module refuses it", APPARMOR_USERNS),
        Errno::EINVAL | Errno::ENOSYS => Advice::new(
            "this kernel has no user namespaces",
            "use a kernel with CONFIG_USER_NS",
        ),
        _ => Advice::new(
            "a kernel setting or a security module refuses it",
            "look for user namespaces in the host's sysctls and its audit log",
        ),
    }
}

fn many_ids(failed: &Failed, around: &Surroundings) -> Advice {
    let user = &around.user;
    let said = failed.said.as_deref().unwrap_or_default();
    let program = if failed.step.contains("newgidmap") {
        "newgidmap"
    } else {
        "newuidmap"
    };
    let looks_for_ids = failed.step.starts_with("find subordinate ids");
    if (looks_for_ids && !around.named) || said.contains("determine your user name") {
        return nameless(around);
    }
    if looks_for_ids {
        return Advice::new(
            "the user has no range of subordinate ids",
            format!(
                "as root `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`, or the line {user}:100000:65536 in /etc/subuid and /etc/subgid of the image"
            ),
        );
    }
    if failed.step.starts_with("find ") {
        return Advice::new(
            format!("{program} is not in PATH"),
            "install it: package uidmap (Debian, Ubuntu), shadow-utils (Fedora, RHEL), shadow-uidmap (Alpine)",
        );
    }
    if failed.step.starts_with("run ") {
        let found = match program {
            "newgidmap" => around.newgidmap.as_ref(),
            _ => around.newuidmap.as_ref(),
        };
        return helper(program, said, found, around);
    }
    if !said.is_empty() {
        return Advice::new(said, "give the container a range of ids");
    }
    direct_map(around)
}

/// The helpers map ids for users alone that have a name, and neither `usermod` nor a line with the number in
/// `/etc/subuid` changes that.
fn nameless(around: &Surroundings) -> Advice {
    let Surroundings { uid, gid, .. } = around;
    Advice::new(
        format!("user {uid} has no name here, and newuidmap maps ids for users with a name only"),
        format!(
            "run as a user of the image's /etc/passwd (Kubernetes: securityContext.runAsUser, Docker, Podman: --user) with the line NAME:100000:65536 in its /etc/subuid and /etc/subgid; where the number is given, as on OpenShift, let these three files be writable by the group (`chgrp 0`, `chmod g+w`) and have the container's command add both lines first, NAME:x:{uid}:{gid}::/:/bin/sh to /etc/passwd"
        ),
    )
}

/// `newuidmap` or `newgidmap` failed.
fn helper(program: &str, said: &str, found: Option<&Helper>, around: &Surroundings) -> Advice {
    let name = found.map_or_else(|| program.to_owned(), |f| f.path.display().to_string());
    let (short, gives) = match program {
        "newgidmap" => ("subgid", "cap_setgid"),
        _ => ("subuid", "cap_setuid"),
    };
    if around.no_new_privs {
        return Advice::new(
            format!("no_new_privs keeps {name} from gaining privilege"),
            "Kubernetes: securityContext.allowPrivilegeEscalation: true; Docker: without --security-opt no-new-privileges",
        );
    }
    if found.is_some_and(|f| f.set_uid) && !around.can_gain(cap::SYS_ADMIN) {
        return Advice::new(
            format!(
                "{name} is set-uid, which needs CAP_SYS_ADMIN in the container's bounding set; with a file capability instead it does not"
            ),
            format!("in the image run `chmod u-s {name} && setcap {gives}+ep {name}`"),
        );
    }
    if said.contains("not allowed") || said.contains("Invalid argument") {
        return Advice::new(
            format!(
                "the ranges in /etc/{short} do not fit: they overlap, or hold the user's own id"
            ),
            format!("give {} a range of its own in /etc/{short}", around.user),
        );
    }
    Advice::new(
        format!(
            "{name} has no privilege: neither set-uid root nor {gives}+ep, or on a nosuid mount"
        ),
        format!("as root `setcap {gives}+ep {name}`, not on a nosuid mount"),
    )
}

/// Root's own full map was refused.
fn direct_map(around: &Surroundings) -> Advice {
    let needed = [
        ("SETUID", cap::SETUID),
        ("SETGID", cap::SETGID),
        ("SETFCAP", cap::SETFCAP),
    ];
    let lacking: Vec<_> = needed
        .iter()
        .filter(|(_, number)| !around.has(*number))
        .map(|(name, _)| *name)
        .collect();
    if lacking.is_empty() {
        return one_id(around);
    }
    let names = lacking.join(", ");
    Advice::new(
        format!("root maps ids with capabilities that it lacks here: {names}"),
        format!(
            "Kubernetes: securityContext.capabilities.add: [{names}]; Docker, Podman: {}",
            lacking
                .iter()
                .map(|name| format!("--cap-add {name}"))
                .collect::<Vec<_>>()
                .join(" ")
        ),
    )
}

/// Even one's own single id could not be mapped.
fn one_id(around: &Surroundings) -> Advice {
    if around.apparmor_userns == Some(true) {
        Advice::new("AppArmor restricts user namespaces here", APPARMOR_USERNS)
    } else if around.uid == 0 && !around.has(cap::SETFCAP) {
        capability("SETFCAP", around, cap::SETFCAP, Errno::EPERM)
    } else {
        Advice::new(
            "a security module refuses it, on Ubuntu AppArmor",
            APPARMOR_USERNS,
        )
    }
}

/// The namespace exists but does not let us act in it.
fn confined(failed: &Failed, around: &Surroundings) -> Advice {
    match Errno::from_raw(failed.errno) {
        // A filter would have refused the trial of the call itself.
        Errno::EACCES | Errno::EPERM if failed.step.contains(JOIN) => Advice::new(
            "a security module keeps this process out of the user namespace that it has made",
            "see the host's audit log",
        ),
        Errno::EACCES | Errno::EPERM if around.apparmor_userns == Some(true) => Advice::new(
            "AppArmor takes all capabilities from user namespaces here",
            APPARMOR_USERNS,
        ),
        Errno::EACCES => Advice::new("AppArmor denies mounts", APPARMOR_DENIES),
        Errno::ENOSPC => Advice::new(
            "a limit on namespaces or mounts is reached",
            "raise user.max_*_namespaces and fs.mount-max with sysctl as root",
        ),
        Errno::ENOSYS if around.filtered => Advice::new(
            "a seccomp filter does not know the call, or the kernel is older than Linux 5.12",
            SECCOMP,
        ),
        Errno::ENOSYS | Errno::EINVAL => {
            Advice::new("the kernel is too old (Linux 5.12 is needed)", KERNEL)
        }
        Errno::EPERM if around.filtered => Advice::new("a seccomp filter refuses it", SECCOMP),
        Errno::EPERM => Advice::new(
            "a security module refuses capabilities in user namespaces",
            APPARMOR_USERNS,
        ),
        _ => Advice::new("the kernel refuses it", "see the kernel's log"),
    }
}

fn overlay(failed: &Failed, around: &Surroundings) -> Advice {
    const VOLUME: &str = "mount a volume there, in Kubernetes an emptyDir, with Docker and Podman by --volume, or name another place with --root or LAPSTRAKE_ROOT";
    match Errno::from_raw(failed.errno) {
        Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EIO => Advice::new(
            "its file system cannot hold the upper directory of an overlay, as a container's own root and network file systems cannot",
            VOLUME,
        ),
        Errno::ENODEV => Advice::new(
            "this kernel has no overlay file system",
            "load it: as root `modprobe overlay`",
        ),
        Errno::EPERM => Advice::new("overlays in a user namespace need Linux 5.11", KERNEL),
        Errno::ENOSPC => Advice::new("the disk is full, or a limit on mounts is reached", VOLUME),
        _ => confined(failed, around),
    }
}

/// A privilege of root that this process lacks.
fn capability(name: &str, around: &Surroundings, number: u32, errno: Errno) -> Advice {
    let add = format!(
        "Kubernetes: securityContext.capabilities.add: [{name}]; Docker, Podman: --cap-add {name}"
    );
    if around.uid != 0 {
        return Advice::new(
            "this process is not root",
            "Kubernetes: securityContext.runAsUser: 0; Docker, Podman: --user 0",
        );
    }
    if !around.has(number) {
        return Advice::new(format!("root lacks the capability {name} here"), add);
    }
    match errno {
        Errno::EPERM if around.filtered => Advice::new("a seccomp filter refuses it", SECCOMP),
        Errno::EINVAL => Advice::new(
            "the id does not exist in this user namespace",
            "give the container a range of ids",
        ),
        _ => Advice::new(
            "a security module or the file system refuses it",
            "see the host's audit log",
        ),
    }
}

fn notification(errno: Errno, around: &Surroundings) -> Advice {
    match errno {
        Errno::EBUSY => Advice::new(SUPERVISED, UNSUPERVISED),
        Errno::EACCES => Advice::new("a security module refuses it", "see the host's audit log"),
        Errno::EPERM if around.filtered => Advice::new("a seccomp filter refuses it", SECCOMP),
        _ => Advice::new("the kernel is older than Linux 5.9", KERNEL),
    }
}

#[cfg(test)]
#[path = "diagnose/tests.rs"]
mod tests;
