//! Verdicts over made-up findings: each environment's pattern, and the mode it gives.

use super::*;
use crate::probe::Trial;

const INSIDE: [Facility; 13] = [
    Facility::SystemCalls,
    Facility::UserNamespace,
    Facility::MountNamespace,
    Facility::OuterProc,
    Facility::BindMount,
    Facility::FreshProc,
    Facility::HostNamespaces,
    Facility::NetworkNamespace,
    Facility::Tmpfs,
    Facility::PivotRoot,
    Facility::MoveRoot,
    Facility::Chroot,
    Facility::SetIds,
];

/// What works where everything works, one place.
fn open() -> Findings {
    let works = |facilities: &[Facility]| {
        let mut trials = Trials::default();
        for facility in facilities {
            trials.add(*facility, Ok(()));
        }
        trials
    };
    let inside = |map| {
        let mut trials = works(&INSIDE);
        trials.add(map, Ok(()));
        trials.0.push(in_place(Facility::Overlay, 0));
        trials
    };
    let mut outside = works(&[
        Facility::Chroot,
        Facility::SetIds,
        Facility::SeccompFilter,
        Facility::SeccompNotification,
    ]);
    outside.0.push(in_place(Facility::ChangeOwner, 0));
    Findings {
        places: vec!["/here".into()],
        outside,
        many: inside(Facility::ManyIds),
        one: inside(Facility::OneId),
        ..Findings::default()
    }
}

fn in_place(facility: Facility, place: usize) -> Trial {
    Trial {
        facility,
        place: Some(place),
        failed: None,
    }
}

/// Makes a facility fail, with everything that would have come after it not reached.
fn fail(trials: &mut Trials, facility: Facility, errno: i32) {
    for trial in &mut trials.0 {
        if trial.facility == facility {
            trial.failed = Some(Failed::new(facility.title(), errno));
        }
    }
}

fn no_root(findings: &mut Findings) {
    for facility in [Facility::Chroot, Facility::SetIds, Facility::ChangeOwner] {
        fail(&mut findings.outside, facility, libc::EPERM);
    }
}

fn no_userns(findings: &mut Findings) {
    for trials in [&mut findings.many, &mut findings.one] {
        *trials = Trials::default();
        trials.add(
            Facility::UserNamespace,
            Err(Failed::new("unshare", libc::EPERM)),
        );
    }
}

fn no_mounts(findings: &mut Findings) {
    for trials in [&mut findings.many, &mut findings.one] {
        trials.0.retain(|trial| {
            let kept = [
                Facility::UserNamespace,
                Facility::ManyIds,
                Facility::OneId,
                Facility::MountNamespace,
                Facility::Chroot,
                Facility::SetIds,
            ];
            kept.contains(&trial.facility)
        });
        fail(trials, Facility::MountNamespace, libc::EACCES);
    }
}

