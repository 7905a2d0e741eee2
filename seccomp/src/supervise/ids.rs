//! Calls that change ids or ask for them.

use rustix::io::Errno;

use super::call::Call;
use super::credentials::Ids;
use super::tracee::Tracee;
use super::{Answer, Answered, DONE};

// Bits of `PR_SET_SECUREBITS`.
const NO_SETUID_FIXUP: u32 = 1 << 2;
const KEEP_CAPS: u32 = 1 << 4;

/// `CAP_SETGID` and `CAP_SETUID`.
const CHANGE_IDS: u32 = 1 << 6 | 1 << 7;

/// `NGROUPS_MAX` of the kernel.
const MAX_GROUPS: u32 = 65_536;

/// Answers one of them.
pub fn answer(tracee: &Tracee<'_>, call: Call) -> Answered {
    use Call as C;
    let now = tracee.credentials();
    let value = |id: u32| Ok(Answer::Value(id.into()));
    match call {
        C::Getuid => value(now.user.real),
        C::Geteuid => value(now.user.effective),
        C::Getgid => value(now.group.real),
        C::Getegid => value(now.group.effective),
        C::Getresuid => three(tracee, now.user),
        C::Getresgid => three(tracee, now.group),
        C::Getgroups => get_groups(tracee, &now.groups),
        C::Setgroups => set_groups(tracee),
        C::Prctl => keep_capabilities(tracee),
        C::Capset => set_capabilities(tracee),
        C::Setuid | C::Setreuid | C::Setresuid | C::Setfsuid => {
            let old = now.user;
            let user = changed(tracee, call, old, now.privileged())?;
            if user != old {
                tracee.set_credentials(now.with_user(user))?;
            }
            given(call, old)
        }
        C::Setgid | C::Setregid | C::Setresgid | C::Setfsgid => {
            let old = now.group;
            let group = changed(tracee, call, old, now.privileged())?;
            if group != old {
                let mut new = (*now).clone();
                new.group = group;
                tracee.set_credentials(new)?;
            }
            given(call, old)
        }
        _ => Err(Errno::NOSYS),
    }
}

fn changed(tracee: &Tracee<'_>, call: Call, old: Ids, privileged: bool) -> Result<Ids, Errno> {
    use Call as C;
    let id = |n| tracee.id(n);
    match call {
        C::Setuid | C::Setgid => old.set(id(0), privileged),
        C::Setreuid | C::Setregid => old.set_two(id(0), id(1), privileged),
        C::Setresuid | C::Setresgid => old.set_three([id(0), id(1), id(2)], privileged),
        _ => Ok(old.set_file(id(0), privileged)),
    }
}

fn given(call: Call, old: Ids) -> Answered {
    match call {
        Call::Setfsuid | Call::Setfsgid => Ok(Answer::Value(old.file.into())),
        _ => DONE,
    }
}

/// `prctl`: whether the next change to a user that is not root keeps capabilities. The kernel, too, is
/// to remember that.
fn keep_capabilities(tracee: &Tracee<'_>) -> Answered {
    let keeps = match tracee.int(0) {
        libc::PR_SET_KEEPCAPS => tracee.id(1) != 0,
        _ => tracee.id(1) & (KEEP_CAPS | NO_SETUID_FIXUP) != 0,
    };
    let now = tracee.credentials();
    if now.keeps != keeps {
        let mut new = (*now).clone();
        new.keeps = keeps;
        tracee.set_credentials(new)?;
    }
    Ok(Answer::Continue)
}

/// `capset`: a process that kept capabilities gives up those that change ids. The sets themselves are
/// the kernel's.
fn set_capabilities(tracee: &Tracee<'_>) -> Answered {
    let now = tracee.credentials();
    if now.keeps {
        // Version and process in the header; effective, permitted, inheritable in the data.
        let mut sets = [0; 8];
        tracee.read(tracee.pointer(1), &mut sets)?;
        let word = |at: usize| u32::from_ne_bytes(sets[at..at + 4].try_into().unwrap_or_default());
        let (effective, permitted) = (word(0), word(4));
        let mut new = (*now).clone();
        new.capable = effective & CHANGE_IDS == CHANGE_IDS;
        new.keeps = permitted & CHANGE_IDS == CHANGE_IDS;
        if new != *now {
            tracee.set_credentials(new)?;
        }
    }
    Ok(Answer::Continue)
}

fn three(tracee: &Tracee<'_>, ids: Ids) -> Answered {
    for (argument, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        tracee.write(tracee.pointer(argument), &id.to_ne_bytes())?;
    }
    DONE
}

fn get_groups(tracee: &Tracee<'_>, groups: &[u32]) -> Answered {
    let count = tracee.int(0);
    let length = i64::try_from(groups.len()).map_err(|_| Errno::INVAL)?;
    if count < 0 {
        return Err(Errno::INVAL);
    }
    if count > 0 {
        if i64::from(count) < length {
            return Err(Errno::INVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
        tracee.write(tracee.pointer(1), &bytes)?;
    }
    Ok(Answer::Value(length))
}

fn set_groups(tracee: &Tracee<'_>) -> Answered {
    let now = tracee.credentials();
    if !now.privileged() {
        return Err(Errno::PERM);
    }
    let count = tracee.id(0);
    if count > MAX_GROUPS {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; count as usize * 4];
    tracee.read(tracee.pointer(1), &mut bytes)?;
    let mut groups: Vec<u32> = bytes
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap_or_default()))
        .collect();
    groups.sort_unstable();
    if groups != now.groups {
        let mut new = (*now).clone();
        new.groups = groups;
        tracee.set_credentials(new)?;
    }
    DONE
}
