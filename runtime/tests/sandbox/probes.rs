//! What a probe finds, and what it says where a filter refuses single calls.

use std::fs;

use nix::mount::{self, MsFlags};
use nix::sched::{self, CloneFlags};
use nix::unistd::geteuid;
use runtime::probe::{Facility, Findings, Verdict, probe};
use runtime::{Mode, enter_knowing, environment_key};
use seccomp::Action;

use crate::Case;
use crate::fallbacks::{act, listen, no_new_privs, refuse};
use crate::support::{Context, Outcome, tree};

pub const CASES: &[Case] = &[
    ("a_probe_leaves_nothing", false, leaves_nothing),
    ("what_is_chosen_can_be_entered", false, chosen),
    ("many_ids_can_be_entered_if_they_work", false, many),
    ("one_id_can_be_entered_if_it_works", false, one),
    ("chroot_can_be_entered_if_it_works", false, chroot),
    ("a_filter_that_kills_is_survived", false, kills),
    ("unshare_is_refused", false, unshare),
    ("mounts_are_denied", false, mounts),
    ("pivot_root_is_refused", false, pivot_root),
    ("nobody_may_hear_of_calls", false, notification),
    ("who_is_supervised_already_is_told_so", false, supervised),
    ("a_directory_that_cannot_be_written", false, unwritable),
    ("keys_tell_environments_apart", false, keys),
];

fn findings(cx: &Context) -> Findings {
    probe(&[cx.dir("place")]).unwrap()
}

