//! The supervisor: answers system calls in place of the kernel, for processes that may do less than
//! their program believes.
//!
//! ```text
//!   process ── call of a class ──▶ filter: Notify ──▶ listener ──▶ a thread of [`Supervisor`]
//!                                                                     │ plain?       glance
//!                                                                     │ who asks     identities
//!                                                                     │ which file   resolve
//!                                                                     │ whose it is  owners
//!      ◀── value, error, descriptor, or "let the kernel do it" ───────┘
//! ```
//!
//! One core, several uses: a [`Class`] is a group of calls with one purpose, [`Class::rules`] gives
//! the filter's part and `answer` the supervisor's. [`OWNERS`] is the configuration for a user
//! namespace with one id: programs believe to be any user, and files to belong to any. [`TREE`] is the
//! one for processes that changed their root directory, without namespaces: `served` shows them the
//! kernel's file systems. Supervision of every path, where not even the root directory can be changed, is
//! to be another list of classes over the same parts, `served::find` first of all.
//!
//! # What is pretended
//!
//! Whoever asks is user 0 with every capability of a container for the kernel, always. Credentials
//! (`credentials`) are kept per process by `identities`, which marks processes by a resource limit
//! that nobody uses, so that fork, exec and threads hand it on exactly as the kernel hands on ids.
//! Owners and devices (`owners`) are an extended attribute of the inode, so that they follow it
//! through renames, links and copies into an overlay's upper directory; what can hold no attribute is
//! in a table by inode.
//!
//! # What always holds
//!
//! - A path is resolved beneath the root directory of the process that gave it, by the kernel, and
//!   through no link of `/proc` but the process's own descriptors (`resolve`).
//! - The supervisor acts on what it has opened, never on a path that it has checked before. Memory of
//!   the process may change meanwhile: then it gets what it could have asked for in the first place.
//!   Letting the kernel do a call after a look at its arguments is for calls whose outcome may be the
//!   kernel's own (a file without record, a creation by root); no protection rests on it, since the
//!   namespace is the sandbox.
//! - A call of a class that the supervisor has no answer for is refused with `ENOSYS`, never passed on:
//!   the old 16-bit and 32-bit forms, and those of an architecture whose layout it does not know.
//! - Nobody is told `EACCES` or `EPERM` who would not be: a process that pretends to be somebody else
//!   may do to files what root may. Only changing ids and owners is checked as Linux checks it.
//!
//! # What is not pretended
//!
//! Permission bits for a process that is not root; capability sets, and with them `AT_SECURE`; owners
//! of sockets' names, of what `/proc` shows and of System V IPC; ids in `SCM_CREDENTIALS`, and
//! `SO_PEERCRED` of a peer that has changed its user since. An exec of a set-id program that the kernel
//! then refuses (not for this machine, arguments too long) leaves the process with the new ids.

mod attributes;
mod call;
mod class;
mod create;
mod credentials;
mod exec;
mod files;
mod glance;
mod identities;
mod ids;
mod memory;
mod owners;
mod peer;
mod processes;
mod resolve;
mod served;
mod stat;
mod sys;
mod tracee;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;

pub use class::{Class, OWNERS, TREE, protect};
pub use credentials::Credentials;
pub use owners::{Device, Owners, RECORD, Record};
pub use served::Served;

use call::{Call, Calls};
use glance::Glance;
use identities::Identities;
use memory::Memory;
use tracee::Tracee;

/// What the supervisor says to a call.
enum Answer {
    /// The kernel is to do it.
    Continue,
    /// It succeeded with this value.
    Value(i64),
    /// It succeeded and the process gets this descriptor; whether it closes on exec.
    Descriptor(OwnedFd, bool),
}

type Answered = Result<Answer, Errno>;

const DONE: Answered = Ok(Answer::Value(0));

/// What all threads of a supervisor share.
struct Shared {
    listener: OwnedFd,
    calls: Calls,
    identities: Identities,
    owners: Arc<Owners>,
    /// Whether ids and owners are pretended at all.
    pretends: bool,
    served: Option<Served>,
    memory: Memory,
    stopping: AtomicBool,
    /// Where helpers wait for [`Shared::more`].
    idle: Mutex<()>,
    more: Condvar,
    /// The root directory that processes begin with.
    root: OnceLock<Arc<OwnedFd>>,
    /// Whether a process may have another one.
    moved: AtomicBool,
}

/// The threads that answer one sandbox. They end by themselves when its last process has; dropping
/// this value waits for them.
pub struct Supervisor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Supervisor({} threads)", self.threads.len())
    }
}

/// How often a thread that has not seen the end of the sandbox is reminded.
const REMINDER: Duration = Duration::from_millis(1);

/// What a supervisor answers.
#[derive(Debug, Default)]
pub struct Configuration {
    classes: Vec<Class>,
    pretence: Option<(Credentials, Arc<Owners>)>,
    served: Option<Served>,
    confined: bool,
}

