//! The system calls of a supervisor that no library has a safe function for.
//!
//! Every `unsafe` of the supervisor is here. Nothing in this module knows what is pretended.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Answer, Answered};

/// `struct seccomp_notif`, `seccomp_data` included.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Notice {
    /// The call's, while it waits.
    pub id: u64,
    /// Thread, as our PID namespace numbers it.
    pub tid: u32,
    flags: u32,
    /// Number of the call.
    pub number: i32,
    /// `AUDIT_ARCH_*`.
    pub architecture: u32,
    instruction: u64,
    /// Arguments.
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    new: u32,
    new_flags: u32,
}

const FLAG_CONTINUE: u32 = 1;
const ADDFD_SEND: u32 = 2;
const SYNC_WAKE_UP: u64 = 1;

// `_IOC(direction, '!', number, size)`, the same on x86 and ARM.
const RECEIVE: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const ID_VALID: u64 = 0x4008_2102;
const ADDFD: u64 = 0x4018_2103;
const SET_FLAGS: u64 = 0x4008_2104;

/// The size of `struct statx`.
pub const STATX_SIZE: usize = 256;

const _: () = assert!(
    size_of::<Notice>() == 80 && size_of::<Response>() == 24 && size_of::<AddFd>() == 24,
    "the kernel's sizes, which are part of the request numbers"
);

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// What a supervisor needs of the process and of its listener.
pub fn prepare(listener: &OwnedFd) -> io::Result<()> {
    static HANDLER: OnceLock<Result<(), i32>> = OnceLock::new();
    // SAFETY: SYNC_WAKE_UP takes an integer. It only makes answers faster, and Linux before 6.6
    // knows nothing of it, so its result says nothing.
    unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) };
    HANDLER
        .get_or_init(handle_reminders)
        .map_err(io::Error::from_raw_os_error)
}

extern "C" fn reminded(_: libc::c_int) {}

/// Makes `SIGURG`, which is ignored otherwise, interrupt a wait.
fn handle_reminders() -> Result<(), i32> {
    // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = reminded as extern "C" fn(libc::c_int) as usize;
    // SAFETY: `action` lives through the call; the handler does nothing, which is safe at any time.
    match unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno().raw_os_error()),
    }
}

/// Interrupts what a thread is waiting for.
pub fn remind(thread: &JoinHandle<()>) {
    // SAFETY: the thread has not been joined, since its handle is there, so its id is valid.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGURG) };
}

/// Gives this thread a working directory and a file creation mask of its own; whether it worked.
pub fn own_file_attributes() -> bool {
    // SAFETY: an integer; the directory and mask become a copy for this thread.
    unsafe { libc::unshare(libc::CLONE_FS) == 0 }
}

/// Waits for a call.
pub fn receive(listener: &OwnedFd) -> Result<Notice, Errno> {
    let mut notice = Notice::default();
    // SAFETY: RECEIVE wants a zeroed `seccomp_notif`, which `notice` is, and writes one.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut notice) };
    if done < 0 {
        Err(last_errno())
    } else {
        Ok(notice)
    }
}

/// Whether no process is left that could make a call.
pub fn is_over(listener: &OwnedFd) -> bool {
    let mut wait = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut wait, Some(&Timespec::default())).is_ok()
        && wait[0].revents().contains(PollFlags::HUP)
}

/// Whether a call waits that nobody has received.
pub fn is_pending(listener: &OwnedFd) -> bool {
    let mut wait = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut wait, Some(&Timespec::default())).is_ok() && wait[0].revents().contains(PollFlags::IN)
}

/// Whether the call still waits for an answer: its process may have been killed.
pub fn is_waiting(listener: &OwnedFd, id: u64) -> bool {
    // SAFETY: ID_VALID reads a number, which lives through the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), ID_VALID as _, &raw const id) == 0 }
}

/// Answers a call. A process that is gone gets none.
pub fn send(listener: &OwnedFd, id: u64, answer: Answered) {
    let (value, error, flags) = match answer {
        Ok(Answer::Continue) => (0, 0, FLAG_CONTINUE),
        Ok(Answer::Value(value)) => (value, 0, 0),
        Err(errno) => (0, -errno.raw_os_error(), 0),
        Ok(Answer::Descriptor(fd, closes)) => match give(listener, id, &fd, closes, ADDFD_SEND) {
            Ok(_) => return,
            // Before Linux 5.14 in two steps.
            Err(Errno::INVAL) => match give(listener, id, &fd, closes, 0) {
                Ok(number) => (i64::from(number), 0, 0),
                Err(errno) => (0, -errno.raw_os_error(), 0),
            },
            Err(errno) => (0, -errno.raw_os_error(), 0),
        },
    };
    let response = Response {
        id,
        value,
        error,
        flags,
    };
    // SAFETY: SEND reads a `seccomp_notif_resp`, which lives through the call. It fails only for a
    // process that was killed meanwhile.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const response) };
}

