//! The compiled program against the profile, by an interpreter that shares no code with the emitter.

use std::collections::BTreeSet;

use libc::sock_filter;

use crate::calls::{CALLS, NO};
use crate::docker::GROUPS;
use crate::{Action, CompileError, Condition, Machine, Profile, Rule, Test, compile_for};

/// What Docker gives to root.
const DOCKER_CAPS: u64 = 0xa804_25fb;
const SYS_ADMIN: u64 = 1 << 21;

const X86: [(u32, usize); 2] = [(0xc000_003e, 0), (0x4000_0003, 1)];
const ARM: [(u32, usize); 2] = [(0xc000_00b7, 2), (0x4000_0028, 3)];

/// Runs a program over one call.
fn interpret(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number, arch, 0, 0].to_vec();
    for argument in arguments {
        data.extend([argument as u32, (argument >> 32) as u32]);
    }
    let (mut at, mut acc) = (0, 0_u32);
    loop {
        let op = program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { op.jt } else { op.jf });
        match op.code {
            0x20 => acc = data[op.k as usize / 4],
            0x54 => acc &= op.k,
            0x05 => at += op.k as usize,
            0x15 => at += jump(acc == op.k),
            0x25 => at += jump(acc > op.k),
            0x35 => at += jump(acc >= op.k),
            0x06 => return op.k,
            other => panic!("instruction {other:#x} at {at}"),
        }
    }
}

/// What the rules say, read one by one.
fn expected(profile: &Profile, call: &str, arguments: [u64; 6]) -> Action {
    let holds = |c: &Condition| {
        let value = arguments[usize::from(c.argument)] as u32;
        match c.test {
            Test::Equals(v) => value == v,
            Test::Below(v) => value < v,
            Test::Above(v) => value > v,
            Test::Masked { mask, value: v } => value & mask == v,
        }
    };
    profile
        .rules
        .iter()
        .find(|rule| rule.call == call && rule.all.iter().all(holds))
        .map_or(profile.refused, |rule| rule.action)
}

fn code(action: Action) -> u32 {
    match action {
        Action::Allow => 0x7fff_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Notify => 0x7fc0_0000,
        Action::Kill => 0x8000_0000,
    }
}

fn profiles() -> Vec<Profile> {
    [0, DOCKER_CAPS, DOCKER_CAPS | SYS_ADMIN, u64::MAX]
        .map(Profile::docker_default)
        .into()
}

