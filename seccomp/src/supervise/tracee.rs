//! [`Tracee`]: the thread that waits for an answer: its arguments, its memory, who it is.

use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use super::Shared;
use super::call::{Call, Layout};
use super::credentials::Credentials;
use super::memory::{self, FileIds, Memory};
use super::owners::Owners;
use super::resolve::in_proc;
use super::served::Served;
use super::sys::{self, Notice};

/// The kernel takes no longer path, its end included.
const MAX_PATH: usize = 4096;
/// What is read of a path at first.
const SHORT_PATH: usize = 128;
/// Memory is mapped in pages of at least this size.
pub(super) const PAGE: u64 = 4096;

/// A thread in a call.
pub struct Tracee<'a> {
    shared: &'a Shared,
    notice: &'a Notice,
    known: Option<(Call, Layout)>,
    own_mask: bool,
    ids: OnceCell<Option<FileIds>>,
}

impl<'a> Tracee<'a> {
    /// The thread of `notice`. `own_mask`: this thread of ours may set its file creation mask.
    pub(super) fn new(shared: &'a Shared, notice: &'a Notice, own_mask: bool) -> Self {
        Self {
            shared,
            notice,
            known: shared.calls.get(notice.architecture, notice.number),
            own_mask,
            ids: OnceCell::new(),
        }
    }

    /// Who it is for the file system.
    pub(super) fn file_ids(&self) -> Option<FileIds> {
        *self.ids.get_or_init(|| memory::ids(self.tid()))
    }

    /// What it asks; none for what is refused.
    pub fn call(&self) -> Option<Call> {
        self.known.map(|(call, _)| call)
    }

    /// How its memory is laid out.
    pub fn layout(&self) -> Layout {
        self.known.map_or(Layout::X86_64, |(_, layout)| layout)
    }

    /// Its number in our `/proc`.
    pub fn tid(&self) -> u32 {
        self.notice.tid
    }

    /// The root directory of all processes, while none has changed its own.
    pub fn common_root(&self) -> Option<&OnceLock<Arc<OwnedFd>>> {
        let common = !self.shared.moved.load(Ordering::Acquire);
        common.then_some(&self.shared.root)
    }

    /// From now on every process is asked for its root directory.
    pub fn root_changes(&self) {
        self.shared.moved.store(true, Ordering::Release);
    }

    /// Whose files are.
    pub fn owners(&self) -> &Owners {
        &self.shared.owners
    }

    /// Who it believes to be.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.shared.identities.get(self.tid())
    }

    /// Who another process believes to be.
    pub fn credentials_of(&self, pid: u32) -> Arc<Credentials> {
        self.shared.identities.get(pid)
    }

    /// Makes it, with all threads of its process, somebody else.
    pub fn set_credentials(&self, new: Credentials) -> Result<(), Errno> {
        self.still_there()?;
        self.shared.identities.set(self.tid(), new)
    }

    /// Fails if it has been killed, so that its number may be another process's by now.
    pub fn still_there(&self) -> Result<(), Errno> {
        if sys::is_waiting(&self.shared.listener, self.notice.id) {
            Ok(())
        } else {
            Err(Errno::SRCH)
        }
    }

    /// An argument that is an unsigned number of 32 bits.
    pub fn id(&self, argument: usize) -> u32 {
        self.notice.arguments[argument] as u32
    }

    /// An argument that is a signed number of 32 bits.
    pub fn int(&self, argument: usize) -> i32 {
        self.id(argument).cast_signed()
    }

    /// An argument that is an address, or a number as long as one.
    pub fn pointer(&self, argument: usize) -> u64 {
        let value = self.notice.arguments[argument];
        if self.layout().is_32() {
            u64::from(value as u32)
        } else {
            value
        }
    }

    /// Reads all of `into` from its memory. Whoever acts on what was read, or on what it named, makes
    /// sure before that the process is [still there](Self::still_there).
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        if into.is_empty() {
            return Ok(());
        }
        match self.peek(address, into) {
            Ok(count) if count == into.len() => Ok(()),
            Ok(_) => Err(Errno::FAULT),
            Err(errno) => Err(errno),
        }
    }

    /// Reads what there is of its memory. `EPERM` where the kernel lets us have no look at it.
    pub(super) fn peek(&self, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
        match sys::read_memory(self.tid(), address, into) {
            Err(Errno::PERM | Errno::ACCESS) if self.shared.served.is_some() => {
                self.memory().read(self.tid(), address, into)
            }
            other => other,
        }
    }

    /// Descriptors for the memory of processes of other users.
    pub(super) fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// The kernel's file systems, where they are served.
    pub(super) fn served(&self) -> Option<&'a Served> {
        self.shared.served.as_ref()
    }

    /// Whether ids and owners are pretended.
    pub fn pretends(&self) -> bool {
        self.shared.pretends
    }

    /// Reads a path, without its end.
    pub fn path(&self, argument: usize) -> Result<Vec<u8>, Errno> {
        let address = self.pointer(argument);
        let mut path = Vec::new();
        let mut length = 0;
        while length < MAX_PATH {
            let at = address.checked_add(length as u64).ok_or(Errno::FAULT)?;
            // Not beyond the page, which may be the last, and little at first: most paths are short.
            let rest = usize::try_from(PAGE - at % PAGE).unwrap_or(MAX_PATH);
            let most = if length == 0 { SHORT_PATH } else { MAX_PATH };
            path.resize(MAX_PATH.min(length + rest.min(most)), 0);
            let piece = &mut path[length..];
            let count = self.peek(at, piece).map_err(|errno| match errno {
                Errno::PERM | Errno::ACCESS => errno,
                _ => Errno::FAULT,
            })?;
            if count == 0 {
                return Err(Errno::FAULT);
            }
            if let Some(end) = piece[..count].iter().position(|byte| *byte == 0) {
                path.truncate(length + end);
                return Ok(path);
            }
            length += count;
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Writes all of `from` into its memory.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        self.still_there()?;
        let written = match sys::write_memory(self.tid(), address, from) {
            Err(Errno::PERM | Errno::ACCESS) if self.shared.served.is_some() => {
                self.memory().write(self.tid(), address, from)
            }
            other => other,
        };
        match written {
            Ok(count) if count == from.len() => Ok(()),
            Ok(_) | Err(_) => Err(Errno::FAULT),
        }
    }

    /// The same, also where the process itself may only read.
    pub fn write_anywhere(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        self.still_there()?;
        match self.memory().write(self.tid(), address, from)? {
            count if count == from.len() => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }

    /// Runs `make`, which makes a file, under its file creation mask.
    pub fn under_its_mask<T>(&self, make: impl FnOnce() -> T) -> Result<T, Errno> {
        if self.own_mask {
            let mask = self.status("Umask:").ok_or(Errno::SRCH)?;
            let mask = u32::from_str_radix(&mask, 8).map_err(|_| Errno::IO)?;
            self.still_there()?;
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        }
        Ok(make())
    }

    /// The last word of a line of its `/proc/PID/status`.
    pub fn status(&self, name: &str) -> Option<String> {
        status(self.tid(), name)
    }
}

/// The last word of a line of a process's `/proc/PID/status`.
pub fn status(pid: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(in_proc(format_args!("{pid}/status"))).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next_back().map(str::to_owned)
}
