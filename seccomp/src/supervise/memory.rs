//! [`Memory`]: the memory of processes that are other users, for a supervisor without `CAP_SYS_PTRACE`.
//!
//! Whoever opens `/proc/PID/mem` has to be, for the file system, the user that the process is; reading is
//! not checked again. So the opening thread becomes that user for a moment. A process that changed its
//! ids without an exec since, or asked for it, can be opened by nobody: what was opened before is kept
//! ([`Memory::keep`], before the change), under the number of the thread and with its directory in
//! `/proc`, which tells whether the number still means the same thread. An exec gives a process another
//! memory, so then everything of it is forgotten ([`Memory::forget`]).

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::resolve::in_proc;
use super::sys;

/// With so many threads known, those that are gone are looked for.
const MANY: usize = 256;

/// Open memories by thread.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<u32, Arc<Open>>>);

struct Open {
    process: u32,
    /// The thread's directory in `/proc`.
    thread: OwnedFd,
    memory: Arc<File>,
}

impl Open {
    fn is_alive(&self) -> bool {
        statat(&self.thread, "comm", AtFlags::empty()).is_ok()
    }
}

impl Memory {
    /// Reads what there is at an address.
    pub fn read(&self, tid: u32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let again = match self.of(tid)?.read_at(into, address) {
            // Nothing at all is what a memory gives that its process has left.
            Ok(0) => true,
            Ok(count) => return Ok(count),
            Err(_) => return Err(Errno::FAULT),
        };
        if again {
            self.map().remove(&tid);
        }
        self.of(tid)?
            .read_at(into, address)
            .map_err(|_| Errno::FAULT)
    }

    /// Writes to an address, also where the process itself may only read.
    pub fn write(&self, tid: u32, address: u64, from: &[u8]) -> Result<usize, Errno> {
        let memory = self.of(tid)?;
        memory.write_at(from, address).map_err(|_| Errno::FAULT)
    }

    /// Opens a memory that is about to be closed to us.
    pub fn keep(&self, tid: u32) {
        // What cannot be opened now, either, is not looked at later.
        drop(self.of(tid));
    }

    /// The process of a thread gets another memory.
    pub fn forget(&self, tid: u32) {
        let mut map = self.map();
        if map.is_empty() {
            return;
        }
        let process = map.get(&tid).map(|open| open.process);
        let process = process.or_else(|| ids(tid).map(|ids| ids.process));
        map.retain(|known, open| *known != tid && Some(open.process) != process);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<u32, Arc<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, tid: u32) -> Result<Arc<File>, Errno> {
        let known = self.map().get(&tid).cloned();
        if let Some(open) = known.filter(|open| open.is_alive()) {
            return Ok(Arc::clone(&open.memory));
        }
        let ids = ids(tid).ok_or(Errno::SRCH)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let thread = openat(CWD, in_proc(format_args!("{tid}")), flags, Mode::empty())?;
        let opened = {
            let _ids = AsUser::new(ids.uid, ids.gid);
            openat(
                &thread,
                "mem",
                OFlags::RDWR | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let mut map = self.map();
        let memory = match opened {
            Ok(fd) => Arc::new(File::from(fd)),
            Err(_) => {
                let mut siblings = map.values().filter(|open| open.process == ids.process);
                let sibling = siblings.find(|open| open.is_alive());
                Arc::clone(&sibling.ok_or(Errno::PERM)?.memory)
            }
        };
        if map.len() >= MANY {
            map.retain(|_, open| open.is_alive());
        }
        let open = Open {
            process: ids.process,
            thread,
            memory: Arc::clone(&memory),
        };
        map.insert(tid, Arc::new(open));
        Ok(memory)
    }
}

/// Who a thread is for the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIds {
    /// The process that it belongs to.
    pub process: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The real user, which `access` goes by.
    pub real_uid: u32,
    /// The real group.
    pub real_gid: u32,
}

/// What `/proc/TID/status` says, which anybody may read.
pub fn ids(tid: u32) -> Option<FileIds> {
    parse(&std::fs::read_to_string(in_proc(format_args!("{tid}/status"))).ok()?)
}

fn parse(status: &str) -> Option<FileIds> {
    let field = |name: &str, at: usize| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(at)?.parse().ok()
    };
    Some(FileIds {
        process: field("Tgid:", 0)?,
        uid: field("Uid:", 3)?,
        gid: field("Gid:", 3)?,
        real_uid: field("Uid:", 0)?,
        real_gid: field("Gid:", 0)?,
    })
}

/// This thread is somebody else for the file system, until it is dropped.
pub struct AsUser(());

impl AsUser {
    /// Becomes it.
    pub fn new(uid: u32, gid: u32) -> Self {
        sys::set_file_ids(uid, gid);
        Self(())
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        sys::set_file_ids(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_for_the_file_system() {
        let status = "Name:\tx Uid: 9\nTgid:\t12\nPid:\t13\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let ids = parse(status).unwrap();
        assert_eq!((ids.process, ids.uid, ids.gid), (12, 4, 8));
        assert_eq!((ids.real_uid, ids.real_gid), (1, 5));
        assert_eq!(parse("Tgid:\t1\n"), None);
    }

    #[test]
    fn the_memory_of_a_process_is_read_and_forgotten() {
        let memory = Memory::default();
        let text = *b"some bytes of ours";
        let tid = std::process::id();
        let mut read = [0; 18];
        let address = text.as_ptr() as u64;
        assert_eq!(memory.read(tid, address, &mut read), Ok(18));
        assert_eq!(read, text);
        assert!(memory.map().contains_key(&tid));
        memory.forget(tid);
        assert!(memory.map().is_empty());
        assert_eq!(memory.read(u32::MAX >> 1, 0, &mut read), Err(Errno::SRCH));
    }
}
