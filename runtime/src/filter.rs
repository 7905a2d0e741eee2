//! The system call filters of sandboxes, each compiled once.

use std::sync::{Mutex, PoisonError};

use crate::capabilities::Capabilities;
use crate::error::Error;
use crate::fence::Fence;
use crate::owners;

/// The filter of a process with these capabilities, of an insecure one without; compiled once.
pub fn compiled(capabilities: Option<Capabilities>, supervised: bool) -> Result<Vec<u64>, Error> {
    type Of = (Option<u64>, bool);
    static COMPILED: Mutex<Vec<(Of, Vec<u64>)>> = Mutex::new(Vec::new());
    let of = (capabilities.map(Capabilities::mask), supervised);
    let mut profile = match of {
        (None, false) => return Ok(Vec::new()),
        (None, true) => owners::everything(),
        (Some(mask), _) => seccomp::Profile::docker_default(mask),
    };
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, words)) = compiled.iter().find(|(known, _)| *known == of) {
        return Ok(words.clone());
    }
    if supervised {
        owners::protect(&mut profile);
    }
    let program = seccomp::compile(&profile);
    let words = seccomp::to_words(&program.map_err(|error| Error::Setup {
        doing: "compile the system call filter".to_owned(),
        why: error.to_string(),
    })?);
    compiled.push((of, words.clone()));
    Ok(words)
}

/// The filter of a process in a tree, without namespaces: supervised, and kept away from processes and
/// devices that are not its own.
pub fn in_tree(
    capabilities: Capabilities,
    fence: Fence,
    pretends: bool,
) -> Result<Vec<u64>, Error> {
    let mut profile = seccomp::Profile::docker_default(capabilities.mask());
    if !fence.files {
        refuse(&mut profile, "ptrace", Vec::new());
    }
    if !fence.signals {
        // Who is told of events by a signal: by these calls it may be anybody.
        for (call, argument, value) in [
            ("fcntl", 1, F_SETOWN),
            ("fcntl", 1, F_SETOWN_EX),
            ("fcntl64", 1, F_SETOWN),
            ("fcntl64", 1, F_SETOWN_EX),
            ("ioctl", 1, FIOSETOWN),
            ("ioctl", 1, SIOCSPGRP),
        ] {
            let condition = seccomp::Condition::equals(argument, value);
            refuse(&mut profile, call, vec![condition]);
        }
    }
    let mut classes = seccomp::supervise::TREE.to_vec();
    if pretends {
        classes.extend(seccomp::supervise::OWNERS);
    }
    seccomp::supervise::protect(&mut profile, &classes);
    let program = seccomp::compile(&profile).map_err(|error| Error::Setup {
        doing: "compile the system call filter".to_owned(),
        why: error.to_string(),
    })?;
    Ok(seccomp::to_words(&program))
}

const F_SETOWN: u32 = 8;
const F_SETOWN_EX: u32 = 15;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

fn refuse(profile: &mut seccomp::Profile, call: &'static str, all: Vec<seccomp::Condition>) {
    let action = seccomp::Action::Errno(libc::EPERM as u16);
    let rule = seccomp::Rule { call, all, action };
    profile.rules.insert(0, rule);
}
