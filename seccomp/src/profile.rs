//! What a filter does, before it is compiled: rules over calls by name.

use crate::docker;

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Allow,
    /// It fails with this errno.
    Errno(u16),
    /// A supervisor that holds the filter's notification descriptor decides.
    Notify,
    /// The process dies.
    Kill,
}

/// A comparison of one argument's low 32 bits. All arguments that the profile looks at are 32-bit
/// in the kernel, so bits above must not let a call through that the kernel then takes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// How it is compared.
    pub test: Test,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Equal to.
    Equals(u32),
    /// Less than.
    Below(u32),
    /// Greater than.
    Above(u32),
    /// Equal to `value` in the bits of `mask`.
    Masked {
        /// Bits that matter.
        mask: u32,
        /// What they have to be.
        value: u32,
    },
}

impl Condition {
    /// Equal to `value`.
    pub const fn equals(argument: u8, value: u32) -> Self {
        Self {
            argument,
            test: Test::Equals(value),
        }
    }

    /// Less than `value`.
    pub const fn below(argument: u8, value: u32) -> Self {
        Self {
            argument,
            test: Test::Below(value),
        }
    }

    /// Greater than `value`.
    pub const fn above(argument: u8, value: u32) -> Self {
        Self {
            argument,
            test: Test::Above(value),
        }
    }

    /// Equal to `value` in the bits of `mask`.
    pub const fn masked(argument: u8, mask: u32, value: u32) -> Self {
        Self {
            argument,
            test: Test::Masked { mask, value },
        }
    }
}

/// When a group of the profile applies, by the number of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Has(u8),
    Lacks(u8),
}

impl When {
    fn applies(self, capabilities: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Has(capability) => capabilities & (1 << capability) != 0,
            Self::Lacks(capability) => capabilities & (1 << capability) == 0,
        }
    }
}

/// A reviewed group of the profile.
#[derive(Debug)]
pub(crate) struct Group {
    /// Why it is as it is.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for the reader, and for a test that none is missing"
        )
    )]
    pub why: &'static str,
    /// Names, separated by white space.
    pub calls: &'static str,
    pub when: When,
    /// All of these must hold.
    pub all: &'static [Condition],
    pub action: Action,
}

/// One rule: the first of a call's rules whose conditions hold decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The call's name.
    pub call: &'static str,
    /// All of these must hold; none is always true.
    pub all: Vec<Condition>,
    /// What happens then.
    pub action: Action,
}

/// Rules over all calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// In order of precedence.
    pub rules: Vec<Rule>,
    /// For calls that we know and no rule allows.
    pub refused: Action,
    /// For calls newer than our list, which programs can cope without.
    pub unknown: Action,
}

impl Profile {
    /// What container engines apply to a process with these capabilities, a bit mask in the kernel's
    /// numbering.
    ///
    /// Unlike theirs, calls that the profile has never heard of fail with `ENOSYS`, as on the kernel
    /// that the profile was written for: libraries try new calls first and fall back on that errno,
    /// but take `EPERM` for an answer.
    pub fn docker_default(capabilities: u64) -> Self {
        let rules = docker::GROUPS
            .iter()
            .filter(|group| group.when.applies(capabilities))
            .flat_map(|group| {
                group.calls.split_whitespace().map(|call| Rule {
                    call,
                    all: group.all.to_vec(),
                    action: group.action,
                })
            })
            .collect();
        Self {
            rules,
            refused: Action::Errno(libc::EPERM as u16),
            unknown: Action::Errno(libc::ENOSYS as u16),
        }
    }
}
