//! `SO_PEERCRED`: who is at the other end of a Unix socket, as that process believes to be.
//!
//! The kernel remembers who the peer was when the connection was made, and that was user 0 for
//! everybody; we say who the process is now. A peer that is gone is said to be what the first process
//! was.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::tracee::{Tracee, status};
use super::{Answer, Answered, DONE};

/// `struct ucred`: three words.
const SIZE: usize = 12;

/// Answers `getsockopt` of `SO_PEERCRED`; the kernel does it where it knows better.
pub fn credentials(tracee: &Tracee<'_>) -> Answered {
    match answer(tracee) {
        Some(bytes) => {
            let (to, length) = (tracee.pointer(3), tracee.pointer(4));
            let mut room = [0; 4];
            tracee.read(length, &mut room)?;
            let room = i32::from_ne_bytes(room);
            let Ok(room) = usize::try_from(room) else {
                return Err(Errno::INVAL);
            };
            let count = room.min(SIZE);
            if count > 0 {
                tracee.write(to, &bytes[..count])?;
            }
            tracee.write(length, &(count as u32).to_ne_bytes())?;
            DONE
        }
        None => Ok(Answer::Continue),
    }
}

fn answer(tracee: &Tracee<'_>) -> Option<[u8; SIZE]> {
    let process: i32 = tracee.status("Tgid:")?.parse().ok()?;
    let pidfd = pidfd_open(Pid::from_raw(process)?, PidfdFlags::empty()).ok()?;
    tracee.still_there().ok()?;
    let socket = pidfd_getfd(&pidfd, tracee.int(0), PidfdGetfdFlags::empty()).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    let pid = peer.pid.as_raw_nonzero().get();
    let who = tracee.credentials_of(pid.cast_unsigned());
    // Its number as the innermost namespace has it, which is the sandbox's.
    let inside: u32 = status(pid.cast_unsigned(), "NSpid:")?.parse().ok()?;
    let words = [inside, who.user.effective, who.group.effective];
    let mut bytes = [0; SIZE];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    Some(bytes)
}
