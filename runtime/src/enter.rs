//! Entering the user and mount namespace in which everything else runs.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::diagnose::{self, JOIN};
use crate::holder::{self, HoldError, Holder};
use crate::idmap::IdMap;
use crate::needs::check_joining;
use crate::probe::{Facility, Failed};
use crate::surroundings::Surroundings;
use crate::{owners, spawn, sys};

/// How to enter.
#[derive(Debug, Clone, Copy, Default)]
pub struct EnterOptions {
    /// The one mode that will do; the strongest that works if not given.
    pub mode: Option<Mode>,
}

/// What need not be tried again when a mode is entered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Why system calls cannot be supervised; none if they can.
    pub unsupervised: Option<String>,
    /// Whether the kernel mounts a `/proc` for a PID namespace of its own.
    pub fresh_proc: bool,
    /// Whether [`Mode::Chroot`] has to be used within a user namespace.
    pub within: bool,
}

/// The kind of sandbox, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A user namespace with a range of ids.
    UsernsMany,
    /// A user namespace with the caller's own id alone.
    UsernsOne,
    /// No namespace and no mount: root changes the root directory, and ids are real.
    Chroot,
}

impl Mode {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::UsernsMany, Self::UsernsOne, Self::Chroot];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsernsMany => "userns-many",
            Self::UsernsOne => "userns-one",
            Self::Chroot => "chroot",
        }
    }
}

/// Whether this process is in a user namespace that it has made, with its mounts.
static OWN_NAMESPACE: AtomicBool = AtomicBool::new(false);

/// Whether what is set up in our user namespace stays in it, and is nobody else's.
pub(crate) fn has_own_namespace() -> bool {
    OWN_NAMESPACE.load(Ordering::Relaxed)
}

/// What [`enter`] achieved.
#[derive(Debug, Clone)]
pub struct Entered {
    /// The kind of namespace.
    pub mode: Mode,
    /// Its ids.
    pub ids: IdMap,
    /// One line for people: what was chosen, and why nothing stronger.
    pub note: String,
}

/// Why no namespace could be entered. Each message names the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The process has threads.
    #[error("cannot enter a user namespace: this process already has {0} threads")]
    Threads(usize),
    /// The kernel refused the user namespace.
    #[error("cannot create a user namespace: {error}: {advice}")]
    Unshare {
        /// What the kernel said.
        error: io::Error,
        /// Cause and cure.
        advice: String,
    },
    /// The id map was refused.
    #[error("cannot map ids into a user namespace: {why}")]
    Map {
        /// What failed, with cause and cure.
        why: String,
    },
    /// The user namespace is there but may not mount.
    #[error("cannot {doing} in the user namespace: {error}: {advice}")]
    Mounts {
        /// The step.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// Cause and cure.
        advice: String,
    },
    /// The root directory or the ids of a process cannot be changed.
    #[error("cannot change the root directory and the ids of a process: {error}: {advice}")]
    Chroot {
        /// What the kernel said.
        error: io::Error,
        /// Cause and cure.
        advice: String,
    },
    /// Something ordinary failed on the way.
    #[error("cannot {doing}: {error}")]
    Io {
        /// The step.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> EnterError {
    move |error| EnterError::Io { doing, error }
}

/// Enters a new user and mount namespace as user 0, with the strongest id map that can be had.
///
/// Must be called before any thread is started. Afterwards this process has all capabilities inside
/// the namespace, its mounts are private, it adopts orphaned descendants, and it is not dumpable
/// (a process in the same namespace can read neither its environment nor its memory).
pub fn enter(opts: &EnterOptions) -> Result<Entered, EnterError> {
    enter_with(opts, None)
}

/// The same for the mode that a probe has chosen; what it has found out is not tried again.
///
/// # Errors
/// As [`enter`], also when `known` is not true any more.
pub fn enter_knowing(mode: Mode, known: &Known) -> Result<Entered, EnterError> {
    enter_with(&EnterOptions { mode: Some(mode) }, Some(known))
}

fn enter_with(opts: &EnterOptions, known: Option<&Known>) -> Result<Entered, EnterError> {
    let threads = sys::threads().map_err(io_error("list /proc/self/task (is /proc mounted?)"))?;
    if threads != 1 {
        return Err(EnterError::Threads(threads));
    }
    if let Some(known) = known {
        owners::assume(known.unsupervised.clone());
        if !known.fresh_proc {
            spawn::assume_no_fresh_proc();
        }
    }
    let mut weaker = None;
    if opts.mode == Some(Mode::Chroot) {
        return stay(known);
    }
    if opts.mode != Some(Mode::UsernsOne) {
        match holder::many() {
            Ok((holder, how)) => return step_in(holder, how, None),
            Err(HoldError::Refused(Facility::ManyIds, failed)) => {
                let why = told(Facility::ManyIds, &failed);
                if opts.mode == Some(Mode::UsernsMany) {
                    return Err(EnterError::Map { why });
                }
                weaker = Some(why);
            }
            Err(error) => return Err(error.into()),
        }
    }
    step_in(holder::one()?, "your own id only", weaker)
}

