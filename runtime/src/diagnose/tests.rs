//! Each cause in the surroundings that call for it, and the cure it names.

use super::*;

const ALL: u64 = u64::MAX;

fn user() -> Surroundings {
    Surroundings {
        uid: 1000,
        user: "ann".into(),
        named: true,
        bounding: ALL,
        max_user_namespaces: Some(15_000),
        ..Surroundings::default()
    }
}

fn root() -> Surroundings {
    Surroundings {
        uid: 0,
        capabilities: ALL,
        ..user()
    }
}

fn filtered(around: Surroundings) -> Surroundings {
    Surroundings {
        filtered: true,
        ..around
    }
}

fn helper_at(set_uid: bool) -> Option<Helper> {
    Some(Helper {
        path: "/usr/bin/newuidmap".into(),
        set_uid,
    })
}

/// (facility, step, errno, said, surroundings, words of the advice)
type Row = (
    Facility,
    &'static str,
    i32,
    Option<&'static str>,
    Surroundings,
    &'static [&'static str],
);

#[test]
#[rustfmt::skip] // one case a line
fn each_cause_names_its_cure() {
    let no_userns = Surroundings { max_user_namespaces: Some(0), ..user() };
    let off = Surroundings { userns_clone: Some(false), ..filtered(user()) };
    let ubuntu = Surroundings { apparmor_userns: Some(true), ..user() };
    let chroot = Surroundings { chrooted: true, ..user() };
    let nnp = Surroundings { no_new_privs: true, newuidmap: helper_at(true), ..user() };
    let debian = Surroundings { bounding: 0, newuidmap: helper_at(true), ..user() };
    let bare = Surroundings { newuidmap: helper_at(false), ..user() };
    let no_setfcap = Surroundings { capabilities: ALL & !(1 << cap::SETFCAP), ..root() };
    let no_chroot = Surroundings { capabilities: ALL & !(1 << cap::SYS_CHROOT), ..root() };
    let rows: &[Row] = &[
        (Facility::UserNamespace, "unshare", libc::EPERM, None, filtered(user()), &["seccomp", "seccompProfile.type: Unconfined", "--security-opt seccomp=unconfined"]),
        (Facility::UserNamespace, "unshare", libc::ENOSPC, None, no_userns, &["user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"]),
        (Facility::UserNamespace, "unshare", libc::ENOSPC, None, user(), &["limit", "15000"]),
        (Facility::UserNamespace, "unshare", libc::EPERM, None, off, &["kernel.unprivileged_userns_clone=1"]),
        (Facility::UserNamespace, "unshare", libc::EPERM, None, chroot, &["chroot"]),
        (Facility::UserNamespace, "unshare", libc::EUSERS, None, user(), &["nested"]),
        (Facility::UserNamespace, "unshare", libc::EINVAL, None, user(), &["CONFIG_USER_NS"]),
        (Facility::UserNamespace, "unshare", libc::EACCES, None, user(), &["security module", "userns,"]),
        (Facility::OneId, "map one's own id", libc::EPERM, None, ubuntu.clone(), &["AppArmor", "apparmor_restrict_unprivileged_userns=0"]),
        (Facility::OneId, "map one's own id", libc::EPERM, None, no_setfcap.clone(), &["SETFCAP", "capabilities.add: [SETFCAP]"]),
        (Facility::ManyIds, "find subordinate ids", 0, Some("/etc/subuid gives no ids to ann"), user(), &["no range of subordinate ids", "usermod --add-subuids", "ann:100000:65536"]),
        (Facility::ManyIds, "find newgidmap", 0, Some("it is not in PATH"), user(), &["newgidmap is not in PATH", "uidmap"]),
        (Facility::ManyIds, "run newuidmap", 0, Some("write to uid_map failed: Operation not permitted"), nnp, &["no_new_privs", "allowPrivilegeEscalation: true"]),
        (Facility::ManyIds, "run newuidmap", 0, Some("write to uid_map failed: Operation not permitted"), debian, &["set-uid", "CAP_SYS_ADMIN", "chmod u-s /usr/bin/newuidmap", "setcap cap_setuid+ep"]),
        (Facility::ManyIds, "run newuidmap", 0, Some("Could not set caps"), bare, &["no privilege", "setcap cap_setuid+ep"]),
        (Facility::ManyIds, "run newuidmap", 0, Some("uid range [1-5) -> [0-4) not allowed"), user(), &["/etc/subuid", "range"]),
        (Facility::ManyIds, "write the full id map", libc::EPERM, None, no_setfcap, &["SETFCAP", "--cap-add SETFCAP"]),
        (Facility::MountNamespace, "mount", libc::EACCES, None, user(), &["AppArmor denies mounts", "appArmorProfile.type: Unconfined"]),
        (Facility::MountNamespace, "mount", libc::EACCES, None, ubuntu, &["AppArmor takes all capabilities", "userns,"]),
        (Facility::SystemCalls, "call mount_setattr", libc::ENOSYS, None, user(), &["mount_setattr needs Linux 5.12", "Unconfined"]),
        (Facility::SystemCalls, "call fsopen", libc::EPERM, None, user(), &["seccomp filter", "fsopen"]),
        (Facility::Tmpfs, "mount", libc::EPERM, None, filtered(user()), &["seccomp filter", "Unconfined"]),
        (Facility::Tmpfs, "mount", libc::ENOSYS, None, user(), &["too old"]),
        (Facility::HostNamespaces, "unshare", libc::ENOSPC, None, user(), &["limit"]),
        (Facility::FreshProc, "mount", libc::EPERM, None, user(), &["hides parts of /proc", "procMount: Unmasked", "systempaths=unconfined"]),
        (Facility::PivotRoot, "pivot", libc::EPERM, None, filtered(user()), &["no pivot_root"]),
        (Facility::Overlay, "mount", libc::EINVAL, None, user(), &["container's own root", "emptyDir", "LAPSTRAKE_ROOT"]),
        (Facility::Overlay, "rename a file of a layer in an overlay", libc::EINVAL, None, user(), &["whiteouts", "extended attributes", "LAPSTRAKE_ROOT"]),
        (Facility::SeccompFilter, "install", libc::EINVAL, None, user(), &["system call filter", "CONFIG_SECCOMP_FILTER"]),
        (Facility::Overlay, "mount", libc::ENODEV, None, user(), &["modprobe overlay"]),
        (Facility::Overlay, "mount", libc::EPERM, None, user(), &["5.11"]),
        (Facility::Chroot, "chroot", libc::EPERM, None, user(), &["not root", "runAsUser: 0"]),
        (Facility::Chroot, "chroot", libc::EPERM, None, no_chroot, &["capabilities.add: [SYS_CHROOT]"]),
        (Facility::Chroot, "chroot", libc::EPERM, None, filtered(root()), &["seccomp"]),
        (Facility::SetIds, "setresuid", libc::EINVAL, None, root(), &["does not exist in this user namespace"]),
        (Facility::SeccompNotification, "listen", libc::EBUSY, None, user(), &["one listener", "SCMP_ACT_NOTIFY"]),
        (Facility::SeccompNotification, "listen", libc::EINVAL, None, user(), &["5.9"]),
        (Facility::Whiteout, "mknod", libc::EPERM, None, user(), &["volume"]),
        (Facility::UserAttributes, "setxattr", libc::EOPNOTSUPP, None, user(), &["LAPSTRAKE_ROOT"]),
    ];
    for (facility, step, errno, said, around, words) in rows {
        let failed = Failed { step: (*step).into(), errno: *errno, said: said.map(str::to_owned) };
        let text = explain(*facility, &failed, around).to_string();
        for word in *words {
            assert!(text.contains(word), "{facility:?} {failed}: {word:?} is not in {text:?}");
        }
    }
}

