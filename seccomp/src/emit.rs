//! From a profile to classic BPF.
//!
//! For each architecture a binary search over call numbers; every leaf returns, so blocks of code
//! can be put one after the other without any jump back together.

use std::collections::BTreeMap;

use libc::sock_filter;

use crate::calls::{CALLS, NO};
use crate::profile::{Action, Condition, Profile, Rule, Test};

/// The kernel takes no longer program.
const MAX_LENGTH: usize = 4096;

/// On x86-64, numbers from here on are calls of the x32 interface.
const X32_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A kind of machine: an architecture and the 32-bit one that its kernel also runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64 and i386.
    X86,
    /// aarch64 and arm.
    Arm,
}

impl Machine {
    /// The machine that we are compiled for.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Arm
    } else {
        Self::X86
    };

    /// Its architectures: `AUDIT_ARCH_*` and the column of the table.
    pub(crate) fn architectures(self) -> [(u32, usize); 2] {
        match self {
            Self::X86 => [(0xc000_003e, 0), (0x4000_0003, 1)],
            Self::Arm => [(0xc000_00b7, 2), (0x4000_0028, 3)],
        }
    }
}

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompileError {
    /// A rule names a call that is not in the table.
    #[error("the profile has a rule for {0:?}, which is no system call we know")]
    UnknownCall(&'static str),
    /// A condition looks at an argument that no call has.
    #[error("the rule for {call} looks at argument {argument}, but calls have arguments 0 to 5")]
    Argument {
        /// The call.
        call: &'static str,
        /// The argument.
        argument: u8,
    },
    /// The program would be too long.
    #[error("the filter has {0} instructions, at most {MAX_LENGTH} are possible")]
    TooLong(usize),
}

/// Compiles for the machine that this program runs on.
pub fn compile(profile: &Profile) -> Result<Vec<sock_filter>, CompileError> {
    compile_for(profile, Machine::HERE)
}

/// Compiles for a given machine.
pub fn compile_for(profile: &Profile, machine: Machine) -> Result<Vec<sock_filter>, CompileError> {
    let by_call = group(profile)?;
    let mut program = vec![load(ARCHITECTURE)];
    for (architecture, column) in machine.architectures() {
        let mut block = vec![load(NUMBER)];
        if machine == Machine::X86 && column == 0 {
            block.extend(branch(
                IF_AT_LEAST,
                X32_BIT,
                vec![ret(profile.unknown)],
                Vec::new(),
            ));
        }
        block.extend(search(&leaves(profile, &by_call, column)));
        program.extend(branch(IF_EQUAL, architecture, block, Vec::new()));
    }
    program.push(ret(Action::Kill));
    if program.len() > MAX_LENGTH {
        return Err(CompileError::TooLong(program.len()));
    }
    Ok(program)
}

/// The rules of each call, checked.
fn group(profile: &Profile) -> Result<BTreeMap<&'static str, Vec<&Rule>>, CompileError> {
    let mut by_call: BTreeMap<&'static str, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        if CALLS
            .binary_search_by_key(&rule.call, |(name, _)| name)
            .is_err()
        {
            return Err(CompileError::UnknownCall(rule.call));
        }
        if let Some(bad) = rule.all.iter().find(|c| c.argument > 5) {
            return Err(CompileError::Argument {
                call: rule.call,
                argument: bad.argument,
            });
        }
        by_call.entry(rule.call).or_default().push(rule);
    }
    Ok(by_call)
}

/// What happens from a number on, up to the next leaf's.
struct Leaf {
    from: u32,
    code: Vec<sock_filter>,
}

/// The leaves of one architecture in ascending order, equal neighbours merged.
fn leaves(profile: &Profile, by_call: &BTreeMap<&str, Vec<&Rule>>, column: usize) -> Vec<Leaf> {
    let mut numbers = BTreeMap::new();
    for (name, columns) in CALLS {
        if columns[column] != NO {
            let rules = by_call.get(name).map(Vec::as_slice).unwrap_or_default();
            numbers.insert(
                columns[column].cast_unsigned(),
                decide(rules, profile.refused),
            );
        }
    }
    let unknown = || vec![ret(profile.unknown)];
    let mut leaves: Vec<Leaf> = vec![Leaf {
        from: 0,
        code: unknown(),
    }];
    let mut next = 0;
    for (number, code) in numbers {
        if number > next {
            push(&mut leaves, next, unknown());
        }
        push(&mut leaves, number, code);
        next = number + 1;
    }
    push(&mut leaves, next, unknown());
    leaves
}

