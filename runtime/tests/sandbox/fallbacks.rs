//! Weaker places, made by a filter that refuses single calls: the code that a modern, open machine
//! would never run.

use std::fs;

use runtime::{EnterError, EnterOptions, Mode, Workspace, enter};
use seccomp::{Action, Profile, Rule, compile, install};

use crate::Case;
use crate::support::{Context, Outcome, shell, tree, write};

pub const CASES: &[Case] = &[
    ("no_user_namespaces", false, no_user_namespaces),
    ("no_new_privileges", false, no_new_privileges),
    ("no_helpers", false, no_helpers),
    (
        "no_mounts_in_the_namespace",
        false,
        no_mounts_in_the_namespace,
    ),
    ("threads_are_refused", false, threads_are_refused),
    ("no_lowerdir_plus", true, no_lowerdir_plus),
    ("no_pivot_root", true, no_pivot_root),
];

/// From now on, on this thread and what it starts, these calls fail with this errno.
pub fn refuse(calls: &[&'static str], errno: i32) {
    act(calls, Action::Errno(u16::try_from(errno).unwrap()));
}

/// The same for any other action.
pub fn act(calls: &[&'static str], action: Action) {
    install(&filter(calls, action)).unwrap();
}

/// Hears from now on of a call that nobody makes.
pub fn listen() -> std::os::fd::OwnedFd {
    seccomp::install_notifying(&filter(&["kcmp"], Action::Notify)).unwrap()
}

fn filter(calls: &[&'static str], action: Action) -> Vec<libc::sock_filter> {
    let rules = calls
        .iter()
        .map(|call| Rule {
            call,
            all: Vec::new(),
            action,
        })
        .collect();
    let profile = Profile {
        rules,
        refused: Action::Allow,
        unknown: Action::Allow,
    };
    compile(&profile).unwrap()
}

/// Needed to install a filter without privilege.
pub fn no_new_privs() {
    nix::sys::prctl::set_no_new_privs().unwrap();
}

fn no_user_namespaces(_: &Context) -> Outcome {
    no_new_privs();
    refuse(&["unshare"], libc::EPERM);
    let error = enter(&EnterOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, EnterError::Unshare { .. }), "{text}");
    assert!(
        text.contains("seccomp") && text.contains("seccompProfile.type: Unconfined"),
        "{text}"
    );
    // Of two filters that agree, the later one's errno counts.
    refuse(&["unshare"], libc::ENOSPC);
    let text = enter(&EnterOptions::default()).unwrap_err().to_string();
    assert!(text.contains("sysctl user.max_user_namespaces"), "{text}");
    Outcome::Passed
}

fn no_new_privileges(_: &Context) -> Outcome {
    if nix::unistd::geteuid().is_root() {
        return Outcome::Skipped("root needs no helper".to_owned());
    }
    no_new_privs();
    let error = enter(&EnterOptions {
        mode: Some(Mode::UsernsMany),
    })
    .unwrap_err()
    .to_string();
    if !error.contains("newuidmap") {
        return Outcome::Skipped(error);
    }
    assert!(
        error.contains("newuidmap") && error.contains("allowPrivilegeEscalation"),
        "{error}"
    );
    let entered = match enter(&EnterOptions::default()) {
        Ok(entered) => entered,
        Err(error) => return Outcome::Skipped(error.to_string()),
    };
    assert_eq!(entered.mode, Mode::UsernsOne);
    assert!(entered.note.contains("no_new_privs"), "{}", entered.note);
    Outcome::Passed
}

fn no_helpers(cx: &Context) -> Outcome {
    if nix::unistd::geteuid().is_root() {
        return Outcome::Skipped("root needs no helper".to_owned());
    }
    // The environment is for a child to have.
    if std::env::var_os("PATH").is_some_and(|path| path != "/nowhere") {
        let status = std::process::Command::new("/proc/self/exe")
            .args(["--case", "no_helpers", "auto"])
            .arg(&cx.base)
            .env("PATH", "/nowhere")
            .status()
            .unwrap();
        return match status.code() {
            Some(0) => Outcome::Passed,
            Some(crate::harness::SKIPPED) => {
                Outcome::Skipped("no helpers, no namespaces".to_owned())
            }
            code => panic!("without a PATH: status {code:?}"),
        };
    }
    let entered = match enter(&EnterOptions::default()) {
        Ok(entered) => entered,
        Err(error) => return Outcome::Skipped(error.to_string()),
    };
    assert_eq!(entered.mode, Mode::UsernsOne);
    if entered.note.contains("gives no ids") {
        return Outcome::Skipped(entered.note);
    }
    assert!(
        entered.note.contains("newuidmap is not in PATH"),
        "{}",
        entered.note
    );
    Outcome::Passed
}

/// What AppArmor does to containers.
fn no_mounts_in_the_namespace(_: &Context) -> Outcome {
    no_new_privs();
    refuse(&["mount"], libc::EACCES);
    let error = enter(&EnterOptions {
        mode: Some(Mode::UsernsOne),
    })
    .unwrap_err();
    if let EnterError::Unshare { .. } = error {
        return Outcome::Skipped(error.to_string());
    }
    assert!(matches!(error, EnterError::Mounts { .. }), "{error}");
    assert!(error.to_string().contains("AppArmor"), "{error}");
    Outcome::Passed
}

fn threads_are_refused(_: &Context) -> Outcome {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    assert!(matches!(
        enter(&EnterOptions::default()),
        Err(EnterError::Threads(2))
    ));
    drop(release);
    assert!(thread.join().unwrap().is_err());
    Outcome::Passed
}

/// Linux before 6.5: layers in the options of `mount`.
fn no_lowerdir_plus(cx: &Context) -> Outcome {
    refuse(&["fsconfig"], libc::EINVAL);
    let (low, high) = (cx.dir("low"), cx.dir("high,with:odd\\name"));
    write(&low, "a", "low", 0o644);
    write(&high, "b", "high", 0o644);
    let dir = cx.dir("ws");
    let workspace = Workspace::overlay(&[high, low], &dir).unwrap();
    rustix::fs::unlinkat(workspace.root(), "a", rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::renameat(workspace.root(), "b", workspace.root(), "c").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(" overlay overlay rw") || !mounts.contains("/ws"),
        "{mounts}"
    );
    let upper = workspace.finish().unwrap().dir;
    assert_eq!(tree(&upper), ["a whiteout", "b whiteout", "c"]);
    let left: Vec<_> = fs::read_dir(&dir).unwrap().collect();
    assert_eq!(left.len(), 1);
    Outcome::Passed
}

/// Docker's profile with CAP_SYS_ADMIN has every mount call but this one.
fn no_pivot_root(cx: &Context) -> Outcome {
    refuse(&["pivot_root"], libc::EPERM);
    let ran = cx.sh("ls /; cd /..; ls; echo x >/new; ls -d /home /root /usr");
    let names = "bin\ndev\netc\nproc\nsys\n";
    assert!(
        ran.out.starts_with(&format!("{names}{names}")),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.matches("No such file").count(), 3, "{}", ran.out);
    assert_eq!(tree(&ran.upper), ["new"]);
    assert!(
        cx.run_spec(&[cx.busybox()], shell("true"))
            .unwrap()
            .exit
            .success()
    );
    Outcome::Passed
}