#[test]
fn every_call_on_every_architecture_is_decided_as_the_profile_says() {
    let interesting = [
        0,
        1,
        8,
        37,
        38,
        39,
        40,
        41,
        0x2_0000,
        0x2_0008,
        0x1000_0000,
        0x7e02_0000,
        0x0002_0011,
        0xffff_ffff,
        1 << 32,
        (1 << 32) | 40,
        (1 << 32) | 0x1000_0000,
    ];
    for profile in profiles() {
        for (machine, architectures) in [(Machine::X86, X86), (Machine::Arm, ARM)] {
            let program = compile_for(&profile, machine).unwrap();
            for (arch, column) in architectures {
                for (name, numbers) in CALLS.iter().filter(|(_, n)| n[column] != NO) {
                    for value in interesting {
                        let arguments = [value, 0, 0, 0, 0, 0];
                        let got = interpret(&program, arch, numbers[column] as u32, arguments);
                        let want = code(expected(&profile, name, arguments));
                        assert_eq!(got, want, "{name} {value:#x} {machine:?} {column}");
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_nobody_has_and_foreign_interfaces_are_told_apart() {
    let profile = Profile::docker_default(DOCKER_CAPS);
    for (machine, architectures) in [(Machine::X86, X86), (Machine::Arm, ARM)] {
        let program = compile_for(&profile, machine).unwrap();
        for (arch, column) in architectures {
            let known: BTreeSet<i32> = CALLS.iter().map(|(_, n)| n[column]).collect();
            for number in (0..1000)
                .chain([5000, i32::MAX])
                .filter(|n| !known.contains(n))
            {
                let got = interpret(&program, arch, number as u32, [0; 6]);
                assert_eq!(got, code(profile.unknown), "{number} {column}");
            }
        }
        // s390x and whatever else is not ours.
        assert_eq!(
            interpret(&program, 0x8000_0016, 0, [0; 6]),
            code(Action::Kill)
        );
    }
    // x32: read, by its own number.
    let program = compile_for(&profile, Machine::X86).unwrap();
    assert_eq!(
        interpret(&program, X86[0].0, 0x4000_0000, [0; 6]),
        code(profile.unknown)
    );
    assert_eq!(
        interpret(&program, X86[0].0, u32::MAX, [0; 6]),
        code(profile.unknown)
    );
}

#[test]
fn what_matters_most() {
    let eperm = Action::Errno(libc::EPERM as u16);
    let enosys = Action::Errno(libc::ENOSYS as u16);
    let plain = Profile::docker_default(DOCKER_CAPS);
    let admin = Profile::docker_default(DOCKER_CAPS | SYS_ADMIN);
    for (call, first, without, with) in [
        ("read", 0, Action::Allow, Action::Allow),
        ("mount", 0, eperm, Action::Allow),
        ("unshare", 0, eperm, Action::Allow),
        ("clone", 0x11, Action::Allow, Action::Allow),
        ("clone", 0x1000_0011, eperm, Action::Allow),
        ("clone3", 0, enosys, Action::Allow),
        ("keyctl", 0, eperm, eperm),
        ("io_uring_setup", 0, eperm, eperm),
        ("userfaultfd", 0, eperm, eperm),
        ("chroot", 0, Action::Allow, Action::Allow),
        ("ptrace", 0, Action::Allow, Action::Allow),
        ("pivot_root", 0, eperm, eperm),
        ("socket", 2, Action::Allow, Action::Allow),
        ("socket", 38, eperm, eperm),
        ("socket", 40, eperm, eperm),
        ("socket", (1 << 32) | 40, eperm, eperm),
        ("personality", 0x0004_0000, eperm, eperm),
    ] {
        let arguments = [first, 0, 0, 0, 0, 0];
        assert_eq!(
            expected(&plain, call, arguments),
            without,
            "{call} {first:#x}"
        );
        assert_eq!(
            expected(&admin, call, arguments),
            with,
            "{call} {first:#x} with CAP_SYS_ADMIN"
        );
    }
}

#[test]
fn the_data_is_in_order() {
    assert!(
        CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "the table is sorted by name"
    );
    for group in GROUPS {
        assert!(group.why.len() > 10, "a reason for {}", group.calls);
        for call in group.calls.split_whitespace() {
            assert!(
                CALLS.iter().any(|(name, _)| *name == call),
                "{call} is in the table"
            );
        }
    }
    for column in 0..4 {
        let mut numbers: Vec<i32> = CALLS
            .iter()
            .map(|(_, n)| n[column])
            .filter(|n| *n != NO)
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        // On arm, two names share a number.
        assert!(
            count - numbers.len() <= usize::from(column == 3),
            "column {column}"
        );
    }
}

#[test]
fn the_table_agrees_with_the_c_library() {
    let column = if cfg!(target_arch = "aarch64") { 2 } else { 0 };
    for (name, number) in [
        ("read", libc::SYS_read),
        ("mount", libc::SYS_mount),
        ("clone3", libc::SYS_clone3),
        ("keyctl", libc::SYS_keyctl),
        ("openat2", libc::SYS_openat2),
        ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
        ("statx", libc::SYS_statx),
        ("mseal", libc::SYS_mseal),
    ] {
        let row = CALLS.iter().find(|(n, _)| *n == name).unwrap();
        assert_eq!(libc::c_long::from(row.1[column]), number, "{name}");
    }
}

#[test]
fn later_rules_can_be_overruled_and_mistakes_are_named() {
    let mut profile = Profile::docker_default(DOCKER_CAPS);
    let notify = Rule {
        call: "chown",
        all: Vec::new(),
        action: Action::Notify,
    };
    profile.rules.insert(0, notify);
    let program = compile_for(&profile, Machine::X86).unwrap();
    assert_eq!(
        interpret(&program, X86[0].0, 92, [0; 6]),
        code(Action::Notify)
    );
    profile.rules[0].call = "chwon";
    let error = compile_for(&profile, Machine::X86).unwrap_err();
    assert_eq!(error, CompileError::UnknownCall("chwon"));
    profile.rules[0].call = "chown";
    profile.rules[0].all.push(Condition::equals(6, 0));
    let error = compile_for(&profile, Machine::X86).unwrap_err();
    assert_eq!(
        error,
        CompileError::Argument {
            call: "chown",
            argument: 6
        }
    );
}