fn push(leaves: &mut Vec<Leaf>, from: u32, code: Vec<sock_filter>) {
    match leaves.last_mut() {
        Some(last) if same(&last.code, &code) => {}
        Some(last) if last.from == from => last.code = code,
        _ => leaves.push(Leaf { from, code }),
    }
}

fn same(a: &[sock_filter], b: &[sock_filter]) -> bool {
    let fields = |op: &sock_filter| (op.code, op.jt, op.jf, op.k);
    a.iter().map(fields).eq(b.iter().map(fields))
}

/// Binary search; the call's number is loaded.
fn search(leaves: &[Leaf]) -> Vec<sock_filter> {
    match leaves {
        [] => Vec::new(),
        [leaf] => leaf.code.clone(),
        _ => {
            let (low, high) = leaves.split_at(leaves.len() / 2);
            branch(IF_AT_LEAST, high[0].from, search(high), search(low))
        }
    }
}

/// The code of one call: its rules in order, then the default.
fn decide(rules: &[&Rule], refused: Action) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for rule in rules {
        if rule.all.is_empty() {
            code.push(ret(rule.action));
            return code;
        }
        let then = vec![ret(rule.action)];
        code.extend(
            rule.all
                .iter()
                .rev()
                .fold(then, |then, condition| test(condition, then)),
        );
    }
    code.push(ret(refused));
    code
}

/// Runs `then`, which returns or falls through itself, if the condition holds; falls through if not.
fn test(condition: &Condition, then: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut code = vec![load(argument(condition.argument))];
    let rest = match condition.test {
        Test::Equals(value) => branch(IF_EQUAL, value, then, Vec::new()),
        Test::Above(value) => branch(IF_GREATER, value, then, Vec::new()),
        Test::Below(value) => unless_at_least(value, then),
        Test::Masked { mask, value } => {
            code.push(op(AND, mask));
            branch(IF_EQUAL, value, then, Vec::new())
        }
    };
    code.extend(rest);
    code
}

/// Offset of an argument's low half; both families of machines are little-endian.
fn argument(index: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(index)
}

/// Runs `yes` if the comparison of what is loaded holds, else `no`. `yes` must end in a return if
/// something else than `no` comes after it.
fn branch(
    comparison: u16,
    value: u32,
    yes: Vec<sock_filter>,
    no: Vec<sock_filter>,
) -> Vec<sock_filter> {
    let mut code = match u8::try_from(yes.len()) {
        Ok(skip) => vec![sock_filter {
            code: comparison,
            jt: 0,
            jf: skip,
            k: value,
        }],
        // Conditional jumps reach 255 instructions, unconditional ones any.
        Err(_) => vec![
            sock_filter {
                code: comparison,
                jt: 1,
                jf: 0,
                k: value,
            },
            op(JUMP, u32::try_from(yes.len()).unwrap_or(u32::MAX)),
        ],
    };
    code.extend(yes);
    code.extend(no);
    code
}

/// Runs `then`, which returns, if what is loaded is less than `value`.
fn unless_at_least(value: u32, then: Vec<sock_filter>) -> Vec<sock_filter> {
    let skip = op(JUMP, u32::try_from(then.len()).unwrap_or(u32::MAX));
    let mut code = vec![
        sock_filter {
            code: IF_AT_LEAST,
            jt: 0,
            jf: 1,
            k: value,
        },
        skip,
    ];
    code.extend(then);
    code
}

fn load(offset: u32) -> sock_filter {
    op(LOAD, offset)
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn ret(action: Action) -> sock_filter {
    op(
        RETURN,
        match action {
            Action::Allow => libc::SECCOMP_RET_ALLOW,
            Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
            Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Action::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        },
    )
}
