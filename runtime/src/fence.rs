//! Landlock around a process that changes its root directory: a second wall, which holds where the first
//! one has been passed.
//!
//! Whatever the process opens, makes or executes has to lie beneath its tree, by whatever descriptor it
//! got there; it can look into and trace processes of its own only; where the kernel knows how, it can
//! signal no others and reach none of their abstract sockets. Asking for metadata and changing modes and
//! owners are no business of Landlock's, so the first wall stays needed: no process of a step ever holds
//! a directory outside of its tree.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

/// The youngest rights that we handle; a kernel that knows fewer handles those.
const RIGHTS: ABI = ABI::V5;

/// The oldest with which files can be renamed from one directory to another.
const USABLE: ABI = ABI::V2;

/// What this kernel can fence off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Files outside of the tree, and tracing of other processes.
    pub files: bool,
    /// Signals to other processes.
    pub signals: bool,
}

impl Fence {
    /// What the kernel knows, tried once.
    pub fn here() -> Self {
        static HERE: OnceLock<Fence> = OnceLock::new();
        *HERE.get_or_init(|| {
            let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            let files = hard()
                .handle_access(AccessFs::from_all(USABLE))
                .and_then(Ruleset::create)
                .is_ok();
            let signals = files
                && hard()
                    .scope(Scope::Signal)
                    .and_then(Ruleset::create)
                    .is_ok();
            Self { files, signals }
        })
    }

    /// The rules for a process whose root directory is to be `tree`; none where the kernel has no
    /// Landlock to speak of.
    pub fn around(self, tree: BorrowedFd<'_>) -> Result<Option<RulesetCreated>, RulesetError> {
        if !self.files {
            return Ok(None);
        }
        let rights = AccessFs::from_all(RIGHTS);
        let mut rules = Ruleset::default().handle_access(rights)?;
        if self.signals {
            rules = rules
                .scope(Scope::Signal)?
                .scope(Scope::AbstractUnixSocket)?;
        }
        let rules = rules.create()?.add_rule(PathBeneath::new(tree, rights))?;
        Ok(Some(rules))
    }
}

/// Puts this process, and all that it starts, behind the rules, for good.
pub fn enclose(rules: RulesetCreated) -> Result<(), String> {
    let status = rules.restrict_self().map_err(|e| e.to_string())?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("the kernel does not enforce its rules".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn rules_are_made_exactly_where_the_kernel_has_landlock() {
        let dir = tempfile::tempdir().unwrap();
        let tree = std::fs::File::open(dir.path()).unwrap();
        let fence = Fence::here();
        assert_eq!(fence.around(tree.as_fd()).unwrap().is_some(), fence.files);
        assert!(fence.files || !fence.signals);
        let none = Fence {
            files: false,
            signals: false,
        };
        assert!(none.around(tree.as_fd()).unwrap().is_none());
    }
}
