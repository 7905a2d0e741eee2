//! The few system calls for which neither nix nor rustix has a safe function.
//!
//! Every `unsafe` of this crate's parent side is here; the child side needs `fork` and `execve`
//! only, which are here as well. Nothing in this module knows what a sandbox is.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use crate::needs::Need;

/// What the child of [`spawn_init`] needs; made before the clone, since the child must not allocate.
pub struct Image<'a> {
    /// The program, an open file that stays close-on-exec.
    pub exe: BorrowedFd<'a>,
    /// Arguments.
    pub argv: &'a [CString],
    /// Becomes descriptors 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Descriptors that stay open, under their own numbers, all above 2.
    pub keep: &'a [RawFd],
}

/// Clones a child with the given namespace flags, which executes `image` with an empty environment.
///
/// Returns its pid and a pidfd. If the exec fails the child exits with status 127.
pub fn spawn_init(flags: libc::c_int, image: &Image<'_>) -> io::Result<(libc::pid_t, OwnedFd)> {
    let mut argv: Vec<*const libc::c_char> = image.argv.iter().map(|a| a.as_ptr()).collect();
    argv.push(std::ptr::null());
    let envp = [std::ptr::null::<libc::c_char>()];
    // For a filter that forbids `execveat`.
    let link = CString::new(format!("/proc/self/fd/{}", image.exe.as_raw_fd()))?;
    close_inherited()?;
    let mut pidfd: libc::c_int = -1;
    let mut old = SigSet::empty();
    pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut old),
    )?;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut stack = vec![0_u128; CHILD_STACK / size_of::<u128>()];
    let mut start = Start {
        image,
        link: link.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
    };
    // SAFETY: the child runs `child` on a stack of its own, which the kernel takes by its upper end
    // and which is aligned as it wants. It shares our memory, so that none has to be copied;
    // CLONE_VFORK holds this thread until the child has executed or exited, so the stack, `start`,
    // what that points to and `pidfd` outlive its use of them. Other threads may hold locks, but the
    // child takes none, and with all signals blocked no handler runs in it.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw mut start).cast(),
            &raw mut pidfd,
        )
    };
    let error = io::Error::last_os_error();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&old), None)?;
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the clone succeeded with CLONE_PIDFD, so the kernel stored a new descriptor, which
    // nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((pid, pidfd))
}

/// The child's stack in bytes; it calls a few system calls, no deeper.
const CHILD_STACK: usize = 64 << 10;

/// What [`child`] is given.
struct Start<'a, 'b> {
    image: &'a Image<'b>,
    link: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
}