impl Configuration {
    /// Ids and owners, for processes that begin as `first`. `confined`: no process can have another root
    /// directory but by `chroot`.
    pub fn owners(first: Credentials, owners: Arc<Owners>, confined: bool) -> Self {
        Self {
            classes: OWNERS.to_vec(),
            pretence: Some((first, owners)),
            served: None,
            confined,
        }
    }

    /// The kernel's file systems for processes in a tree, too, and other processes out of reach.
    pub fn serve(&mut self, served: Served) {
        self.classes.extend(TREE);
        self.served = Some(served);
        self.confined = true;
    }
}

impl Supervisor {
    /// Answers the calls that `listener` tells of.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(listener: OwnedFd, configuration: Configuration) -> io::Result<Self> {
        sys::prepare(&listener)?;
        let Configuration {
            classes,
            pretence,
            served,
            confined,
        } = configuration;
        let pretends = pretence.is_some();
        let (first, owners) =
            pretence.unwrap_or_else(|| (Credentials::new(0, 0, Vec::new()), Arc::default()));
        let shared = Arc::new(Shared {
            listener,
            calls: Calls::of(&classes),
            identities: Identities::new(first),
            owners,
            pretends,
            served,
            memory: Memory::default(),
            stopping: AtomicBool::new(false),
            idle: Mutex::new(()),
            more: Condvar::new(),
            root: OnceLock::new(),
            moved: AtomicBool::new(!confined),
        });
        let count = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let mut supervisor = Self {
            shared,
            threads: Vec::new(),
        };
        for number in 0..count {
            let shared = Arc::clone(&supervisor.shared);
            let thread = std::thread::Builder::new().name("supervisor".to_owned());
            supervisor
                .threads
                .push(thread.spawn(move || serve(&shared, number > 0))?);
        }
        Ok(supervisor)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // Before Linux 6.11 a thread that waits for a call is not told that nobody is left.
            while !thread.is_finished() {
                sys::remind(&thread);
                std::thread::sleep(REMINDER);
            }
            // A thread that panicked has said so; its call has been refused by the kernel.
            drop(thread.join());
        }
    }
}

/// One thread's life. The kernel wakes everybody who waits for a call, so only one does; a helper comes
/// when one call is there and another one, too.
fn serve(shared: &Shared, helper: bool) {
    // A file creation mask of its own; without it a file made for a process gets ours.
    let own_mask = sys::own_file_attributes();
    let in_proc = own_mask && resolve::go_to_proc();
    let mut glance = Glance::new(in_proc && shared.pretends && shared.served.is_none());
    // Files are opened as who asks for them, whose groups these are not.
    let is_real = shared.served.is_some() && !shared.pretends;
    if is_real && rustix::thread::set_thread_groups(&[]).is_err() {
        return shared.stop();
    }
    loop {
        if helper && !sys::is_pending(&shared.listener) && !shared.wait_for_more() {
            return;
        }
        match sys::receive(&shared.listener) {
            Ok(notice) => {
                let tracee = Tracee::new(shared, &notice, own_mask);
                if glance.is_the_kernels(&tracee) {
                    sys::send(&shared.listener, notice.id, Ok(Answer::Continue));
                    continue;
                }
                if sys::is_pending(&shared.listener) {
                    shared.more.notify_one();
                }
                let answer = answer(&tracee);
                sys::send(&shared.listener, notice.id, answer);
            }
            Err(Errno::INTR) if !shared.stopping.load(Ordering::Acquire) => {}
            // The process was killed between its call and our look at it, or it was the last one.
            Err(Errno::NOENT) if !sys::is_over(&shared.listener) => {}
            Err(_) => return shared.stop(),
        }
    }
}

impl Shared {
    /// Waits until there are more calls than one thread should answer; false at the end.
    fn wait_for_more(&self) -> bool {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        drop(self.more.wait(idle));
        !self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopping.store(true, Ordering::Release);
        drop(idle);
        self.more.notify_all();
    }
}

/// Does one call.
fn answer(tracee: &Tracee<'_>) -> Answered {
    use Call as C;
    let Some(call) = tracee.call() else {
        return Err(Errno::NOSYS);
    };
    if let Some(served) = tracee.served() {
        match served.answer(tracee, call) {
            Ok(Answer::Continue) if tracee.pretends() => {}
            done => return done,
        }
    }
    match call {
        C::Chown | C::Lchown | C::Fchown | C::Fchownat => files::chown(tracee, call),
        C::Open | C::Openat | C::Openat2 | C::Creat => create::open(tracee, call),
        C::Mkdir | C::Mkdirat => create::mkdir(tracee, call),
        C::Symlink | C::Symlinkat => create::symlink(tracee, call),
        C::Mknod | C::Mknodat => create::mknod(tracee, call),
        C::Stat | C::Lstat | C::Fstat | C::Fstatat | C::Statx => stat::stat(tracee, call),
        C::Execve | C::Execveat => exec::execve(tracee, call),
        C::Listxattr | C::Llistxattr | C::Flistxattr | C::Listxattrat => {
            attributes::list(tracee, call)
        }
        C::Getsockopt => peer::credentials(tracee),
        C::Chroot => {
            tracee.root_changes();
            Ok(Answer::Continue)
        }
        _ => ids::answer(tracee, call),
    }
}