impl From<HoldError> for EnterError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Io(doing, error) => Self::Io { doing, error },
            HoldError::Refused(Facility::UserNamespace, failed) => Self::Unshare {
                error: io::Error::from_raw_os_error(failed.errno),
                advice: advice(Facility::UserNamespace, &failed),
            },
            HoldError::Refused(facility, failed) => Self::Map {
                why: told(facility, &failed),
            },
        }
    }
}

/// A step that failed, with cause and cure.
fn told(facility: Facility, failed: &Failed) -> String {
    format!("{failed}: {}", advice(facility, failed))
}

fn advice(facility: Facility, failed: &Failed) -> String {
    diagnose::explain(facility, failed, &Surroundings::read()).to_string()
}

/// Makes no mounts: each step is to change its root directory, with the ids that we have, or with
/// those of a user namespace if it takes one.
fn stay(known: Option<&Known>) -> Result<Entered, EnterError> {
    let refused = |error: io::Error| {
        let failed = Failed::new(
            "change the root directory",
            error.raw_os_error().unwrap_or(0),
        );
        EnterError::Chroot {
            advice: advice(Facility::Chroot, &failed),
            error,
        }
    };
    let mut within = known.is_some_and(|known| known.within);
    if known.is_none()
        && let Err(error) = may_change_root()
    {
        match holder::many() {
            Ok(_) => within = true,
            Err(_) => return Err(refused(error)),
        }
    }
    let mut how = "real ids".to_owned();
    if within {
        let (holder, by) = holder::many()?;
        join(holder)?;
        how = format!("the ids of a user namespace ({by})");
    }
    may_change_root().map_err(refused)?;
    adopt_and_hide()?;
    let ids = IdMap::current().map_err(io_error("read /proc/self/uid_map"))?;
    Ok(Entered {
        mode: Mode::Chroot,
        note: format!("a changed root directory with {how}; no mounts"),
        ids,
    })
}

/// Tries it in a child.
fn may_change_root() -> io::Result<()> {
    let Some(child) = sys::fork_single()? else {
        let done = nix::unistd::chroot("/").and_then(|()| nix::unistd::setgroups(&[]));
        sys::exit_now(done.err().map_or(0, |errno| errno as i32));
    };
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Ok(other) => return Err(io::Error::other(format!("the attempt ended: {other:?}"))),
            Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Orphaned descendants become ours, and nobody reads our environment or memory.
fn adopt_and_hide() -> Result<(), EnterError> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(io_error("become a subreaper"))?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(io_error("become undumpable"))
}

/// Enters the holder's namespace as its user 0.
fn join(holder: Holder) -> Result<(), EnterError> {
    let ns = fs::File::open(format!("/proc/{}/ns/user", holder.pid()))
        .map_err(io_error("open the new user namespace"))?;
    setns(&ns, CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        let (facility, failed) = match check_joining() {
            Err(missing) => (Facility::SystemCalls, missing.failed()),
            Ok(()) => (Facility::MountNamespace, Failed::new(JOIN, errno as i32)),
        };
        EnterError::Mounts {
            doing: "take part",
            error: errno.into(),
            advice: advice(facility, &failed),
        }
    })?;
    drop(holder);
    if !geteuid().is_root() {
        sys::set_ids(0, 0).map_err(io_error("become user 0 of the new user namespace"))?;
    }
    Ok(())
}

fn mounts_error(doing: &'static str) -> impl Fn(nix::Error) -> EnterError {
    move |errno| EnterError::Mounts {
        doing,
        error: errno.into(),
        advice: advice(Facility::MountNamespace, &Failed::new(doing, errno as i32)),
    }
}

/// Enters the holder's namespace, then a mount namespace of our own.
fn step_in(holder: Holder, how: &str, weaker: Option<String>) -> Result<Entered, EnterError> {
    join(holder)?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(mounts_error("create a mount namespace"))?;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(mounts_error("make the mounts private"))?;
    OWN_NAMESPACE.store(true, Ordering::Relaxed);
    adopt_and_hide()?;
    let ids = IdMap::current().map_err(io_error("read /proc/self/uid_map"))?;
    let mut entered = describe(ids, how, weaker);
    if entered.mode == Mode::UsernsOne {
        entered.note.push_str("; ");
        entered.note.push_str(&match owners::probe() {
            Ok(()) => "other owners are shown to programs by a supervisor".to_owned(),
            Err(why) => format!("programs cannot change their user: {why}"),
        });
    }
    Ok(entered)
}

fn describe(ids: IdMap, how: &str, weaker: Option<String>) -> Entered {
    let (mode, mut note) = if ids.is_single() {
        let note = format!("user namespace with one id ({how})");
        (Mode::UsernsOne, note)
    } else {
        let note = format!("user namespace with {} ids ({how})", ids.count());
        (Mode::UsernsMany, note)
    };
    if let Some(why) = weaker {
        note.push_str("; no more because ");
        note.push_str(&why);
    }
    Entered { mode, ids, note }
}