/// Makes descriptors that this process was started with close-on-exec where the child cannot do that for
/// all at once (`close_range`, Linux 5.11): ours have it from the beginning.
fn close_inherited() -> io::Result<()> {
    const NONE: libc::c_uint = libc::c_uint::MAX;
    // SAFETY: integers only; no descriptor has that number.
    let can =
        unsafe { libc::syscall(libc::SYS_close_range, NONE, NONE, libc::CLOSE_RANGE_CLOEXEC) };
    if can == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        if let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok())
            && fd > 2
        {
            // SAFETY: integers only. That of the directory itself, and one that another thread has
            // closed since, are close-on-exec or gone, so a failure changes nothing.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

extern "C" fn child(start: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn_init` passes a `Start` that lives until we have executed, and this is its
    // child; both arrays end in a null pointer and all strings live in the image.
    unsafe {
        let start = &*start.cast::<Start<'_, '_>>();
        exec_init(start)
    }
}

/// Moves descriptors into place and executes.
///
/// # Safety
/// Only in the child of [`spawn_init`]; `argv` and `envp` end in a null pointer, and all strings live.
unsafe fn exec_init(start: &Start<'_, '_>) -> ! {
    let Start {
        image,
        link,
        argv,
        envp,
    } = *start;
    // SAFETY: plain system calls on integers and on the pointers vouched for by the caller; none
    // allocates or locks, so it does not matter what other threads were doing.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        for (to, from) in (0..).zip(&image.stdio) {
            if libc::dup2(from.as_raw_fd(), to) < 0 {
                libc::_exit(127);
            }
        }
        for &fd in image.keep {
            libc::fcntl(fd, libc::F_SETFD, 0);
        }
        libc::syscall(
            libc::SYS_execveat,
            image.exe.as_raw_fd(),
            c"".as_ptr(),
            argv,
            envp,
            libc::AT_EMPTY_PATH,
        );
        libc::execve(link, argv, envp);
        libc::_exit(127)
    }
}

/// Makes a call that must fail, and gives the errno; none in the error if it did not.
pub fn try_in_vain(need: &Need) -> io::Error {
    let [a, b, c, d, e] = need.arguments;
    // SAFETY: the table has arguments that the kernel refuses before it looks at memory or changes
    // anything: no addresses, no open descriptors, no flags that exist.
    if unsafe { libc::syscall(need.number, a, b, c, d, e) } < 0 {
        return io::Error::last_os_error();
    }
    io::Error::other("it succeeded")
}

/// Marks all descriptors above 2 to be closed by exec, where the kernel can (Linux 5.11); every one that
/// we know of is marked already.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: integers only; no descriptor is closed now.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    let error = io::Error::last_os_error();
    match (done, error.raw_os_error()) {
        (0, _) | (_, Some(libc::EINVAL | libc::ENOSYS)) => Ok(()),
        _ => Err(error),
    }
}

/// Forks a single-threaded process. `None` in the child.
///
/// Panics if there is more than one thread: then a child could find locks held forever.
pub fn fork_single() -> io::Result<Option<nix::unistd::Pid>> {
    assert_eq!(threads()?, 1, "fork_single needs a single thread");
    // SAFETY: there is no other thread, so the child's memory is consistent.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// The number of threads of this process.
pub fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Leaves at once, without running destructors or exit handlers of the process we were forked from.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Takes over a descriptor number that was handed down by the process that started us.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD on any number is harmless; it fails with EBADF if nothing is open there.
    if fd < 3 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the descriptor is open (checked above) and named once, in the message of the process
    // that left it open for us; nothing else in this fresh process knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets mount attributes (`MOUNT_ATTR_*`) on the mount `fd`, and on those below it if `recursive`.
pub fn mount_setattr(fd: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, `attr` is a `mount_attr` of the size given, and both live
    // through the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `prctl` with integer arguments only.
pub fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: callers pass options whose arguments are integers, so no pointer is read or written.
    if unsafe { libc::prctl(option, value, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets a resource limit by its number.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` lives through the call; no old limit is asked for.
    let done = unsafe {
        libc::prlimit64(
            0,
            resource as libc::__rlimit_resource_t,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets all three user ids, or all three group ids, of this single-threaded process.
pub fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::setresgid(gid, gid, gid) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only.
    if unsafe { libc::setresuid(uid, uid, uid) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts this process under a Landlock ruleset that handles nothing but the making of block devices, which
/// nobody here makes.
pub fn restrict_nothing() -> io::Result<()> {
    const MAKE_BLOCK: u64 = 1 << 11;
    let handled: u64 = MAKE_BLOCK;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // SAFETY: the ruleset's attributes are one number in their first version, whose size is given and
    // which lives through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size_of::<u64>(),
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let ruleset = adopt(fd as RawFd)?;
    // SAFETY: integers only.
    if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Brings the loopback interface of this network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives through the call; its name ends in a zero.
    if unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has the status of children kept, and a file that grows too large fail to.
pub fn usual_dispositions() -> io::Result<()> {
    for (signal, disposition) in [
        (libc::SIGCHLD, libc::SIG_DFL),
        (libc::SIGXFSZ, libc::SIG_IGN),
    ] {
        // SAFETY: both are valid dispositions, and no handler is set.
        if unsafe { libc::signal(signal, disposition) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Puts every signal back to its default disposition and unblocks all.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid disposition; for SIGKILL, SIGSTOP and the two signals that libc
        // keeps to itself the call fails, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Replaces this program; returns only the error.
pub fn execve(path: &CString, argv: &[CString], envp: &[CString]) -> io::Error {
    match nix::unistd::execve(path, argv, envp) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}