/// The modes that work, and whether `chroot` does so in a user namespace.
type Expected = (&'static [Mode], bool);

#[test]
fn each_environment_gets_its_modes() {
    use Mode::{Chroot, UsernsMany, UsernsOne};
    type Change = fn(&mut Findings);
    let rows: &[(&str, Change, Expected)] = &[
        (
            "everything",
            |_| {},
            (&[UsernsMany, UsernsOne, Chroot], false),
        ),
        ("user", no_root, (&[UsernsMany, UsernsOne, Chroot], true)),
        (
            "no subordinate ids",
            |f| {
                no_root(f);
                f.many = Trials::default();
                f.many.add(
                    Facility::ManyIds,
                    Err(Failed::said("find subordinate ids", "none")),
                );
            },
            (&[UsernsOne], false),
        ),
        ("root, no namespaces", no_userns, (&[Chroot], false)),
        (
            "restricted",
            |f| {
                no_root(f);
                no_userns(f);
            },
            (&[], false),
        ),
        (
            "AppArmor denies mounts",
            |f| {
                no_root(f);
                no_mounts(f);
            },
            (&[Chroot], true),
        ),
        (
            "masked /proc, no pivot_root",
            |f| {
                fail(&mut f.many, Facility::FreshProc, libc::EPERM);
                fail(&mut f.many, Facility::PivotRoot, libc::EPERM);
            },
            (&[UsernsMany, UsernsOne, Chroot], false),
        ),
        (
            "an overlay root only",
            |f| {
                fail(&mut f.many, Facility::Overlay, libc::EINVAL);
                fail(&mut f.one, Facility::Overlay, libc::EINVAL);
            },
            (&[Chroot], false),
        ),
        (
            "another listener",
            |f| fail(&mut f.outside, Facility::SeccompNotification, libc::EBUSY),
            (&[UsernsMany, UsernsOne], false),
        ),
        (
            "no way to another root",
            |f| {
                for facility in [Facility::PivotRoot, Facility::MoveRoot, Facility::Chroot] {
                    fail(&mut f.many, facility, libc::EPERM);
                }
            },
            (&[UsernsOne, Chroot], false),
        ),
    ];
    for (name, change, (modes, within)) in rows {
        let mut findings = open();
        change(&mut findings);
        let verdicts = findings.verdicts();
        let works: Vec<Mode> = verdicts
            .iter()
            .filter(|verdict| verdict.works)
            .filter_map(|verdict| verdict.mode)
            .collect();
        assert_eq!(&works, modes, "{name}");
        for verdict in &verdicts {
            assert_eq!(
                verdict.works,
                verdict.lacks.is_empty(),
                "{name}: {verdict:?}"
            );
        }
        for mode in Mode::ALL {
            let choice = findings.choose(Some(mode));
            assert_eq!(choice.is_ok(), modes.contains(&mode), "{name}: {mode:?}");
            if let (Ok(choice), Mode::Chroot) = (&choice, mode) {
                assert_eq!(choice.known.within, *within, "{name}");
            }
        }
        let first = modes.first().copied();
        assert_eq!(findings.choose(None).ok().map(|c| c.mode), first, "{name}");
    }
}

#[test]
fn a_refusal_says_which_step_failed_and_what_helps() {
    let mut findings = open();
    no_userns(&mut findings);
    findings.surroundings.filtered = true;
    let text = findings
        .choose(Some(Mode::UsernsMany))
        .unwrap_err()
        .to_string();
    for word in [
        "the sandbox userns-many cannot be had here",
        "EPERM",
        "seccompProfile.type: Unconfined",
        "lapstrake doctor",
    ] {
        assert!(text.contains(word), "{text}");
    }
    no_root(&mut findings);
    findings.surroundings.uid = 1000;
    let text = findings.choose(None).unwrap_err().to_string();
    assert!(text.starts_with("no sandbox can be had here"), "{text}");
    assert_eq!(text.matches("Unconfined").count(), 1, "told once: {text}");
    assert!(!text.contains('\n'), "one line: {text}");
    // Root is nearer to another mode.
    findings.surroundings.uid = 0;
    let text = findings.choose(None).unwrap_err().to_string();
    assert!(text.contains("capabilities.add: [SYS_CHROOT]"), "{text}");
}

#[test]
fn the_second_place_is_taken_when_the_first_is_unfit() {
    let mut findings = open();
    for trials in [&mut findings.many, &mut findings.one] {
        fail(trials, Facility::Overlay, libc::EINVAL);
    }
    assert!(findings.lacks_place());
    for trial in &mut findings.many.0 {
        if let Some(failed) = trial.failed.as_mut() {
            failed.step = "mount there".to_owned();
        }
    }
    let text = findings.verdict(Mode::UsernsMany).lacks[0].to_string();
    assert!(
        text.contains("cannot mount in /here") && text.contains("volume"),
        "{text}"
    );
    findings.places.push("/there".into());
    findings.many.0.push(in_place(Facility::Overlay, 1));
    assert!(!findings.lacks_place());
    let mut full = findings.clone();
    for trials in [&mut full.many, &mut full.one] {
        trials.0.retain(|trial| trial.place != Some(1));
        fail(trials, Facility::Overlay, libc::ENOSPC);
    }
    full.places.pop();
    assert!(
        !full.lacks_place(),
        "a full disk is no reason to go elsewhere"
    );
    let choice = findings.choose(None).unwrap();
    assert_eq!((choice.mode, choice.place), (Mode::UsernsMany, 1));
}