/// Puts a copy of `fd` into the waiting process; its number there.
fn give(listener: &OwnedFd, id: u64, fd: &OwnedFd, closes: bool, flags: u32) -> Result<i32, Errno> {
    let request = AddFd {
        id,
        flags,
        source: fd.as_raw_fd().cast_unsigned(),
        new: 0,
        new_flags: if closes {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        },
    };
    // SAFETY: ADDFD reads a `seccomp_notif_addfd`, which lives through the call, as `fd` does.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), ADDFD as _, &raw const request) };
    if done < 0 {
        Err(last_errno())
    } else {
        Ok(done)
    }
}

/// Reads memory of a thread's process; how much could be read.
pub fn read_memory(tid: u32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: into.len(),
    };
    // SAFETY: `local` is a live buffer that is ours alone; `remote` means nothing in our memory: the
    // kernel checks it against the other process's.
    let done = unsafe {
        libc::process_vm_readv(
            tid.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    match usize::try_from(done).map_err(|_| last_errno()) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let memory = memory_of(tid, OFlags::RDONLY)?;
            rustix::io::pread(memory, into, address)
        }
        result => result,
    }
}

/// The memory of a thread's process as a file, where a filter forbids the calls made for it.
fn memory_of(tid: u32, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = super::resolve::in_proc(format_args!("{tid}/mem"));
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Writes memory of a thread's process; how much could be written.
pub fn write_memory(tid: u32, address: u64, from: &[u8]) -> Result<usize, Errno> {
    let local = libc::iovec {
        iov_base: from.as_ptr().cast_mut().cast(),
        iov_len: from.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: from.len(),
    };
    // SAFETY: `local` is a live buffer, which is only read; `remote` is checked by the kernel against
    // the other process's memory.
    let done = unsafe {
        libc::process_vm_writev(
            tid.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    match usize::try_from(done).map_err(|_| last_errno()) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let memory = memory_of(tid, OFlags::WRONLY)?;
            rustix::io::pwrite(memory, from, address)
        }
        result => result,
    }
}

/// Makes this thread somebody else for the file system, and back with `0, 0`. For anybody but user 0 its
/// capabilities over files count no more meanwhile.
pub fn set_file_ids(uid: u32, gid: u32) {
    // SAFETY: integers; by the bare calls, which concern this thread only. They report no errors: without
    // the right to, nothing changes.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

/// `statfs` of an open file, as the structure that programs of this machine get.
pub fn statfs(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    // SAFETY: all zeroes is a valid `statfs`, plain numbers.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer lives through the call, which fills it.
    if unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut buffer) } < 0 {
        return Err(last_errno());
    }
    // SAFETY: `statfs` is plain numbers without padding on 64-bit machines, all of them initialised.
    let bytes = unsafe {
        std::slice::from_raw_parts((&raw const buffer).cast::<u8>(), size_of::<libc::statfs>())
    };
    Ok(bytes.to_vec())
}

/// `faccessat2` of an open file itself, by the ids that files are opened with.
pub fn access(fd: BorrowedFd<'_>, mode: i32) -> Result<(), Errno> {
    // SAFETY: the path is a C string, everything else integers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            fd.as_raw_fd(),
            c"".as_ptr(),
            mode,
            libc::AT_EMPTY_PATH | libc::AT_EACCESS,
        )
    };
    if done < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The number of the terminal that an open master belongs to.
pub fn terminal_number(master: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned number, which lives through the call.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) } < 0 {
        return Err(last_errno());
    }
    Ok(number)
}

/// `prlimit` of `RLIMIT_LOCKS`.
fn limit(tid: u32, new: Option<libc::rlimit64>) -> Result<libc::rlimit64, Errno> {
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `new` is null or a live limit, `old` is written.
    let done = unsafe { libc::prlimit64(tid.cast_signed(), libc::RLIMIT_LOCKS, new, &raw mut old) };
    if done < 0 { Err(last_errno()) } else { Ok(old) }
}

/// The mark of a thread's process.
pub fn mark(tid: u32) -> Result<u64, Errno> {
    Ok(limit(tid, None)?.rlim_cur)
}

/// Marks a thread's process.
pub fn set_mark(tid: u32, mark: u64) -> Result<(), Errno> {
    let new = libc::rlimit64 {
        rlim_cur: mark,
        rlim_max: limit(tid, None)?.rlim_max,
    };
    match limit(tid, Some(new)) {
        Ok(_) => Ok(()),
        Err(Errno::INVAL) => Err(Errno::PERM),
        Err(errno) => Err(errno),
    }
}

/// `statx` of an open file itself.
pub fn statx(fd: BorrowedFd<'_>, flags: u32, mask: u32) -> Result<[u8; STATX_SIZE], Errno> {
    let mut buffer = [0_u64; STATX_SIZE / 8];
    // SAFETY: the path is a C string; the buffer has the size and alignment of a `struct statx`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH.cast_unsigned() | flags,
            mask,
            buffer.as_mut_ptr(),
        )
    };
    if done < 0 {
        return Err(last_errno());
    }
    let mut bytes = [0; STATX_SIZE];
    for (to, word) in bytes.chunks_exact_mut(8).zip(buffer) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(bytes)
}

/// Opens with any flags, those included that only their number names.
pub fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string; flags and mode are integers.
    let fd = unsafe {
        libc::openat(
            dir.as_raw_fd(),
            name.as_ptr(),
            flags | libc::O_CLOEXEC,
            mode,
        )
    };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
