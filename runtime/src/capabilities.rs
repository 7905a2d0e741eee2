//! The capabilities of a process in the sandbox.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use serde::{Deserialize, Serialize};

use crate::sys;

/// A set of capabilities, as a bit mask in the kernel's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u64);

/// What a container engine leaves to root by default, and why a build step needs it.
const DEFAULT: [Capability; 14] = [
    Capability::CAP_CHOWN,            // package managers set owners
    Capability::CAP_DAC_OVERRIDE,     // root expects to write everywhere
    Capability::CAP_FOWNER,           // chmod and utimes of others' files
    Capability::CAP_FSETID,           // keep set-uid bits while writing
    Capability::CAP_KILL,             // stop daemons that changed their user
    Capability::CAP_SETGID,           // drop to another group
    Capability::CAP_SETUID,           // drop to another user
    Capability::CAP_SETPCAP,          // give up bounding capabilities
    Capability::CAP_NET_BIND_SERVICE, // servers started in tests
    Capability::CAP_NET_RAW,          // ping
    Capability::CAP_SYS_CHROOT,       // chroot, sshd, debootstrap
    Capability::CAP_MKNOD,            // FIFOs and what the user namespace allows
    Capability::CAP_AUDIT_WRITE,      // login programs write audit records
    Capability::CAP_SETFCAP,          // packages with file capabilities
];

impl Default for Capabilities {
    fn default() -> Self {
        DEFAULT.iter().fold(Self(0), |set, cap| set.with(*cap))
    }
}

impl Capabilities {
    /// No capability at all.
    pub const fn none() -> Self {
        Self(0)
    }

    /// Every capability that the builder itself has: nothing is given up.
    pub const fn all() -> Self {
        Self(u64::MAX)
    }

    /// This set and one more.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bitmask())
    }

    /// This set without one.
    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !capability.bitmask())
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The kernel's bit mask.
    pub fn mask(self) -> u64 {
        self.0
    }

    fn members(self) -> CapsHashSet {
        caps::all()
            .into_iter()
            .filter(|c| self.0 & c.bitmask() != 0)
            .collect()
    }
}

/// What this process may have.
pub(crate) fn permitted() -> Result<Capabilities, caps::errors::CapsError> {
    let ours = caps::read(None, CapSet::Permitted)?;
    let none = Capabilities::none();
    Ok(ours.into_iter().fold(none, Capabilities::with))
}

/// Drops every capability outside `keep` from the bounding set, for good, those included that are
/// younger than this program.
pub(crate) fn bound(keep: Capabilities) -> io::Result<()> {
    if keep == Capabilities::all() {
        return Ok(());
    }
    for number in (0..u64::BITS).filter(|number| keep.0 & 1 << number == 0) {
        match sys::prctl(libc::PR_CAPBSET_DROP, number.into()) {
            // The kernel has no capability of this number, nor of a higher one.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// Sets what is left after the change of user: nothing to inherit, nothing ambient; `keep` for root,
/// nothing for anyone else, who may still gain within the bounding set by set-uid programs.
pub(crate) fn apply(keep: Capabilities) -> Result<(), caps::errors::CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    if keep == Capabilities::all() {
        return Ok(());
    }
    let keep = keep.members();
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_engines_give() {
        assert_eq!(Capabilities::default().mask(), 0xa804_25fb);
        assert_eq!(Capabilities::default().members().len(), 14);
        let more = Capabilities::none().with(Capability::CAP_SYS_ADMIN);
        assert_eq!(more.mask(), 1 << 21);
        assert_eq!(
            more.without(Capability::CAP_SYS_ADMIN),
            Capabilities::none()
        );
    }
}
