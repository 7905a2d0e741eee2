//! From an errno to its cause and cure, in words for people.
//!
//! What is possible is found out by doing; this module only explains what failed.

use std::os::unix::fs::PermissionsExt;
use std::{fs, io};

use nix::errno::Errno;

const SECCOMP_CURE: &str = "set securityContext.seccompProfile.type: Unconfined on the pod's container, or start the container with --security-opt seccomp=unconfined";
const APPARMOR_CURE: &str = "run `sysctl kernel.apparmor_restrict_unprivileged_userns=0` as root, or install an AppArmor profile with `userns,` for this program";

/// `unshare(CLONE_NEWUSER)` failed.
pub fn unshare(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::ENOSPC => format!(
            "the limit on user namespaces is reached (user.max_user_namespaces is {}): raise it with `sysctl user.max_user_namespaces=15000` as root",
            sysctl("user/max_user_namespaces").unwrap_or_else(|| "unknown".to_owned())
        ),
        Errno::EPERM if sysctl("kernel/unprivileged_userns_clone").as_deref() == Some("0") => {
            "user namespaces are off for ordinary users: run `sysctl kernel.unprivileged_userns_clone=1` as root".to_owned()
        }
        Errno::EPERM if status("Seccomp").as_deref() == Some("2") => {
            format!("a seccomp filter, such as a container's default profile, refuses it: {SECCOMP_CURE}")
        }
        Errno::EPERM if chrooted() => {
            "this process runs in a chroot, where the kernel allows no user namespace: start it outside".to_owned()
        }
        Errno::EACCES => format!("a security module refuses it: {APPARMOR_CURE}"),
        Errno::EINVAL | Errno::ENOSYS => {
            "this kernel has no user namespaces (CONFIG_USER_NS): use another kernel".to_owned()
        }
        _ => "a kernel setting or a security module refuses it: look for user namespaces in the host's sysctl and its audit log".to_owned(),
    }
}

/// Even one's own single id could not be mapped.
pub fn single_map(error: &io::Error) -> String {
    let restricted = sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    let advice = if restricted {
        format!("AppArmor restricts user namespaces here: {APPARMOR_CURE}")
    } else if nix::unistd::geteuid().is_root() {
        "root needs CAP_SETFCAP to map id 0: add the capability to the container".to_owned()
    } else {
        format!("a security module refuses it, on Ubuntu AppArmor: {APPARMOR_CURE}")
    };
    format!("writing the map of one's own id failed: {error}: {advice}")
}

/// Root's own full map was refused.
pub fn direct_map(error: &io::Error) -> String {
    format!(
        "writing the full id map failed: {error} (it needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP; this process has CapEff {})",
        status("CapEff").unwrap_or_default()
    )
}

/// `newuidmap` or `newgidmap` failed, saying `said`.
pub fn helper(program: &str, said: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|f| f.is_file());
    let set_uid = file
        .as_ref()
        .and_then(|f| fs::metadata(f).ok())
        .is_some_and(|m| m.permissions().mode() & 0o4000 != 0);
    let name = file.map_or_else(|| program.to_owned(), |f| f.display().to_string());
    let cap = if program == "newgidmap" {
        "cap_setgid"
    } else {
        "cap_setuid"
    };
    let cause = if status("NoNewPrivs").as_deref() == Some("1") {
        format!(
            "no_new_privs keeps {name} from gaining privilege; set allowPrivilegeEscalation: true"
        )
    } else if set_uid && !bounding_has(21) {
        format!(
            "{name} is set-uid, which needs CAP_SYS_ADMIN in the container's bounding set; in the image run `chmod u-s {name} && setcap {cap}+ep {name}`"
        )
    } else {
        format!(
            "check {name} (set-uid root or {cap}+ep, no nosuid mount) and the ranges in /etc/subuid and /etc/subgid"
        )
    };
    format!(
        "{program} failed ({}): {cause}",
        if said.is_empty() { "no message" } else { said }
    )
}

/// A child could not change its root directory or its ids.
pub fn chroot() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        "this mode needs the capabilities SYS_CHROOT, SETUID and SETGID: add them to the container (Kubernetes: securityContext.capabilities.add)"
    } else {
        "this mode is for root in a container: start the container with runAsUser: 0"
    }
}

/// The namespace exists but does not let us act in it.
pub fn confined(errno: Errno) -> String {
    match errno {
        Errno::EACCES | Errno::EPERM
            if sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") =>
        {
            format!("AppArmor takes all capabilities from user namespaces here: {APPARMOR_CURE}")
        }
        Errno::EACCES => {
            "AppArmor denies mounts: use the profile `unconfined` (Kubernetes: securityContext.appArmorProfile.type: Unconfined)".to_owned()
        }
        Errno::ENOSPC => {
            "a limit is reached: raise user.max_mnt_namespaces with sysctl as root".to_owned()
        }
        _ => format!("a seccomp filter or a security module refuses it: {SECCOMP_CURE}"),
    }
}

fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}"))
        .ok()
        .map(|s| s.trim().to_owned())
}

fn status(key: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

fn bounding_has(capability: u32) -> bool {
    status("CapBnd")
        .and_then(|hex| u64::from_str_radix(&hex, 16).ok())
        .is_some_and(|set| set & (1 << capability) != 0)
}

/// Whether our root is not the root of the mount namespace, as far as mountinfo shows it.
fn chrooted() -> bool {
    fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|text| !text.lines().any(|line| line.split(' ').nth(4) == Some("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_names_its_cure() {
        assert!(unshare(libc::ENOSPC).contains("user.max_user_namespaces"));
        assert!(unshare(libc::EACCES).contains("apparmor"));
        assert!(confined(Errno::EACCES).contains("AppArmor"));
        assert!(helper("newuidmap", "x failed").contains("x failed"));
    }
}