/// Words that an advice must not have, as they lead nowhere: (facility, step, errno, said, surroundings, words, not these)
type Misled = (
    Facility,
    &'static str,
    i32,
    Option<&'static str>,
    Surroundings,
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
#[rustfmt::skip] // one case a line
fn no_cure_is_named_that_cannot_work() {
    let nameless = || Surroundings { uid: 1_000_680_000, user: "1000680000".into(), named: false, ..user() };
    let ubuntu = || Surroundings { apparmor_userns: Some(true), ..filtered(user()) };
    let rows: &[Misled] = &[
        (Facility::ManyIds, "find subordinate ids", 0, Some("/etc/subuid gives no ids to 1000680000"), nameless(), &["user 1000680000 has no name", "runAsUser", "NAME:100000:65536", "NAME:x:1000680000:0:"], &["usermod"]),
        (Facility::ManyIds, "run newuidmap", 0, Some("newuidmap: Cannot determine your user name."), Surroundings { named: true, newuidmap: helper_at(true), ..nameless() }, &["has no name"], &["setcap"]),
        (Facility::UserNamespace, "unshare", libc::EPERM, None, filtered(user()), &["{type: Localhost}", "restricted"], &[]),
        (Facility::SystemCalls, "call setns", libc::EPERM, None, ubuntu(), &["a seccomp filter refuses setns", "Localhost"], &["AppArmor", "security module"]),
        (Facility::SystemCalls, "call unshare", libc::EACCES, None, ubuntu(), &["a seccomp filter refuses unshare"], &["AppArmor", "security module"]),
        (Facility::MountNamespace, "join the user namespace (setns)", libc::EACCES, None, filtered(user()), &["a security module keeps this process out"], &["mounts", "seccomp"]),
        (Facility::MountNamespace, "make the mounts private (mount)", libc::EACCES, None, user(), &["AppArmor denies mounts"], &["seccomp"]),
    ];
    for (facility, step, errno, said, around, words, not) in rows {
        let failed = Failed { step: (*step).into(), errno: *errno, said: said.map(str::to_owned) };
        let text = explain(*facility, &failed, around).to_string();
        for word in *words {
            assert!(text.contains(word), "{facility:?} {failed}: {word:?} is not in {text:?}");
        }
        for word in *not {
            assert!(!text.contains(word), "{facility:?} {failed}: {word:?} is in {text:?}");
        }
    }
}