/// What a probe finds when these calls fail with this errno.
fn without(cx: &Context, calls: &[&'static str], errno: i32) -> Findings {
    no_new_privs();
    refuse(calls, errno);
    findings(cx)
}

/// A verdict's first lack: the facility, the errno and all of it as text.
fn lack(verdict: &Verdict) -> (Option<Facility>, i32, String) {
    let lack = verdict.lacks.first().expect("it works");
    (lack.facility, lack.failed.errno, lack.to_string())
}

fn leaves_nothing(cx: &Context) -> Outcome {
    let place = cx.dir("place");
    if geteuid().is_root() {
        // Others mount things while this runs; only root could leave a mount that is seen from here.
        sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
    }
    let seen = || {
        geteuid()
            .is_root()
            .then(|| fs::read_to_string("/proc/self/mountinfo").unwrap())
    };
    let before = seen();
    let found = probe(std::slice::from_ref(&place)).unwrap();
    assert_eq!(tree(&place), [""; 0]);
    assert_eq!(seen(), before);
    assert_eq!(
        nix::sys::wait::waitpid(None, None),
        Err(nix::Error::ECHILD),
        "no child is left"
    );
    for verdict in found.verdicts() {
        assert_eq!(verdict.works, verdict.lacks.is_empty(), "{verdict:?}");
    }
    Outcome::Passed
}

fn chosen(cx: &Context) -> Outcome {
    let choice = match findings(cx).choose(None) {
        Ok(choice) => choice,
        Err(refusal) => return Outcome::Skipped(refusal.to_string()),
    };
    assert!(choice.mode == Mode::UsernsMany || choice.weaker.is_some());
    let entered = enter_knowing(choice.mode, &choice.known).unwrap();
    assert_eq!(entered.mode, choice.mode);
    Outcome::Passed
}

fn many(cx: &Context) -> Outcome {
    enters(cx, Mode::UsernsMany)
}

fn one(cx: &Context) -> Outcome {
    enters(cx, Mode::UsernsOne)
}

fn chroot(cx: &Context) -> Outcome {
    enters(cx, Mode::Chroot)
}

fn enters(cx: &Context, mode: Mode) -> Outcome {
    let choice = match findings(cx).choose(Some(mode)) {
        Ok(choice) => choice,
        Err(refusal) => return Outcome::Skipped(refusal.to_string()),
    };
    let entered = enter_knowing(choice.mode, &choice.known).unwrap();
    assert_eq!(entered.mode, mode);
    assert_eq!(entered.ids.is_single(), mode == Mode::UsernsOne);
    Outcome::Passed
}

/// A trial that ends its process does not end ours, and is named.
fn kills(cx: &Context) -> Outcome {
    no_new_privs();
    act(&["chroot"], Action::Kill);
    let found = findings(cx);
    let (facility, _, text) = lack(&found.verdict(Mode::Chroot));
    assert_eq!(facility, Some(Facility::Chroot), "{text}");
    assert!(text.contains("SIGSYS"), "{text}");
    Outcome::Passed
}

fn unshare(cx: &Context) -> Outcome {
    let found = without(cx, &["unshare"], libc::EPERM);
    for mode in [Mode::UsernsMany, Mode::UsernsOne] {
        let (facility, errno, text) = lack(&found.verdict(mode));
        assert_eq!(facility, Some(Facility::UserNamespace), "{text}");
        assert_eq!(errno, libc::EPERM, "{text}");
        assert!(text.contains("seccompProfile.type: Unconfined"), "{text}");
    }
    assert_eq!(found.verdict(Mode::Chroot).works, geteuid().is_root());
    let text = found.choose(Some(Mode::UsernsOne)).unwrap_err().to_string();
    assert!(
        text.contains("userns-one") && text.contains("EPERM"),
        "{text}"
    );
    Outcome::Passed
}

/// What AppArmor does to containers.
fn mounts(cx: &Context) -> Outcome {
    let before = findings(cx);
    if !before.verdict(Mode::UsernsOne).works {
        return Outcome::Skipped("no user namespaces".to_owned());
    }
    let found = without(cx, &["mount"], libc::EACCES);
    let (facility, errno, text) = lack(&found.verdict(Mode::UsernsOne));
    assert_eq!(facility, Some(Facility::MountNamespace), "{text}");
    assert_eq!(errno, libc::EACCES, "{text}");
    assert!(text.contains("AppArmor denies mounts"), "{text}");
    // Inside the user namespace the root can be changed; the helpers are kept from their privilege.
    assert!(found.one.works(Facility::Chroot), "{:?}", found.one);
    assert_eq!(found.verdict(Mode::Chroot).works, geteuid().is_root());
    Outcome::Passed
}

fn pivot_root(cx: &Context) -> Outcome {
    if !findings(cx).verdict(Mode::UsernsOne).works {
        return Outcome::Skipped("no user namespaces".to_owned());
    }
    let found = without(cx, &["pivot_root"], libc::EPERM);
    let verdict = found.verdict(Mode::UsernsOne);
    assert!(verdict.works, "{verdict:?}");
    assert!(found.one.works(Facility::MoveRoot));
    let mut limits = verdict.limits.iter();
    assert!(limits.any(|lack| lack.facility == Some(Facility::PivotRoot)));
    Outcome::Passed
}

fn notification(cx: &Context) -> Outcome {
    if !findings(cx).verdict(Mode::UsernsOne).works {
        return Outcome::Skipped("no user namespaces".to_owned());
    }
    let found = without(cx, &["seccomp"], libc::EPERM);
    let failed = found.outside.get(Facility::SeccompNotification, None);
    assert_eq!(failed.unwrap().failed.as_ref().unwrap().errno, libc::EPERM);
    assert!(
        !found.verdict(Mode::UsernsOne).works,
        "no filter, no sandbox"
    );
    assert!(!found.verdict(Mode::Chroot).works, "nobody to show /proc");
    Outcome::Passed
}

/// As in a container whose own filter has a listener.
fn supervised(cx: &Context) -> Outcome {
    let has_one = findings(cx).verdict(Mode::UsernsOne).works;
    no_new_privs();
    let _listener = listen();
    let found = findings(cx);
    let (_, errno, text) = match geteuid().is_root() {
        true => lack(&found.verdict(Mode::Chroot)),
        false => lack(found.verdicts().last().unwrap()),
    };
    assert_eq!(errno, libc::EBUSY, "{text}");
    assert!(
        text.contains("already tells somebody") && text.contains("SCMP_ACT_NOTIFY"),
        "{text}"
    );
    if !has_one {
        return Outcome::Passed;
    }
    let verdict = found.verdict(Mode::UsernsOne);
    assert!(verdict.works, "{verdict:?}");
    let mut limits = verdict.limits.iter();
    assert!(limits.any(|lack| lack.facility == Some(Facility::SeccompNotification)));
    let known = found.choose(Some(Mode::UsernsOne)).unwrap().known;
    let why = known.unsupervised.unwrap();
    assert!(
        why.contains("EBUSY") && why.contains("already tells somebody"),
        "{why}"
    );
    Outcome::Passed
}

fn unwritable(_: &Context) -> Outcome {
    let error = probe(&["/proc/self".into()]).unwrap_err().to_string();
    assert!(error.contains("/proc/self"), "{error}");
    Outcome::Passed
}

fn keys(cx: &Context) -> Outcome {
    let place = cx.dir("place");
    let key = environment_key(&place).unwrap();
    assert_eq!(environment_key(&place).unwrap(), key);
    assert_ne!(environment_key(&cx.dir("place")).unwrap(), key);
    no_new_privs();
    let confined = environment_key(&place).unwrap();
    assert_ne!(confined, key);
    refuse(&["kcmp"], libc::EPERM);
    assert_ne!(environment_key(&place).unwrap(), confined);
    Outcome::Passed
}
